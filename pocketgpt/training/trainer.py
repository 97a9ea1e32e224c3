"""Training loop for a CPU, a GPU, or several."""

import sys
import time
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from tqdm import tqdm

from pocketgpt.device import choose_device, matmul_flops
from pocketgpt.errors import PocketError
from pocketgpt.layers.lora import add_lora
from pocketgpt.models.stack import Stack
from pocketgpt.output import steady_output
from pocketgpt.text.batches import Batch, Tokens
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.training.checkpoint import checkpoints, latest_intact, prune, remove_partial, save_checkpoint
from pocketgpt.training.distributed import any_rank, is_main, seed_everything, world_size, wrap
from pocketgpt.training.evaluate import Evaluation, evaluate, token_lengths
from pocketgpt.training.objectives import find_objective
from pocketgpt.training.optimizer import build_optimizers
from pocketgpt.training.prepare import autocast, compile_loss, grad_scaler, prepare_for_training
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.recovery import interrupt_after_step, with_recovery_hint
from pocketgpt.training.run_folder import owned
from pocketgpt.training.run_log import RunLog
from pocketgpt.training.schedule import warmup_cosine, warmup_stable_decay
from pocketgpt.training.step import training_step
from pocketgpt.training.training_state import capture, restore, whole_model

COUNTERS = ("step", "skipped", "skipped_in_a_row", "seconds")


class TrainingDiverged(PocketError):
    """Error for a loss or gradient that is not finite."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Result of a run."""

    folder: Path
    step: int
    best: Evaluation | None
    """Evaluation with the lowest loss; None if the run ended before the first one."""
    interrupted: bool


@runtime_checkable
class Batches(Protocol):
    """Source of training data: batch number `step`, the same at every call."""

    def batch(self, step: int) -> Batch: ...


class Trainer:
    """One training run of a model, written to a folder: checkpoints, metrics.jsonl, samples, loss.png.

    The progress of a run is one number, `step`: the learning rates and the position in the data follow from it.
    `metadata` is written into every checkpoint. `validation_bytes`, the UTF-8 bytes of the validation text, makes bits
    per byte right for a lossy tokenizer. With `lora_rank` the given model stays as it is; the checkpoints have the sum.
    """

    def __init__(
        self,
        model: Stack,
        tokenizer: Tokenizer,
        batches: Batches,
        validation: Tokens,
        config: TrainConfig,
        folder: Path,
        *,
        device: torch.device | None = None,
        validation_bytes: int | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.objective = find_objective(config, model.config, tokenizer)
        self.folder = folder
        self.tokenizer = tokenizer
        self.batches = batches
        self.metadata = metadata or {}
        self.device = device or choose_device(config.device)
        self.autocast = autocast(self.device, config.precision)
        self.scaler = grad_scaler(self.device, config.precision)
        self.model = model.to(self.device)
        if config.lora_rank is not None:
            self.model = add_lora(self.model, config.lora_rank, config.lora_alpha)
        self.loss = self.build_loss()
        self.optimizers = build_optimizers(self.model, config)
        self.validation = validation[: config.eval_tokens]
        self.bytes_per_token = token_lengths(tokenizer, validation_bytes and validation_bytes / len(validation))
        self.tokens_per_step = config.tokens_per_step * world_size()
        self.peak_flops = matmul_flops(self.device, self.product_dtype()) * world_size()
        self.log = RunLog(folder, silent=not is_main())
        self.step = 0
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.seconds = 0.0
        self.best: Evaluation | None = None
        self.report = ""  # of the last evaluation
        self.measured: dict[str, float] = {}  # by the evaluation at this step, if there was one
        seed_everything(config.seed)

    def run(self) -> RunResult:
        """Train until the last step, or until Ctrl-C or SIGTERM, which ends the step and saves.

        Raises PocketError if the run cannot continue, with the last checkpoint and how to resume from it.
        """
        with steady_output(), with_recovery_hint(self.folder, self.config), owned(self.folder):
            if is_main():
                remove_partial(self.folder)
            begins = not checkpoints(self.folder)
            is_trained = "initial_weights" in self.metadata and self.step == 0 and self.best is None
            if begins and not is_trained:
                self.save()  # fails now if the folder cannot be written; a kill at any moment loses nothing
            stopping = False
            with self.log.start(self.step), interrupt_after_step() as interrupted, self.progress() as bar:
                if begins and is_trained:
                    self.evaluate()  # the loss to compare with, which may stay the best
                    self.save()
                    if is_main():
                        bar.write(self.report)
                while self.step < self.config.steps and not stopping:
                    self.train_step(bar)
                    stopping = any_rank(interrupted())
                    ended = self.step == self.config.steps
                    due = ended or self.step % self.config.eval_every == 0
                    is_best = due and self.evaluate()
                    if is_best or ended or stopping or self.step % self.config.save_every == 0:
                        self.save()
                    if due and is_main():
                        bar.write(self.report)
        return RunResult(folder=self.folder, step=self.step, best=self.best, interrupted=self.step < self.config.steps)

    def train_step(self, bar: tqdm | None = None) -> dict[str, float]:
        """Update the weights once; returns the metrics, as they are logged."""
        started = time.perf_counter()
        self.measured = {}
        self.model.train()
        rates = self.set_learning_rates()
        first = self.step * self.config.accumulation
        batches = [self.batches.batch(first + number) for number in range(self.config.accumulation)]
        batches = [(tokens.to(self.device), targets.to(self.device)) for tokens, targets in batches]
        loss, norm = training_step(
            self.loss, batches, self.optimizers, autocast=self.autocast, scaler=self.scaler, clip=self.config.clip
        )
        self.step += 1
        finite = isfinite(loss) and isfinite(norm)
        self.skipped += not finite
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        seconds = time.perf_counter() - started
        self.seconds += seconds
        speed = self.tokens_per_step / seconds
        # Forward, and twice that backward: for the inputs and for the weights, most of which LoRA has frozen.
        passes = 3 if self.config.lora_rank is None else 2
        mfu = passes * self.objective.flops_per_token(self.model, self.config.seq_len) * speed / self.peak_flops
        measured = {"train_loss": loss, "gradient_norm": norm, **rates, "tokens_per_second": speed, "mfu": mfu}
        self.log.scalars(self.step, **measured, skipped=self.skipped)
        if bar is not None:
            bar.set_description(f"step {self.step}/{self.config.steps}", refresh=False)
            bar.set_postfix_str(f"loss {loss:.3f}, MFU {mfu:.0%}", refresh=False)
            bar.update(self.tokens_per_step)
        if self.skipped_in_a_row == self.config.max_skipped:
            raise TrainingDiverged(self.divergence_message(f"loss {loss}, gradient norm {norm}"))
        return measured

    def set_learning_rates(self) -> dict[str, float]:
        """Set the learning rate of every parameter group for this step; returns them by optimizer."""
        rates = {}
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(group["peak_lr"])
                rates[f"lr_{type(optimizer).__name__.lower()}"] = group["lr"]
        return rates

    def learning_rate(self, peak: float) -> float:
        """Learning rate of this step for a group with this peak rate."""
        config = self.config
        floor = peak * config.final_lr
        settings = {"peak": peak, "floor": floor, "warmup_steps": config.warmup_steps, "steps": config.steps}
        if config.schedule == "cosine":
            return warmup_cosine(self.step, **settings)
        return warmup_stable_decay(self.step, decay_steps=config.decay_steps, **settings)

    def evaluate(self) -> bool:
        """Measure the validation loss and write a sample, as `report`; returns True if the loss is the lowest so far.

        Every rank reads all of the text: no slower than one rank, and FSDP needs all ranks in a forward pass.
        """
        with self.autocast:
            result = evaluate(
                self.model,
                self.validation,
                self.bytes_per_token,
                seq_len=self.config.seq_len,
                batch_size=self.config.batch_size,
                chunk=self.config.head_chunk,
                objective=self.objective,
            )
        if any_rank(not isfinite(result.loss)):
            raise TrainingDiverged(self.divergence_message(f"validation loss {result.loss}"))
        self.measured = result.measured()
        self.log.scalars(self.step, **self.measured)
        is_best = not any_rank(self.best is not None and result.loss >= self.best.loss)
        if is_best:
            self.best = result
        model = whole_model(self.model)
        if is_main():
            text = self.objective.sample(model, self.tokenizer, self.config.prompt, self.config.seed)
            self.log.sample(self.step, text)
            lines = [f"step {self.step}: {result}{' · best so far' if is_best else ''}"]
            self.report = "\n".join([*lines, *("    " + line for line in text.splitlines()), ""])
        return is_best

    def save(self) -> None:
        """Write a checkpoint of this step, then remove those that are no longer needed."""
        model, state = capture(self.model, self.optimizers, self.scaler, self.device)
        if not is_main():
            return
        self.log.sync()
        training = {
            **self.metadata,
            "recipe": asdict(self.config),
            "processes": world_size(),
            "step": self.step,
            "tokens": self.step * self.tokens_per_step,
            "seconds": round(self.seconds, 1),
            "skipped": self.skipped,
            **self.measured,
        }
        state |= {name: getattr(self, name) for name in COUNTERS}
        state["best"] = self.best and asdict(self.best)
        save_checkpoint(self.folder / f"step-{self.step:06}", model, self.tokenizer, training, state)
        prune(self.folder, self.step, self.config.keep_every)

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint; the model has its weights already."""
        options = [[dict(group) for group in optimizer.param_groups] for optimizer in self.optimizers]
        restore(state, self.model, self.optimizers, self.scaler, self.device)
        for optimizer, ours in zip(self.optimizers, options, strict=True):
            for group, own in zip(optimizer.param_groups, ours, strict=True):  # rates and decay are those of `config`
                group |= {name: value for name, value in own.items() if name != "params"}
        for name in COUNTERS:
            setattr(self, name, state[name])
        self.best = state["best"] and Evaluation(**state["best"])

    def build_loss(self) -> nn.Module:
        """Build model and loss: prepared, compiled, checkpointed and distributed as configured."""
        self.model = prepare_for_training(self.model, self.device, self.config.precision)
        self.model.recompute_blocks = self.config.activation_checkpointing
        loss = self.objective.build_loss(self.model, self.config.head_chunk)
        if self.config.compile:
            compile_loss(loss, by_block=self.config.fsdp)
        return wrap(loss, self.config.fsdp)

    def product_dtype(self) -> torch.dtype:
        """Dtype of matrix products under autocast."""
        with self.autocast:
            one = torch.ones(1, 1, device=self.device)
            return (one @ one).dtype

    def progress(self) -> tqdm:
        """Progress bar of tokens, with those from before a resume; its rate is that of this process."""
        return tqdm(
            total=self.config.steps * self.tokens_per_step,
            initial=self.step * self.tokens_per_step,
            desc=f"step {self.step}/{self.config.steps}",
            unit="tok",
            unit_scale=True,
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30,  # in a log file every update is a line
            disable=not is_main(),
        )

    def divergence_message(self, measured: str) -> str:
        """Error message with the last checkpoint and settings that train more stably."""
        in_a_row = f" in {self.skipped_in_a_row} steps in a row" if self.skipped_in_a_row > 1 else ""
        rates = [f"lr = {self.config.lr / 3:.2g}"]
        if self.config.optimizer == "muon":
            rates.append(f"muon_lr = {self.config.muon_lr / 3:.2g}")
        return (
            f"Training diverged after step {self.step}: {measured}{in_a_row}. The last good checkpoint is "
            f"{latest_intact(self.folder)}. Use lower rates, such as {' and '.join(rates)}, or a longer "
            f"warm-up, such as warmup = {2.0 * self.config.warmup_steps + 10:.0f}."
        )

"""The training loop."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt
from tqdm import tqdm

from pocketgpt.errors import PocketError
from pocketgpt.gpt import GPT
from pocketgpt.text.batches import Batch
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.training.checkpoint import save_checkpoint
from pocketgpt.training.evaluate import Evaluation, evaluate, token_lengths
from pocketgpt.training.interrupt import interrupt_after_step
from pocketgpt.training.loss import NextTokenLoss
from pocketgpt.training.optimizer import build_optimizers
from pocketgpt.training.precision import autocast, choose_device
from pocketgpt.training.recipe import TrainConfig
from pocketgpt.training.runlog import RunLog
from pocketgpt.training.schedule import warmup_cosine


class TrainingDiverged(PocketError):
    """The loss or the gradient stopped being a number."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended."""

    folder: Path
    step: int
    best: Evaluation
    interrupted: bool


class Trainer:
    """One training run of a model, written to a folder: `best`, `last`, metrics.jsonl, samples.txt, loss.png.

    `batches` yields (tokens, targets) without end; `write_sample` turns the model into a text to look at.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        batches: Iterator[Batch],
        validation: UInt[np.ndarray, " n_tokens"],
        config: TrainConfig,
        folder: Path,
        *,
        preset: str | None = None,
        write_sample: Callable[[GPT], str] | None = None,
    ) -> None:
        self.config, self.folder, self.tokenizer, self.preset = config, folder, tokenizer, preset
        self.device = choose_device(config.device)
        self.autocast = autocast(self.device, config.precision)
        self.model = model.to(self.device)
        self.loss = NextTokenLoss(self.model)
        self.optimizers = build_optimizers(self.model, config)
        self.batches = batches
        self.validation = validation[: config.eval_tokens]
        self.bytes_per_token = token_lengths(tokenizer)
        self.write_sample = write_sample
        self.log = RunLog(folder)
        self.step = 0
        self.best: Evaluation | None = None

    def run(self) -> RunResult:
        """Train until the last step, or until Ctrl-C, which ends the step and still evaluates and saves.

        Raises TrainingDiverged if the loss stops being a number; what was saved before stays.
        """
        with self.log, interrupt_after_step() as interrupted, self.progress() as bar:
            while self.step < self.config.steps:
                started = time.perf_counter()
                loss, rates = self.train_step()
                speed = self.config.tokens_per_step / (time.perf_counter() - started)
                self.log.scalars(self.step, train_loss=loss, tokens_per_second=speed, **rates)
                bar.set_description(f"step {self.step}/{self.config.steps}", refresh=False)
                bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                bar.update(self.config.tokens_per_step)
                stop = interrupted()
                if self.step % self.config.eval_every == 0 or self.step == self.config.steps or stop:
                    self.evaluate_and_save(bar)
                if stop:
                    break
        return RunResult(folder=self.folder, step=self.step, best=self.best, interrupted=self.step < self.config.steps)

    def train_step(self) -> tuple[float, dict[str, float]]:
        """One update of the weights. Returns the loss before it, and the gradient norm and learning rates."""
        self.model.train()
        loss = 0.0
        for _ in range(self.config.accumulation):
            tokens, targets = next(self.batches)
            with self.autocast:
                # Divided, so that the parts add up to the mean over one large batch.
                part = self.loss(tokens.to(self.device), targets.to(self.device)) / self.config.accumulation
            part.backward()
            loss += part.item()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDiverged(self.divergence_message(f"loss {loss}, gradient norm {norm}"))
        rates = self.set_learning_rates()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss, {"gradient_norm": norm, **rates}

    def set_learning_rates(self) -> dict[str, float]:
        """Give every parameter group its rate for this step; returns them by optimizer."""
        rates = {}
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = warmup_cosine(
                    self.step,
                    peak=group["peak_lr"],
                    floor=group["peak_lr"] * self.config.final_lr,
                    warmup_steps=round(self.config.warmup * self.config.steps),
                    steps=self.config.steps,
                )
                rates[f"lr_{type(optimizer).__name__.lower()}"] = group["lr"]
        return rates

    def evaluate_and_save(self, bar: tqdm) -> None:
        """Measure the validation loss, save `last` and, if it is the lowest so far, `best`; show a sample."""
        with self.autocast:
            result = evaluate(
                self.model,
                self.validation,
                self.bytes_per_token,
                seq_len=self.config.seq_len,
                batch_size=self.config.batch_size,
            )
        if not math.isfinite(result.loss):
            raise TrainingDiverged(self.divergence_message(f"validation loss {result.loss}"))
        measured = {
            "validation_loss": result.loss,
            "perplexity": result.perplexity,
            "bits_per_byte": result.bits_per_byte,
        }
        self.log.scalars(self.step, **measured)
        training = {"preset": self.preset, "recipe": asdict(self.config), "step": self.step, **measured}
        save_checkpoint(self.folder / "last", self.model, self.tokenizer, training)
        is_best = self.best is None or result.loss < self.best.loss
        if is_best:
            self.best = result
            save_checkpoint(self.folder / "best", self.model, self.tokenizer, training)
        bar.write(
            f"step {self.step}: validation loss {result.loss:.3f} · perplexity {result.perplexity:.1f} · "
            f"{result.bits_per_byte:.3f} bits per byte{' · best so far, saved' if is_best else ''}"
        )
        if self.write_sample:
            text = self.write_sample(self.model)
            self.log.sample(self.step, text)
            bar.write("\n".join("    " + line for line in text.splitlines()) + "\n")

    def progress(self) -> tqdm:
        return tqdm(
            total=self.config.steps * self.config.tokens_per_step,
            desc=f"step 0/{self.config.steps}",
            unit="tok",
            unit_scale=True,
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30,  # in a log file every update is a line
        )

    def divergence_message(self, measured: str) -> str:
        saved = f"The weights of the best evaluation are in {self.folder / 'best'}. " if self.best else ""
        return (
            f"Training diverged after step {self.step}: {measured}. {saved}Use lower learning rates, such as "
            f"lr = {self.config.lr / 3:.2g} and muon_lr = {self.config.muon_lr / 3:.2g}, or a longer warm-up, such as "
            f"warmup = {min(1.0, 2 * self.config.warmup + 0.05):.2g}."
        )

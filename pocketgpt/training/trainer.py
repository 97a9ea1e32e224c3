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
from pocketgpt.training.runlog import RunLog, plot_losses, read_metrics
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
        """Train until the last step, or until Ctrl-C, which still saves.

        Raises TrainingDiverged if the loss stops being a number; the weights of the last save are then on the disk.
        """
        with interrupt_after_step() as interrupted, self.progress() as bar:
            while self.step < self.config.steps and not interrupted():
                started = time.perf_counter()
                loss, rates = self.train_step()
                speed = self.config.tokens_per_step / (time.perf_counter() - started)
                self.log.scalars(self.step, train_loss=loss, tokens_per_second=round(speed), **rates)
                bar.set_description(f"step {self.step}/{self.config.steps}", refresh=False)
                bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                bar.update(self.config.tokens_per_step)
                if self.step % self.config.eval_every == 0 or self.step == self.config.steps or interrupted():
                    self.evaluate_and_save(bar)
            was_interrupted = interrupted() and self.step < self.config.steps
        self.log.close()
        plot_losses(read_metrics(self.folder), self.folder / "loss.png")
        return RunResult(folder=self.folder, step=self.step, best=self.best, interrupted=was_interrupted)

    def train_step(self) -> tuple[float, dict[str, float]]:
        """One update of the weights. Returns the loss before it, and the learning rates and gradient norm used."""
        self.model.train()
        loss = 0.0
        for _ in range(self.config.accumulation):
            tokens, targets = next(self.batches)
            with autocast(self.device, self.config.precision):
                part = self.loss(tokens.to(self.device), targets.to(self.device)) / self.config.accumulation
            part.backward()
            loss += part.item()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip).item()
        rates = self.set_learning_rates()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDiverged(self.divergence_message(loss, norm))
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
        with autocast(self.device, self.config.precision):
            result = evaluate(self.model, self.validation, self.bytes_per_token, seq_len=self.config.seq_len)
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
            unit="tok",
            unit_scale=True,
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30,  # in a log file every update is a line
        )

    def divergence_message(self, loss: float, norm: float) -> str:
        saved = f"The weights of the best evaluation are in {self.folder / 'best'}. " if self.best else ""
        return (
            f"Training diverged at step {self.step + 1}: loss {loss}, gradient norm {norm}. {saved}"
            f"Use lower learning rates, such as lr = {self.config.lr / 3:.2g} and muon_lr = {self.config.muon_lr / 3:.2g}, "
            f"or a longer warm-up, such as warmup = {min(1.0, 2 * self.config.warmup + 0.05):.2g}."
        )

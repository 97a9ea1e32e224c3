"""Log of a run: metrics.jsonl, TensorBoard if it is installed, and a plot of the loss curve."""

import importlib.util
import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pocketgpt.errors import PocketError
from pocketgpt.files import replacing

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito's palette: told apart with any kind of color vision


class RunLog:
    """Metrics by step: one JSON object per line of `metrics.jsonl`, and TensorBoard.

    A context manager: its end draws loss.png, also after an error, when the curve matters most. A curve that cannot be
    drawn is reported on stderr, and hides neither the result of the run nor the error that ended it. A run that resumes
    after `step` first removes later records, so that the log reads as one run. With `silent`, on all ranks but the main
    one, nothing is written.
    """

    def __init__(self, folder: Path, silent: bool = False) -> None:
        self.folder, self.silent = folder, silent
        self.file: Any = None
        self.board: Any = None

    def start(self, step: int) -> "RunLog":
        """Open the log of a new run, or of one that resumes after `step`."""
        if self.silent:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        cut_after(self.folder / "metrics.jsonl", step)
        self.file = (self.folder / "metrics.jsonl").open("a", encoding="utf-8")
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1)
        return self

    def __enter__(self) -> "RunLog":
        self.excepthook = threading.excepthook
        threading.excepthook = self.thread_failed
        return self

    def __exit__(self, *error: object) -> None:
        for finish in (self.draw, self.board.close if self.board else None):
            try:
                if finish and self.file:
                    finish()
            except (OSError, PocketError) as failure:
                print(f"pocketgpt: the log of the run is incomplete: {failure}", file=sys.stderr)
        threading.excepthook = self.excepthook

    def draw(self) -> None:
        """Close metrics.jsonl and draw its curve."""
        self.file.close()
        plot_losses(read_metrics(self.folder), self.folder / "loss.png")

    def thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """Print the traceback of a thread, but not of TensorBoard's: the next record raises its OSError again."""
        if not (isinstance(failure.exc_value, OSError) and type(failure.thread).__module__.startswith("tensorboard.")):
            self.excepthook(failure)

    def scalars(self, step: int, **values: int | float) -> None:
        """Record metrics of a step, such as train_loss or tokens_per_second; non-finite values are left out."""
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        if self.file:
            # Nine digits are all that a float32 has.
            rounded = {
                name: value if isinstance(value, int) else float(f"{value:.9g}") for name, value in values.items()
            }
            self.file.write(json.dumps({"step": step, **rounded}) + "\n")
            self.file.flush()
        for name, value in values.items():
            self.show(step, lambda board, name=name, value=value: board.add_scalar(name, value, step))

    def sample(self, step: int, text: str) -> None:
        """Record a text that the model generated after that step, in samples/ and TensorBoard."""
        if self.file:
            with replacing(self.folder / "samples" / f"step-{step:06}.txt") as beside:
                beside.write_text(text + "\n", encoding="utf-8")
        self.show(step, lambda board: board.add_text("sample", "    " + text.replace("\n", "\n    "), step))

    def show(self, step: int, add: Callable[[Any], None]) -> None:
        """Add something to TensorBoard's files, until that fails: its numbers are in metrics.jsonl too."""
        if not self.board:
            return
        try:
            add(self.board)
        except OSError as failure:
            print(f"pocketgpt: TensorBoard's files end before step {step}: {failure}", file=sys.stderr)
            self.board = None

    def sync(self) -> None:
        """Wait until all records are on the disk."""
        if self.file:
            os.fsync(self.file.fileno())


def read_metrics(folder: Path) -> list[dict[str, int | float]]:
    """Read the records of `metrics.jsonl`, in order, up to a line that a kill truncated."""
    return [record for _, record in _records(folder / "metrics.jsonl")]


def cut_after(file: Path, step: int) -> None:
    """Remove the records beyond `step` from a file, and a truncated last line."""
    if file.exists():
        kept = "".join(line + "\n" for line, record in _records(file) if record["step"] <= step)
        with replacing(file) as beside:
            beside.write_text(kept, encoding="utf-8")


def _records(file: Path) -> Iterator[tuple[str, dict[str, int | float]]]:
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield line, json.loads(line)
        except json.JSONDecodeError:
            return


def plot_losses(records: list[dict[str, int | float]], file: Path) -> None:
    """Plot training and validation loss against the step in a PNG file; nothing if there is no training loss yet."""
    train = [(record["step"], record["train_loss"]) for record in records if "train_loss" in record]
    validation = [(record["step"], record["validation_loss"]) for record in records if "validation_loss" in record]
    if not train:
        return
    from matplotlib.figure import Figure  # the import takes half a second; ranks that plot nothing skip it

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*train, strict=True), color=BLUE, linewidth=0.6, alpha=0.6, label="training, each step")
    if validation:
        axes.plot(*zip(*validation, strict=True), color=ORANGE, marker="o", markersize=4, label="validation")
        step, loss = min(validation, key=lambda point: point[1])
        axes.set_title(f"Lowest validation loss at step {step}: {loss:.2f} nats per token")
    else:
        axes.set_title(f"From {train[0][1]:.2f} to {train[-1][1]:.2f} nats per token in {train[-1][0]} steps")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(file) as beside:
        figure.savefig(beside, dpi=150, format="png")

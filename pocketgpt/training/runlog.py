"""What a run writes down: metrics.jsonl, TensorBoard where it is installed, and the loss curve as a picture."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito's palette: told apart with any kind of color vision


class RunLog:
    """Measurements by step, appended to `metrics.jsonl` as one JSON object a line and sent to TensorBoard.

    Used in a `with` block; its end draws loss.png, also after an error: then the curve matters most.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file: Any = None
        self.board: Any = None

    def __enter__(self) -> "RunLog":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = (self.folder / "metrics.jsonl").open("a", encoding="utf-8")
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(self.folder / "tensorboard"))
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()
        if self.board:
            self.board.close()
        plot_losses(read_metrics(self.folder), self.folder / "loss.png")

    def scalars(self, step: int, **values: int | float) -> None:
        """Record measurements of a step, such as train_loss, validation_loss, learning_rate, tokens_per_second."""
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        self.file.write(json.dumps({"step": step, **rounded}) + "\n")
        self.file.flush()
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def sample(self, step: int, text: str) -> None:
        """Record a text that the model wrote after that step, in samples.txt and TensorBoard."""
        with (self.folder / "samples.txt").open("a", encoding="utf-8") as file:
            file.write(f"=== step {step}\n{text}\n\n")
        if self.board:
            self.board.add_text("sample", "    " + text.replace("\n", "\n    "), step)


def read_metrics(folder: Path) -> list[dict[str, int | float]]:
    """The records of `metrics.jsonl`, in the order in which they were written."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def plot_losses(records: list[dict[str, int | float]], file: Path) -> None:
    """Draw training and validation loss against the step, into a PNG; nothing if there is no training loss yet."""
    train = [(record["step"], record["train_loss"]) for record in records if "train_loss" in record]
    validation = [(record["step"], record["validation_loss"]) for record in records if "validation_loss" in record]
    if not train:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*train, strict=True), color=BLUE, linewidth=0.6, alpha=0.6, label="training, each step")
    if validation:
        axes.plot(*zip(*validation, strict=True), color=ORANGE, marker="o", markersize=4, label="validation")
        step, loss = min(validation, key=lambda point: point[1])
        axes.set_title(f"Text it has not seen is predicted best at step {step}: {loss:.2f} nats per token")
    else:
        axes.set_title(f"From {train[0][1]:.2f} to {train[-1][1]:.2f} nats per token in {train[-1][0]} steps")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)

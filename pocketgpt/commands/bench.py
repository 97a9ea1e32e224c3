"""`pocketgpt bench`: measure, print, and write a JSON file and a picture of each benchmark."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from pocketgpt.bench.run import BENCHMARKS, run
from pocketgpt.bench.train import Options
from pocketgpt.device import choose_device


def bench(
    name: Positional[Literal["all", "train", "generate", "attention"]] = "all",
    *,
    preset: str = "pocket",
    batch_size: int = 16,
    seq_len: int | None = None,
    compile: bool = True,
    runs: int = 5,
    quick: bool = False,
    device: str = "auto",
    out: Path = Path("bench"),
) -> None:
    """Measure how fast this machine trains and generates, next to the usual alternatives.

    Ctrl-C keeps what was measured. On one GPU: pocketgpt bench train --preset gpt2 --batch-size 64

    Args:
        name: train, generate or attention; all three by default.
        preset: Model for `train`.
        batch_size: Windows of text in a training step.
        seq_len: Tokens in a window; by default the longest that the model takes, up to 1024.
        compile: Measure torch.compile too; compiling takes a minute or two.
        runs: Timed runs of each variant; their median counts.
        quick: Tiny shapes and no compilation: a test in seconds that everything runs; its speeds mean nothing.
        device: auto, cpu, cuda or mps.
        out: Folder for a JSON file and a picture of each benchmark.
    """
    options = Options(preset=preset, batch_size=batch_size, seq_len=seq_len, compile=compile)
    names = list(BENCHMARKS) if name == "all" else [name]
    run(names, device=choose_device(device), runs=runs, quick=quick, out=out, options=options)

"""torch.compile: whether it can work here, and what is compiled."""

import os
import shutil
import sys

import torch

from pocketgpt.errors import PocketError
from pocketgpt.training.loss import NextTokenLoss


def check_compiler(device: torch.device) -> None:
    """Raises PocketError, before anything is trained, if what torch.compile needs is missing here."""
    if sys.platform == "win32":
        raise PocketError("torch.compile does not work on Windows here: use --no-compile, or train under WSL.")
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if device.type == "cuda":  # Triton builds a launcher in C
        compiler = os.environ.get("CC") or next(filter(shutil.which, ("gcc", "clang")), "gcc")
    if shutil.which(compiler) is None:
        raise PocketError(
            f"torch.compile needs a compiler, and {compiler} is not here: install it, or use --no-compile."
        )


def compile_loss(loss: NextTokenLoss, by_block: bool = False) -> None:
    """Let every call of the loss run compiled: fewer kernels, fewer trips to memory, the same numbers up to rounding.

    `by_block` compiles each block alone, for FSDP, which collects the weights of a block between two of them. The model
    itself, as an evaluation calls it with windows of other lengths, is not compiled.
    """
    for module in loss.model.blocks if by_block else [loss]:
        module.compile()


def compiler_failure(error: Exception) -> str | None:
    """What an error inside torch.compile says, in one line, and what to do; None for any other error."""
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return None
    lines = [line for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
    reason = lines[0].strip() if lines else type(error).__name__
    return f"torch.compile failed: {reason}. Use --no-compile."

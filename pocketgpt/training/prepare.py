"""Prepare training for a device: number format, attention backend, cached allocations, torch.compile."""

import ctypes
import os
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from pocketgpt.device import DeviceError, bf16_is_native
from pocketgpt.errors import PocketError
from pocketgpt.layers.attention_backends import fused_attention
from pocketgpt.models.stack import Stack, sharing_weights
from pocketgpt.training.recipes import Precision

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager:
    """Autocast context of a forward pass: bf16 or fp16 products on float32 weights, or float32 throughout.

    Raises DeviceError if bf16 is asked for on hardware that only emulates it, or fp16 anywhere but on CUDA.
    """
    if precision == "bf16" and not bf16_is_native(device):
        instead = "fp16 or float32" if device.type == "cuda" else "float32"
        raise DeviceError(f"This {device.type} does not compute bf16 natively: use precision {instead}.")
    if precision == "fp16" and device.type != "cuda":
        instead = "bf16" if bf16_is_native(device) else "float32"
        raise DeviceError(f"fp16 is for CUDA GPUs, and the device is {device.type}: use precision {instead}.")
    if precision == "float32" or (precision == "auto" and not bf16_is_native(device)):
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.float16 if precision == "fp16" else torch.bfloat16)


def grad_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """Loss scaling for fp16, in which small gradients would vanish: the loss is multiplied by a large number before the
    backward pass, and the gradients are divided by it before clipping.

    A step whose gradients overflowed is skipped and the number halved; after many steps without one it is doubled.
    In the other formats, whose exponents have the range of float32's, it does nothing.
    Source: Micikevicius et al. 2017, Mixed precision training (arXiv 1710.03740), section 3.2.
    """
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def prepare_for_training(model: Stack, device: torch.device, precision: Precision) -> Stack:
    """Choose the fastest attention backend on the device; returns a model with the same weights.

    Only a CPU needs it: a GPU's allocator caches memory by itself, and its fused attention is the fastest at every
    length. Call it once, before the first step and before torch.compile. A backend chosen before is not replaced.
    """
    if device.type != "cpu":
        return model
    keep_allocations()
    chosen = any(getattr(mixer, "attend", fused_attention) is not fused_attention for mixer in model.mixers())
    if chosen or precision not in ("auto", "bf16") or not bf16_is_native(device):
        return model
    return sharing_weights(model).use_attention("short")


def keep_allocations(keep: bool = True) -> bool:
    """Let the allocator cache freed memory for the next step; returns True if the system supports that.

    A training step allocates and frees the same large tensors again and again. glibc returns each of them to the system
    at once, and the system clears every page before it hands it out again, which took a sixth of a step. From now on
    the process never returns freed memory. `keep=False` restores glibc's defaults and returns free memory. Only glibc
    has such a setting, so only Linux.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # musl
        return False
    if keep:
        return bool(libc.mallopt(M_MMAP_THRESHOLD, 2**31 - 1) and libc.mallopt(M_TRIM_THRESHOLD, -1))  # −1: never
    # The values that glibc's own adaptive thresholds reach with tensors of this size.
    arranged = libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20) and libc.mallopt(M_TRIM_THRESHOLD, 64 * 2**20)
    libc.malloc_trim(0)
    return bool(arranged)


def check_compiler(device: torch.device) -> None:
    """Raises PocketError, before training starts, if torch.compile lacks a compiler on this machine."""
    if sys.platform == "win32":
        raise PocketError("torch.compile does not work on Windows here: use --no-compile, or train under WSL.")
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if device.type == "cuda":  # Triton builds a launcher in C
        compiler = os.environ.get("CC") or next(filter(shutil.which, ("gcc", "clang")), "gcc")
    if shutil.which(compiler) is None:
        raise PocketError(
            f"torch.compile needs a compiler, and {compiler} is not here: install it, or use --no-compile."
        )


def compile_loss(loss: nn.Module, by_block: bool = False) -> None:
    """Compile the loss: fewer kernels, less memory traffic, the same numbers up to rounding.

    `by_block` compiles each block alone, for FSDP, which gathers the weights of a block just before it runs. The model
    itself, which an evaluation calls with windows of other lengths, is not compiled.
    """
    for module in loss.model.blocks if by_block else [loss]:
        module.compile(recompile_limit=256)  # for all models of a process; after PyTorch's 8, they run uncompiled


def compiler_failure(error: Exception) -> str | None:
    """One-line message for an error inside torch.compile, with the option to use; None for any other error."""
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return None
    lines = [line for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
    reason = lines[0].strip() if lines else type(error).__name__
    return f"torch.compile failed: {reason}. Use --no-compile."

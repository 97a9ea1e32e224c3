"""Where a run computes, and in which number format."""

from contextlib import AbstractContextManager, nullcontext

import torch

from pocketgpt.errors import PocketError
from pocketgpt.machine import bf16_is_native
from pocketgpt.training.recipes import Precision


class DeviceError(PocketError, ValueError):
    """A device that this machine does not have, or a number format that it does not compute."""


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is a CUDA GPU if there is one, else Apple's mps, else the CPU.

    Raises DeviceError if there is no such device here.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if name == "auto":
        name = available[0]
    kind, _, index = name.partition(":")
    if kind not in available or (index and (kind != "cuda" or int(index) >= torch.cuda.device_count())):
        raise DeviceError(f"There is no device {name!r} here: choose one of auto, {', '.join(available)}.")
    return torch.device(name)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager:
    """The context in which a forward pass runs: bf16 or fp16 products on float32 weights, or float32 throughout.

    Raises DeviceError if bf16 is asked for on hardware that only emulates it, or fp16 anywhere but on CUDA.
    """
    if precision == "bf16" and not bf16_is_native(device):
        instead = "fp16 or float32" if device.type == "cuda" else "float32"
        raise DeviceError(f"This {device.type} does not compute bf16 itself: use precision {instead}.")
    if precision == "fp16" and device.type != "cuda":
        instead = "bf16" if bf16_is_native(device) else "float32"
        raise DeviceError(f"fp16 is for CUDA GPUs, and the device is {device.type}: use precision {instead}.")
    if precision == "float32" or (precision == "auto" and not bf16_is_native(device)):
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.float16 if precision == "fp16" else torch.bfloat16)


def grad_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """What keeps small gradients from vanishing in fp16: the loss is multiplied by a large number before the backward
    pass, and the gradients are divided by it before they are clipped.

    A step whose gradients overflowed is skipped and the number halved; after many steps without one it is doubled.
    In the other formats, whose exponents reach as far as float32's, it does nothing.
    Source: Micikevicius et al. 2017, Mixed precision training (arXiv 1710.03740), section 3.2.
    """
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")

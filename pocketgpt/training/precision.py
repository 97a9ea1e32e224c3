"""The number format of a training run."""

from contextlib import AbstractContextManager, nullcontext

import torch

from pocketgpt.device import DeviceError, bf16_is_native
from pocketgpt.training.recipes import Precision


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

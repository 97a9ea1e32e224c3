"""Prepare a model for fast training on a CPU without changing what it computes.

A GPU needs none of it: its allocator caches memory by itself, and its fused attention is the fastest at every length.
"""

import ctypes
import sys

import torch

from pocketgpt.layers.attention_backends import fused_attention
from pocketgpt.machine import bf16_is_native
from pocketgpt.models.gpt import GPT
from pocketgpt.models.stack import sharing_weights
from pocketgpt.training.recipe import Precision

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h


def prepare_for_training(model: GPT, device: torch.device, precision: Precision) -> GPT:
    """The model to train: with the same weights, and the attention backend that is fastest on the device.

    Call it once, before the first step and before torch.compile. An attention backend that was chosen before stays.
    """
    if device.type != "cpu":
        return model
    keep_allocations()
    chosen = any(getattr(mixer, "attend", fused_attention) is not fused_attention for mixer in model.mixers())
    if chosen or precision not in ("auto", "bf16") or not bf16_is_native(device):
        return model
    return sharing_weights(model).use_attention("short")


def keep_allocations(keep: bool = True) -> bool:
    """Let this process keep the memory that it frees, for the next step; returns whether that could be arranged.

    A training step allocates and frees the same large tensors again and again. glibc gives each of them back to the
    system at once, and the system clears every page before it hands it out anew, which took a sixth of a step. From
    now on the process holds on to the most it ever needed. `keep=False` goes back to what glibc does by itself, and
    gives back what is free. There is no such setting but in glibc, so on Linux.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # musl
        return False
    if keep:
        return bool(libc.mallopt(M_MMAP_THRESHOLD, 2**31 - 1) and libc.mallopt(M_TRIM_THRESHOLD, -1))  # −1: never
    # Where glibc's own thresholds, which adapt to the program, come to rest with tensors as large as these.
    arranged = libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20) and libc.mallopt(M_TRIM_THRESHOLD, 64 * 2**20)
    libc.malloc_trim(0)
    return bool(arranged)

"""What makes a training step faster on a CPU without changing what it computes.

A GPU needs none of it: its allocator keeps memory by itself, and its fused attention is the fastest at every length.
"""

import ctypes
import math
import sys

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from pocketgpt.device import bf16_is_native
from pocketgpt.gpt import GPT
from pocketgpt.layers.attention import Attention, fused_attention
from pocketgpt.training.recipe import Precision

LONGEST_PRODUCTS = 512
"""Up to this many tokens `short_attention` multiplies whole matrices; its memory grows with their square."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h


def prepare_for_training(model: GPT, device: torch.device, precision: Precision) -> None:
    """Call once, before the first step and before torch.compile. Changes nothing anywhere but on a CPU."""
    if device.type != "cpu":
        return
    keep_allocations()
    if precision in ("auto", "bf16") and bf16_is_native(device):
        for module in model.modules():
            if isinstance(module, Attention) and module.core is fused_attention:
                module.core = short_attention


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


def short_attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_head"],
    mask: Bool[Tensor, "*#batch seq keys"] | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads seq d_head"]:
    """`fused_attention`, with short causal sequences as two plain matrix products and a softmax between.

    On CPUs that multiply bf16 in hardware, products of whole matrices run at full speed, and the fused operator, which
    works through small tiles, does not: forward and backward took it 2 to 6 times as long at 128 to 512 tokens, as long
    at 1,024, and less beyond. Nor does it store what these products do, heads · T² weights for each sequence and layer
    (0.8 MB with 6 heads, 256 tokens and bf16): hence LONGEST_PRODUCTS.

    Query heads that share a key/value head are one taller matrix: no key or value is repeated.
    """
    n_batch, n_heads, seq, d_head = q.shape
    if mask is not None or not is_causal or k.shape[2] != seq or seq > LONGEST_PRODUCTS:
        return fused_attention(q, k, v, mask, is_causal, dropout)
    group = n_heads // k.shape[1]
    q = (q / math.sqrt(d_head)).reshape(-1, group * seq, d_head)
    k, v = k.reshape(-1, seq, d_head), v.reshape(-1, seq, d_head)
    later = torch.full((seq, seq), -math.inf, dtype=q.dtype, device=q.device).triu(1)
    weights = (q @ k.mT + later.repeat(group, 1)).softmax(dim=-1)
    return (F.dropout(weights, dropout) @ v).view(n_batch, n_heads, seq, d_head)

"""Sparse attention: each token attends to few others, and only their scores are computed.

A sliding window with anchors (`AttentionConfig.window`, `n_anchors`) lets a token see itself, the window − 1 tokens
before it, and the first n_anchors tokens of the text. The past beyond the window is not lost: what the tokens inside it
have read is in their vectors, so n_layers layers reach n_layers · (window − 1) tokens back.

A mask does not make attention cheap. The scores are computed and then hidden, and the time and the memory are those of
the whole square. Work is saved where whole tiles of the square are left out:

    seq 1,024, window 64, 4 anchors          pairs of query and key, per head
    the square                                       1,048,576
    at and below the diagonal                          524,800
    visible in the mask (`visible_pairs`)               67,354
    in tiles of 64 (`needed_tiles`)                    184,320

Sources: Beltagy et al. 2020, Longformer (arXiv 2004.05150), section 3, for the window and for global tokens, which in
its encoder also see everything; Zaheer et al. 2020, BigBird (arXiv 2007.14062), which adds random pairs and computes
tiles; Xiao et al. 2023, StreamingLLM (arXiv 2309.17453), for anchors in a decoder: large models put unused attention on
the first tokens (attention sinks), and fail when a window drops them. StreamingLLM counts positions inside the cache;
here every token keeps its position in the text.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from pocketgpt.layers.attention_backends import Backend, Mask, causal_mask, fused_attention

TILE = 64
"""Queries and keys along the edges of a tile: GPU kernels use 64 or 128."""


def visible_pairs(seq: int, window: int, n_anchors: int = 0) -> int:
    """Pairs of query and key that the mask of a window with anchors lets through.

    With w = min(window + n_anchors, seq): 1 + 2 + … + w for the first w tokens, which see everything before them, and w
    for each later one.
    """
    most = min(window + n_anchors, seq)
    return most * (most + 1) // 2 + (seq - most) * most


def needed_tiles(mask: Bool[Tensor, "*rows seq keys"], tile: int = TILE) -> Bool[Tensor, "seq_tiles key_tiles"]:
    """True for each tile of the mask in which some query of some row may attend to some key."""
    visible = mask.flatten(0, -3).any(dim=0) if mask.ndim > 2 else mask  # (T, S)
    visible = F.pad(visible, (0, -visible.shape[1] % tile, 0, -visible.shape[0] % tile))
    return visible.unflatten(1, (-1, tile)).unflatten(0, (-1, tile)).any(dim=3).any(dim=1)


def tiled_attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    mask: Mask | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
    tile: int = TILE,
    attend: Backend = fused_attention,
) -> Float[Tensor, "batch heads seq d_value"]:
    """Attention that skips tiles of the mask in which nothing is visible: `model.use_attention(tiled_attention)`.

    For long sequences with a mask that is mostly empty: 4 · d_head · tile² operations for each needed tile and head.
    Each row of tiles is computed by another backend, `attend`, with the keys of its needed tiles. The mask is read to
    decide, which a compiled step cannot do; a single query, which skips nothing, is left to `attend`.
    """
    seq, keys = q.shape[2], k.shape[2]
    if is_causal:
        mask = causal_mask(torch.arange(seq, device=q.device), torch.arange(keys, device=q.device))
    if mask is None or seq == 1:
        return attend(q, k, v, mask=mask, dropout=dropout)
    columns = torch.arange(keys, device=q.device)
    rows = []
    seen_at_all = mask > torch.finfo(mask.dtype).min if mask.is_floating_point() else mask
    for i, needed in enumerate(needed_tiles(seen_at_all, tile)):
        here = slice(i * tile, (i + 1) * tile)
        seen = columns[needed.repeat_interleave(tile)[:keys]]
        visible = mask[..., here, seen]
        rows.append(attend(q[:, :, here], k[:, :, seen], v[:, :, seen], mask=visible, dropout=dropout))
    return torch.cat(rows, dim=2)

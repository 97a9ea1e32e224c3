"""Exercise `window_attention`: attention with normalized queries and keys, and a sliding window."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.ch25_exam.shared import attend, rms, seen
from pocketgpt.course.checking.cases import strided
from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=4,
    hints=(),
    returns=("output",),
    gradients=("q", "k", "v", "q_weight", "k_weight"),
    sizes={"d_head": (4, 6, 8)},
)
def window_attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads seq d_head"],
    v: Float[Tensor, "batch kv_heads seq d_head"],
    q_weight: Float[Tensor, " d_head"],
    k_weight: Float[Tensor, " d_head"],
    rope: tuple[Tensor, Tensor],
    window: int,
    eps: float,
) -> Float[Tensor, "batch heads seq d_head"]:
    """PyTorch's rms_norm and fused attention with an explicit mask; tests hold it equal to transformers'
    Qwen3Attention."""
    return attend(q, k, v, q_weight, k_weight, rope, window, eps)


@window_attention.inputs
def _(rng):
    for i, (batch, heads, kv_heads, seq, d_head, window) in enumerate(
        [
            (2, 4, 2, 5, 6, 3),
            (2, 6, 2, 7, 4, 4),
            (3, 6, 3, 9, 8, 2),
            (1, 4, 2, 8, 6, 3),
            (2, 5, 1, 7, 6, 3),
            (2, 1, 1, 6, 4, 2),
            (2, 4, 2, 1, 6, 3),  # one token
            (2, 6, 3, 5, 4, 11),  # the window is wider than the text
            (2, 4, 2, 12, 6, 5),
        ]
    ):
        q = 2 * torch.randn(batch, heads, seq, d_head, generator=rng)
        k = 0.6 * torch.randn(batch, kv_heads, seq, d_head, generator=rng) + 0.3
        v = torch.randn(batch, kv_heads, seq, d_head, generator=rng)
        weights = [1 + 0.5 * torch.randn(d_head, generator=rng) for _ in range(2)]
        turns = 20.0 ** (-torch.arange(0, d_head, 2) / d_head)
        angles = torch.arange(i % 3, i % 3 + seq)[:, None] * turns
        tensors = [strided(x) if i % 2 else x for x in (q, k, v, *weights)]
        yield *tensors, (angles.cos(), angles.sin()), window, (0.1, 0.2)[i % 2]
        if i in (4, 8):  # scores of some thousands: nothing finite hides beside them; with one key nothing rounds
            yield q, k, v, *(100 * x for x in weights), (angles.cos(), angles.sin()), 1, 0.1


@window_attention.mistake
def norms_forgotten(*inputs):
    """Queries and keys are not normalized: each vector of a head is divided by its root mean square before the
    rotation."""
    return attend(*inputs, norm=lambda x, weight, eps: x)


@window_attention.mistake
def norm_after_rotation(*inputs):
    """The norms come after the rotation: then the weights scale what was already turned. Normalize first."""
    return attend(*inputs, late=True)


@window_attention.mistake
def weights_of_norm_forgotten(*inputs):
    """Queries and keys are normalized and not scaled: multiply by q_weight and k_weight."""
    return attend(*inputs, norm=lambda x, weight, eps: rms(x, None, eps))


@window_attention.mistake
def weights_exchanged(q, k, v, q_weight, k_weight, *rest):
    """The two weights are exchanged: q_weight belongs to the queries, k_weight to the keys."""
    return attend(q, k, v, k_weight, q_weight, *rest)


@window_attention.mistake
def one_weight_for_both(q, k, v, q_weight, k_weight, *rest):
    """The keys are scaled by q_weight: they have a weight of their own, k_weight."""
    return attend(q, k, v, q_weight, q_weight, *rest)


def _normed_by_hand(x, weight, eps, dim):
    return x * (x.square().mean(dim, keepdim=True) + eps).rsqrt() * weight


@window_attention.mistake
def all_heads_together(*inputs):
    """The mean square is taken over all heads of a token together: each head has its own, over d_head."""
    return attend(*inputs, norm=lambda x, weight, eps: _normed_by_hand(x, weight, eps, (1, 3)))


@window_attention.mistake
def over_positions(*inputs):
    """The mean square is taken over the positions: it is that of one vector, over d_head."""
    return attend(*inputs, norm=lambda x, weight, eps: _normed_by_hand(x, weight, eps, 2))


@window_attention.mistake
def over_heads(*inputs):
    """The mean square is taken over the heads: it is that of one vector, over d_head."""
    return attend(*inputs, norm=lambda x, weight, eps: _normed_by_hand(x, weight, eps, 1))


@window_attention.mistake
def unit_length(*inputs):
    """Queries and keys are divided by their length: that is √d_head too much. Divide by the root of the mean square."""
    return attend(*inputs, norm=lambda x, weight, eps: x * (x.square().sum(-1, keepdim=True) + eps).rsqrt() * weight)


@window_attention.mistake
def normalized_by_torch(*inputs):
    """Queries and keys have length 1 here, as `F.normalize` makes them: divide by the root of the mean square, with
    `eps`, which leaves them √d_head longer."""
    return attend(*inputs, norm=lambda x, weight, eps: F.normalize(x, dim=-1) * weight)


@window_attention.mistake
def layer_norm(*inputs):
    """This is LayerNorm, which subtracts the mean: RMSNorm subtracts nothing."""
    return attend(*inputs, norm=lambda x, weight, eps: F.layer_norm(x, x.shape[-1:], weight, None, eps))


@window_attention.mistake
def eps_left_out(*inputs):
    """Without eps, or with one of your own: `eps` is added to the mean square."""
    return attend(*inputs, norm=lambda x, weight, eps: rms(x, weight, 1e-6))


@window_attention.mistake
def eps_outside_the_root(*inputs):
    """The eps is added to the root: it belongs inside, to the mean square."""
    return attend(*inputs, norm=lambda x, weight, eps: x / (x.square().mean(-1, keepdim=True).sqrt() + eps) * weight)


@window_attention.mistake
def root_forgotten(*inputs):
    """The division is by the mean square: take its root first."""
    return attend(*inputs, norm=lambda x, weight, eps: x / (x.square().mean(-1, keepdim=True) + eps) * weight)


@window_attention.mistake
def only_queries_normalized(q, k, v, q_weight, k_weight, rope, window, eps):
    """The keys are not normalized: both are."""
    return attend(rms(q, q_weight, eps), k, v, None, None, rope, window, eps, norm=lambda x, weight, eps: x)


@window_attention.mistake
def only_keys_normalized(q, k, v, q_weight, k_weight, rope, window, eps):
    """The queries are not normalized: both are."""
    return attend(q, rms(k, k_weight, eps), v, None, None, rope, window, eps, norm=lambda x, weight, eps: x)


@window_attention.mistake
def values_normalized(q, k, v, q_weight, k_weight, rope, window, eps):
    """The values are normalized, too: only queries and keys are."""
    return attend(q, k, rms(v, None, eps), q_weight, k_weight, rope, window, eps)


@window_attention.mistake
def values_normalized_and_scaled(q, k, v, q_weight, k_weight, rope, window, eps):
    """The values are normalized and scaled like the keys: only queries and keys are normalized."""
    return attend(q, k, rms(v, k_weight, eps), q_weight, k_weight, rope, window, eps)


@window_attention.mistake
def normalized_twice(*inputs):
    """Queries and keys are normalized twice: with weights that are not 1, this is another result."""
    return attend(*inputs, norm=lambda x, weight, eps: rms(rms(x, weight, eps), weight, eps))


@window_attention.mistake
def window_too_wide(*inputs):
    """The window is one too wide: the distance is below `window`, so a token sees itself and window − 1 before it."""
    return attend(*inputs, mask=lambda seq, window: seen(seq, window + 1))


@window_attention.mistake
def window_too_narrow(*inputs):
    """The window is one too narrow: a token sees `window` positions, itself among them."""
    return attend(*inputs, mask=lambda seq, window: seen(seq, window - 1))


@window_attention.mistake
def no_window(*inputs):
    """The mask is causal and has no window: hide also what lies `window` or more positions back."""
    return attend(*inputs, mask=lambda seq, window: seen(seq, seq))


@window_attention.mistake
def nothing_hidden(*inputs):
    """There is no mask: every token sees the whole text."""
    return attend(*inputs, mask=lambda seq, window: torch.ones(seq, seq, dtype=torch.bool))


@window_attention.mistake
def future_in_the_window(*inputs):
    """The window lets the future in: it reaches to both sides. The distance must be 0 or more, too."""
    return attend(*inputs, mask=lambda seq, window: seen(seq, window) | seen(seq, window).T)


@window_attention.mistake
def window_ahead(*inputs):
    """The window lies ahead: a token sees itself and those after it. Exchange queries and keys in the distance."""
    return attend(*inputs, mask=lambda seq, window: seen(seq, window).T)


@window_attention.mistake
def only_the_past_is_cut(*inputs):
    """The window hides what is far back and leaves the future open: the mask is causal, too."""
    return attend(*inputs, mask=lambda seq, window: torch.ones(seq, seq, dtype=torch.bool).triu(1 - window))


@window_attention.mistake
def without_itself(*inputs):
    """A token sees the `window` tokens before it and not itself: it is the first of the `window` positions."""
    return attend(*inputs, mask=lambda seq, window: seen(seq, window + 1) & ~torch.eye(seq, dtype=torch.bool))


@window_attention.mistake
def without_itself_and_nan(*inputs):
    """A token sees the `window` tokens before it and not itself, so the first token sees nothing, which is NaN: it is
    the first of the `window` positions."""
    output = without_itself(*inputs)
    return torch.cat((torch.full_like(output[:, :, :1], torch.nan), output[:, :, 1:]), 2)


@window_attention.mistake
def blocks(*inputs):
    """The text is cut into pieces of `window` tokens, and each token sees its own piece: the window slides with the
    token."""

    def mask(seq, window):
        piece = torch.arange(seq) // window
        return (piece[:, None] == piece[None, :]).tril()

    return attend(*inputs, mask=mask)


@window_attention.mistake
def first_tokens_kept(*inputs):
    """The first `window` tokens of the text are seen, by every later token: the window ends at the token itself."""
    return attend(
        *inputs,
        mask=lambda seq, window: torch.ones(seq, seq, dtype=torch.bool).tril() & (torch.arange(seq) < window),
    )


@window_attention.mistake
def last_tokens_of_the_text(*inputs):
    """The last `window` tokens of the text are seen, whatever the query is: each query has a window of its own, which
    ends at its position."""
    return attend(
        *inputs,
        mask=lambda seq, window: torch.ones(seq, seq, dtype=torch.bool).tril() & (torch.arange(seq) >= seq - window),
    )


@window_attention.mistake
def mask_turned_around(*inputs):
    """The mask is True where it should be False: it hides the window and shows the rest."""
    return attend(*inputs, mask=lambda seq, window: ~seen(seq, window))


@window_attention.mistake
def scale_left_out(q, *rest):
    """The scores are not divided by √d_head: QK-norm does not replace the scale here."""
    return attend(q, *rest, scale=q.shape[-1] ** 0.5)


@window_attention.mistake
def scaled_twice(q, *rest):
    """The scores are divided by √d_head twice: fused and grouped attention do it already."""
    return attend(q, *rest, scale=q.shape[-1] ** -0.5)


@window_attention.mistake
def not_rotated(*inputs):
    """Queries and keys are not rotated."""
    return attend(*inputs, turned="")


@window_attention.mistake
def only_queries_rotated(*inputs):
    """The keys are not rotated: a score then depends on where the query is. Rotate both."""
    return attend(*inputs, turned="q")


@window_attention.mistake
def only_keys_rotated(*inputs):
    """The queries are not rotated: a score then depends on where the key is. Rotate both."""
    return attend(*inputs, turned="k")


@window_attention.mistake
def values_rotated(*inputs):
    """The values are rotated, too: only queries and keys are."""
    return attend(*inputs, turned="qkv")


@window_attention.mistake
def rotated_backward(q, k, v, q_weight, k_weight, rope, window, eps):
    """The rotation goes backward: the first half is first · cos − second · sin, and `rope` is (cos, sin), in this
    order."""
    return attend(q, k, v, q_weight, k_weight, (rope[0], -rope[1]), window, eps)


@window_attention.mistake
def neighbors_paired(q, k, v, q_weight, k_weight, rope, window, eps):
    """Neighboring numbers are turned as pairs: here number i is paired with number i + d_head/2, as your `apply_rope`
    does."""

    def interleaved(x):
        return torch.cat((x[..., ::2], x[..., 1::2]), -1)

    q, k = interleaved(rms(q, q_weight, eps)), interleaved(rms(k, k_weight, eps))
    return attend(q, k, v, None, None, rope, window, eps, norm=lambda x, weight, eps: x)


@window_attention.mistake
def kv_heads_in_another_order(q, k, v, *rest):
    """Key and value heads are repeated as a b a b: neighbors share one, a a b b."""
    k, v = (x.repeat(1, q.shape[1] // x.shape[1], 1, 1) for x in (k, v))
    return attend(q, k, v, *rest)


def _weights(q, k, q_weight, k_weight, rope, eps):
    """Scaled scores, with the key heads repeated."""
    q, k = rms(q, q_weight, eps), rms(k, k_weight, eps)
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    (first, second), (cos, sin) = torch.stack((q, k)).chunk(2, -1), rope
    q, k = torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(q.dtype)
    return q @ k.mT / q.shape[-1] ** 0.5


@window_attention.mistake
def masked_after_softmax(q, k, v, q_weight, k_weight, rope, window, eps):
    """The weights outside the window are set to 0 after the softmax: then a row does not sum to 1. Hide the scores
    before it."""
    weights = _weights(q, k, q_weight, k_weight, rope, eps).softmax(-1) * seen(q.shape[2], window)
    return weights @ v.repeat_interleave(q.shape[1] // v.shape[1], 1)


@window_attention.mistake
def hidden_scores_are_zero(q, k, v, q_weight, k_weight, rope, window, eps):
    """Hidden scores are set to 0, which is a score like any other: they need −∞."""
    scores = _weights(q, k, q_weight, k_weight, rope, eps).masked_fill(~seen(q.shape[2], window), 0.0)
    return scores.softmax(-1) @ v.repeat_interleave(q.shape[1] // v.shape[1], 1)


@window_attention.mistake
def hidden_scores_are_small(q, k, v, q_weight, k_weight, rope, window, eps):
    """Hidden scores are set to a number such as −30: with large weights, the scores of visible keys are far below it.
    Hidden ones need −∞."""
    scores = _weights(q, k, q_weight, k_weight, rope, eps).masked_fill(~seen(q.shape[2], window), -30.0)
    return scores.softmax(-1) @ v.repeat_interleave(q.shape[1] // v.shape[1], 1)


@window_attention.mistake
def exp_without_the_maximum(q, k, v, q_weight, k_weight, rope, window, eps):
    """The `exp` of a large score is infinite: subtract the largest score of each row first, as `softmax` does."""
    scores = _weights(q, k, q_weight, k_weight, rope, eps).masked_fill(~seen(q.shape[2], window), -torch.inf)
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return weights @ v.repeat_interleave(q.shape[1] // v.shape[1], 1)


@window_attention.mistake
def softmax_over_queries(q, k, v, q_weight, k_weight, rope, window, eps):
    """The softmax is taken over the queries: the weights of a query over its keys sum to 1, axis −1."""
    scores = _weights(q, k, q_weight, k_weight, rope, eps)
    scores = scores.masked_fill(~seen(q.shape[2], window), -torch.inf)
    return scores.softmax(-2) @ v.repeat_interleave(q.shape[1] // v.shape[1], 1)


@window_attention.finished
def fused(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads seq d_head"],
    v: Float[Tensor, "batch kv_heads seq d_head"],
    q_weight: Float[Tensor, " d_head"],
    k_weight: Float[Tensor, " d_head"],
    rope: tuple[Tensor, Tensor],
    window: int,
    eps: float,
) -> Float[Tensor, "batch heads seq d_head"]:
    cos, sin = rope

    def prepared(x, weight):
        normed = F.rms_norm(x, x.shape[-1:], weight, eps)
        left, right = normed.chunk(2, dim=-1)
        return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1).to(x.dtype)

    places = torch.arange(q.shape[2], device=q.device)
    back = places[:, None] - places
    visible = (back >= 0) & (back < window)
    return F.scaled_dot_product_attention(
        prepared(q, q_weight), prepared(k, k_weight), v, attn_mask=visible, enable_gqa=True
    )


@window_attention.accepted
def step_by_step(q, k, v, q_weight, k_weight, rope, window, eps):
    seq = q.shape[2]
    scores = _weights(q, k, q_weight, k_weight, rope, eps)
    hidden = torch.ones(seq, seq).triu(1).bool() | torch.ones(seq, seq).tril(-window).bool()
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    return weights @ v.repeat_interleave(q.shape[1] // v.shape[1], 1)


@window_attention.accepted
def query_by_query(q, k, v, q_weight, k_weight, rope, window, eps):
    def prepared(x, weight):
        x = x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight
        half = x.shape[-1] // 2
        cos, sin = (torch.cat((each, each), -1).to(x.dtype) for each in rope)
        return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin

    q, k = prepared(q, q_weight), prepared(k, k_weight)
    shared = q.shape[1] // k.shape[1]
    heads = []
    for head in range(q.shape[1]):
        rows = []
        for i in range(q.shape[2]):
            first = max(0, i + 1 - window)
            keys, values = (x[:, head // shared, first : i + 1] for x in (k, v))
            scores = (keys @ q[:, head, i, :, None])[..., 0] / q.shape[-1] ** 0.5
            rows.append((scores.softmax(-1)[:, None] @ values)[:, 0])
        heads.append(torch.stack(rows, 1))
    return torch.stack(heads, 1)

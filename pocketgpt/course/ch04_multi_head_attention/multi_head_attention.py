"""Exercise `multi_head_attention`: project, split, attend, merge, project."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


@exercise(
    points=3,
    returns=("output",),
    forbidden=("multi_head_attention_forward", "_native_multi_head_attention"),
    sizes={"d_model": (12, 18, 20)},
    gradients=("x",),
)
def multi_head_attention(
    x: Float[Tensor, "batch seq d_model"], weights: dict[str, Float[Tensor, "d_model d_model"]], n_heads: int
) -> Float[Tensor, "batch seq d_model"]:
    """Causal multi-head attention, by PyTorch's own: (seq, batch, d_model), with a mask that is True where hidden."""
    seq, d_model = x.shape[1:]
    q, k, v, o = (weights[name] for name in PROJECTIONS)
    hidden = torch.ones(seq, seq, dtype=torch.bool).triu(1)
    y, _ = F.multi_head_attention_forward(
        *(x.transpose(0, 1),) * 3,
        embed_dim_to_check=d_model,
        num_heads=n_heads,
        in_proj_weight=None,
        in_proj_bias=None,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=o,
        out_proj_bias=None,
        training=False,
        attn_mask=hidden,
        use_separate_proj_weight=True,
        q_proj_weight=q,
        k_proj_weight=k,
        v_proj_weight=v,
    )
    return y.transpose(0, 1)


@multi_head_attention.values
def n_heads(rng, d_model):
    divisors = [n for n in range(2, d_model) if d_model % n == 0]
    return divisors[int(torch.randint(len(divisors), (), generator=rng))]


@multi_head_attention.values
def weights(rng, d_model):
    return _weights(rng, d_model)


@multi_head_attention.inputs
def _(rng):
    for batch, seq, heads, d_head in [(2, 5, 3, 4), (3, 4, 2, 5), (2, 6, 1, 3), (2, 5, 4, 1)]:
        d_model = heads * d_head
        yield torch.randn(batch, seq, d_model, generator=rng), _weights(rng, d_model), heads
    yield _large(rng)


def _large(rng):
    """Scores of thousands, in which −1000 is no mask and e to a score is infinity. Whole numbers, and d_head = 16:
    scores are exact however they are computed, equal or far apart. Keys are minus queries: own scores are negative."""

    def whole(*shape):
        return torch.randint(-2, 3, shape, generator=rng).float()

    weights = {name: whole(32, 32) for name in PROJECTIONS}
    weights["k_proj"] = -weights["q_proj"]
    weights["v_proj"] /= 16
    return 16 * whole(2, 5, 32), weights, 2


def _weights(rng, d_model):
    """Scores of size 1.5 or so: weights far from equal, and from certain."""
    return {name: torch.randn(d_model, d_model, generator=rng) * 1.2 / math.sqrt(d_model) for name in PROJECTIONS}


@multi_head_attention.composed
def _(x, weights, n_heads, *, split_heads, merge_heads):
    q, k, v = (split_heads(F.linear(x, weights[name]), n_heads) for name in PROJECTIONS[:3])
    return F.linear(merge_heads(_attend(q, k, v)), weights["o_proj"])


def _split(x, n_heads):
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def _merge(x):
    return x.transpose(1, 2).flatten(2)


def _visible(seq):
    return torch.ones(seq, seq, dtype=torch.bool).tril()


def _attend(q, k, v, scale=None, mask=None, softmax_over=-1):
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.mT
    scores = scores.masked_fill(~(_visible(q.shape[2]) if mask is None else mask), -torch.inf)
    return scores.softmax(dim=softmax_over).nan_to_num() @ v


def _forward(x, weights, n_heads, *, split=_split, merge=_merge, attend=_attend, linear=F.linear, names=PROJECTIONS):
    """Right, for the mistakes that go wrong elsewhere."""
    q, k, v = (split(linear(x, weights[name]), n_heads) for name in names[:3])
    return linear(merge(attend(q, k, v)), weights[names[3]])


@multi_head_attention.mistake(hint=3)
def o_proj_forgotten(x, weights, n_heads):
    """The merged heads are returned as they are: o_proj comes last, and mixes them."""
    q, k, v = (_split(F.linear(x, weights[name]), n_heads) for name in PROJECTIONS[:3])
    return _merge(_attend(q, k, v))


@multi_head_attention.mistake(hint=2)
def scale_from_d_model(x, weights, n_heads):
    """The scale is made from d_model: a score sums over the numbers of one head, so it is 1/√d_head."""
    return _forward(x, weights, n_heads, attend=lambda q, k, v: _attend(q, k, v, scale=x.shape[-1] ** -0.5))


@multi_head_attention.mistake(hint=2)
def no_scale(x, weights, n_heads):
    """The scores are not scaled: divide them by √d_head, with d_head = d_model / n_heads."""
    return _forward(x, weights, n_heads, attend=lambda q, k, v: _attend(q, k, v, scale=1.0))


@multi_head_attention.mistake(hint=2)
def constant_scale(x, weights, n_heads):
    """The scale is 1/2 whatever the width of a head: that is 1/√d_head for d_head = 4 only."""
    return _forward(x, weights, n_heads, attend=lambda q, k, v: _attend(q, k, v, scale=0.5))


@multi_head_attention.mistake(hint=2)
def no_mask(x, weights, n_heads):
    """Every token sees the whole text, the future included: the attention must be causal."""
    seq = x.shape[1]
    everything = torch.ones(seq, seq, dtype=torch.bool)
    return _forward(x, weights, n_heads, attend=lambda q, k, v: _attend(q, k, v, mask=everything))


@multi_head_attention.mistake(hint=2)
def mask_upside_down(x, weights, n_heads):
    """The mask is upside down: True hides in `nn.MultiheadAttention`, and shows in `F.scaled_dot_product_attention` and
    in this course. Your tokens see the future and nothing else."""
    future = ~_visible(x.shape[1])
    return _forward(x, weights, n_heads, attend=lambda q, k, v: _attend(q, k, v, mask=future))


@multi_head_attention.mistake(hint=2)
def weights_not_transposed(x, weights, n_heads):
    """This multiplies x @ W: the weights are stored as (out, in), so it is x @ Wᵀ, as `F.linear` does. The matrices are
    square, so PyTorch cannot notice."""
    return _forward(x, weights, n_heads, linear=torch.matmul)


@multi_head_attention.mistake(hint=2)
def o_proj_not_transposed(x, weights, n_heads):
    """With o_proj this multiplies y @ W: it is stored as (out, in) like the others, so it is y @ Wᵀ."""
    q, k, v = (_split(F.linear(x, weights[name]), n_heads) for name in PROJECTIONS[:3])
    return _merge(_attend(q, k, v)) @ weights["o_proj"]


@multi_head_attention.mistake(hint=3)
def keys_from_the_query_weights(x, weights, n_heads):
    """The keys are made with q_proj: queries and keys have a matrix each."""
    return _forward(x, weights, n_heads, names=("q_proj", "q_proj", "v_proj", "o_proj"))


@multi_head_attention.mistake(hint=3)
def values_from_the_key_weights(x, weights, n_heads):
    """The values are made with k_proj: keys and values have a matrix each."""
    return _forward(x, weights, n_heads, names=("q_proj", "k_proj", "k_proj", "o_proj"))


@multi_head_attention.mistake(hint=3)
def queries_and_keys_exchanged(x, weights, n_heads):
    """The queries are made with k_proj and the keys with q_proj."""
    return _forward(x, weights, n_heads, names=("k_proj", "q_proj", "v_proj", "o_proj"))


@multi_head_attention.mistake(hint=3)
def values_not_projected(x, weights, n_heads):
    """The values are pieces of x itself: v_proj makes them."""
    q, k = (_split(F.linear(x, weights[name]), n_heads) for name in PROJECTIONS[:2])
    return F.linear(_merge(_attend(q, k, _split(x, n_heads))), weights["o_proj"])


@multi_head_attention.mistake(hint=1)
def matrices_by_their_order(x, weights, n_heads):
    """The matrices are taken in the order of the dictionary, which says nothing: take them by name,
    weights["q_proj"]."""
    return _forward(x, weights, n_heads, names=tuple(weights))


@multi_head_attention.mistake(hint=1)
def one_wide_head(x, weights, n_heads):
    """This is attention with a single head of width d_model: split the queries, keys and values into n_heads."""
    return _forward(x, weights, 1)


@multi_head_attention.mistake(hint=2)
def softmax_over_the_heads(x, weights, n_heads):
    """The softmax runs over the heads, so that hidden places, −infinity in all of them, become NaN: it runs over the
    keys, the last axis of the scores."""
    return _by_hand(x, weights, n_heads, lambda s, m: _masked(s, m).softmax(1))


@multi_head_attention.mistake(hint=2)
def softmax_over_the_heads_without_nan(x, weights, n_heads):
    """The softmax runs over the heads, so that hidden places get 1/H in each: it runs over the keys, the last axis of
    the scores."""
    return _by_hand(x, weights, n_heads, lambda s, m: s.masked_fill(m == 0, -1e9).softmax(1))


@multi_head_attention.mistake(hint=2)
def softmax_over_the_queries(x, weights, n_heads):
    """The softmax runs over the queries: it runs over the keys, the last axis of the scores."""
    return _forward(x, weights, n_heads, attend=lambda q, k, v: _attend(q, k, v, softmax_over=-2))


def _straight_split(x, n_heads):
    return x.reshape(x.shape[0], n_heads, x.shape[1], -1)


def _straight_merge(x):
    return x.reshape(x.shape[0], x.shape[2], -1)


@multi_head_attention.mistake(hint=1)
def split_straight_to_the_shape(x, weights, n_heads):
    """The heads are split by a bare `view` or `reshape`, which turns pieces of one token into several tokens: split the
    last axis, then exchange tokens and heads, as your `split_heads` does."""
    return _forward(x, weights, n_heads, split=_straight_split)


@multi_head_attention.mistake(hint=1)
def merged_without_transposing(x, weights, n_heads):
    """The heads are merged by a bare `reshape`, which mixes pieces of different tokens into a row: exchange heads and
    tokens first, as your `merge_heads` does."""
    return _forward(x, weights, n_heads, merge=_straight_merge)


@multi_head_attention.mistake(hint=1)
def split_and_merged_straight(x, weights, n_heads):
    """Split and merge are both a bare `reshape`: they cancel each other, but attention between them met pieces of
    tokens in place of tokens."""
    return _forward(x, weights, n_heads, split=_straight_split, merge=_straight_merge)


@multi_head_attention.mistake(hint=1)
def tokens_and_heads_not_exchanged(x, weights, n_heads):
    """Tokens and heads are not exchanged, so the heads of one token look at each other and no token looks at another:
    the order is (B, heads, T, d_head)."""
    q, k, v = (F.linear(x, weights[name]).unflatten(-1, (n_heads, -1)) for name in PROJECTIONS[:3])
    return F.linear(_attend(q, k, v).flatten(2), weights["o_proj"])


@multi_head_attention.mistake
def input_added(x, weights, n_heads):
    """The input is added to the output: the residual connection comes in chapter 5, outside of attention."""
    return x + _forward(x, weights, n_heads)


@multi_head_attention.mistake(hint=2)
def three_weights_not_transposed(x, weights, n_heads):
    """Queries, keys and values are x @ W: the weights are stored as (out, in), so it is x @ Wᵀ, as for o_proj."""
    q, k, v = (_split(x @ weights[name], n_heads) for name in PROJECTIONS[:3])
    return F.linear(_merge(_attend(q, k, v)), weights["o_proj"])


def _by_hand(x, weights, n_heads, weigh, scale=None):
    """`weigh` makes weights of the scaled scores and a mask that is 1 where looking is allowed."""
    mask = _visible(x.shape[1]).float()

    def attend(q, k, v):
        return weigh(q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale(q.shape[-1])), mask) @ v

    return _forward(x, weights, n_heads, attend=attend)


def _masked(scores, mask):
    return scores.masked_fill(mask == 0, -torch.inf)


@multi_head_attention.mistake(hint=2)
def scaled_twice(x, weights, n_heads):
    """The scores are scaled twice, by 1/d_head in all: multiply once by 1/√d_head. `F.scaled_dot_product_attention`
    scales by itself."""
    return _by_hand(x, weights, n_heads, lambda s, m: _masked(s, m).softmax(-1), lambda d: 1 / d)


@multi_head_attention.mistake(hint=2)
def scale_from_the_number_of_heads(x, weights, n_heads):
    """The scale is made from n_heads: a score sums over the d_head numbers of a head, so it is 1/√d_head."""
    return _by_hand(x, weights, n_heads, lambda s, m: _masked(s, m).softmax(-1), lambda d: n_heads**-0.5)


@multi_head_attention.mistake(hint=2)
def multiplied_by_the_root(x, weights, n_heads):
    """The scores are multiplied by √d_head: divide by it."""
    return _by_hand(x, weights, n_heads, lambda s, m: _masked(s, m).softmax(-1), lambda d: d**0.5)


@multi_head_attention.mistake(hint=2)
def weights_scaled(x, weights, n_heads):
    """The scale comes after the softmax, so that rows no longer sum to 1: scale the scores, before it."""
    root = (x.shape[-1] // n_heads) ** 0.5
    return _by_hand(x, weights, n_heads, lambda s, m: _masked(s, m).softmax(-1) / root, lambda d: 1.0)


@multi_head_attention.mistake(hint=2)
def no_softmax(x, weights, n_heads):
    """The scores themselves are used as weights: a softmax over the keys comes between."""
    return _by_hand(x, weights, n_heads, lambda s, m: s * m)


@multi_head_attention.mistake(hint=2)
def mask_added(x, weights, n_heads):
    """A mask of ones and zeros, or of True and False, is added to the scores: an allowed score grows by 1, and a hidden
    one stays. Fill the hidden ones with −infinity."""
    return _by_hand(x, weights, n_heads, lambda s, m: (s + m).softmax(-1))


@multi_head_attention.mistake(hint=2)
def filled_with_zero(x, weights, n_heads):
    """Hidden scores are 0, which is a score like any other: e⁰ = 1. Fill them with −infinity."""
    return _by_hand(x, weights, n_heads, lambda s, m: (s * m).softmax(-1))


@multi_head_attention.mistake(hint=2)
def masked_after_the_softmax(x, weights, n_heads):
    """Weights are set to zero after the softmax, so that rows no longer sum to 1: mask the scores, before it."""
    return _by_hand(x, weights, n_heads, lambda s, m: s.softmax(-1) * m)


@multi_head_attention.mistake(hint=2)
def renormalized_after_the_softmax(x, weights, n_heads):
    """Weights are set to zero after the softmax and divided by their sum. That fails for large scores: where a hidden
    one wins, all others round to 0, and 0/0 is NaN. Mask the scores, before the softmax."""

    def weigh(scores, mask):
        weights = scores.softmax(-1) * mask
        return weights / weights.sum(-1, keepdim=True)

    return _by_hand(x, weights, n_heads, weigh)


@multi_head_attention.mistake(hint=2)
def softmax_without_the_largest(x, weights, n_heads):
    """The weights are e to the score divided by their sum, which fails for large scores: e¹⁰⁰ is infinity in float32.
    Subtract the largest score of a row first, or call `softmax`, which does."""

    def weigh(scores, mask):
        weights = scores.exp() * mask
        return weights / weights.sum(-1, keepdim=True)

    return _by_hand(x, weights, n_heads, weigh)


@multi_head_attention.mistake(hint=2)
def infinity_after_the_softmax(x, weights, n_heads):
    """Weights are filled with −infinity after the softmax, and the mean becomes NaN or infinity: fill the scores,
    before it."""
    return _by_hand(x, weights, n_heads, lambda s, m: _masked(s.softmax(-1), m))


@multi_head_attention.mistake(hint=2)
def zero_times_infinity(x, weights, n_heads):
    """The mask is multiplied by infinity, and 0 · infinity is NaN: use `masked_fill(…, -torch.inf)`, which multiplies
    nothing."""
    return _by_hand(x, weights, n_heads, lambda s, m: (s + (1 - m) * -torch.inf).softmax(-1))


@multi_head_attention.mistake(hint=2)
def visible_filled(x, weights, n_heads):
    """The wrong places are filled: the last row is hidden as a whole, which gives NaN, and all others see the future
    only. `masked_fill` fills where its mask is True, so turn a mask of what is allowed with `~`."""
    return _by_hand(x, weights, n_heads, lambda s, m: s.masked_fill(m == 1, -torch.inf).softmax(-1))


@multi_head_attention.mistake(hint=2)
def itself_hidden(x, weights, n_heads):
    """No token sees itself, and the first sees nothing, which gives NaN: a token sees itself, too. What is hidden is
    `triu(1)`, what is allowed `tril()`."""
    return _by_hand(x, weights, n_heads, lambda s, m: _masked(s, m.tril(-1)).softmax(-1))


@multi_head_attention.mistake(hint=2)
def itself_hidden_without_nan(x, weights, n_heads):
    """No token sees itself, and the first sees nothing, which the operator answers with 0: a token sees itself, too.
    What is allowed is `tril()`."""
    return _by_hand(x, weights, n_heads, lambda s, m: _masked(s, m.tril(-1)).softmax(-1).nan_to_num())


@multi_head_attention.mistake(hint=2)
def itself_and_the_future(x, weights, n_heads):
    """The mask is upside down: every token sees itself and the future, `triu()`. What is allowed is `tril()`."""
    return _by_hand(x, weights, n_heads, lambda s, m: _masked(s, m.mT).softmax(-1))


@multi_head_attention.mistake(hint=2)
def filled_with_minus_10(x, weights, n_heads):
    """Hidden scores are filled with −10, which hides nothing from smaller scores: fill with −infinity."""
    return _by_hand(x, weights, n_heads, lambda s, m: s.masked_fill(m == 0, -10).softmax(-1))


@multi_head_attention.mistake(hint=2)
def filled_with_minus_100(x, weights, n_heads):
    """Hidden scores are filled with −100, which hides nothing from smaller scores: fill with −infinity."""
    return _by_hand(x, weights, n_heads, lambda s, m: s.masked_fill(m == 0, -100).softmax(-1))


@multi_head_attention.mistake(hint=2)
def filled_before_the_scale(x, weights, n_heads):
    """Hidden scores are filled with −10 and then scaled, so that they are larger still, and hide little: fill with
    −infinity."""
    root = (x.shape[-1] // n_heads) ** 0.5
    return _by_hand(x, weights, n_heads, lambda s, m: s.masked_fill(m == 0, -10 / root).softmax(-1))


@multi_head_attention.mistake(hint=3)
def one_matrix_for_all(x, weights, n_heads):
    """Queries, keys and values are all made with q_proj: each has a matrix of its own."""
    return _forward(x, weights, n_heads, names=("q_proj", "q_proj", "q_proj", "o_proj"))


@multi_head_attention.mistake(hint=1)
def not_exchanged_and_not_causal(x, weights, n_heads):
    """Tokens and heads are not exchanged, so the heads of one token look at each other and no token looks at another.
    Exchange them, (B, heads, T, d_head); after that a causal mask is needed."""
    q, k, v = (F.linear(x, weights[name]).unflatten(-1, (n_heads, -1)) for name in PROJECTIONS[:3])
    return F.linear(F.scaled_dot_product_attention(q, k, v).flatten(2), weights["o_proj"])


@multi_head_attention.mistake(hint=1)
def split_before_the_projection(x, weights, n_heads):
    """Here `x` is split before it is projected, and each head sees its piece of the token alone: project the whole
    width first, then split."""
    d_head = x.shape[-1] // n_heads
    q, k, v = (_split(x, n_heads) @ weights[name][:d_head, :d_head].T for name in PROJECTIONS[:3])
    return F.linear(_merge(_attend(q, k, v)), weights["o_proj"])


@multi_head_attention.mistake(hint=1)
def a_block_for_each_head(x, weights, n_heads):
    """Head h makes its queries, keys and values from its own piece of the token, with a block of the matrix: it needs
    the d_head rows of the matrix, with all d_model columns, and the whole token."""
    d_head = x.shape[-1] // n_heads
    pieces = [slice(h * d_head, (h + 1) * d_head) for h in range(n_heads)]
    q, k, v = (torch.stack([x[..., p] @ weights[name][p, p].T for p in pieces], 1) for name in PROJECTIONS[:3])
    return F.linear(_merge(_attend(q, k, v)), weights["o_proj"])


@multi_head_attention.mistake(hint=1)
def o_proj_before_the_merge(x, weights, n_heads):
    """The heads are projected one by one, with a corner of o_proj, and then merged: merge first, so that o_proj mixes
    the heads."""
    d_head = x.shape[-1] // n_heads
    q, k, v = (_split(F.linear(x, weights[name]), n_heads) for name in PROJECTIONS[:3])
    return _merge(F.linear(_attend(q, k, v), weights["o_proj"][:d_head, :d_head]))


@multi_head_attention.mistake(hint=1)
def not_merged(x, weights, n_heads):
    """The heads are multiplied by o_proj before they are merged: o_proj is (d_model, d_model), so merge first."""
    q, k, v = (_split(F.linear(x, weights[name]), n_heads) for name in PROJECTIONS[:3])
    return F.linear(F.scaled_dot_product_attention(q, k, v, is_causal=True), weights["o_proj"])


@multi_head_attention.mistake(hint=2)
def first_text_alone(x, weights, n_heads):
    """Only the first text comes out: keep the batch, which is the first axis, in split and merge."""
    return _forward(x[:1], weights, n_heads)


@multi_head_attention.mistake(hint=1)
def heads_averaged(x, weights, n_heads):
    """The output is divided by n_heads: the contributions of the heads are added up, not averaged."""
    return _forward(x, weights, n_heads) / n_heads


@multi_head_attention.mistake(hint=2)
def every_nth_number(x, weights, n_heads):
    """Each head gets every H-th number: a head is a run of d_head neighbors, so unflatten the width as (n_heads,
    d_head)."""

    def split(x, n_heads):
        return x.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2)

    return _forward(x, weights, n_heads, split=split, merge=lambda y: y.permute(0, 2, 3, 1).flatten(2))


@multi_head_attention.mistake(hint=2)
def texts_look_at_each_other(x, weights, n_heads):
    """Batch and tokens are exchanged, so that the texts of the batch look at each other: `x` is (B, T, d_model)."""
    return _forward(x.transpose(0, 1), weights, n_heads).transpose(0, 1)


@multi_head_attention.finished
def with_the_fused_operator(x, weights, n_heads):
    projected = (F.linear(x, weights[name]) for name in ("q_proj", "k_proj", "v_proj"))
    q, k, v = (each.unflatten(-1, (n_heads, -1)).transpose(1, 2) for each in projected)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.linear(y.transpose(1, 2).flatten(2), weights["o_proj"])


@multi_head_attention.accepted
def with_einsum(x, weights, n_heads):
    d_head = x.shape[-1] // n_heads
    q, k, v = (torch.einsum("btm,hcm->bhtc", x, weights[name].reshape(n_heads, d_head, -1)) for name in PROJECTIONS[:3])
    scores = torch.einsum("bhtc,bhsc->bhts", q, k) / math.sqrt(d_head)
    p = scores.masked_fill(~_visible(x.shape[1]), -torch.inf).softmax(-1)
    return torch.einsum("bhts,bhsc,mhc->btm", p, v, weights["o_proj"].reshape(-1, n_heads, d_head))


@multi_head_attention.accepted
def head_after_head(x, weights, n_heads):
    d_head = x.shape[-1] // n_heads
    output = 0
    for h in range(n_heads):
        rows = slice(h * d_head, (h + 1) * d_head)
        q, k, v = (x @ weights[name][rows].T for name in PROJECTIONS[:3])
        scores = (q @ k.mT * d_head**-0.5).masked_fill(~_visible(x.shape[1]), -torch.inf)
        output = output + scores.softmax(-1) @ v @ weights["o_proj"][:, rows].T
    return output

"""Exercise `cached_layer`: project, rotate, append, attend."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise

PROJECTIONS = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class Rotation:
    """RoPE with a base of its own: `rope(x, positions)` rotates (B, H, T, d_head)."""

    theta: float

    def __call__(
        self, x: Float[Tensor, "batch heads seq d_head"], positions: Int[Tensor, " seq"]
    ) -> Float[Tensor, "batch heads seq d_head"]:
        frequencies = self.theta ** (-torch.arange(0, x.shape[-1], 2) / x.shape[-1])
        angles = (torch.as_tensor(positions)[..., None] * frequencies).to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

    def __repr__(self) -> str:
        return "a rotation"


@exercise(
    points=3,
    returns=("output", "cache"),
    replaces="cached_layer",
    sizes={"d_model": (7, 9, 11), "seq": (1, 2, 3), "batch": (2, 3)},
    tolerance=3e-4,
)
def cached_layer(
    x: Float[Tensor, "batch seq d_model"],
    weights: dict[str, Float[Tensor, "out inner"]],
    kept: tuple[Float[Tensor, "batch kv_heads past d_head"], Float[Tensor, "batch kv_heads past d_head"]],
    start: int,
    rope: Callable,
) -> tuple[Float[Tensor, "batch seq d_model"], tuple[Tensor, Tensor]]:
    """PyTorch's fused attention of the new tokens to the kept ones and each other; and the longer cache."""
    past, d_head = kept[0].shape[2:]
    seq = x.shape[1]
    q, k, v = (F.linear(x, weights[name]).unflatten(-1, (-1, d_head)).transpose(1, 2) for name in PROJECTIONS)
    positions = start + torch.arange(seq)
    keys, values = torch.cat((kept[0], rope(k, positions)), dim=2), torch.cat((kept[1], v), dim=2)
    visible = torch.ones(seq, past + seq, dtype=torch.bool).tril(past)
    y = F.scaled_dot_product_attention(rope(q, positions), keys, values, visible, enable_gqa=True)
    return F.linear(y.transpose(1, 2).flatten(2), weights["o_proj"]), (keys, values)


@cached_layer.values
def kept(rng, batch):
    heads, past, d_head = (
        options[int(torch.randint(len(options), (), generator=rng))] for options in ((2, 3), (4, 5, 6), (4, 8))
    )
    return _kept(rng, batch, heads, past, d_head)


@cached_layer.values
def weights(rng, d_model, kept):
    heads, d_head = kept[0].shape[1], kept[0].shape[3]
    return _weights(rng, d_model, heads * int(torch.randint(2, 4, (), generator=rng)), heads, d_head)


@cached_layer.values
def start(rng, kept):
    return kept[0].shape[2]


@cached_layer.values
def rope(rng):
    return Rotation(round(20 + 100 * float(torch.rand((), generator=rng)), 1))


@cached_layer.inputs
def _(rng):
    def case(batch, seq, past, start, heads, d_model=10, d_head=4):
        return (
            torch.randn(batch, seq, d_model, generator=rng),
            _weights(rng, d_model, *heads, d_head),
            _kept(rng, batch, heads[1], past, d_head),
            start,
            Rotation(round(20 + 100 * float(torch.rand((), generator=rng)), 1)),
        )

    yield case(2, 5, 0, 0, (4, 2))  # a prompt
    yield case(3, 1, 0, 0, (4, 4), d_head=6)  # a prompt of one token
    yield case(2, 1, 6, 6, (6, 3))  # one token more
    yield case(2, 3, 6, 6, (6, 2))  # a chunk
    yield case(1, 1, 4, 4, (2, 1), d_head=6)
    yield case(2, 1, 4, 9, (4, 2))  # the oldest were dropped
    yield case(2, 2, 4, 9, (6, 3))


def _kept(rng, batch, heads, past, d_head):
    """Kept keys are rotated already, and look like others."""
    return tuple(torch.randn(batch, heads, past, d_head, generator=rng) for _ in range(2))


def _weights(rng, d_model, heads, kv_heads, d_head):
    """Scores of size 1.5 or so."""

    def matrix(rows, columns):
        return torch.randn(rows, columns, generator=rng) * 1.2 / columns**0.5

    widths = {"q_proj": heads, "k_proj": kv_heads, "v_proj": kv_heads}
    weights = {name: matrix(n * d_head, d_model) for name, n in widths.items()}
    return weights | {"o_proj": matrix(d_model, heads * d_head)}


@cached_layer.composed
def _(x, weights, kept, start, rope, *, append_kv, decode_attention):
    d_head = kept[0].shape[-1]
    q, k, v = (F.linear(x, weights[name]).unflatten(-1, (-1, d_head)).transpose(1, 2) for name in PROJECTIONS)
    positions = start + torch.arange(x.shape[1])
    keys, values = append_kv(kept[0], rope(k, positions)), append_kv(kept[1], v)
    key_positions = torch.arange(start - kept[0].shape[2], start + x.shape[1])
    y = decode_attention(rope(q, positions), keys, values, positions, key_positions, None)
    return F.linear(y.transpose(1, 2).flatten(2), weights["o_proj"]), (keys, values)


def _split(y, d_head):
    return y.unflatten(-1, (-1, d_head)).transpose(1, 2)


def _layer(x, weights, kept, start, rope, *, rope_keys=None, before=lambda keys: keys, visible=None, store=None,
           append=lambda kept, new: torch.cat((kept, new), dim=2), names=PROJECTIONS, linear=F.linear, merge=None,
           rope_values=lambda v: v, scale=None, split=_split):  # fmt: skip
    """Right, for the mistakes that change one step of it."""
    past, d_head = kept[0].shape[2:]
    q, k, v = (split(linear(x, weights[name]), d_head) for name in names)
    positions = start + torch.arange(x.shape[1])
    new_keys, new_values = (rope_keys or rope)(k, positions), rope_values(v)
    keys, values = append(before(kept[0]), new_keys), append(kept[1], new_values)
    triangle = torch.ones(x.shape[1], keys.shape[2], dtype=torch.bool).tril(past)
    mask = triangle if visible is None else visible(triangle)
    y = F.scaled_dot_product_attention(rope(q, positions), keys, values, mask, enable_gqa=True, scale=scale)
    y = y.transpose(1, 2).flatten(2) if merge is None else merge(y)
    return linear(y, weights["o_proj"]), (keys, values) if store is None else store(keys, values, new_keys, new_values)


def _moved(rope, shift):
    """A rotation at positions that are `shift` later."""
    return lambda x, positions: rope(x, positions + shift)


def _append_instead(kept_keys, keys):
    """Joins the values as they are, and returns other keys in place of the joined ones."""
    return lambda kept, new: keys if kept is kept_keys else torch.cat((kept, new), dim=2)


@cached_layer.mistake(hint=2)
def every_token_at_position_zero(x, weights, kept, start, rope):
    """The new tokens are rotated as if the text began with them: the first is at position `start`."""
    return _layer(x, weights, kept, start, _moved(rope, -start))


@cached_layer.mistake(hint=2)
def all_new_ones_at_start(x, weights, kept, start, rope):
    """All new tokens are rotated by the one position `start`: each is one further than the one before."""
    return _layer(x, weights, kept, start, lambda x, positions: rope(x, torch.full_like(positions, start)))


@cached_layer.mistake(hint=2)
def one_position_too_far(x, weights, kept, start, rope):
    """The new tokens are one position too far when there are kept ones: `start` tokens at 0, 1, … came before, so the
    next is at `start`. A trained model hardly shows it."""
    return _layer(x, weights, kept, start, _moved(rope, 1 if kept[0].shape[2] else 0))


@cached_layer.mistake(hint=2)
def one_position_too_few(x, weights, kept, start, rope):
    """The first new token has the position of the last kept one: positions begin at 0, so it is at `start`, not at
    start − 1."""
    return _layer(x, weights, kept, start, _moved(rope, -1 if kept[0].shape[2] else 0))


@cached_layer.mistake(hint=2)
def start_twice(x, weights, kept, start, rope):
    """The positions are too far by `start`: it is added twice."""
    return _layer(x, weights, kept, start, _moved(rope, start))


@cached_layer.mistake(hint=2)
def all_new_ones_at_the_end(x, weights, kept, start, rope):
    """All new tokens are rotated by the last position: each is one further than the one before, from `start` on."""
    return _layer(x, weights, kept, start, lambda x, positions: rope(x, positions[-1:].expand(len(positions))))


@cached_layer.mistake(hint=2)
def behind_the_new_ones(x, weights, kept, start, rope):
    """The positions are too far by the number of new tokens: `start` is the position of the first of them."""
    return _layer(x, weights, kept, start, _moved(rope, x.shape[1]))


@cached_layer.mistake(hint=2)
def queries_from_zero(x, weights, kept, start, rope):
    """The queries are rotated as if the text began with them, and the keys are not: both are at the positions from
    `start` on."""
    return _layer(x, weights, kept, start, _moved(rope, -start), rope_keys=rope)


@cached_layer.mistake(hint=2)
def keys_from_zero(x, weights, kept, start, rope):
    """The new keys are rotated as if the text began with them, and the queries are not: both are at the positions from
    `start` on."""
    return _layer(x, weights, kept, start, rope, rope_keys=_moved(rope, -start))


@cached_layer.mistake(hint=2)
def queries_one_too_far(x, weights, kept, start, rope):
    """The queries are one position further than their own keys: a token's query and key are at the same position."""
    return _layer(x, weights, kept, start, _moved(rope, 1), rope_keys=rope)


@cached_layer.mistake(hint=2)
def position_from_the_rows(x, weights, kept, start, rope):
    """The position comes from the number of kept rows: when old tokens were dropped there are fewer than were read, and
    the next token is still at `start`."""
    return _layer(x, weights, kept, start, _moved(rope, kept[0].shape[2] - start))


@cached_layer.mistake(hint=1)
def kept_keys_rotated_again(x, weights, kept, start, rope):
    """The kept keys are rotated once more: they were rotated when they came, so only new ones are."""
    past = torch.arange(start - kept[0].shape[2], start)
    return _layer(x, weights, kept, start, rope, before=lambda keys: rope(keys, past))


@cached_layer.mistake(hint=1)
def kept_keys_rotated_again_from_zero(x, weights, kept, start, rope):
    """The kept keys are rotated once more, at 0, 1, …: they were rotated when they came, so only new ones are."""
    return _layer(x, weights, kept, start, rope, before=lambda keys: rope(keys, torch.arange(keys.shape[2])))


@cached_layer.mistake(hint=1)
def all_keys_rotated_when_read(x, weights, kept, start, rope):
    """All keys are rotated when they are read, and they were rotated before, the kept ones and the new ones: each key
    is rotated once, when it comes."""
    everything = torch.arange(start - kept[0].shape[2], start + x.shape[1])
    d_head = kept[0].shape[-1]
    new = rope(_split(F.linear(x, weights["k_proj"]), d_head), everything[len(everything) - x.shape[1] :])
    keys = torch.cat((kept[0], new), dim=2)
    y, (_, values) = _layer(x, weights, kept, start, rope, append=_append_instead(kept[0], rope(keys, everything)))
    return y, (keys, values)


@cached_layer.mistake(hint=1)
def all_keys_rotated_from_zero(x, weights, kept, start, rope):
    """All keys are rotated, at 0, 1, …: the kept ones were rotated when they came, and when old ones were dropped, the
    first row is not at 0. Rotate the new keys alone, from `start` on."""
    past, d_head = kept[0].shape[2:]
    raw = torch.cat((kept[0], _split(F.linear(x, weights["k_proj"]), d_head)), dim=2)
    rotated = rope(raw, torch.arange(raw.shape[2]))
    return _layer(x, weights, kept, start, _moved(rope, past - start), append=_append_instead(kept[0], rotated))


@cached_layer.mistake(hint=1)
def raw_keys_kept(x, weights, kept, start, rope):
    """The keys are kept without their rotation, and those that come in are taken as raw and rotated when they are
    read. That can be done, if it is done from the first token on, and costs a rotation of all keys at each step: here
    kept keys are rotated already."""
    d_head = kept[0].shape[-1]
    raw = F.linear(x, weights["k_proj"]).unflatten(-1, (-1, d_head)).transpose(1, 2)
    y, (_, values) = kept_keys_rotated_again(x, weights, kept, start, rope)
    return y, (torch.cat((kept[0], raw), dim=2), values)


@cached_layer.mistake(hint=1)
def raw_keys_stored(x, weights, kept, start, rope):
    """The output is right, but the new keys are kept as they were before the rotation, and the next step finds them
    unrotated."""
    d_head = kept[0].shape[-1]
    raw = F.linear(x, weights["k_proj"]).unflatten(-1, (-1, d_head)).transpose(1, 2)
    y, (_, values) = _layer(x, weights, kept, start, rope)
    return y, (torch.cat((kept[0], raw), dim=2), values)


@cached_layer.mistake(hint=3)
def queries_not_rotated(x, weights, kept, start, rope):
    """The queries are not rotated: queries and keys both are."""
    return _layer(x, weights, kept, start, lambda x, positions: x, rope_keys=rope)


@cached_layer.mistake(hint=3)
def rotated_before_the_heads_are_split(x, weights, kept, start, rope):
    """The projections are rotated before they are split: `rope` turns each head of width d_head by itself, so split
    first."""

    def whole(heads, positions):
        return _split(rope(heads.transpose(1, 2).flatten(2)[:, None], positions)[:, 0], heads.shape[-1])

    return _layer(x, weights, kept, start, whole)


@cached_layer.mistake(hint=3)
def keys_not_rotated(x, weights, kept, start, rope):
    """The new keys are not rotated: queries and keys both are."""
    return _layer(x, weights, kept, start, rope, rope_keys=lambda k, positions: k)


@cached_layer.mistake(hint=3)
def no_rotation(x, weights, kept, start, rope):
    """Nothing is rotated: `rope` turns queries and keys."""
    return _layer(x, weights, kept, start, lambda x, positions: x)


@cached_layer.mistake(hint=3)
def values_rotated(x, weights, kept, start, rope):
    """The values are rotated, too: only queries and keys are."""
    positions = start + torch.arange(x.shape[1])
    return _layer(x, weights, kept, start, rope, rope_values=lambda v: rope(v, positions))


@cached_layer.mistake(hint=1)
def only_new_ones_returned(x, weights, kept, start, rope):
    """The cache that is returned has the new tokens alone: return the kept ones and the new ones, for the next
    step."""
    return _layer(x, weights, kept, start, rope, store=lambda keys, values, k, v: (k, v))


@cached_layer.mistake(hint=1)
def as_many_rows_as_before(x, weights, kept, start, rope):
    """The cache that is returned has as many rows as before, so the oldest tokens are dropped: it grows by the new
    ones."""
    past = kept[0].shape[2]
    return _layer(
        x, weights, kept, start, rope, store=lambda keys, values, k, v: (keys[:, :, -past:], values[:, :, -past:])
    )


@cached_layer.mistake(hint=1)
def values_not_appended(x, weights, kept, start, rope):
    """The new values are not in the cache that is returned: it has a key and a value for each token."""
    return _layer(x, weights, kept, start, rope, store=lambda keys, values, k, v: (keys, kept[1].clone()))


@cached_layer.mistake(hint=1)
def keys_twice(x, weights, kept, start, rope):
    """The cache that is returned has the keys twice: it is the pair (keys, values)."""
    return _layer(x, weights, kept, start, rope, store=lambda keys, values, k, v: (keys, keys.clone()))


@cached_layer.mistake(hint=1)
def old_cache_returned(x, weights, kept, start, rope):
    """The cache comes back as it was: the new tokens must be in it for the next step."""
    return _layer(x, weights, kept, start, rope, store=lambda keys, values, k, v: tuple(x.clone() for x in kept))


@cached_layer.mistake(hint=3)
def keys_and_values_swapped_in_the_cache(x, weights, kept, start, rope):
    """The new cache is (values, keys): it comes in as (keys, values) and goes out in the same order."""
    return _layer(x, weights, kept, start, rope, store=lambda keys, values, k, v: (values, keys))


@cached_layer.mistake(hint=1)
def kept_ones_not_seen(x, weights, kept, start, rope):
    """The new tokens look at each other only: the kept ones are what the cache is for."""
    past = kept[0].shape[2]

    def new_alone(mask):
        return mask & (torch.arange(mask.shape[1]) >= past)

    return _layer(x, weights, kept, start, rope, visible=new_alone)


@cached_layer.mistake(hint=3)
def triangle_from_the_top_left(x, weights, kept, start, rope):
    """The mask lines the first new token up with the first key, as `is_causal` does: the new tokens come after all
    kept ones."""
    return _layer(x, weights, kept, start, rope, visible=lambda mask: torch.ones_like(mask).tril())


@cached_layer.mistake(hint=3)
def is_causal_for_several(x, weights, kept, start, rope):
    """The mask is right for a prompt and for a single token, and wrong for a chunk: with kept tokens, the triangle of
    `is_causal` begins at the wrong corner. Make the mask from the positions."""
    return _layer(x, weights, kept, start, rope,
                  visible=lambda mask: torch.ones_like(mask).tril() if len(mask) > 1 else mask)  # fmt: skip


@cached_layer.mistake(hint=3)
def no_mask_for_a_chunk(x, weights, kept, start, rope):
    """Only a prompt has a mask: several new tokens after kept ones must not see later ones, either."""
    past = kept[0].shape[2]
    return _layer(x, weights, kept, start, rope, visible=lambda mask: torch.ones_like(mask) if past else mask)


@cached_layer.mistake(hint=3)
def kept_ones_at_zero(x, weights, kept, start, rope):
    """The mask has the kept tokens at positions from 0 on: they are the S before the new ones, at start − S … start −
    1, because the oldest may have been dropped."""
    return _layer(x, weights, kept, start, rope, visible=lambda mask: torch.ones_like(mask).tril(start))


@cached_layer.mistake(hint=3)
def no_mask(x, weights, kept, start, rope):
    """There is no mask. For one token none is needed, but in a prompt or a chunk a token must not see later ones."""
    return _layer(x, weights, kept, start, rope, visible=torch.ones_like)


@cached_layer.mistake(hint=3)
def new_ones_first(x, weights, kept, start, rope):
    """The new keys and values come before the kept ones: they come after them."""
    past = kept[0].shape[2]
    return _layer(x, weights, kept, start, rope, append=lambda kept, new: torch.cat((new, kept), dim=2),
                  visible=lambda mask: mask.roll(-past, dims=1))  # fmt: skip


@cached_layer.mistake(hint=2)
def heads_repeated_in_the_cache(x, weights, kept, start, rope):
    """The cache has as many heads as the queries: keep the key/value heads as they are, which is what chapter 9 saves,
    and repeat them only for attention."""
    y, (keys, values) = _layer(x, weights, kept, start, rope)
    group = weights["q_proj"].shape[0] // weights["k_proj"].shape[0]
    return y, (keys.repeat_interleave(group, dim=1), values.repeat_interleave(group, dim=1))


@cached_layer.mistake(hint=2)
def split_by_a_view(x, weights, kept, start, rope):
    """The projections are split by a `view` as (B, H, T, d_head), which mixes tokens and heads: split the last axis as
    (B, T, H, d_head), and then exchange axes 1 and 2."""
    return _layer(x, weights, kept, start, rope, split=lambda y, d_head: y.reshape(len(y), -1, y.shape[1], d_head))


@cached_layer.mistake(hint=2)
def width_split_the_other_way(x, weights, kept, start, rope):
    """The width is split as (d_head, H): a head's numbers are neighbors, so it is (H, d_head)."""
    return _layer(x, weights, kept, start, rope,
                  split=lambda y, d_head: y.unflatten(-1, (d_head, -1)).permute(0, 3, 1, 2))  # fmt: skip


@cached_layer.mistake(hint=2)
def heads_repeated_in_turn(x, weights, kept, start, rope):
    """The key/value heads are repeated as a b a b: query heads that share one are neighbors, a a b b. Use
    `repeat_interleave`, or `enable_gqa=True`."""
    past, d_head = kept[0].shape[2:]
    q, k, v = (F.linear(x, weights[name]).unflatten(-1, (-1, d_head)).transpose(1, 2) for name in PROJECTIONS)
    positions = start + torch.arange(x.shape[1])
    keys, values = torch.cat((kept[0], rope(k, positions)), dim=2), torch.cat((kept[1], v), dim=2)
    again = (1, q.shape[1] // k.shape[1], 1, 1)
    mask = torch.ones(x.shape[1], past + x.shape[1], dtype=torch.bool).tril(past)
    y = F.scaled_dot_product_attention(rope(q, positions), keys.repeat(again), values.repeat(again), mask)
    return F.linear(y.transpose(1, 2).flatten(2), weights["o_proj"]), (keys, values)


@cached_layer.mistake(hint=3)
def o_proj_forgotten(x, weights, kept, start, rope):
    """The merged heads are returned as they are: o_proj comes last, and makes d_model numbers of them."""
    identity = dict(weights, o_proj=torch.eye(weights["o_proj"].shape[1], dtype=x.dtype))
    return _layer(x, identity, kept, start, rope)


@cached_layer.mistake(hint=3)
def merged_without_transposing(x, weights, kept, start, rope):
    """The heads are merged without exchanging heads and tokens first: of several tokens the numbers get mixed."""
    return _layer(x, weights, kept, start, rope, merge=lambda y: y.reshape(len(y), y.shape[2], -1))


@cached_layer.mistake(hint=3)
def keys_from_the_value_weights(x, weights, kept, start, rope):
    """Keys and values are exchanged: k_proj makes the keys, v_proj the values."""
    return _layer(x, weights, kept, start, rope, names=("q_proj", "v_proj", "k_proj"))


@cached_layer.mistake(hint=3)
def matrices_not_transposed(x, weights, kept, start, rope):
    """This multiplies x @ W: the weights are stored as (out, in), so it is x @ Wᵀ, as `F.linear` does."""
    return _layer(x, weights, kept, start, rope, linear=torch.matmul)


@cached_layer.mistake(hint=3)
def no_scale(x, weights, kept, start, rope):
    """The scores are not divided by √d_head."""
    return _layer(x, weights, kept, start, rope, scale=1.0)


@cached_layer.mistake(hint=3)
def last_token_alone(x, weights, kept, start, rope):
    """Only the last new token has an output: return a row for each, the next layer needs them all."""
    y, kept = _layer(x, weights, kept, start, rope)
    return y[:, -1:], kept


@cached_layer.mistake
def input_added(x, weights, kept, start, rope):
    """The input is added to the output: the residual connection is outside of attention."""
    y, kept = _layer(x, weights, kept, start, rope)
    return x + y, kept


@cached_layer.finished
def project_rotate_append_attend(x, weights, kept, start, rope):
    d_head = kept[0].shape[3]
    projected = [F.linear(x, weights[name]) for name in ("q_proj", "k_proj", "v_proj")]
    q, k, v = [each.unflatten(-1, (-1, d_head)).transpose(1, 2) for each in projected]
    positions = torch.arange(start, start + x.shape[1])
    keys = torch.cat((kept[0], rope(k, positions)), dim=2)
    values = torch.cat((kept[1], v), dim=2)
    key_positions = torch.arange(start - kept[0].shape[2], start + x.shape[1])
    visible = positions[:, None] >= key_positions
    y = F.scaled_dot_product_attention(rope(q, positions), keys, values, visible, enable_gqa=True)
    return F.linear(y.transpose(1, 2).flatten(2), weights["o_proj"]), (keys, values)


@cached_layer.accepted
def one_token_after_the_other(x, weights, kept, start, rope):
    keys, values = kept
    d_head, rows = keys.shape[3], []
    for t in range(x.shape[1]):
        here = torch.tensor([start + t])
        token = x[:, t]
        q = rope((token @ weights["q_proj"].T).view(len(x), -1, 1, d_head), here)
        k = rope((token @ weights["k_proj"].T).view(len(x), -1, 1, d_head), here)
        v = (token @ weights["v_proj"].T).view(len(x), -1, 1, d_head)
        keys, values = torch.cat((keys, k), dim=2), torch.cat((values, v), dim=2)
        group = q.shape[1] // k.shape[1]
        scores = q @ keys.repeat_interleave(group, dim=1).mT / d_head**0.5
        y = scores.softmax(dim=-1) @ values.repeat_interleave(group, dim=1)
        rows.append(y.flatten(1) @ weights["o_proj"].T)
    return torch.stack(rows, dim=1), (keys, values)


@cached_layer.accepted
def triangle_of_the_new_ones(x, weights, kept, start, rope):
    batch, seq, _ = x.shape
    past, d_head = kept[0].shape[2:]
    q = F.linear(x, weights["q_proj"]).reshape(batch, seq, -1, d_head).transpose(1, 2)
    k = F.linear(x, weights["k_proj"]).reshape(batch, seq, -1, d_head).transpose(1, 2)
    v = F.linear(x, weights["v_proj"]).reshape(batch, seq, -1, d_head).transpose(1, 2)
    positions = start + torch.arange(seq)
    keys, values = torch.cat([kept[0], rope(k, positions)], 2), torch.cat([kept[1], v], 2)
    visible = torch.cat([torch.ones(seq, past), torch.ones(seq, seq).tril()], dim=1) > 0
    y = F.scaled_dot_product_attention(rope(q, positions), keys, values, visible, enable_gqa=True)
    return y.transpose(1, 2).reshape(batch, seq, -1) @ weights["o_proj"].T, (keys, values)


@cached_layer.accepted
def from_positions_zero(x, weights, kept, start, rope):
    """Only distances count, so everything may be turned by the same angle, as long as it is turned back."""
    past, d_head = kept[0].shape[2:]
    q, k, v = (F.linear(x, weights[name]).unflatten(-1, (-1, d_head)).transpose(1, 2) for name in PROJECTIONS)
    seq = x.shape[1]
    shifted = rope(kept[0], torch.full((past,), -start))
    near = torch.cat((shifted, rope(k, torch.arange(seq))), dim=2)
    values = torch.cat((kept[1], v), dim=2)
    visible = torch.ones(seq, past + seq, dtype=torch.bool).tril(past)
    y = F.scaled_dot_product_attention(rope(q, torch.arange(seq)), near, values, visible, enable_gqa=True)
    keys = torch.cat((kept[0], rope(k, start + torch.arange(seq))), dim=2)
    return F.linear(y.transpose(1, 2).flatten(2), weights["o_proj"]), (keys, values)

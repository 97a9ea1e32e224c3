"""Exercise `decode_attention`: queries against a cache, with a mask made from positions."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=2,
    returns=("output",),
    replaces="decode_attention",
    sizes={"heads": (6,), "kv_heads": (2, 3), "seq": (1, 2, 3), "slots": (5, 7, 8), "d_head": (4, 10)},
    choices={"window": (None, 3, None, 2, 4)},
)
def decode_attention(
    q: Float[Tensor, "batch heads seq d_head"],
    keys: Float[Tensor, "batch kv_heads slots d_head"],
    values: Float[Tensor, "batch kv_heads slots d_head"],
    query_positions: Int[Tensor, " seq"],
    key_positions: Int[Tensor, " slots"],
    window: int | None,
) -> Float[Tensor, "batch heads seq d_head"]:
    """PyTorch's fused attention, with the mask of the positions."""
    distance = query_positions[:, None] - key_positions
    visible = (distance >= 0) & (distance < (window or torch.inf)) & (key_positions >= 0)
    return F.scaled_dot_product_attention(q, keys, values, visible, enable_gqa=True)


@decode_attention.values
def key_positions(rng, slots, seq):
    """Tokens from some position on: in order, or turned as in a ring, or in any order with empty slots."""
    start, form = (int(torch.randint(n, (), generator=rng)) for n in (9, 3))
    positions = torch.arange(start, start + slots)
    if form == 1:
        return positions.roll(1 + int(torch.randint(slots - 1, (), generator=rng)))
    if form == 2:
        empty = min(2, slots - seq)
        positions[:empty] = -1
        return positions[torch.randperm(slots, generator=rng)]
    return positions


@decode_attention.values
def query_positions(rng, seq, key_positions):
    return key_positions.max() + torch.arange(1 - seq, 1)


@decode_attention.inputs
def _(rng):
    def case(seq, positions, window, first=None, heads=(4, 2), d_head=6, queries=None):
        positions = torch.tensor(positions)
        first = int(positions.max()) + 1 - seq if first is None else first
        queries = torch.arange(first, first + seq) if queries is None else torch.tensor(queries)
        q, keys, values = (
            torch.randn(2, n, length, d_head, generator=rng)
            for n, length in zip((heads[0], heads[1], heads[1]), (seq, len(positions), len(positions)), strict=True)
        )
        return q, keys, values, queries, positions, window

    yield case(1, [0, 1, 2, 3, 4, 5, 6], None)  # one query, and everything is visible
    yield case(3, [0, 1, 2, 3, 4, 5, 6], None)  # a chunk
    yield case(5, [0, 1, 2, 3, 4], None, heads=(6, 3), d_head=5)  # a prompt
    yield case(1, [8, 9, 10, 3, 4, 5, 6, 7], 4)  # a ring
    yield case(2, [8, 9, 10, 3, 4, 5, 6, 7], 4)
    yield case(3, [3, 4, -1, 0, 1, 2], 1, heads=(3, 3))  # a window of one token: itself
    yield case(2, [0, 1, 2, -1, -1, -1], None, heads=(6, 2))  # slots that are empty
    yield case(2, [0, 1, 2, -1, -1, -1], 8, heads=(6, 2))
    yield case(2, [4, 5, 6, 7, 8, 9], None, first=6, heads=(4, 1))  # later tokens are in the cache already
    yield case(2, [4, 5, 6, 7, 8, 9], 3, first=6)
    yield case(2, [0, 1, 5, 6, -1, 9], None, queries=[6, 9])  # gaps: a window is a distance, and no number of keys
    yield case(2, [0, 1, 5, 6, -1, 9], 3, queries=[6, 9])
    yield case(1, [7, 2, 3, -1, 0, 6], 5, heads=(3, 1))
    # Scores of hundreds, for which −1 or −100 hides nothing.
    q, keys, values, *rest = case(2, [4, 5, 6, 7, 8, 9], 3, first=6)
    yield 16 * q.round(), -16 * keys.round(), values, *rest


def _attend(q, keys, values, visible, scale=None):
    """Right for the right mask, for the mistakes that go wrong elsewhere."""
    keys, values = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (keys, values))
    scores = q @ keys.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1).nan_to_num() @ values


def _visible(query_positions, key_positions, window):
    distance = query_positions[:, None] - key_positions
    visible = (distance >= 0) & (key_positions >= 0)
    return visible if window is None else visible & (distance < window)


@decode_attention.mistake(hint=1)
def is_causal(q, keys, values, query_positions, key_positions, window):
    """The flag `is_causal=True` lines the first query up with the first key, at the top left: a single query then sees
    the oldest key alone. Make the mask from the positions."""
    return F.scaled_dot_product_attention(q, keys, values, is_causal=True, enable_gqa=True)


@decode_attention.mistake(hint=1)
def lower_triangle(q, keys, values, query_positions, key_positions, window):
    """The mask is a plain lower triangle, so query 0 sees key 0 alone: with a cache the queries are not the first
    tokens. Compare the positions."""
    triangle = torch.ones(q.shape[2], keys.shape[2], dtype=torch.bool).tril()
    return _attend(q, keys, values, triangle & _visible(query_positions, key_positions, window))


@decode_attention.mistake(hint=1)
def is_causal_for_several(q, keys, values, query_positions, key_positions, window):
    """The flag `is_causal` is used for more than one query: it lines the first query up with the first key, which is
    right for a prompt alone. Make the mask from the positions, for a chunk, too."""
    return F.scaled_dot_product_attention(q, keys, values, is_causal=q.shape[2] > 1, enable_gqa=True)


@decode_attention.mistake(hint=1)
def triangle_at_the_end(q, keys, values, query_positions, key_positions, window):
    """The mask is a triangle at the end of the slots, as if the last keys were those of the queries: slots may be in
    any order, empty, or later than a query, and a window ends."""
    triangle = torch.ones(q.shape[2], keys.shape[2], dtype=torch.bool).tril(keys.shape[2] - q.shape[2])
    return _attend(q, keys, values, triangle)


@decode_attention.mistake(hint=1)
def triangle_of_the_filled_slots(q, keys, values, query_positions, key_positions, window):
    """The mask is a triangle at the end of the slots, without the empty ones: slots may be in any order, or later than
    a query, and a window ends. Compare the positions."""
    triangle = torch.ones(q.shape[2], keys.shape[2], dtype=torch.bool).tril(keys.shape[2] - q.shape[2])
    return _attend(q, keys, values, triangle & (key_positions >= 0))


@decode_attention.mistake(hint=1)
def sorted_and_a_triangle(q, keys, values, query_positions, key_positions, window):
    """The keys are sorted by position, and then the mask is a triangle at the end: the last keys need not be those of
    the queries, and a window ends. With a mask made from the positions, nothing has to be sorted."""
    order = key_positions.argsort()
    triangle = torch.ones(q.shape[2], keys.shape[2], dtype=torch.bool).tril(keys.shape[2] - q.shape[2])
    return _attend(q, keys[:, :, order], values[:, :, order], triangle & (key_positions[order] >= 0))


@decode_attention.mistake(hint=1)
def no_mask(q, keys, values, query_positions, key_positions, window):
    """There is no mask. One query may look at all earlier keys, but the first query of a chunk must not see the later
    ones, a window ends, and slots may be empty."""
    return F.scaled_dot_product_attention(q, keys, values, enable_gqa=True)


@decode_attention.mistake(hint=1)
def future_visible(q, keys, values, query_positions, key_positions, window):
    """Queries see later keys: the distance, query position minus key position, must not be negative."""
    visible = (key_positions >= 0) & (query_positions[:, None] - key_positions < (window or torch.inf))
    return _attend(q, keys, values, visible)


@decode_attention.mistake(hint=1)
def sign_turned(q, keys, values, query_positions, key_positions, window):
    """The sign is turned, so queries see later keys and not earlier ones: the distance is query position minus key
    position."""
    distance = key_positions - query_positions[:, None]
    visible = (distance >= 0) & (distance < (window or torch.inf)) & (key_positions >= 0)
    return _attend(q, keys, values, visible)


@decode_attention.mistake(hint=1)
def distance_without_its_sign(q, keys, values, query_positions, key_positions, window):
    """The distance has lost its sign, so later keys pass for earlier ones: only distances from 0 up may be seen."""
    distance = (query_positions[:, None] - key_positions).abs()
    return _attend(q, keys, values, (distance < (window or torch.inf)) & (key_positions >= 0))


@decode_attention.mistake(hint=3)
def window_counts_keys(q, keys, values, query_positions, key_positions, window):
    """The window counts the keys that are there: it is about positions, and between those of the cache there may be
    gaps. The distance is below `window`."""
    visible = _visible(query_positions, key_positions, None)
    newer = visible[:, None] & (key_positions > key_positions[:, None])  # for each query and key, the newer keys
    return _attend(q, keys, values, visible & (newer.sum(-1) < (window or torch.inf)))


@decode_attention.mistake(hint=3)
def window_of_the_newest_key(q, keys, values, query_positions, key_positions, window):
    """The window is counted from the newest key in the cache: each query has its own, which ends at itself."""
    visible = _visible(query_positions, key_positions, None)
    return _attend(q, keys, values, visible & (key_positions > key_positions.max() - (window or torch.inf)))


@decode_attention.mistake(hint=3)
def window_one_too_wide(q, keys, values, query_positions, key_positions, window):
    """The window is one token too wide: with itself a query sees `window` tokens, so the distance is below `window`."""
    return _attend(q, keys, values, _visible(query_positions, key_positions, None if window is None else window + 1))


@decode_attention.mistake(hint=3)
def window_one_too_narrow(q, keys, values, query_positions, key_positions, window):
    """The window is one token too narrow: with itself a query sees `window` tokens, so the distance reaches
    `window` − 1."""
    return _attend(q, keys, values, _visible(query_positions, key_positions, None if window is None else window - 1))


@decode_attention.mistake(hint=3)
def window_not_used(q, keys, values, query_positions, key_positions, window):
    """The window is not used: a query sees `window` tokens at most, itself among them."""
    return _attend(q, keys, values, _visible(query_positions, key_positions, None))


@decode_attention.mistake(hint=3)
def one_window_for_all(q, keys, values, query_positions, key_positions, window):
    """The window is counted from the newest token for all queries: each query has its own, which ends at itself."""
    visible = _visible(query_positions, key_positions, None)
    visible = visible & (key_positions > query_positions.max() - (window or torch.inf))
    return _attend(q, keys, values, visible)


@decode_attention.mistake(hint=3)
def newest_slots_as_window(q, keys, values, query_positions, key_positions, window):
    """The window is the last slots of the cache: in a ring the newest token may be in any slot. Compare the
    positions."""
    slots = torch.arange(len(key_positions)) >= len(key_positions) - (window or len(key_positions))
    return _attend(q, keys, values, _visible(query_positions, key_positions, None) & slots)


@decode_attention.mistake(hint=1)
def mask_from_slots(q, keys, values, query_positions, key_positions, window):
    """The mask comes from the places in the tensors, as if the last keys were those of the queries: the positions are
    given, because a slot says nothing about them."""
    slots = torch.arange(keys.shape[2])
    return _attend(q, keys, values, _visible(slots[-q.shape[2] :], slots, window))


@decode_attention.mistake(hint=1)
def slots_for_key_positions(q, keys, values, query_positions, key_positions, window):
    """The position of a key is taken to be its slot, 0, 1, 2, …: `key_positions` says where it is."""
    slots = torch.arange(keys.shape[2]).where(key_positions >= 0, -1)
    return _attend(q, keys, values, _visible(query_positions, slots, window))


@decode_attention.mistake(hint=1)
def queries_counted_from_zero(q, keys, values, query_positions, key_positions, window):
    """The queries are counted from 0: `query_positions` says where they are in the text."""
    return _attend(q, keys, values, _visible(torch.arange(q.shape[2]), key_positions, window))


@decode_attention.mistake(hint=2)
def empty_slots_visible(q, keys, values, query_positions, key_positions, window):
    """Empty slots are looked at: a key position of −1 is in the past of every query, so hide it explicitly."""
    distance = query_positions[:, None] - key_positions
    visible = (distance >= 0) & (distance < (window or torch.inf))
    return F.scaled_dot_product_attention(q, keys, values, visible, enable_gqa=True)


@decode_attention.mistake(hint=2)
def empty_slots_taken_to_be_last(q, keys, values, query_positions, key_positions, window):
    """As many slots as there are empty ones are cut off at the end: empty slots may be anywhere. Hide those whose key
    position is −1."""
    n = int((key_positions >= 0).sum())
    return _attend(q, keys[:, :, :n], values[:, :, :n], _visible(query_positions, key_positions[:n], window))


@decode_attention.mistake(hint=2)
def position_zero_hidden(q, keys, values, query_positions, key_positions, window):
    """The token at position 0 is hidden: only −1 means an empty slot."""
    return _attend(q, keys, values, _visible(query_positions, key_positions, window) & (key_positions > 0))


@decode_attention.mistake(hint=1)
def itself_hidden(q, keys, values, query_positions, key_positions, window):
    """A token does not see itself: distance 0 is allowed."""
    visible = _visible(query_positions, key_positions, window) & (query_positions[:, None] != key_positions)
    return _attend(q, keys, values, visible)


@decode_attention.mistake(hint=1)
def mask_upside_down(q, keys, values, query_positions, key_positions, window):
    """The mask is upside down: True means that a query may look."""
    return _attend(q, keys, values, ~_visible(query_positions, key_positions, window))


@decode_attention.mistake(hint=2)
def mask_added_as_numbers(q, keys, values, query_positions, key_positions, window):
    """The mask is made of the numbers 1 and 0, which are added to the scores: give a boolean mask, or −infinity where
    nothing may be seen."""
    visible = _visible(query_positions, key_positions, window).to(q.dtype)
    return F.scaled_dot_product_attention(q, keys, values, visible, enable_gqa=True)


@decode_attention.mistake(hint=2)
def hidden_by_a_small_number(q, keys, values, query_positions, key_positions, window):
    """Hidden scores are lowered by 10, which leaves some weight, and much of it where scores are large: hide with
    −infinity, or with a boolean mask."""
    lowered = torch.zeros(1, dtype=q.dtype).where(_visible(query_positions, key_positions, window), -10.0)
    return F.scaled_dot_product_attention(q, keys, values, lowered, enable_gqa=True)


@decode_attention.mistake(hint=2)
def hidden_after_exp(q, keys, values, query_positions, key_positions, window):
    """Hidden scores are set to 0 after `exp`, where a large one is infinite already, and infinity · 0 is NaN: hide them
    before, with −infinity."""
    keys, values = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (keys, values))
    visible = _visible(query_positions, key_positions, window)
    scores = q @ keys.mT / q.shape[-1] ** 0.5
    weights = (scores - scores.masked_fill(~visible, -torch.inf).amax(-1, keepdim=True)).exp() * visible
    return weights / weights.sum(-1, keepdim=True) @ values


@decode_attention.mistake(hint=2)
def scores_multiplied_by_the_mask(q, keys, values, query_positions, key_positions, window):
    """Hidden scores become 0, and e to the 0 is 1: hide with −infinity."""
    keys, values = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (keys, values))
    scores = q @ keys.mT / q.shape[-1] ** 0.5 * _visible(query_positions, key_positions, window)
    return scores.softmax(dim=-1) @ values


@decode_attention.mistake(hint=2)
def hidden_after_the_softmax(q, keys, values, query_positions, key_positions, window):
    """Hidden weights are set to 0 after the softmax, so the others no longer sum to 1: hide the scores before it."""
    keys, values = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (keys, values))
    weights = (q @ keys.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
    return weights * _visible(query_positions, key_positions, window) @ values


@decode_attention.mistake(hint=2)
def heads_repeated_in_turn(q, keys, values, query_positions, key_positions, window):
    """The key/value heads are repeated as a b a b: query heads that share one are neighbors, a a b b. Use
    `repeat_interleave`, or `enable_gqa=True`."""
    keys, values = (x.repeat(1, q.shape[1] // x.shape[1], 1, 1) for x in (keys, values))
    return _attend(q, keys, values, _visible(query_positions, key_positions, window))


@decode_attention.mistake(hint=2)
def heads_not_shared(q, keys, values, query_positions, key_positions, window):
    """There are more query heads than key/value heads, and these are not shared: `F.scaled_dot_product_attention` needs
    `enable_gqa=True`, and by hand it is `repeat_interleave` along axis 1."""
    return F.scaled_dot_product_attention(q, keys, values, _visible(query_positions, key_positions, window))


@decode_attention.mistake(hint=2)
def first_head_for_all(q, keys, values, query_positions, key_positions, window):
    """All query heads read the first key/value head: each group of neighbors has its own."""
    return _attend(q, keys[:, :1], values[:, :1], _visible(query_positions, key_positions, window))


@decode_attention.mistake
def no_scale(q, keys, values, query_positions, key_positions, window):
    """The scores are not divided by √d_head."""
    return _attend(q, keys, values, _visible(query_positions, key_positions, window), scale=1.0)


@decode_attention.mistake
def scaled_twice(q, keys, values, query_positions, key_positions, window):
    """The scores are divided by d_head in all: `F.scaled_dot_product_attention` divides by √d_head itself."""
    return _attend(q, keys, values, _visible(query_positions, key_positions, window), scale=1 / q.shape[-1])


@decode_attention.mistake
def softmax_over_the_queries(q, keys, values, query_positions, key_positions, window):
    """The softmax runs over the queries, axis 2: it runs over the keys, the last axis of the scores."""
    keys, values = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (keys, values))
    scores = (q @ keys.mT / q.shape[-1] ** 0.5).masked_fill(
        ~_visible(query_positions, key_positions, window), -torch.inf
    )
    return scores.softmax(dim=2) @ values


@decode_attention.mistake
def scaled_by_the_slots(q, keys, values, query_positions, key_positions, window):
    """The scores are divided by the root of the number of slots: it is √d_head, the length of a query and a key."""
    return _attend(q, keys, values, _visible(query_positions, key_positions, window), scale=keys.shape[2] ** -0.5)


@decode_attention.mistake
def heads_merged(q, keys, values, query_positions, key_positions, window):
    """The heads are merged already, (B, T, H · d_head): return (B, H, T, d_head). Merging is the layer's work."""
    return _attend(q, keys, values, _visible(query_positions, key_positions, window)).transpose(1, 2).flatten(2)


@decode_attention.mistake
def keys_and_values_exchanged(q, keys, values, query_positions, key_positions, window):
    """Keys and values are exchanged: queries meet the keys, and the values are averaged."""
    return _attend(q, values, keys, _visible(query_positions, key_positions, window))


@decode_attention.mistake
def last_query_alone(q, keys, values, query_positions, key_positions, window):
    """Only the last query is answered: return a row for each."""
    return _attend(q, keys, values, _visible(query_positions, key_positions, window))[:, :, -1:]


@decode_attention.finished
def mask_from_positions(q, keys, values, query_positions, key_positions, window):
    distance = query_positions[:, None] - key_positions[None, :]
    visible = (distance >= 0) & (key_positions >= 0)
    if window is not None:
        visible = visible & (distance < window)
    return F.scaled_dot_product_attention(q, keys, values, attn_mask=visible, enable_gqa=True)


@decode_attention.accepted
def step_by_step(q, keys, values, query_positions, key_positions, window):
    group = q.shape[1] // keys.shape[1]
    keys = keys.repeat_interleave(group, dim=1)
    values = values.repeat_interleave(group, dim=1)
    scores = torch.einsum("bhtd,bhsd->bhts", q, keys) / q.shape[-1] ** 0.5
    hidden = (key_positions > query_positions[:, None]) | (key_positions == -1)
    if window is not None:
        hidden |= key_positions <= query_positions[:, None] - window
    return scores.masked_fill(hidden, float("-inf")).softmax(dim=-1) @ values


@decode_attention.accepted
def each_query_with_its_own_keys(q, keys, values, query_positions, key_positions, window):
    rows = []
    for t, position in enumerate(query_positions.tolist()):
        oldest = 0 if window is None else max(0, position - window + 1)
        seen = (key_positions >= oldest) & (key_positions <= position)
        one = q[:, :, t : t + 1]
        rows.append(F.scaled_dot_product_attention(one, keys[:, :, seen], values[:, :, seen], enable_gqa=True))
    return torch.cat(rows, dim=2)


@decode_attention.accepted
def grouped(q, keys, values, query_positions, key_positions, window):
    batch, n_heads, seq, d_head = q.shape
    group = q.reshape(batch, keys.shape[1], -1, seq, d_head)
    distance = query_positions.unsqueeze(1) - key_positions
    far = float("inf") if window is None else window
    visible = (distance >= 0) & (distance < far) & (key_positions >= 0)
    bias = torch.zeros(visible.shape, dtype=q.dtype).masked_fill(~visible, float("-inf"))
    weights = (group @ keys[:, :, None].mT * d_head**-0.5 + bias).softmax(dim=-1)
    return (weights @ values[:, :, None]).reshape(batch, n_heads, seq, d_head)

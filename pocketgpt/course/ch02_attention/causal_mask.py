"""Exercise `causal_mask`: the causal mask from positions."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, returns=("mask",), picture="mask", replaces="causal_mask")
def causal_mask(query_positions: Int[Tensor, " seq"], key_positions: Int[Tensor, " keys"]) -> Bool[Tensor, "seq keys"]:
    """True where the query may look at the key: the key's position is the query's or an earlier one."""
    longest = int(max(query_positions.max(), key_positions.max())) + 1
    everything = torch.ones(longest, longest, dtype=torch.bool).tril()
    return everything[query_positions][:, key_positions]


@causal_mask.values
def query_positions(rng, shape):
    return torch.randperm(9, generator=rng)[: shape[0]]


@causal_mask.values
def key_positions(rng, shape):
    return torch.randperm(9, generator=rng)[: shape[0]]


@causal_mask.inputs
def _(rng):
    yield torch.arange(4), torch.arange(4)
    yield torch.arange(4, 7), torch.arange(7)  # new queries, all keys: a step with a cache
    start = int(torch.randint(3, 9, (), generator=rng))
    yield torch.arange(start, start + 4), torch.arange(start - 2, start + 3)  # a window in the middle
    yield torch.tensor([5]), torch.arange(8)
    yield torch.tensor([3, 0, 2]), torch.arange(5)  # in no order
    for last in (2000, 1024):
        yield torch.tensor([1023, last]), torch.arange(1020, 1026)  # far along in a long text


@causal_mask.mistake(hint=3)
def own_position_hidden(query_positions, key_positions):
    """A query may look at its own position, too: compare with ≤ instead of <."""
    return key_positions[None, :] < query_positions[:, None]


@causal_mask.mistake(hint=3)
def one_into_the_future(query_positions, key_positions):
    """Off by one: each query sees the position after its own, which is what it has to predict."""
    return key_positions[None, :] <= query_positions[:, None] + 1


@causal_mask.mistake(hint=2)
def keys_by_queries(query_positions, key_positions):
    """The mask is transposed: a row belongs to a query, a column to a key."""
    return key_positions[:, None] <= query_positions[None, :]


@causal_mask.mistake(hint=3)
def future_only(query_positions, key_positions):
    """The comparison points the wrong way: the queries see the future and not the past."""
    return key_positions[None, :] >= query_positions[:, None]


@causal_mask.mistake(hint=3)
def true_where_hidden(query_positions, key_positions):
    """True and False are exchanged: the mask is True where attention is allowed."""
    return key_positions[None, :] > query_positions[:, None]


@causal_mask.mistake(hint=1)
def rows_and_columns_for_positions(query_positions, key_positions):
    """This compares row and column numbers: compare the given positions, which need not start at 0."""
    return torch.arange(len(key_positions))[None, :] <= torch.arange(len(query_positions))[:, None]


@causal_mask.mistake(hint=1)
def aligned_to_the_end(query_positions, key_positions):
    """This assumes that the last query is at the position of the last key: compare the given positions."""
    queries, keys = len(query_positions), len(key_positions)
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)


@causal_mask.mistake(hint=1)
def everything_allowed(query_positions, key_positions):
    """Everything is allowed: each query still sees the future."""
    return torch.ones(len(query_positions), len(key_positions), dtype=torch.bool)


@causal_mask.mistake(hint=1)
def added_to_the_scores(query_positions, key_positions):
    """This is a mask to add to the scores (0 and −∞): return True where attention is allowed, False elsewhere."""
    hidden = key_positions[None, :] > query_positions[:, None]
    return torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)


@causal_mask.mistake(hint=1)
def counted_from_the_first_positions(query_positions, key_positions):
    """This reads off the two first positions and counts on by one: compare the given positions, which may come in any
    order."""
    shift = int(query_positions[0] - key_positions[0])
    return torch.ones(len(query_positions), len(key_positions), dtype=torch.bool).tril(shift)


@causal_mask.mistake(hint=2)
def up_to_the_last_query(query_positions, key_positions):
    """All queries see as far as the last of them: compare the keys with each query's own position."""
    return (key_positions <= query_positions.max()).expand(len(query_positions), -1)


@causal_mask.mistake(hint=2)
def up_to_the_first_query(query_positions, key_positions):
    """All queries see as far as the earliest of them: compare the keys with each query's own position."""
    return (key_positions <= query_positions.min()).expand(len(query_positions), -1)


@causal_mask.mistake(hint=3)
def own_position_only(query_positions, key_positions):
    """A query sees its own position alone: earlier ones are allowed, too. Compare with ≤."""
    return key_positions[None, :] == query_positions[:, None]


@causal_mask.mistake(hint=1)
def rows_for_queries(query_positions, key_positions):
    """The row number is taken for the query's position: compare with `query_positions`."""
    return key_positions[None, :] <= torch.arange(len(query_positions))[:, None]


@causal_mask.mistake(hint=1)
def columns_for_keys(query_positions, key_positions):
    """The column number is taken for the key's position: compare with `key_positions`."""
    return torch.arange(len(key_positions))[None, :] <= query_positions[:, None]


@causal_mask.mistake(hint=2)
def axes_not_separated(query_positions, key_positions):
    """The two vectors are compared element by element: give each an axis of its own, query_positions[:, None], so that
    every query meets every key."""
    return key_positions <= query_positions


@causal_mask.mistake(hint=2)
def transposed_and_turned(query_positions, key_positions):
    """The rows belong to keys here, and True is where a query must not look, or at its own position: a row belongs to a
    query, and key ≤ query."""
    return query_positions[None, :] <= key_positions[:, None]


@causal_mask.mistake(hint=1)
def counted_from_the_first_of_each(query_positions, key_positions):
    """Queries and keys are counted from their first position each: compare the positions as they are given."""
    return (key_positions - key_positions[0])[None, :] <= (query_positions - query_positions[0])[:, None]


@causal_mask.mistake(hint=3)
def everything_but_itself(query_positions, key_positions):
    """A query sees everything but its own position: compare with ≤."""
    return key_positions[None, :] != query_positions[:, None]


@causal_mask.mistake(hint=1)
def both_sorted(query_positions, key_positions):
    """The positions are sorted before they are compared: they may come in any order, and each has its own row or
    column."""
    return key_positions.sort().values[None, :] <= query_positions.sort().values[:, None]


@causal_mask.mistake(hint=2)
def transposed_future(query_positions, key_positions):
    """A row for each key here, and True strictly in the future: a row belongs to a query, and key ≤ query."""
    return query_positions[None, :] > key_positions[:, None]


@causal_mask.mistake(hint=1)
def counted_from_the_first_query(query_positions, key_positions):
    """This reads off the first query's position and counts on by one, for keys from 0: compare the given positions."""
    return torch.ones(len(query_positions), len(key_positions), dtype=torch.bool).tril(int(query_positions[0]))


@causal_mask.mistake(hint=1)
def rows_and_columns_from_the_diagonal_on(query_positions, key_positions):
    """This compares row and column numbers, with triu, and shows the future: compare the given positions, key ≤
    query."""
    return torch.ones(len(query_positions), len(key_positions), dtype=torch.bool).triu()


@causal_mask.mistake(hint=1)
def rows_and_columns_above_the_diagonal(query_positions, key_positions):
    """This compares row and column numbers, and is True where looking is not allowed: compare the given positions, key
    ≤ query."""
    return torch.ones(len(query_positions), len(key_positions), dtype=torch.bool).triu(1)


@causal_mask.mistake(hint=1)
def cut_with_tril(query_positions, key_positions):
    """The comparison is right, and tril cuts off its upper right as well, where positions may be allowed: leave out
    tril."""
    return (key_positions[None, :] <= query_positions[:, None]).tril()


@causal_mask.mistake(hint=2)
def one_row_for_all(query_positions, key_positions):
    """There is one row for all queries, up to the last of them: compare the keys with each query's own position."""
    return key_positions <= query_positions.max()


@causal_mask.mistake(hint=2)
def axes_not_separated_queries_first(query_positions, key_positions):
    """The two vectors are compared element by element, and T is not S: give each an axis of its own,
    query_positions[:, None], so that every query meets every key."""
    return query_positions >= key_positions


@causal_mask.mistake(hint=2)
def both_as_columns(query_positions, key_positions):
    """Both are columns here, and are compared element by element: one has to be a row, key_positions[None, :]."""
    return key_positions[:, None] <= query_positions[:, None]


@causal_mask.mistake(hint=2)
def both_as_rows(query_positions, key_positions):
    """Both are rows here, and are compared element by element: one has to be a column, query_positions[:, None]."""
    return key_positions[None, :] <= query_positions[None, :]


@causal_mask.mistake(hint=3)
def differences(query_positions, key_positions):
    """These are the distances of queries and keys: compare them with 0."""
    return query_positions[:, None] - key_positions[None, :]


@causal_mask.mistake
def several_back_at_most(query_positions, key_positions):
    """A query sees the last four positions alone: all earlier ones are allowed."""
    distance = query_positions[:, None] - key_positions[None, :]
    return (distance >= 0) & (distance < 4)


@causal_mask.mistake(hint=1)
def square_of_the_queries(query_positions, key_positions):
    """This is T by T: a row for each query and a column for each key, (T, S)."""
    return torch.ones(len(query_positions), len(query_positions), dtype=torch.bool).tril()


@causal_mask.mistake(hint=1)
def square_of_the_keys(query_positions, key_positions):
    """This is S by S: a row for each query and a column for each key, (T, S)."""
    return torch.ones(len(key_positions), len(key_positions), dtype=torch.bool).tril()


@causal_mask.finished
def mask_by_broadcasting(query_positions, key_positions):
    return query_positions.unsqueeze(-1) >= key_positions


@causal_mask.accepted
def mask_from_the_distance(query_positions, key_positions):
    return torch.logical_not((key_positions - query_positions[:, None]).clamp(min=0).bool())


@causal_mask.accepted
def mask_from_integers(query_positions, key_positions):
    mask = torch.zeros(len(query_positions), len(key_positions), dtype=torch.uint8)
    for t, query in enumerate(query_positions):
        mask[t, key_positions <= query] = 1
    return mask == 1


@causal_mask.accepted
def mask_in_loops(query_positions, key_positions):
    return torch.tensor([[key <= query for key in key_positions.tolist()] for query in query_positions.tolist()])

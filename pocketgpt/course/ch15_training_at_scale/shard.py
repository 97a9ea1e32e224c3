"""Exercise `shard`: which samples a rank reads in a step."""

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DistributedSampler

from pocketgpt.course.checking.exercise import exercise

ENOUGH = 8  # times that the order is repeated: 64 places in the last step of 4 ranks, and orders of 9 or more


@exercise(points=2, returns=("indices",), sizes={"samples": range(9, 40)})
def shard(order: Int[Tensor, " samples"], step: int, batch: int, rank: int, world: int) -> Int[Tensor, " batch"]:
    """The places that PyTorch's DistributedSampler gives this rank, in an order that starts over at its end."""
    repeated = order.repeat(ENOUGH)
    places = DistributedSampler(range(len(repeated)), num_replicas=world, rank=rank, shuffle=False)
    mine = list(places)[step * batch : (step + 1) * batch]
    return repeated[torch.tensor(mine)]


def _number(rng, low, high):
    return low + int(torch.randint(high - low, (), generator=rng))


@shard.values
def world(rng):
    return _number(rng, 2, 5)


@shard.values
def rank(rng, world):
    return _number(rng, 0, world)


@shard.values
def batch(rng):
    return _number(rng, 2, 5)


@shard.values
def step(rng):
    return _number(rng, 0, 4)


@shard.values
def order(rng, samples):
    return torch.randperm(samples, generator=rng)


@shard.inputs
def _(rng):
    for samples, step, batch, rank, world in [
        (24, 1, 3, 1, 2),
        (30, 2, 2, 0, 3),
        (30, 1, 4, 2, 3),
        (23, 1, 4, 2, 3),  # the last of its places is over the end
        (19, 2, 3, 1, 3),
        (14, 2, 2, 3, 4),  # all of its places are over the end
        (22, 2, 4, 0, 3),  # rank 0 has one entry more than the others
        (8, 0, 2, 0, 4),
        (16, 3, 5, 0, 1),  # one process
        (5, 1, 4, 2, 3),  # the order starts over several times within a step
    ]:
        yield 100 + torch.randperm(samples, generator=rng), step, batch, rank, world


def _at(order, places):
    """The entries of the order at these places; the order starts over at its end."""
    return order[places % len(order)]


@shard.mistake(hint=1)
def same_on_every_rank(order, step, batch, rank, world):
    """Every rank gets the same indices: `rank` is not used, so all but one of the processes do the same work again."""
    return _at(order, step * batch * world + world * torch.arange(batch))


@shard.mistake(hint=1)
def as_if_alone(order, step, batch, rank, world):
    """Every rank gets the next `batch` entries of the order: neither `rank` nor `world` is used."""
    return _at(order, step * batch + torch.arange(batch))


@shard.mistake(hint=1)
def own_shuffle(order, step, batch, rank, world):
    """Each rank shuffles with a seed of its own: the ranks then overlap, and some samples are never read. The order
    comes shuffled already, the same on all ranks."""
    shuffled = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(1 + rank))]
    return _at(shuffled, step * batch * world + rank + world * torch.arange(batch))


@shard.mistake(hint=1)
def contiguous_block(order, step, batch, rank, world):
    """The indices of a rank are neighbors in the order: the ranks should take turns, one entry each."""
    return _at(order, (step * world + rank) * batch + torch.arange(batch))


@shard.mistake(hint=1)
def contiguous_share(order, step, batch, rank, world):
    """The order is cut into one piece for each rank: the ranks should take turns, one entry each."""
    return _at(order, rank * (len(order) // world) + step * batch + torch.arange(batch))


@shard.mistake(hint=2)
def step_ignored(order, step, batch, rank, world):
    """Every step reads the indices of step 0: `step` is not used."""
    return _at(order, rank + world * torch.arange(batch))


@shard.mistake(hint=2)
def step_of_one_rank(order, step, batch, rank, world):
    """A step begins `batch` places after the one before: all ranks together have read batch · world by then."""
    return _at(order, step * batch + rank + world * torch.arange(batch))


@shard.mistake(hint=2)
def step_of_one_turn(order, step, batch, rank, world):
    """A step begins `world` places after the one before: all ranks together have read batch · world by then."""
    return _at(order, step * world + rank + world * torch.arange(batch))


@shard.mistake(hint=2)
def stride_of_the_batch(order, step, batch, rank, world):
    """The entries of a rank are `batch` places apart: they should be `world` apart, as each rank takes one in turn."""
    return _at(order, step * batch * world + rank + batch * torch.arange(batch))


@shard.mistake(hint=2)
def ranks_from_one(order, step, batch, rank, world):
    """Each rank reads one place too late: ranks are counted from 0."""
    return _at(order, step * batch * world + rank + 1 + world * torch.arange(batch))


@shard.mistake(hint=2)
def ranks_backward(order, step, batch, rank, world):
    """The ranks take their turns in reverse: rank 0 comes first."""
    return _at(order, step * batch * world + world - 1 - rank + world * torch.arange(batch))


@shard.mistake(hint=2)
def steps_from_one(order, step, batch, rank, world):
    """This reads one step too early: steps are counted from 0."""
    return _at(order, (step - 1) * batch * world + rank + world * torch.arange(batch))


@shard.mistake(hint=2)
def rank_of_whole_batches(order, step, batch, rank, world):
    """The first place is moved by rank · batch: neighbors take turns, so by `rank` alone."""
    return _at(order, step * batch * world + rank * batch + world * torch.arange(batch))


@shard.mistake(hint=3)
def places_alone(order, step, batch, rank, world):
    """These are places in the order: return what the order has there, `order[places]`."""
    return (step * batch * world + rank + world * torch.arange(batch)) % len(order)


@shard.mistake(hint=3)
def places_in_a_row(order, step, batch, rank, world):
    """These are places in the order, and they run over its end: return what the order has there, and start over."""
    return step * batch * world + rank + world * torch.arange(batch)


@shard.mistake(hint=3)
def end_cut_off(order, step, batch, rank, world):
    """At the end of the order fewer than `batch` come back, as a slice stops there: it should start over."""
    return order[rank::world][step * batch : (step + 1) * batch]


@shard.mistake(hint=3)
def end_not_handled(order, step, batch, rank, world):
    """The places run over the end of the order, which raises an IndexError: there it should start over, with `%`."""
    return order[step * batch * world + rank + world * torch.arange(batch)]


@shard.mistake(hint=3)
def last_one_again(order, step, batch, rank, world):
    """At the end of the order its last entry is read again and again: it should start over from the front."""
    places = step * batch * world + rank + world * torch.arange(batch)
    return order[places.clamp(max=len(order) - 1)]


@shard.mistake(hint=3)
def rest_dropped(order, step, batch, rank, world):
    """The last entries are never read where they do not fill a turn of all ranks: start over after len(order), and not
    after a multiple of `world`."""
    return order[(step * batch * world + rank + world * torch.arange(batch)) % (len(order) // world * world)]


@shard.mistake(hint=3)
def rest_of_the_steps_dropped(order, step, batch, rank, world):
    """The last entries are never read where they do not fill a step of all ranks: start over after len(order)."""
    whole = max(1, len(order) // (batch * world)) * batch * world
    return order[(step * batch * world + rank + world * torch.arange(batch)) % min(whole, len(order))]


@shard.mistake(hint=3)
def starts_over_alone(order, step, batch, rank, world):
    """Each rank starts over in its own share of the order: the order as a whole starts over, so that the ranks go on
    taking turns."""
    mine = order[rank::world]
    return mine[(step * batch + torch.arange(batch)) % len(mine)]


@shard.mistake(hint=3)
def off_by_one_at_the_end(order, step, batch, rank, world):
    """The order starts over one place too early, so that its last entry is never read: the remainder is that of
    len(order)."""
    return order[(step * batch * world + rank + world * torch.arange(batch)) % (len(order) - 1)]


@shard.mistake(hint=3)
def starts_over_once(order, step, batch, rank, world):
    """The order starts over once only: where a step is longer than the order, fewer than `batch` come back. Take the
    places with `%`."""
    first = step * batch * world % len(order)
    return torch.cat([order, order])[first + rank : first + batch * world : world]


@shard.mistake(hint=3)
def remainder_of_a_step(order, step, batch, rank, world):
    """The remainder is that of batch · world, which takes every step back to step 0: the order starts over after
    len(order)."""
    return order[(step * batch * world + rank + world * torch.arange(batch)) % (batch * world)]


@shard.mistake(hint=2)
def rank_and_step_exchanged(order, step, batch, rank, world):
    """Rank and step are exchanged: a step moves the places by batch · world, a rank by 1."""
    return _at(order, rank * batch * world + step + world * torch.arange(batch))


@shard.mistake(hint=2)
def step_times_everything(order, step, batch, rank, world):
    """Are the brackets in the right place? `rank` is multiplied by `step`, too: it is added once."""
    return _at(order, step * (batch * world + rank) + world * torch.arange(batch))


@shard.mistake(hint=2)
def neighbors_from_each_turn(order, step, batch, rank, world):
    """The first place is moved by rank · world, and the entries are neighbors: it should be the other way round, moved
    by `rank` and `world` apart."""
    return _at(order, step * batch * world + rank * world + torch.arange(batch))


@shard.mistake(hint=2)
def rank_of_whole_turns(order, step, batch, rank, world):
    """The first place is moved by rank · world, so every rank reads what rank 0 reads a turn later: move it by
    `rank`."""
    return _at(order, step * batch * world + world * (rank + torch.arange(batch)))


@shard.mistake(hint=2)
def one_place_early(order, step, batch, rank, world):
    """Each rank reads one place too early: ranks are counted from 0."""
    return _at(order, step * batch * world + rank - 1 + world * torch.arange(batch))


@shard.mistake(hint=2)
def whole_step(order, step, batch, rank, world):
    """These are the indices of all ranks: of the batch · world of a step, each rank reads `batch`, one in each
    turn."""
    return _at(order, step * batch * world + torch.arange(batch * world))


@shard.mistake(hint=2)
def as_many_as_ranks(order, step, batch, rank, world):
    """In the row of places `batch` and `world` are exchanged: there are `batch` of them, `world` apart."""
    return _at(order, step * batch * world + rank + batch * torch.arange(world))


@shard.mistake(hint=3)
def sorted_indices(order, step, batch, rank, world):
    """The indices are sorted: return them in the order in which the rank reads them."""
    return _at(order, step * batch * world + rank + world * torch.arange(batch)).sort().values


@shard.mistake(hint=3)
def one_too_many(order, step, batch, rank, world):
    """One index too many comes back: there are `batch` of them, 0 to batch − 1 turns after the first."""
    return _at(order, step * batch * world + rank + world * torch.arange(batch + 1))


@shard.finished
def place_by_place(
    order: Int[Tensor, " samples"], step: int, batch: int, rank: int, world: int
) -> Int[Tensor, " batch"]:
    first = step * batch * world + rank
    places = torch.arange(first, first + batch * world, world)
    return order[places % len(order)]


@shard.accepted
def own_column(order, step, batch, rank, world):
    numbers = step * batch * world + torch.arange(batch * world)
    turns = order[numbers.remainder(len(order))].view(batch, world)
    return turns[:, rank].clone()


@shard.accepted
def in_a_loop(order, step, batch, rank, world):
    mine = []
    for turn in range(step * batch, step * batch + batch):
        mine.append(order[(turn * world + rank) % len(order)])
    return torch.stack(mine)


@shard.accepted
def long_slice(order, step, batch, rank, world):
    longer = order.repeat(1 + (step + 1) * batch * world // len(order))
    return longer[rank::world][step * batch : (step + 1) * batch].clone()

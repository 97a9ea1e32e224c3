"""Exercise `ring_positions`: the position in each slot of a ring."""

from collections import deque

import torch
from jaxtyping import Int
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, hints=("a nudge", "the arithmetic", "pseudocode"), returns=("positions",))
def ring_positions(n_seen: int, window: int) -> Int[Tensor, " window"]:
    """Simulated: tokens arrive one by one, a deque forgets the oldest, and each is written to slot p mod window."""
    slots = [-1] * window
    for position in deque(range(n_seen), maxlen=window):
        slots[position % window] = position
    return torch.tensor(slots)


@ring_positions.values
def window(rng):
    return 3 + int(torch.randint(6, (), generator=rng))


@ring_positions.values
def n_seen(rng, window):
    return int(torch.randint(4 * window, (), generator=rng))


@ring_positions.inputs
def _(rng):
    yield 6, 4
    yield 2, 4  # half empty
    yield 0, 3
    yield 1, 3
    yield 4, 4  # full for the first time
    yield 5, 4  # the first slot is written again
    yield 8, 4  # full for the second time
    yield 7, 1
    yield 1023, 64


def _right(n_seen, window):
    """Right, for the mistakes that go wrong elsewhere."""
    slots = torch.arange(window)
    positions = n_seen - 1 - (n_seen - 1 - slots) % window
    return positions.clamp(min=-1)


@ring_positions.mistake(hint=1)
def oldest_in_the_first_slot(n_seen, window):
    """The slots are in the order of the text, oldest first: then every token moves at every step. In a ring a token
    stays in its slot, position mod window."""
    kept = torch.arange(max(0, n_seen - window), n_seen)
    return torch.cat((kept, torch.full((window - len(kept),), -1)))


@ring_positions.mistake(hint=1)
def newest_in_the_first_slot(n_seen, window):
    """The newest token is in the first slot: in a ring it is in slot (n_seen − 1) mod window, and the others stay where
    they are."""
    kept = torch.arange(max(0, n_seen - window), n_seen).flip(0)
    return torch.cat((kept, torch.full((window - len(kept),), -1)))


@ring_positions.mistake(hint=1)
def newest_in_the_last_slot(n_seen, window):
    """The kept tokens are pushed to the end, the newest in the last slot: then every token moves at every step. In a
    ring a token stays in its slot, position mod window."""
    kept = torch.arange(max(0, n_seen - window), n_seen)
    return torch.cat((torch.full((window - len(kept),), -1), kept))


@ring_positions.mistake(hint=1)
def numbers_of_the_slots(n_seen, window):
    """These are the numbers of the slots, whatever `n_seen` is: write the positions 0 … n_seen − 1, one after the
    other, to their slots."""
    return torch.arange(window)


@ring_positions.mistake(hint=1)
def slot_of_every_token(n_seen, window):
    """This is the slot of each token seen: return it the other way round, for each of the `window` slots the position
    in it."""
    return torch.arange(n_seen) % window


@ring_positions.mistake(hint=2)
def ages(n_seen, window):
    """This says how many tokens ago a slot was written: subtract it from n_seen − 1, the newest position."""
    age = (n_seen - 1 - torch.arange(window)) % window
    return age.where(age < n_seen, -1)


@ring_positions.mistake(hint=2)
def counted_from_one(n_seen, window):
    """The tokens are counted from 1: positions begin at 0, and the first token is at position 0, in slot 0."""
    positions = _right(n_seen, window)
    return (positions + 1).where(positions >= 0, -1)


@ring_positions.mistake(hint=1)
def never_overwritten(n_seen, window):
    """Each slot has its own number. Either later tokens are lost, or this is position mod window, which is the slot:
    when the ring is full, the next token goes to slot 0 again, and its position is n_seen − 1."""
    slots = torch.arange(window)
    return slots.where(slots < n_seen, -1)


@ring_positions.mistake(hint=1)
def old_ones_erased(n_seen, window):
    """When a new round begins, the slots not yet written again count as empty here: they still have the tokens of the
    round before."""
    positions = _right(n_seen, window)
    begun = max(0, n_seen - 1) // window * window
    return positions.where(positions >= begun, -1)


@ring_positions.mistake(hint=2)
def one_token_too_few(n_seen, window):
    """The newest token is missing: after n_seen tokens it is at position n_seen − 1."""
    return _right(max(n_seen - 1, 0), window)


@ring_positions.mistake(hint=2)
def one_token_too_many(n_seen, window):
    """A token that was never seen is in the ring: after n_seen tokens the newest is at position n_seen − 1, because
    positions begin at 0."""
    return _right(n_seen + 1, window)


@ring_positions.mistake(hint=2)
def empty_as_zero(n_seen, window):
    """Empty slots have the position 0: that is the first token. They are −1."""
    return _right(n_seen, window).clamp(min=0)


@ring_positions.mistake(hint=2)
def negative_positions(n_seen, window):
    """Empty slots have other negative numbers than −1: the formula goes one round too far back. Set them to −1."""
    slots = torch.arange(window)
    return n_seen - 1 - (n_seen - 1 - slots) % window


@ring_positions.mistake(hint=1)
def growing(n_seen, window):
    """The result has a slot for every token seen: a ring has `window` of them, however long the text is. If only the
    mask forgets, the memory still grows."""
    return torch.cat((torch.arange(n_seen), torch.full((max(0, window - n_seen),), -1)))


@ring_positions.mistake(hint=1)
def slot_for_each_kept_position(n_seen, window):
    """This is the slot of each kept token, oldest first: return it the other way round, the position in each slot."""
    kept = torch.arange(max(0, n_seen - window), n_seen) % window
    return torch.cat((kept, torch.full((window - len(kept),), -1)))


@ring_positions.mistake(hint=2)
def same_round_for_all(n_seen, window):
    """All slots are in the same round: those behind the newest token have not been written in this round, so theirs are
    one window older."""
    slots = torch.arange(window)
    return (slots + max(0, n_seen - 1) // window * window).where(slots < n_seen, -1)


@ring_positions.mistake(hint=2)
def turned_the_other_way(n_seen, window):
    """The ring turns backward: the token after the one in slot 0 goes to slot 1, not to the last one."""
    positions = _right(n_seen, window)
    return torch.cat((positions[:1], positions[1:].flip(0)))


@ring_positions.mistake
def as_a_list(n_seen, window):
    """This is a list: return a tensor of shape (window,)."""
    return _right(n_seen, window).tolist()


@ring_positions.mistake
def as_floating_point(n_seen, window):
    """Positions are whole numbers, and these are floating-point: use the dtype torch.int64."""
    return _right(n_seen, window).float()


@ring_positions.finished
def last_of_its_class(n_seen, window):
    slots = torch.arange(window)
    newest = n_seen - 1
    positions = newest - (newest - slots) % window
    return positions.clamp(min=-1)


@ring_positions.accepted
def written_one_by_one(n_seen, window):
    ring = torch.full((window,), -1)
    for position in range(n_seen):
        ring[position % window] = position
    return ring


@ring_positions.accepted
def whole_rounds_and_a_rest(n_seen, window):
    rounds, rest = n_seen // window, n_seen % window
    slots = torch.arange(window)
    positions = slots + (rounds - (slots >= rest).long()) * window
    positions[positions < 0] = -1
    return positions


@ring_positions.accepted
def kept_ones_scattered(n_seen, window):
    kept = torch.arange(max(0, n_seen - window), n_seen)
    ring = torch.full((window,), -1, dtype=torch.long)
    ring[kept % window] = kept
    return ring


@ring_positions.accepted
def rolled(n_seen, window):
    if n_seen < window:
        return torch.tensor(list(range(n_seen)) + [-1] * (window - n_seen))
    return torch.arange(n_seen - window, n_seen).roll(n_seen % window)

"""Exercise `append_kv`: new keys, or values, behind the kept ones."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, replaces="append_kv", sizes={"past": (2, 3, 5), "seq": (1, 2, 4)})
def append_kv(
    kept: Float[Tensor, "batch heads past d_head"], new: Float[Tensor, "batch heads seq d_head"]
) -> Float[Tensor, "batch heads keys d_head"]:
    """The kept tokens, then the new ones, by `torch.cat`."""
    return torch.cat((kept, new), dim=2)


@append_kv.inputs
def _(rng):
    for batch, heads, past, seq, d_head in [(2, 3, 0, 4, 5), (3, 2, 4, 4, 5), (2, 4, 5, 1, 3), (2, 2, 3, 2, 2)]:
        yield (
            torch.randn(batch, heads, past, d_head, generator=rng),
            torch.randn(batch, heads, seq, d_head, generator=rng),
        )
    yield torch.randn(2, 3, 2, 4, generator=rng), torch.randn(2, 3, 3, 4, generator=rng)  # more new ones than kept ones


@append_kv.mistake(hint=2)
def along_the_batch(kept, new):
    """These are joined along the batch: tokens are axis 2 of (B, H, S, d_head)."""
    return torch.cat((kept, new), dim=0)


@append_kv.mistake(hint=2)
def along_the_heads(kept, new):
    """These are joined along the heads, where tokens would be in (B, S, H, d_head): here they are axis 2."""
    return torch.cat((kept, new), dim=1)


@append_kv.mistake(hint=2)
def along_the_width(kept, new):
    """These are joined along the width of a head: tokens are axis 2 of (B, H, S, d_head)."""
    return torch.cat((kept, new), dim=-1)


@append_kv.mistake(hint=2)
def stacked(kept, new):
    """This makes a new axis, as `stack` does: `cat` makes an axis longer."""
    return torch.stack((kept, new), dim=2)


@append_kv.mistake(hint=1)
def new_ones_first(kept, new):
    """The new tokens come first here: they are later in the text, so they come after the kept ones."""
    return torch.cat((new, kept), dim=2)


@append_kv.mistake(hint=1)
def kept_ones_forgotten(kept, new):
    """The kept tokens are gone: every later query needs them."""
    return new.clone()


@append_kv.mistake(hint=1)
def new_ones_forgotten(kept, new):
    """The new tokens are not in the result: the next query looks at them, too."""
    return kept.clone()


@append_kv.mistake(hint=1)
def only_the_last_new_one(kept, new):
    """Only the last of the new tokens is added: a prompt brings many at once."""
    return torch.cat((kept, new[:, :, -1:]), dim=2)


@append_kv.mistake(hint=1)
def only_the_first_new_one(kept, new):
    """Only the first of the new tokens is added: a prompt brings many at once."""
    return torch.cat((kept, new[:, :, :1]), dim=2)


@append_kv.mistake(hint=1)
def oldest_dropped(kept, new):
    """As many old tokens are dropped as new ones come, so the cache never grows: that is a sliding window. Here nothing
    is forgotten."""
    return torch.cat((kept, new), dim=2)[:, :, -kept.shape[2] :]


@append_kv.mistake(hint=1)
def room_made_first(kept, new):
    """Old tokens are cut off to make room for the new ones, so the cache never grows: that is a sliding window. Here
    nothing is forgotten."""
    return torch.cat((kept[:, :, new.shape[2] :], new), dim=2)


@append_kv.mistake(hint=1)
def last_ones_overwritten(kept, new):
    """The new tokens are written over the last kept ones: they come behind them, in rows of their own."""
    kept = kept.clone()
    kept[:, :, -new.shape[2] :] = new
    return kept


@append_kv.mistake(hint=1)
def first_new_one_skipped(kept, new):
    """The first of the new tokens is missing: none of them is in the cache already."""
    return torch.cat((kept, new[:, :, 1:]), dim=2)


@append_kv.mistake(hint=1)
def newest_first(kept, new):
    """The new tokens are in reverse order: they stay in the order of the text."""
    return torch.cat((kept, new.flip(2)), dim=2)


@append_kv.mistake(hint=2)
def added(kept, new):
    """The numbers are added up: put the new tokens behind the old ones, as more rows."""
    return kept + new


@append_kv.mistake(hint=2)
def tokens_before_heads(kept, new):
    """The result has the axes (B, tokens, H, d_head): keep them as they come, (B, H, tokens, d_head)."""
    return torch.cat((kept, new), dim=2).transpose(1, 2)


@append_kv.mistake(hint=2)
def reshaped(kept, new):
    """The numbers of the first head's tokens run on into the next head: this is a `reshape` of numbers joined
    elsewhere. Join along axis 2, and every head keeps its own tokens."""
    together = torch.cat((kept.flatten(1), new.flatten(1)), dim=1)
    return together.reshape(*kept.shape[:2], -1, kept.shape[-1])


@append_kv.finished
def joined(kept, new):
    return torch.cat((kept, new), dim=2)


@append_kv.accepted
def copied_into_place(kept, new):
    past = kept.shape[2]
    longer = kept.new_zeros(*kept.shape[:2], past + new.shape[2], kept.shape[3])
    longer[:, :, :past] = kept
    longer[:, :, past:] = new
    return longer


@append_kv.accepted
def one_by_one(kept, new):
    for token in new.unbind(2):
        kept = torch.cat([kept, token[:, :, None]], dim=-2)
    return kept


@append_kv.accepted
def by_rows(kept, new):
    rows = [*kept.unbind(2), *new.unbind(2)]
    return torch.stack(rows, dim=2)

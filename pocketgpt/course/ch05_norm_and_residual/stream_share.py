"""Exercise `stream_share`: the size of what a layer adds beside the size of the stream it is added to."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("share",), sizes={"seq": (3, 4, 5, 6, 7), "d_model": (3, 4, 5, 6)})
def stream_share(
    before: Float[Tensor, "*batch seq d_model"], added: Float[Tensor, "*batch seq d_model"]
) -> Float[Tensor, "*batch seq"]:
    """‖added‖ / ‖before‖ for every token."""
    return torch.linalg.vector_norm(added, dim=-1) / torch.linalg.vector_norm(before, dim=-1)


@stream_share.mistake(hint=1)
def beside_the_stream_after(before, added):
    """This divides by the stream after the addition: divide by the stream before."""
    return added.norm(dim=-1) / (before + added).norm(dim=-1)


@stream_share.mistake(hint=1)
def beside_both(before, added):
    """This is the share in the sum of both lengths: divide by the length of the stream before, alone."""
    return added.norm(dim=-1) / (before.norm(dim=-1) + added.norm(dim=-1))


@stream_share.mistake(hint=3)
def root_forgotten(before, added):
    """These are sums of squares: the length is the root of that."""
    return added.square().sum(-1) / before.square().sum(-1)


@stream_share.mistake(hint=2)
def signed_sums(before, added):
    """The numbers are added up with their signs, and cancel: a length is the root of the sum of squares."""
    return added.sum(-1) / before.sum(-1)


@stream_share.mistake(hint=2)
def sums_of_sizes(before, added):
    """This adds up sizes |x|: a length is the root of the sum of squares."""
    return added.abs().sum(-1) / before.abs().sum(-1)


@stream_share.mistake(hint=2)
def over_the_sequence(before, added):
    """The lengths run over the tokens: every token has a share, over the last axis."""
    return added.norm(dim=-2) / before.norm(dim=-2)


@stream_share.mistake(hint=2)
def of_everything(before, added):
    """This is one number for all tokens: every token has a share of its own."""
    return added.norm() / before.norm()


@stream_share.mistake(hint=2)
def averaged_before_dividing(before, added):
    """The lengths are averaged over the tokens before they are divided: divide token by token."""
    return added.norm(dim=-1).mean(-1, keepdim=True) / before.norm(dim=-1).mean(-1, keepdim=True).expand(
        before.shape[:-1]
    )


@stream_share.mistake(hint=3)
def divided_number_by_number(before, added):
    """The vectors are divided number by number, and a single small number in the stream decides: take both lengths
    first, then divide."""
    return (added / before).norm(dim=-1)


@stream_share.mistake(hint=1)
def upside_down(before, added):
    """This is the stream beside the addition: turn it around."""
    return before.norm(dim=-1) / added.norm(dim=-1)


@stream_share.mistake(hint=2)
def largest_numbers(before, added):
    """This compares the largest numbers: compare the lengths."""
    return added.abs().amax(-1) / before.abs().amax(-1)


@stream_share.mistake
def growth(before, added):
    """This is how much longer the stream becomes: the share is the length of the addition, also where it does not
    lengthen the stream."""
    return (before + added).norm(dim=-1) / before.norm(dim=-1)


@stream_share.mistake
def along_the_stream(before, added):
    """This is the part of the addition along the stream: take its whole length, whatever its direction."""
    return (added * before).sum(-1) / before.square().sum(-1)


@stream_share.mistake(hint=2)
def deviations(before, added):
    """This compares standard deviations, which leave the mean out: a length counts it."""
    return added.std(-1) / before.std(-1)


@stream_share.mistake(hint=3)
def root_above_only(before, added):
    """The root is missing below: both are lengths."""
    return added.norm(dim=-1) / before.square().sum(-1)


@stream_share.mistake(hint=3)
def root_below_only(before, added):
    """The root is missing above: both are lengths."""
    return added.square().sum(-1) / before.norm(dim=-1)


@stream_share.mistake
def growth_beyond_one(before, added):
    """This is by what share the stream becomes longer: take the length of the addition, also where it does not lengthen
    the stream."""
    return (before + added).norm(dim=-1) / before.norm(dim=-1) - 1


@stream_share.mistake
def at_most_one(before, added):
    """The share is cut off at 1: a layer may add more than was there."""
    return (added.norm(dim=-1) / before.norm(dim=-1)).clamp(max=1)


@stream_share.mistake(hint=2)
def variances(before, added):
    """This compares variances: a length is the root of the sum of squares, and does not leave the mean out."""
    return added.var(-1) / before.var(-1)


@stream_share.mistake(hint=3)
def lengths_subtracted(before, added):
    """The lengths are subtracted: divide them."""
    return added.norm(dim=-1) - before.norm(dim=-1)


@stream_share.mistake(hint=3)
def lengths_multiplied(before, added):
    """The lengths are multiplied: divide that of `added` by that of `before`."""
    return added.norm(dim=-1) * before.norm(dim=-1)


@stream_share.mistake(hint=2)
def one_length_below(before, added):
    """The stream has one length for all tokens here: divide each token by its own."""
    return added.norm(dim=-1) / before.norm()


@stream_share.mistake(hint=2)
def mean_length_below(before, added):
    """This divides by the mean length of all tokens: divide each token by its own."""
    return added.norm(dim=-1) / before.norm(dim=-1).mean()


@stream_share.mistake(hint=2)
def mean_length_of_the_text_below(before, added):
    """This divides by the mean length over the tokens of a text: divide each token by its own."""
    return added.norm(dim=-1) / before.norm(dim=-1).mean(-1, keepdim=True)


@stream_share.mistake
def cosine(before, added):
    """This is the cosine of the angle between the two: compare their lengths."""
    return torch.cosine_similarity(added, before, dim=-1)


@stream_share.mistake
def distance(before, added):
    """This measures the difference of the two vectors: `added` is the difference already, so take its length."""
    return (added - before).norm(dim=-1) / before.norm(dim=-1)


@stream_share.mistake
def part_along_the_stream(before, added):
    """This is how far the addition reaches along the stream: take its whole length, and divide by the stream's."""
    return (added * before).sum(-1) / before.norm(dim=-1)


@stream_share.mistake(hint=2)
def over_the_first_axis(before, added):
    """The lengths run over the first axis: every token has a share, over the last."""
    return added.norm(dim=0) / before.norm(dim=0)


@stream_share.finished
def lengths_divided(before, added):
    return added.norm(dim=-1) / before.norm(dim=-1)


@stream_share.accepted
def root_mean_squares(before, added):
    return added.square().mean(-1).sqrt() / before.square().mean(-1).sqrt()


@stream_share.accepted
def root_of_the_ratio(before, added):
    return (torch.einsum("...d,...d->...", added, added) / (before**2).sum(-1)) ** 0.5


@stream_share.accepted
def shares_in_loops(before, added):
    pairs = zip(added.reshape(-1, added.shape[-1]), before.reshape(-1, before.shape[-1]), strict=True)
    shares = [sum(number**2 for number in a).sqrt() / sum(number**2 for number in b).sqrt() for a, b in pairs]
    return torch.stack(shares).view(before.shape[:-1])

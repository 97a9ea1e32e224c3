"""Exercise `cross_entropy`: the mean surprise at the targets, from logits, without an overflow."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=2,
    returns=("loss",),
    gradients=("logits",),
    sizes={"vocab": (6, 9, 13), "seq": (4, 5, 7), "batch": (2, 3)},
    forbidden=("nll_loss", "nll_loss_nd", "cross_entropy_loss"),
)
def cross_entropy(logits: Float[Tensor, "batch seq vocab"], targets: Int[Tensor, "batch seq"]) -> Float[Tensor, ""]:
    """PyTorch's cross-entropy; −100 is what it leaves out by itself."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


@cross_entropy.values
def logits(rng, shape):
    return 3 * torch.randn(shape, generator=rng)


@cross_entropy.values
def targets(rng, shape, vocab):
    return torch.randint(vocab, shape, generator=rng)


@cross_entropy.inputs
def _(rng):
    for batch, seq, vocab in [(3, 6, 8), (2, 7, 5), (3, 5, 11)]:
        targets = torch.randint(vocab, (batch, seq), generator=rng)
        targets[0, -2:] = -100
        targets[1, -3:] = -100
        targets[1, 0] = -100
        yield 3 * torch.randn(batch, seq, vocab, generator=rng), targets
    for batch, seq, vocab in [(2, 4, 7), (3, 5, 6)]:
        targets = torch.randint(vocab, (batch, seq), generator=rng)
        largest = torch.randint(vocab, (batch, seq, 1), generator=rng)
        largest[0, 0] = targets[0, 0] + 1 if targets[0, 0] == 0 else targets[0, 0] - 1
        far = torch.full((batch, seq, vocab), -1000.0).scatter(2, largest, 1000.0)
        yield far + torch.randn(batch, seq, vocab, generator=rng), targets
    for offset in (1000.0, -1000.0):  # far from 0, and near each other
        yield offset + 3 * torch.randn(2, 5, 9, generator=rng), torch.randint(9, (2, 5), generator=rng)
    for batch, seq, vocab in [(2, 5, 7), (3, 4, 6)]:  # rows far from each other, and first places without a target
        offsets = torch.tensor([-1000.0, 0.0, 1000.0])[torch.arange(batch * seq) % 3].view(batch, seq, 1)
        targets = torch.randint(vocab, (batch, seq), generator=rng)
        targets[:, 0] = -100
        yield offsets + 3 * torch.randn(batch, seq, vocab, generator=rng), targets


@cross_entropy.traits
def _(logits, targets):
    if (logits.amax(-1) - logits.amin(-1)).gt(80).any():
        yield "two logits of a row are more than 80 apart"
    if (targets == -100).any():
        yield "a target is −100"


def _each(logits, targets):
    """Surprise at each target, and which of them count."""
    return -logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0], targets != -100


def _mean(logits, targets):
    surprise, counts = _each(logits, targets)
    return surprise[counts].mean()


def _by_hand(logits, targets, normalizer):
    """Normalizer − logit of the target, averaged: right, if `normalizer` is the log of the sum of the exps."""
    chosen = logits.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return (normalizer(logits) - chosen)[targets != -100].mean()


@cross_entropy.mistake(hint=1)
def logarithm_of_a_softmax(logits, targets):
    """The logarithm is taken of a finished softmax, in which a small probability is rounded to 0: its logarithm is
    −infinity. `log_softmax` or `logsumexp` compute both in one step."""
    surprise = -logits.softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0].log()
    return surprise[targets != -100].mean()


@cross_entropy.mistake(hint=1)
def exp_overflows(logits, targets):
    """The exponential of a large logit is infinite: use `logsumexp` or `log_softmax`, which subtract the largest logit
    first."""
    return _by_hand(logits, targets, lambda x: x.exp().sum(-1).log())


@cross_entropy.mistake(hint=1)
def small_number_added(logits, targets):
    """A small number is added before the logarithm: it makes the loss finite and wrong, as no surprise can be larger
    than its own. Compute the logarithm of the softmax in one step, with `log_softmax`."""
    chosen = logits.softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -(chosen + 1e-9)[targets != -100].log().mean()


@cross_entropy.mistake(hint=1)
def probability_clamped(logits, targets):
    """Probabilities are clamped from below before the logarithm: a loss beyond that is cut off. Compute the logarithm
    of the softmax in one step, with `log_softmax`."""
    chosen = logits.softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -chosen.clamp(min=1e-12)[targets != -100].log().mean()


@cross_entropy.mistake(hint=1)
def largest_not_added_again(logits, targets):
    """The largest logit is subtracted before the exponentials, and not from the target's logit: it has to be subtracted
    from both."""
    return _by_hand(logits, targets, lambda x: (x - x.amax(-1, keepdim=True)).logsumexp(-1))


@cross_entropy.mistake(hint=1)
def no_normalizer(logits, targets):
    """This is the mean of −logit: a logit becomes a log-probability when the logsumexp of its row is subtracted."""
    return _by_hand(logits, targets, lambda x: torch.zeros_like(x[..., 0]))


@cross_entropy.mistake(hint=1)
def sign_turned(logits, targets):
    """The sign is turned: the loss is minus the logarithm of a probability, never negative."""
    return -_mean(logits, targets)


@cross_entropy.mistake(hint=1)
def in_bits(logits, targets):
    """This is the loss in bits, with log2: it is in nats, with the natural logarithm."""
    return _mean(logits, targets) / math.log(2)


@cross_entropy.mistake(hint=1)
def mean_probability(logits, targets):
    """The probabilities are averaged before the logarithm: take the logarithm of each, and average these."""
    surprise, counts = _each(logits.double(), targets)
    return -(-surprise[counts]).logsumexp(0).to(logits.dtype) + counts.sum().log()


@cross_entropy.mistake(hint=2)
def shifted_here(logits, targets):
    """The targets are shifted once more: `make_batch` has shifted them, so the logits at t belong to the target at
    t."""
    return _mean(logits[:, :-1], targets[:, 1:])


@cross_entropy.mistake(hint=2)
def softmax_over_the_positions(logits, targets):
    """The softmax runs over the positions: it runs over the vocabulary, the last axis of the logits."""
    surprise = -logits.log_softmax(1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return surprise[targets != -100].mean()


@cross_entropy.mistake(hint=2)
def softmax_over_the_batch(logits, targets):
    """The softmax runs over the batch: it runs over the vocabulary, the last axis of the logits."""
    surprise = -logits.log_softmax(0).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return surprise[targets != -100].mean()


@cross_entropy.mistake(hint=2)
def softmax_twice(logits, targets):
    """The softmax is taken twice, of the logits and again of its result: once is enough."""
    return _mean(logits.softmax(-1), targets)


@cross_entropy.mistake(hint=3)
def summed(logits, targets):
    """This is the sum: return the mean over the targets that count."""
    surprise, counts = _each(logits, targets)
    return surprise[counts].sum()


@cross_entropy.mistake(hint=3)
def mean_of_the_sums(logits, targets):
    """The surprises of each text are summed, and the sums averaged: take one mean over all targets that count."""
    surprise, counts = _each(logits, targets)
    return (surprise * counts).sum(1).mean()


@cross_entropy.mistake(hint=3)
def mean_of_the_texts(logits, targets):
    """The mean is taken for each text, and then over the texts: a short text then counts as much as a long one. Take
    one mean over all targets that count."""
    surprise, counts = _each(logits, targets)
    return ((surprise * counts).sum(1) / counts.sum(1)).mean()


@cross_entropy.mistake(hint=3)
def divided_by_all_places(logits, targets):
    """Places with −100 are left out of the sum, and still counted in the number that you divide by."""
    surprise, counts = _each(logits, targets)
    return (surprise * counts).mean()


@cross_entropy.mistake(hint=3)
def places_without_target_counted(logits, targets):
    """Places with the target −100 count as if it were token 0: leave them out, in the sum and in the number that you
    divide by."""
    surprise, _ = _each(logits, targets)
    return surprise.mean()


@cross_entropy.mistake(hint=3)
def averaged_over_the_vocabulary(logits, targets):
    """The sum is divided by the size of the vocabulary as well: the one-hot targets have a 1 for each place, so divide
    by the number of targets that count."""
    return _mean(logits, targets) / logits.shape[-1]


@cross_entropy.mistake(hint=3)
def one_for_each_text(logits, targets):
    """This is a loss for each text: return one number, the mean over all."""
    surprise, counts = _each(logits, targets)
    return (surprise * counts).sum(1) / counts.sum(1)


@cross_entropy.mistake(hint=3)
def not_averaged(logits, targets):
    """These are the surprises at the single targets: return their mean."""
    surprise, counts = _each(logits, targets)
    return surprise * counts


@cross_entropy.mistake
def perplexity_of_it(logits, targets):
    """This is the perplexity, e to the loss: return the loss itself."""
    return _mean(logits, targets).exp()


@cross_entropy.mistake(hint=1)
def one_maximum_for_all(logits, targets):
    """The largest logit of all rows is subtracted, so that every exponential of a row far below it is 0: each row has
    its own largest logit, `x.amax(-1, keepdim=True)`."""
    return _by_hand(logits, targets, lambda x: (x - x.max()).exp().sum(-1).log() + x.max())


@cross_entropy.mistake(hint=1)
def maximum_over_the_positions(logits, targets):
    """The largest logit over the positions is subtracted: take it over the vocabulary, the last axis."""
    largest = logits.amax(1, keepdim=True)
    log_p = logits - largest - (logits - largest).exp().sum(-1, keepdim=True).log()
    return -log_p.gather(-1, targets.clamp(min=0)[..., None])[..., 0][targets != -100].mean()


@cross_entropy.mistake(hint=1)
def normalizer_of_the_whole_batch(logits, targets):
    """The logsumexp runs over all axes: each row of the vocabulary has its own."""
    return _by_hand(logits, targets, lambda x: x.logsumexp((0, 1, 2)))


@cross_entropy.mistake(hint=1)
def cut_off_far_down(logits, targets):
    """Probabilities are clamped to a tiny number before the logarithm, so that no loss is above its own: compute the
    logarithm of the softmax in one step, with `log_softmax`."""
    chosen = logits.softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -chosen.clamp(min=1e-30)[targets != -100].log().mean()


@cross_entropy.mistake(hint=1)
def no_logarithm(logits, targets):
    """This is minus the mean probability of the targets: take the logarithm of each, with `log_softmax`."""
    chosen = logits.softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -chosen[targets != -100].mean()


@cross_entropy.mistake(hint=1)
def sigmoid_for_softmax(logits, targets):
    """Each logit goes through a sigmoid of its own: the probabilities of a row sum to 1, so it is a softmax."""
    chosen = F.logsigmoid(logits).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -chosen[targets != -100].mean()


@cross_entropy.mistake(hint=1)
def most_probable_token(logits, targets):
    """This is the surprise at the most probable token of each place: take that at its target."""
    return -logits.log_softmax(-1).amax(-1)[targets != -100].mean()


@cross_entropy.mistake(hint=1)
def entropy_of_the_prediction(logits, targets):
    """This is the entropy of the predictions, which does not look at the targets: take −log p at each target."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)[targets != -100].mean()


@cross_entropy.mistake(hint=2)
def all_tokens_of_the_vocabulary(logits, targets):
    """The mean runs over all tokens of the vocabulary: only the one at the target counts, so gather it."""
    return -logits.log_softmax(-1).mean()


@cross_entropy.mistake(hint=1)
def place_minus_100(logits, targets):
    """The target −100 is taken for a place in the vocabulary: replace it by any token before you gather, and leave the
    result out afterwards."""
    return -logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0][targets != -100].mean()


@cross_entropy.mistake(hint=1)
def counted_as_the_last_token(logits, targets):
    """Places with the target −100 count as if it were the last token: leave them out, in the sum and in the number."""
    ids = torch.where(targets == -100, logits.shape[-1] - 1, targets)
    return -logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0].mean()


@cross_entropy.mistake(hint=1)
def counted_modulo_the_vocabulary(logits, targets):
    """The target −100 is taken modulo the size of the vocabulary, and counts as the token there: leave these
    places out."""
    return -logits.log_softmax(-1).gather(-1, (targets % logits.shape[-1])[..., None])[..., 0].mean()


@cross_entropy.mistake(hint=3)
def token_0_left_out(logits, targets):
    """Targets of token 0 are left out: it is a token like any other, only −100 does not count."""
    surprise, _ = _each(logits, targets)
    return surprise[targets > 0].mean()


@cross_entropy.mistake(hint=3)
def token_0_left_out_instead(logits, targets):
    """Token 0 is left out, and −100 is not: it is the other way around."""
    surprise, _ = _each(logits, targets)
    return surprise[targets != 0].mean()


@cross_entropy.mistake(hint=3)
def only_the_first_text_decides(logits, targets):
    """Which places count is read off the first text: each text has its own."""
    surprise, counts = _each(logits, targets)
    return surprise[:, counts[0]].mean()


@cross_entropy.mistake(hint=2)
def last_position_only(logits, targets):
    """Only the last position counts: each position has a target."""
    return _mean(logits[:, -1:], targets[:, -1:])


@cross_entropy.mistake(hint=2)
def shifted_the_other_way(logits, targets):
    """The logits are shifted against their targets: the logits at t belong to the target at t."""
    return _mean(logits[:, 1:], targets[:, :-1])


@cross_entropy.mistake(hint=3)
def chosen_not_averaged(logits, targets):
    """These are the surprises at the targets that count: return their mean, one number."""
    surprise, counts = _each(logits, targets)
    return surprise[counts]


@cross_entropy.mistake(hint=3)
def mean_over_zeros(logits, targets):
    """The mean runs over the whole vocabulary, where all but the target are 0, and over places that do not count: add
    up, and divide by the number of targets that count."""
    surprise, counts = _each(logits, targets)
    return (surprise * counts).sum() / logits.numel()


@cross_entropy.mistake(hint=3)
def one_target_too_many(logits, targets):
    """The sum is divided by one target too many: divide by the number of targets that count."""
    surprise, counts = _each(logits, targets)
    return surprise[counts].sum() / (counts.sum() + 1)


@cross_entropy.finished
def log_softmax_at_the_targets(logits, targets):
    counts = targets != -100
    log_p = logits.log_softmax(dim=-1)
    chosen = log_p.gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)
    return -chosen[counts].mean()


@cross_entropy.accepted
def by_logsumexp(logits, targets):
    flat, ids = logits.flatten(0, 1), targets.flatten()
    flat, ids = flat[ids != -100], ids[ids != -100]
    return (flat.logsumexp(-1) - flat[torch.arange(len(ids)), ids]).sum() / len(ids)


@cross_entropy.accepted
def by_hand(logits, targets):
    total, n = 0.0, 0
    for text, ids in zip(logits, targets, strict=True):
        for row, target in zip(text, ids, strict=True):
            if target == -100:
                continue
            row = row - row.max()
            total = total + row.exp().sum().log() - row[target]
            n += 1
    return total / n


@cross_entropy.accepted
def with_one_hot(logits, targets):
    counts = targets != -100
    wanted = F.one_hot(targets.clamp(min=0), logits.shape[-1]).to(logits.dtype) * counts[..., None]
    return -(wanted * logits.log_softmax(-1)).sum() / counts.sum()

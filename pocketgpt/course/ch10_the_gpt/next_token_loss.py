"""Exercise `next_token_loss`: the mean surprise at each next token."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=1,
    returns=("loss",),
    gradients=("logits",),
    sizes={"vocab": (6, 9, 13), "seq": (4, 5, 7), "batch": (2, 3)},
)
def next_token_loss(logits: Float[Tensor, "batch seq vocab"], tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, ""]:
    """PyTorch's cross-entropy of the shifted logits; tests hold it equal to transformers' ForCausalLMLoss."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=-100)


@next_token_loss.values
def logits(rng, shape):
    return 3 * torch.randn(shape, generator=rng)


@next_token_loss.values
def tokens(rng, shape, vocab):
    return torch.randint(vocab, shape, generator=rng)


@next_token_loss.inputs
def _(rng):
    for batch, seq, vocab in [(3, 6, 8), (2, 7, 5)]:
        tokens = torch.randint(vocab, (batch, seq), generator=rng)
        tokens[0, -2:] = -100  # the first text is shorter
        tokens[1, -1:] = -100
        yield 3 * torch.randn(batch, seq, vocab, generator=rng), tokens
    yield torch.full((1, 4, 7), 1000.0).index_fill(2, torch.tensor([3]), -1000.0), torch.tensor([[0, 1, 3, 4]])


def _each(logits, tokens):
    """Surprise at each token, shifted already, and which of them count."""
    counts = tokens != -100
    surprise = -logits.log_softmax(-1).gather(-1, tokens.clamp(min=0)[..., None])[..., 0]
    return surprise, counts


def _mean(logits, tokens):
    surprise, counts = _each(logits, tokens)
    return surprise[counts].mean()


@next_token_loss.mistake(hint=1)
def not_shifted(logits, tokens):
    """Nothing is shifted: the logits at position t are compared with token t, which the model has just read. They
    predict token t + 1."""
    return _mean(logits, tokens)


@next_token_loss.mistake(hint=1)
def shifted_twice(logits, tokens):
    """This is shifted by two: the logits at position t predict token t + 1, not t + 2."""
    return _mean(logits[:, :-2], tokens[:, 2:])


@next_token_loss.mistake(hint=1)
def shifted_the_wrong_way(logits, tokens):
    """This is shifted the wrong way: the logits at position t are compared with token t − 1. Cut the last logits and
    the first token."""
    return _mean(logits[:, 1:], tokens[:, :-1])


@next_token_loss.mistake(hint=1)
def both_cut_at_the_end(logits, tokens):
    """The last position is cut from both, so nothing is shifted: cut the last logits and the first token."""
    return _mean(logits[:, :-1], tokens[:, :-1])


@next_token_loss.mistake(hint=1)
def both_cut_at_the_start(logits, tokens):
    """The first position is cut from both, so nothing is shifted: cut the last logits and the first token."""
    return _mean(logits[:, 1:], tokens[:, 1:])


@next_token_loss.mistake(hint=1)
def rolled(logits, tokens):
    """The tokens are rolled, so that the last logits are compared with the first token: cut that place off."""
    return _mean(logits, tokens.roll(-1, 1))


@next_token_loss.mistake(hint=1)
def shifted_over_the_texts(logits, tokens):
    """The texts are put behind each other before the shift, so that the end of one predicts the start of the next:
    shift within each text, `[:, :-1]` and `[:, 1:]`."""
    return _mean(logits.flatten(0, 1)[:-1], tokens.flatten()[1:])


@next_token_loss.mistake(hint=2)
def softmax_before(logits, tokens):
    """The softmax is taken twice: `cross_entropy` does it, so give it the logits."""
    return _mean(logits[:, :-1].softmax(-1), tokens[:, 1:])


@next_token_loss.mistake(hint=3)
def summed(logits, tokens):
    """This is the sum: return the mean over the predicted tokens."""
    surprise, counts = _each(logits[:, :-1], tokens[:, 1:])
    return surprise[counts].sum()


@next_token_loss.mistake(hint=3)
def padding_counted(logits, tokens):
    """Padding counts as a token: leave out the places where the token is −100, in the sum and in the number that you
    divide by."""
    surprise, _ = _each(logits[:, :-1], tokens[:, 1:])
    return surprise.mean()


@next_token_loss.mistake(hint=3)
def divided_by_all_places(logits, tokens):
    """Padding is left out of the sum, and still counted in the number that you divide by."""
    surprise, counts = _each(logits[:, :-1], tokens[:, 1:])
    return (surprise * counts).mean()


@next_token_loss.mistake(hint=3)
def divided_by_the_length(logits, tokens):
    """The sum is divided by T for each text: only T − 1 tokens of it are predicted."""
    surprise, counts = _each(logits[:, :-1], tokens[:, 1:])
    return (surprise * counts).sum() / tokens.numel()


@next_token_loss.mistake(hint=3)
def mean_of_the_texts(logits, tokens):
    """The mean is taken for each text, and then over the texts: a short text then counts as much as a long one. Take
    one mean over all predicted tokens."""
    surprise, counts = _each(logits[:, :-1], tokens[:, 1:])
    return ((surprise * counts).sum(1) / counts.sum(1)).mean()


@next_token_loss.mistake(hint=3)
def one_for_each_text(logits, tokens):
    """This is a loss for each text: return one number, the mean over all."""
    surprise, counts = _each(logits[:, :-1], tokens[:, 1:])
    return (surprise * counts).sum(1) / counts.sum(1)


@next_token_loss.mistake(hint=3)
def not_averaged(logits, tokens):
    """These are the losses of the single tokens: return their mean."""
    surprise, counts = _each(logits[:, :-1], tokens[:, 1:])
    return surprise * counts


@next_token_loss.mistake(hint=2)
def sign_turned(logits, tokens):
    """The sign is turned: the loss is minus the logarithm of a probability, never negative."""
    return -_mean(logits[:, :-1], tokens[:, 1:])


@next_token_loss.mistake(hint=2)
def in_bits(logits, tokens):
    """This is the loss in bits, with log2: it is in nats, with the natural logarithm."""
    return _mean(logits[:, :-1], tokens[:, 1:]) / math.log(2)


@next_token_loss.mistake(hint=2)
def perplexity(logits, tokens):
    """This is the perplexity, e to the loss: return the loss itself."""
    return _mean(logits[:, :-1], tokens[:, 1:]).exp()


@next_token_loss.mistake(hint=2)
def logits_of_the_tokens(logits, tokens):
    """This is the mean of −logit: a logit is no log-probability before the log_softmax."""
    counts = tokens[:, 1:] != -100
    return -logits[:, :-1].gather(-1, tokens[:, 1:].clamp(min=0)[..., None])[..., 0][counts].mean()


@next_token_loss.mistake(hint=2)
def softmax_over_the_positions(logits, tokens):
    """The softmax runs over the positions: it runs over the vocabulary, the last axis of the logits."""
    surprise = -logits[:, :-1].log_softmax(1).gather(-1, tokens[:, 1:].clamp(min=0)[..., None])[..., 0]
    return surprise[tokens[:, 1:] != -100].mean()


@next_token_loss.mistake(hint=2)
def logarithm_of_a_softmax(logits, tokens):
    """The logarithm is taken of a finished softmax, in which a small probability is rounded to 0: its logarithm is
    −infinity. `log_softmax` and `cross_entropy` compute both in one step."""
    counts = tokens[:, 1:] != -100
    chosen = logits[:, :-1].softmax(-1).gather(-1, tokens[:, 1:].clamp(min=0)[..., None])[..., 0]
    return -chosen[counts].log().mean()


@next_token_loss.mistake(hint=2)
def last_prediction_only(logits, tokens):
    """Only the last prediction of each text is used: every position predicts its next token."""
    return _mean(logits[:, -2], tokens[:, -1])


@next_token_loss.mistake(hint=2)
def exp_overflows(logits, tokens):
    """The exp of a large logit is infinite, and infinity divided by infinity is NaN: `log_softmax` and `cross_entropy`
    subtract the largest logit first."""
    counts = tokens[:, 1:] != -100
    p = logits[:, :-1].exp()
    p = p / p.sum(dim=-1, keepdim=True)
    return -p.gather(-1, tokens[:, 1:].clamp(min=0)[..., None])[..., 0][counts].log().mean()


@next_token_loss.mistake(hint=2)
def targets_transposed(logits, tokens):
    """The tokens are transposed before they are flattened, so that they belong to other logits than their own: flatten
    both in the same order."""
    targets = tokens[:, 1:]
    return _mean(logits[:, :-1], targets.T.reshape(targets.shape))


@next_token_loss.mistake(hint=3)
def zero_is_padding(logits, tokens):
    """Token 0 is left out: it is a token like any other, and padding is −100."""
    targets = tokens[:, 1:].clamp(min=0)
    surprise, _ = _each(logits[:, :-1], targets)
    return surprise[targets != 0].mean()


@next_token_loss.mistake(hint=3)
def padding_of_what_was_read(logits, tokens):
    """A place is left out where the token that was read is padding: leave it out where the token to be predicted is."""
    surprise, _ = _each(logits[:, :-1], tokens[:, 1:])
    counts = tokens[:, :-1] != -100
    return (surprise * counts).sum() / counts.sum()


@next_token_loss.mistake(hint=1)
def shifted_along_the_batch(logits, tokens):
    """The shift runs along the texts of the batch, `[:-1]` and `[1:]`: it runs along the positions, `[:, :-1]` and
    `[:, 1:]`."""
    return _mean(logits[:-1], tokens[1:])


@next_token_loss.finished
def shifted_cross_entropy(logits, tokens):
    predictions, targets = logits[:, :-1], tokens[:, 1:]
    return F.cross_entropy(predictions.flatten(0, 1), targets.flatten())


@next_token_loss.accepted
def by_log_softmax(logits, tokens):
    targets = tokens[:, 1:]
    counts = targets != -100
    chosen = logits[:, :-1].log_softmax(-1).gather(2, targets.masked_fill(~counts, 0).unsqueeze(2)).squeeze(2)
    return -(chosen * counts).sum() / counts.sum()


@next_token_loss.accepted
def with_classes_second(logits, tokens):
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:])


@next_token_loss.accepted
def by_logsumexp(logits, tokens):
    losses = []
    for text, ids in zip(logits, tokens, strict=True):
        for t in range(len(ids) - 1):
            if ids[t + 1] != -100:
                losses.append(text[t].logsumexp(0) - text[t, ids[t + 1]])
    return torch.stack(losses).mean()

"""Writing by denoising: at first every token is hidden, and each pass of the model reveals some of them.

    t = 1                                                                             t = 0
    [MASK] [MASK] [MASK] [MASK]  →  [MASK] be [MASK] [MASK]  →  To be [MASK] not  →  To be or not

A masked diffusion model predicts all hidden tokens in one pass, each from the tokens on both sides. At time t a share t
of the tokens is hidden. A pass from t to s reveals each hidden token with probability (t − s) / t. A revealed token
stays as it is, unless it is hidden again (`remask`). The tokens of one pass are drawn independently of each other, so
fewer passes write a worse text.

Cost: passes · T · flops_per_token(T) for T tokens, prompt included. There is no cache, because a revealed token changes
what all others see. A causal model with a cache computes every token once: with as many passes as tokens, denoising
costs T times as much.

Sources: Austin et al. 2021, D3PM (arXiv 2107.03006); Sahoo et al. 2024, MDLM (arXiv 2406.07524), section 3;
Nie et al. 2025, LLaDA (arXiv 2502.09992), section 2.4.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pocketgpt.errors import PocketError
from pocketgpt.inference.generate import DEFAULT_SAMPLER, evaluation_mode, seeded
from pocketgpt.inference.sampling import Sampler
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.stack import Stack

Order = Literal["random", "confident"]
PASSES = 64


def mask_id(config: ModelConfig) -> int:
    """Id of the mask, the token that takes the place of a hidden one: the last of the vocabulary."""
    return config.vocab_size - 1


def token_logits(model: nn.Module, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq tokens"]:
    """Scores of every token at every position, without the mask's: it has probability 0 and is never drawn.

    Source: Sahoo et al. 2024, MDLM (arXiv 2406.07524), section 3.2, zero masking probabilities.
    """
    return model(tokens)[..., :-1]  # (B, T, vocab_size − 1)


def reveal_probability(t: float, s: float, remasked: float = 0.0) -> float:
    """Probability that the pass from t to s reveals a hidden token, so that at s a share s is hidden.

    (t − s) / t: from 1 to 0 in four passes 1/4, 1/3, 1/2, 1. If the pass hides a revealed token again with probability
    `remasked`, it has to reveal as many more: (t − s + remasked · (1 − t)) / t.
    Sources: MDLM, section 3.2, with α = 1 − t; Wang et al. 2025, ReMDM (arXiv 2503.00307), section 3.
    """
    return (t - s + remasked * (1 - t)) / t


def remask_probability(t: float, s: float, remask: float) -> float:
    """Probability that the pass from t to s hides a revealed token again: `remask`, or less where that would hide a
    larger share than s.

    Source: Wang et al. 2025, ReMDM (arXiv 2503.00307), section 4, the schedule ReMDM-cap.
    """
    return min(remask, s / (1 - t)) if t < 1 else 0.0


def most_confident(
    hidden: Bool[Tensor, "batch seq"], confidence: Float[Tensor, "batch seq"], n: Int[Tensor, "batch 1"]
) -> Bool[Tensor, "batch seq"]:
    """The n hidden positions of each row that have the highest confidence; of equal ones the first.

    Source: Nie et al. 2025, LLaDA (arXiv 2502.09992), section 2.4, where it is called low-confidence remasking.
    """
    order = confidence.masked_fill(~hidden, -1.0).argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(dim=-1)
    return hidden & (rank < n)


@torch.no_grad()
def denoise(
    model: Stack,
    tokens: Int[Tensor, "batch seq"],
    *,
    passes: int = PASSES,
    order: Order = "random",
    sampler: Sampler = DEFAULT_SAMPLER,
    remask: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Int[Tensor, "batch seq"]]:
    """Replace the masks in `tokens`, and yield the tokens after each pass; the last ones have no mask.

    All other tokens stay as they are, such as a prompt or the text around a gap. `order` decides which tokens a pass
    reveals. random: each with the same probability, the process that the model has learned to reverse. confident: the
    ones that the model is most sure of, as many as random reveals on average; the text is safer and more repetitive.
    `remask` is the probability that a pass hides a token again that an earlier pass has revealed.

    Raises PocketError for a causal model, an option that cannot work, or logits that are not finite.
    """
    check_options(model, passes, order, remask)
    mask = mask_id(model.config)
    ours = tokens == mask  # all others are given
    for number in range(passes):
        t, s = (passes - number) / passes, (passes - number - 1) / passes
        remasked = remask_probability(t, s, remask)
        revealed = reveal_probability(t, s, remasked)
        with evaluation_mode(model):
            logits = token_logits(model, tokens)  # (B, T, vocab_size − 1)
        drawn = sampler(logits.flatten(0, 1), generator).view_as(tokens)  # (B, T)
        hidden = tokens == mask
        if order == "random":
            chosen = hidden & (uniform(tokens, generator) < revealed)
        else:
            # The model's own probability: temperature and filters would make every token look certain.
            confidence = logits.float().softmax(dim=-1).gather(-1, drawn[..., None])[..., 0]  # (B, T)
            n = (hidden.sum(dim=1, keepdim=True) * revealed).round().long()  # (B, 1)
            chosen = most_confident(hidden, confidence, n)
        again = ours & ~hidden & (uniform(tokens, generator) < remasked)
        # Without a finite score a token stays hidden. Found at the end: a look at it here would wait for the GPU.
        chosen = chosen & logits.amax(dim=-1).isfinite()
        tokens = drawn.where(chosen, tokens).masked_fill(again, mask)
        yield tokens
    if (tokens == mask).any():
        raise PocketError(
            "The model's logits are NaN or infinite, so there are no tokens to write: its weights are damaged, or its "
            "training diverged. Take an earlier checkpoint, or float32 weights."
        )


def uniform(like: Tensor, generator: torch.Generator | None) -> Float[Tensor, "..."]:
    """Random numbers between 0 and 1, in the shape of a tensor."""
    return torch.rand(like.shape, generator=generator, device=like.device)


def fill_in(model: Stack, tokens: Sequence[int], *, seed: int | None = None, **options: Any) -> list[int]:
    """Replace every mask in a text; the options are those of `denoise`. The same seed gives the same tokens."""
    row = as_row(model, tokens)
    for row in denoise(model, row, generator=seeded(model.device, seed), **options):  # noqa: B007, B020
        pass
    return row[0].tolist()


def write(
    model: Stack,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    stop_tokens: Collection[int] = (),
    seed: int | None = None,
    **options: Any,
) -> list[int]:
    """Continue a text, and return the new tokens before the first stop token; the options are those of `denoise`.

    All at once, if the model has positions for that many. If not, one block after the other, each of which continues
    the last half of a context.
    """
    longest, generator = model.config.max_seq_len, seeded(model.device, seed)
    text = as_row(model, prompt)  # (1, T)
    end = text.shape[1] + max_new_tokens
    while text.shape[1] < end:
        start = 0 if end <= longest else max(0, text.shape[1] - longest // 2)
        n_new = min(end - text.shape[1], longest - text.shape[1] + start)
        row = torch.cat((text[:, start:], text.new_full((1, n_new), mask_id(model.config))), dim=1)
        for row in denoise(model, row, generator=generator, **options):  # noqa: B007, B020
            pass
        text = torch.cat((text, row[:, -n_new:]), dim=1)
    new = text[0, len(prompt) :].tolist()
    return new[: min((new.index(token) for token in stop_tokens if token in new), default=len(new))]


def as_row(model: Stack, tokens: Sequence[int]) -> Int[Tensor, "1 seq"]:
    """The tokens of one text on the model's device. Raises PocketError for a token outside the vocabulary."""
    unknown = [token for token in tokens if not 0 <= token < model.config.vocab_size]
    if unknown:
        raise PocketError(
            f"The text contains token {unknown[0]}, and the vocabulary has ids 0 to {model.config.vocab_size - 1}: use "
            "the tokenizer it was trained with."
        )
    return torch.tensor([list(tokens)], dtype=torch.long, device=model.device)


def check_options(model: Stack, passes: int, order: str, remask: float) -> None:
    """Raises PocketError for a causal model, and for an option that cannot work."""
    if model.config.causal:
        raise PocketError("This model is causal: a token that it fills in would not see what follows. Use `generate`.")
    if passes < 1:
        raise PocketError(f"passes = {passes} cannot work: use a whole number of at least 1, such as {PASSES}.")
    if order not in get_args(Order):
        raise PocketError(f"order = {order!r} cannot work: use one of {', '.join(get_args(Order))}.")
    if not 0 <= remask < 1:
        raise PocketError(f"remask = {remask} cannot work: use a number from 0 up to 1, such as 0.05.")

"""Text generation: read the prompts in one pass (prefill), then add one token at a time (decode)."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pocketgpt.checked import LARGEST_SEED
from pocketgpt.errors import PocketError
from pocketgpt.inference.kv_cache import KVCache, new_cache
from pocketgpt.inference.sampling import Sampler
from pocketgpt.models.gpt import GPT

DEFAULT_SAMPLER = Sampler()
NOT_FINITE = -1
"""Yielded by `steps` in place of a token whose logits are NaN or infinite."""


@torch.no_grad()
def prefill(
    model: GPT, prompts: Sequence[Sequence[int]], capacity: int | None = None
) -> tuple[KVCache, Float[Tensor, "batch vocab"]]:
    """Read prompts of any lengths in one pass, without dropout.

    Returns the cache and the logits after each prompt's last token.
    """
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    rows = [torch.tensor(prompt, dtype=torch.long) for prompt in prompts]
    # Padded on the right: a real token never sees the padding, which comes after it.
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
    cache = new_cache(model, len(prompts), capacity)
    cache.added = lengths
    with evaluation_mode(model), uncompiled(model):
        features = model.features(tokens, cache)
        last = features[torch.arange(len(prompts), device=model.device), lengths - 1]
        return cache, model.head(last)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Context without dropout: modules in training mode leave it for the duration."""
    training = [module for module in model.modules() if module.training] if model.training else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def uncompiled(model: GPT) -> AbstractContextManager:
    """Context in which nothing runs compiled: the blocks of a prepared model are compiled for single tokens."""
    if model.blocks[0]._compiled_call_impl is None:
        return nullcontext()  # importing the compiler takes seconds
    return torch.compiler.set_stance("force_eager")


@torch.no_grad()  # not inference_mode, whose tensors torch.compile cannot take views of
def decode_step(model: GPT, tokens: Int[Tensor, "batch"], cache: KVCache) -> Float[Tensor, "batch vocab"]:
    """Decode one token per row, without dropout: returns the logits after it, and caches its keys and values."""
    cache.reserve(1)
    with evaluation_mode(model):
        return model(tokens[:, None], cache)[:, -1]


def steps(
    model: GPT, prompts: Sequence[Sequence[int]], *, sampler: Sampler, seed: int | None = None
) -> Iterator[Int[Tensor, "batch"]]:
    """Yield one new token per row, indefinitely.

    Of a prompt longer than the context, max_seq_len, the last tokens are read. When a row fills its context, it is
    prefilled again from its last half; the other rows keep all of theirs. So RoPE is never stretched here, dynamic
    RoPE neither: for longer contexts, give the model's config a larger max_seq_len.
    """
    generator = seeded_generator(model, seed)
    longest = model.config.max_seq_len
    context = [list(prompt[-longest:]) for prompt in prompts]
    cache, logits = prefill(model, context)
    new: list[Int[Tensor, "batch"]] = []  # since the last prefill; read from the device only when the context is full
    while True:
        tokens = sampler(logits, generator)
        yield mark_not_finite(tokens, logits)
        new.append(tokens)
        if cache.longest < cache.capacity:
            logits = decode_step(model, tokens, cache)
        else:
            written = torch.stack(new, dim=1).tolist()
            context = [row + more for row, more in zip(context, written, strict=True)]
            context = [row if len(row) <= longest else row[-max(longest // 2, 1) :] for row in context]
            cache, logits = prefill(model, context)
            new.clear()


def stream(
    model: GPT,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    sampler: Sampler = DEFAULT_SAMPLER,
    stop_tokens: Collection[int] = (),
    seed: int | None = None,
) -> Iterator[int]:
    """Generate one text and yield its new tokens; a stop token ends it and is not yielded.

    Of a prompt longer than the model's max_seq_len, the last tokens are read.
    Raises PocketError for an empty prompt, a token outside the vocabulary, or logits that are not finite.
    """
    check_prompts(model, [prompt])
    for tokens in islice(steps(model, [prompt], sampler=sampler, seed=seed), max_new_tokens):
        token = check_finite(tokens.item())
        if token in stop_tokens:
            return
        yield token


def generate(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampler: Sampler = DEFAULT_SAMPLER,
    stop_tokens: Collection[int] = (),
    seed: int | None = None,
) -> list[list[int]]:
    """Generate the new tokens of each prompt; prompts may differ in length, each row ends before its stop token.

    Of a prompt longer than the model's max_seq_len, the last tokens are read.
    Raises PocketError for an empty prompt, a token outside the vocabulary, or logits that are not finite.
    """
    check_prompts(model, prompts)
    written: list[list[int]] = [[] for _ in prompts]
    running = set(range(len(prompts)))
    # Reading tokens synchronizes with a GPU, so several steps are read at once; a few of the last may be unused.
    group = 1 if model.device.type == "cpu" else 16
    new = islice(steps(model, prompts, sampler=sampler, seed=seed), max_new_tokens)
    while running and (columns := list(islice(new, group))):
        for tokens in torch.stack(columns).tolist():
            for row, token in enumerate(tokens):
                if row not in running:
                    continue
                if check_finite(token) in stop_tokens:
                    running.discard(row)
                else:
                    written[row].append(token)
    return written


def seeded_generator(model: GPT, seed: int | None) -> torch.Generator:
    """Random numbers on the model's device; None for a seed from the system. Raises PocketError for a bad seed."""
    if seed is not None and not 0 <= seed <= LARGEST_SEED:
        raise PocketError(f"seed = {seed} cannot work: use a whole number from 0 to {LARGEST_SEED}, such as 1.")
    generator = torch.Generator(model.device)
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def mark_not_finite(tokens: Int[Tensor, "batch"], logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, "batch"]:
    """Replace tokens whose logits are NaN or infinite by NOT_FINITE: raising would wait for the GPU to look at them."""
    return torch.where(logits.amax(dim=-1).isfinite(), tokens, NOT_FINITE)


def check_finite(token: int) -> int:
    """Return the token. Raises PocketError if it is NOT_FINITE."""
    if token == NOT_FINITE:
        raise PocketError(
            "The model's logits are NaN or infinite, so there is no next token: its weights are damaged, or its "
            "training diverged. Take an earlier checkpoint, or float32 weights."
        )
    return token


def check_prompts(model: GPT, prompts: Sequence[Sequence[int]]) -> None:
    """Raises PocketError if there is no prompt, an empty one, or a token outside the vocabulary."""
    if not prompts:
        raise PocketError("There is no prompt: give at least one list of tokens.")
    for row, prompt in enumerate(prompts):
        if not prompt:
            raise PocketError(f"Prompt {row} is empty: start from at least one token, such as end-of-text.")
        unknown = [token for token in prompt if not 0 <= token < model.config.vocab_size]
        if unknown:
            raise PocketError(
                f"Prompt {row} contains token {unknown[0]}, and the vocabulary has ids 0 to "
                f"{model.config.vocab_size - 1}: use the tokenizer it was trained with."
            )

"""Sequence to sequence: the encoder reads the inputs once, then the decoder writes the outputs token by token.

    [output] = generate_output(model, [tokens], max_new_tokens=50, stop_tokens=(end,))

A step of the decoder costs one query per layer: the keys and values of the output so far are in the cache, and those of
the input, which never change, are there since the first step. Inputs of unequal lengths are padded and the padding is
hidden, so that every row is written as if it were alone.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.inference.generate import NOT_FINITE, check_finite, check_tokens, collect, evaluation_mode, seeded
from pocketgpt.inference.kv_cache import KVCache, new_cache
from pocketgpt.inference.sampling import Sampler
from pocketgpt.layers.context import Memory
from pocketgpt.models.t5 import T5

MOST_PROBABLE = Sampler(temperature=0.0)


@torch.no_grad()
def read_input(model: T5, inputs: Sequence[Sequence[int]]) -> Memory:
    """Encode inputs of any lengths in one pass, without dropout."""
    rows = [torch.tensor(row, dtype=torch.long) for row in inputs]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)  # (B, S)
    lengths = torch.tensor([len(row) for row in inputs])
    mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).to(model.device)  # (B, S)
    with evaluation_mode(model):
        return model.encode(tokens, None if len(set(map(len, inputs))) == 1 else mask)


@torch.no_grad()
def decode_output_step(
    model: T5, tokens: Int[Tensor, "batch"], memory: Memory, cache: KVCache
) -> Float[Tensor, "batch vocab"]:
    """Decode one token per row, without dropout: returns the logits after it, and caches its keys and values."""
    cache.reserve(1)
    with evaluation_mode(model):
        return model.decode(tokens[:, None], memory, cache)[:, -1]


def output_steps(
    model: T5, inputs: Sequence[Sequence[int]], *, sampler: Sampler, seed: int | None = None
) -> Iterator[Int[Tensor, "batch"]]:
    """Yield one new token of the output per row, up to max_seq_len of them."""
    generator = seeded(model.device, seed)
    memory = read_input(model, inputs)
    cache = new_cache(model, len(inputs))
    tokens = torch.full((len(inputs),), model.config.start_token, device=model.device)  # (B)
    while cache.longest < cache.capacity:
        logits = decode_output_step(model, tokens, memory, cache)
        tokens = sampler(logits, generator)
        yield torch.where(logits.amax(dim=-1).isfinite(), tokens, NOT_FINITE)


def stream_output(
    model: T5,
    tokens: Sequence[int],
    *,
    max_new_tokens: int,
    sampler: Sampler = MOST_PROBABLE,
    stop_tokens: Collection[int] = (),
    seed: int | None = None,
) -> Iterator[int]:
    """Write one output and yield its tokens; a stop token ends it and is not yielded.

    Raises PocketError for an empty input, a token outside the vocabulary, or logits that are not finite, and
    ContextError for an input longer than max_seq_len.
    """
    check_tokens(model, [tokens])
    for new in islice(output_steps(model, [tokens], sampler=sampler, seed=seed), max_new_tokens):
        token = check_finite(new.item())
        if token in stop_tokens:
            return
        yield token


def generate_output(
    model: T5,
    inputs: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampler: Sampler = MOST_PROBABLE,
    stop_tokens: Collection[int] = (),
    seed: int | None = None,
) -> list[list[int]]:
    """Write the output of each input; inputs may differ in length, each row ends before its stop token.

    An output has at most max_seq_len tokens. Raises what `stream_output` raises.
    """
    check_tokens(model, inputs)
    new = islice(output_steps(model, inputs, sampler=sampler, seed=seed), max_new_tokens)
    return collect(new, len(inputs), stop_tokens, model.device)

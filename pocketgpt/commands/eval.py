"""`pocketgpt eval`: loss, perplexity and bits per byte of a model on a corpus."""

from typing import Literal

import numpy as np
from tyro.conf import Positional

from pocketgpt.checked import LARGEST_INTEGER
from pocketgpt.commands.model_folder import SHIPPED, load_model_folder
from pocketgpt.device import choose_device
from pocketgpt.errors import PocketError
from pocketgpt.text.tokenize_corpus import tokenize_corpus
from pocketgpt.training.evaluate import evaluate, token_lengths

LONGEST_WINDOW = 2048
"""Published models take far longer texts, which one machine in a few minutes does not."""
CHUNK = 1024
"""Tokens whose logits are in memory at once: with 49,152 scores each, those of a whole batch would fill it."""


def eval(
    model: Positional[str] = SHIPPED,
    corpus: Positional[str] = "shakespeare",
    *,
    split: Literal["train", "validation"] = "validation",
    text_field: str = "text",
    max_tokens: int | None = 100_000,
    seq_len: int | None = None,
    batch_size: int = 8,
    device: str = "auto",
) -> None:
    """Measure a model on text: pocketgpt eval runs/pocket-shakespeare my.txt

    Args:
        model: Folder of a run, a checkpoint or a published model, .gguf file, or smollm2; by default the shipped model.
        corpus: shakespeare, wikitext-103, fineweb-edu, tinystories, or a path to your own text file or folder.
        split: Part of the corpus; validation is what training has not seen.
        text_field: Field of .jsonl, or column of .parquet, that contains the text.
        max_tokens: Tokens to read, from the beginning; None for all.
        seq_len: Tokens in a window; by default the longest that the model takes, up to 2048.
        batch_size: Windows of text in one forward pass.
        device: auto, cpu, cuda or mps.
    """
    for option, value, least in (("max_tokens", max_tokens, 2), ("seq_len", seq_len, 1), ("batch_size", batch_size, 1)):
        if value is not None and not least <= value <= LARGEST_INTEGER:
            raise PocketError(
                f"{option} = {value} cannot work: use a whole number of at least {least}, and at most "
                f"{LARGEST_INTEGER:,}."
            )
    chosen = choose_device(device)
    checkpoint = load_model_folder(model, chosen)
    text = tokenize_corpus(corpus, checkpoint.tokenizer, split, text_field=text_field)
    result = evaluate(
        checkpoint.model,
        np.asarray(text.tokens[:max_tokens]),
        token_lengths(checkpoint.tokenizer, text.n_bytes / len(text)),
        seq_len=seq_len or min(checkpoint.model.config.max_seq_len, LONGEST_WINDOW),
        batch_size=batch_size,
        chunk=CHUNK,
    )
    print(f"{checkpoint.folder} on {corpus} ({split}): {result.tokens:,} tokens predicted")
    print(f"loss {result.loss:.4f} nats per token · perplexity {result.perplexity:.2f}", end=" · ")
    print(f"{result.bits_per_byte:.4f} bits per byte")

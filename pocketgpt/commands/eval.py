"""`pocketgpt eval`: loss, perplexity and bits per byte of a model on a corpus."""

from pathlib import Path
from typing import Literal

import numpy as np
from tyro.conf import Positional

from pocketgpt.checked import LARGEST_INTEGER
from pocketgpt.device import choose_device
from pocketgpt.errors import PocketError
from pocketgpt.text.tokenize_corpus import tokenize_corpus
from pocketgpt.training.checkpoint import load_checkpoint, load_shipped
from pocketgpt.training.evaluate import evaluate, token_lengths


def eval(
    model: Positional[str] = "pocket-shakespeare",
    corpus: Positional[str] = "shakespeare",
    *,
    split: Literal["train", "validation"] = "validation",
    text_field: str = "text",
    max_tokens: int | None = 100_000,
    batch_size: int = 8,
    device: str = "auto",
) -> None:
    """Measure a model on text: pocketgpt eval runs/pocket-shakespeare my.txt

    Args:
        model: Folder of a run or a checkpoint; by default the shipped model.
        corpus: shakespeare, wikitext-103, fineweb-edu, tinystories, or a path to your own text file or folder.
        split: Part of the corpus; validation is what training has not seen.
        text_field: Field of .jsonl, or column of .parquet, that contains the text.
        max_tokens: Tokens to read, from the beginning; None for all.
        batch_size: Windows of text in one forward pass.
        device: auto, cpu, cuda or mps.
    """
    for option, value, least in (("max_tokens", max_tokens, 2), ("batch_size", batch_size, 1)):
        if value is not None and not least <= value <= LARGEST_INTEGER:
            raise PocketError(
                f"{option} = {value} cannot work: use a whole number of at least {least}, and at most "
                f"{LARGEST_INTEGER:,}."
            )
    chosen = choose_device(device)
    shipped = model == "pocket-shakespeare" and not Path(model).exists()
    checkpoint = load_shipped(chosen) if shipped else load_checkpoint(model, chosen)
    if checkpoint.objective.causal != checkpoint.model.config.causal:
        raise PocketError(
            f"{checkpoint.folder} does not say what its model learned, and it was not the next token: it sees the "
            "tokens on both sides. Use a folder that `pocketgpt train` wrote, with its training.json."
        )
    text = tokenize_corpus(corpus, checkpoint.tokenizer, split, text_field=text_field)
    result = evaluate(
        checkpoint.model,
        np.asarray(text.tokens[:max_tokens]),
        token_lengths(checkpoint.tokenizer, text.n_bytes / len(text)),
        seq_len=checkpoint.model.config.max_seq_len,
        batch_size=batch_size,
        objective=checkpoint.objective,
    )
    print(f"{checkpoint.folder} on {corpus} ({split}): {result.tokens:,} tokens predicted")
    print(f"loss {result.loss:.4f} {checkpoint.objective.unit} · perplexity {result.perplexity:.2f}", end="")
    print("" if result.bits_per_byte is None else f" · {result.bits_per_byte:.4f} bits per byte")

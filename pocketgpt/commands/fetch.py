"""`pocketgpt fetch`: download and tokenize a corpus into the cache, or download a model."""

from pathlib import Path

from tyro.conf import Positional

from pocketgpt.pretrained.smollm2 import NAME as SMOLLM2
from pocketgpt.pretrained.smollm2 import fetch_smollm2
from pocketgpt.table import table
from pocketgpt.text.tokenize_corpus import tokenize_corpus
from pocketgpt.text.tokenizer import load_tokenizer


def fetch(
    corpus: Positional[str] = "shakespeare",
    *,
    tokenizer: str = "shakespeare",
    text_field: str = "text",
    verify: bool = False,
) -> None:
    """Download a corpus, tokenize it and cache the tokens; or download the model smollm2.

    After an interruption, a corpus continues where it stopped.

    Args:
        corpus: shakespeare, wikitext-103, fineweb-edu, tinystories, or a path to your own text file or folder; or
            smollm2, a small model that answers questions (93 MB to download, 540 MB on disk).
        tokenizer: shakespeare, gpt2, or a path to a tokenizer.json.
        text_field: Field of .jsonl, or column of .parquet, that contains the text.
        verify: Check every cached byte against its checksum; by default only a sample.
    """
    if corpus == SMOLLM2 and not Path(corpus).exists():
        folder = fetch_smollm2()
        print(f"SmolLM2-135M-Instruct is in {folder}\nTalk to it:      pocketgpt chat")
        print(f'Generate text:   pocketgpt generate "The capital of France is" --model {SMOLLM2}')
        return
    loaded = load_tokenizer(tokenizer)
    rows = []
    for split in ("train", "validation"):
        tokens = tokenize_corpus(corpus, loaded, split, text_field=text_field, verify=verify)
        counts = [f"{n:,}" for n in (tokens.n_documents, tokens.n_bytes, len(tokens), len(tokens.headers))]
        rows.append([split, *counts, f"{tokens.n_bytes / len(tokens):.2f}", str(tokens.path)])
    print(table(["split", "documents", "bytes", "tokens", "shards", "bytes/token", "folder"], rows))

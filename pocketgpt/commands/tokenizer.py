"""`pocketgpt tokenizer`: learn a vocabulary from a corpus."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from pocketgpt.errors import PocketError
from pocketgpt.text.corpora import Corpus, load_corpus
from pocketgpt.text.tokenizer import train_tokenizer
from pocketgpt.text.words import train_word_tokenizer

Kind = Literal["bytes", "words"]
TRAINERS = {"bytes": train_tokenizer, "words": train_word_tokenizer}


def train_and_save(corpus: str, vocab_size: int, out: Path, kind: Kind) -> str:
    """Train on the training split and save to `out`; what to say about the result, measured on the validation split.

    Raises PocketError if `out` is there already: a model that was trained with it would be lost without it.
    """
    if out.exists():
        raise PocketError(f"{out} is there already: choose another --out, such as {_free(out)}.")
    if not out.parent.is_dir():
        raise PocketError(f"There is no folder {out.parent} to write {out.name} to: make it first.")
    tokenizer = TRAINERS[kind](_read(load_corpus(corpus, "train"), "reading", then="finding the pairs…"), vocab_size)
    tokenizer.save(out)
    n_bytes = n_tokens = 0
    for text in _read(load_corpus(corpus, "validation"), "measuring on held-out text"):
        n_bytes += len(text.encode(errors="surrogatepass"))
        n_tokens += len(tokenizer.encode(text))
    return (
        f"{out}: {tokenizer.vocab_size:,} tokens · {n_bytes / n_tokens:.2f} bytes per token on held-out text\n"
        f"Use it:  pocketgpt train --corpus {corpus} --tokenizer {out}"
    )


def _read(corpus: Corpus, description: str, then: str = "") -> Iterator[str]:
    """The text of a corpus, with a bar; a line about what comes after it."""
    with tqdm(desc=description, unit="B", unit_scale=True, dynamic_ncols=True) as bar:
        for piece in corpus.read(0):
            bar.update(len(piece.text.encode(errors="surrogatepass")))
            bar.total = round(bar.n / piece.done) if piece.done else None
            yield piece.text
        bar.total = bar.n
    if then:
        print(then, file=sys.stderr, flush=True)


def _free(wanted: Path) -> Path:
    """The first of wanted-2, wanted-3, … that is free."""
    number = 2
    while (free := wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")).exists():
        number += 1
    return free

"""`pocketgpt tokenizer`: train a tokenizer on a corpus."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tqdm import tqdm
from tyro.conf import Positional

from pocketgpt.errors import PocketError
from pocketgpt.files import check_writable
from pocketgpt.text.byte_tokenizer import train_tokenizer
from pocketgpt.text.chunks import LONGEST_WORD, split_long_words
from pocketgpt.text.corpora import Corpus, load_corpus
from pocketgpt.text.word_tokenizer import train_word_tokenizer

TRAINERS = {"bytes": train_tokenizer, "words": train_word_tokenizer}


def tokenizer(
    corpus: Positional[str] = "shakespeare",
    *,
    vocab_size: int = 4096,
    out: Path = Path("tokenizer.json"),
    kind: Literal["bytes", "words"] = "bytes",
    text_field: str = "text",
) -> None:
    """Train a tokenizer on a corpus: pocketgpt tokenizer wikitext-103 --vocab-size 32000 --out my.json

    Args:
        corpus: shakespeare, wikitext-103, fineweb-edu, tinystories, or a path to your own text file or folder.
        vocab_size: Number of tokens, special ones included.
        out: New file to write; pass it to `pocketgpt train --tokenizer`.
        kind: bytes: byte-level BPE, which encodes any text without loss. words: BPE inside words separated by white
            space, with [PAD] [UNK] [CLS] [SEP] [MASK] [BOS] [EOS]; white space is lost.
        text_field: Field of .jsonl, or column of .parquet, that contains the text.
    """
    if out.is_dir():
        raise PocketError(f"{out} is a folder: give the name of a new file, such as {out / 'tokenizer.json'}.")
    if out.exists():  # a model trained with the old file needs it
        raise PocketError(f"{out} exists already: choose another --out, such as {unused_path(out)}.")
    if not out.parent.is_dir():
        raise PocketError(f"There is no folder {out.parent} to write {out.name} to: create it first.")
    check_writable(out.parent)
    texts = read_texts(
        load_corpus(corpus, "train", text_field), "reading", then="finding the pairs…", report_long_words=True
    )
    trained = TRAINERS[kind](texts, vocab_size)
    trained.save(out)
    n_bytes = n_tokens = 0
    for text in read_texts(load_corpus(corpus, "validation", text_field), "measuring on held-out text"):
        n_bytes += len(text.encode(errors="surrogatepass"))
        n_tokens += len(trained.encode(text))
    print(
        f"{out}: {trained.vocab_size:,} tokens · {n_bytes / n_tokens:.2f} bytes per token on held-out text\n"
        f"Use it:  pocketgpt train --corpus {corpus} --tokenizer {out}"
    )


def read_texts(corpus: Corpus, description: str, then: str = "", report_long_words: bool = False) -> Iterator[str]:
    """Yield the text of a corpus under a progress bar, then print `then` on stderr."""
    n_long = 0
    with tqdm(desc=description, unit="B", unit_scale=True, dynamic_ncols=True) as bar:
        for piece in corpus.read(0):
            bar.update(len(piece.text.encode(errors="surrogatepass")))
            bar.total = round(bar.n / piece.done) if piece.done else None
            n_long += report_long_words and len(list(split_long_words(piece.text))) > 1
            yield piece.text
        bar.total = bar.n
    if n_long:
        print(f"Words longer than {LONGEST_WORD} characters, in {n_long:,} texts, were split.", file=sys.stderr)
    if then:
        print(then, file=sys.stderr, flush=True)


def unused_path(taken: Path) -> Path:
    """The first of taken-2, taken-3, … that does not exist."""
    number = 2
    while (path := taken.with_name(f"{taken.stem}-{number}{taken.suffix}")).exists():
        number += 1
    return path

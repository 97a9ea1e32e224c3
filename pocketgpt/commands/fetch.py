"""`pocketgpt fetch`: a corpus into the cache."""

from pocketgpt.commands.table import table
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.text.tokens import prepare


def fetch_corpus(corpus: str, tokenizer_name: str) -> str:
    """Fetch and tokenize both splits; a table of what they hold."""
    tokenizer = Tokenizer.load(tokenizer_name)
    rows = []
    for split in ("train", "validation"):
        file = prepare(corpus, tokenizer, split)
        n_bytes, n_tokens = file.n_bytes, len(file)
        ratio = f"{n_bytes / n_tokens:.2f}"
        rows.append([split, f"{file.header.n_documents:,}", f"{n_bytes:,}", f"{n_tokens:,}", ratio, str(file.path)])
    return table(["split", "documents", "bytes", "tokens", "bytes/token", "file"], rows)

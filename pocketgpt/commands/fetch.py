"""`pocketgpt fetch`: a corpus into the cache."""

from pocketgpt.commands.table import table
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.text.tokens import prepare


def fetch_corpus(corpus: str, tokenizer_name: str, *, verify: bool) -> str:
    """Fetch and tokenize both splits; a table of what they hold."""
    tokenizer = Tokenizer.load(tokenizer_name)
    rows = []
    for split in ("train", "validation"):
        made = prepare(corpus, tokenizer, split, verify=verify)
        counts = [f"{n:,}" for n in (made.n_documents, made.n_bytes, len(made), len(made.headers))]
        rows.append([split, *counts, f"{made.n_bytes / len(made):.2f}", str(made.path)])
    return table(["split", "documents", "bytes", "tokens", "shards", "bytes/token", "folder"], rows)

"""`pocketgpt generate`: text on the screen while it is written."""

import codecs
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from pocketgpt.device import choose_device
from pocketgpt.errors import PocketError
from pocketgpt.inference.generate import stream
from pocketgpt.inference.prepare import prepare_for_decoding
from pocketgpt.inference.sampling import Sampler
from pocketgpt.inference.speed import Stopwatch
from pocketgpt.inference.weights import WeightFormat
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.training.checkpoint import load_checkpoint, load_shipped
from pocketgpt.training.compiling import check_compiler, compiler_failure


def write(
    prompt: str,
    folder: Path | None,
    *,
    max_new_tokens: int,
    sampler: Sampler,
    seed: int | None,
    device: str,
    weights: WeightFormat,
    compile: bool,
    report: bool,
) -> None:
    """Print the prompt and what the model in `folder` (None: the shipped one) makes of it; on stderr how fast."""
    if max_new_tokens < 0:
        raise PocketError(f"max_new_tokens = {max_new_tokens} cannot work: use 0 or more, such as 200.")
    chosen = choose_device(device)
    checkpoint = load_checkpoint(folder, chosen) if folder else load_shipped(chosen)
    tokenizer, model = checkpoint.tokenizer, checkpoint.model
    if compile:
        check_compiler(chosen)
    if compile or weights != "float32":
        model = prepare_for_decoding(model, weights, compile)
    read = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    watch = Stopwatch()
    tokens = stream(
        model,
        read,
        max_new_tokens=max_new_tokens,
        sampler=sampler,
        stop_tokens=(tokenizer.end_of_text,),
        seed=seed,
    )
    print(prompt, end="", flush=True)
    try:
        for text in decode_stream(watch.watch(tokens), tokenizer):
            print(text, end="", flush=True)
    except RuntimeError as error:
        if failure := compiler_failure(error):
            raise PocketError(failure) from error
        raise
    print()
    if report:
        print(watch.report(model, len(read)), file=sys.stderr)


def decode_stream(tokens: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """The text of tokens as they come. A character whose bytes are spread over tokens appears once it is complete."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in tokens:
        yield decoder.decode(tokenizer.token_bytes(token))
    yield decoder.decode(b"", final=True)

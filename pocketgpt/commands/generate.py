"""`pocketgpt generate`: print text while the model generates it."""

import codecs
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tyro.conf import Positional

from pocketgpt.checked import LARGEST_INTEGER
from pocketgpt.device import choose_device
from pocketgpt.errors import PocketError
from pocketgpt.inference.generate import stream
from pocketgpt.inference.prepare import prepare_for_decoding
from pocketgpt.inference.quantization import WeightFormat
from pocketgpt.inference.sampling import Sampler
from pocketgpt.inference.speed import Stopwatch
from pocketgpt.output import output_failure
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.training.checkpoint import load_checkpoint, load_shipped
from pocketgpt.training.prepare import check_compiler, compiler_failure


def generate(
    prompt: Positional[str] = "",
    *,
    model: Path | None = None,
    max_new_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int | None = 40,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | None = None,
    device: str = "auto",
    weights: WeightFormat = "float32",
    compile: bool = False,
    report: bool = False,
) -> None:
    """Continue a text, token by token: pocketgpt generate "ROMEO:"

    Args:
        prompt: Text to continue; an empty prompt begins a new text, and - reads it from standard input.
        model: Folder written by `pocketgpt train`, such as runs/pocket-shakespeare; by default the shipped model.
        max_new_tokens: Maximum number of new tokens; the model may end its text earlier.
        temperature: 0 always takes the most probable token; 1 samples from the model's distribution; higher values
            are more random.
        top_k: Sample only from this many most probable tokens; None for all.
        top_p: Sample only from the most probable tokens that together reach this probability, such as 0.95.
        min_p: Sample only from tokens with at least this share of the highest probability, such as 0.05.
        seed: The same seed gives the same text on the same machine.
        device: auto, cpu, cuda or mps.
        weights: bf16 reads half the bytes per token, int8 a quarter: faster for large models, slightly less exact.
        compile: Compile the decoding step. The start takes longer; worth it for long texts and large models.
        report: Print the speed at the end, and its share of what memory bandwidth allows.
    """
    sampler = Sampler(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    if not 0 <= max_new_tokens <= LARGEST_INTEGER:
        raise PocketError(
            f"max_new_tokens = {max_new_tokens} cannot work: use 0 or more, such as 200, "
            f"and at most {LARGEST_INTEGER:,}."
        )
    if prompt == "-":
        prompt = sys.stdin.buffer.read().decode(errors="replace")
    chosen = choose_device(device)
    checkpoint = load_checkpoint(model, chosen) if model else load_shipped(chosen)
    tokenizer, gpt = checkpoint.tokenizer, checkpoint.model
    if compile:
        check_compiler(chosen)
    if compile or weights != "float32":
        gpt = prepare_for_decoding(gpt, weights, compile)
    prompt_tokens = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    longest = gpt.config.max_seq_len
    if len(prompt_tokens) > longest:
        print(f"The prompt has {len(prompt_tokens)} tokens; the model reads the last {longest}.", file=sys.stderr)
    stopwatch = Stopwatch()
    tokens = stream(
        gpt,
        prompt_tokens,
        max_new_tokens=max_new_tokens,
        sampler=sampler,
        stop_tokens=(tokenizer.end_of_text,),
        seed=seed,
    )
    print(prompt, end="", flush=True)
    try:
        for text in decode_stream(stopwatch.watch(tokens), tokenizer):
            print(text, end="", flush=True)
            if output_failure():
                return
    except RuntimeError as error:
        if failure := compiler_failure(error):
            raise PocketError(failure) from error
        raise
    print()
    if report:
        print(stopwatch.report(gpt, len(prompt_tokens)), file=sys.stderr)


def decode_stream(tokens: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """Decode tokens as they arrive. A character whose bytes span several tokens appears once it is complete."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in tokens:
        yield decoder.decode(tokenizer.token_bytes(token))
    yield decoder.decode(b"", final=True)

"""`pocketgpt generate`: print text while the model generates it."""

import codecs
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from tyro.conf import OmitArgPrefixes, Positional

from pocketgpt.checked import LARGEST_INTEGER, LARGEST_SEED
from pocketgpt.commands.denoising import Denoising, check_options, denoised
from pocketgpt.device import choose_device
from pocketgpt.errors import PocketError
from pocketgpt.inference.gaps import GAP, encode_gaps, fill_gaps
from pocketgpt.inference.generate import stream
from pocketgpt.inference.prepare import prepare_for_decoding
from pocketgpt.inference.quantization import WeightFormat
from pocketgpt.inference.sampling import Sampler
from pocketgpt.inference.spans import fill_spans, write_spans
from pocketgpt.inference.speed import Stopwatch
from pocketgpt.models.stack import Stack
from pocketgpt.models.t5 import T5
from pocketgpt.output import output_failure
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.training.checkpoint import load_checkpoint, load_shipped
from pocketgpt.training.prepare import check_compiler, compiler_failure

NO_DENOISING = Denoising()


def generate(
    prompt: Positional[str] = "",
    denoising: OmitArgPrefixes[Denoising] = NO_DENOISING,
    *,
    prompt_file: Path | None = None,
    model: Path | None = None,
    max_new_tokens: int = 200,
    stop: tuple[str, ...] = (),
    samples: int = 1,
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

    A model that was trained for masked words fills gaps instead, and a masked diffusion model does both:
    pocketgpt generate "To be or not to ___." --model FOLDER
    So does one that was trained for span corruption, whose gaps may be of any length: "To be or ___, that is ___."

    Args:
        prompt: Text to continue; an empty prompt begins a new text, and - reads it from standard input.
        prompt_file: Read the prompt from this text file.
        model: Folder written by `pocketgpt train`, such as runs/pocket-shakespeare; by default the shipped model.
        max_new_tokens: Maximum number of new tokens; the model may end its text earlier.
        stop: End the text before any of these strings, such as --stop "HAMLET:" "EXIT".
        samples: Number of texts to generate, one after the other; sample i uses seed + i − 1.
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
    if not 1 <= samples <= LARGEST_INTEGER:
        raise PocketError(f"samples = {samples} cannot work: use 1 or more, and at most {LARGEST_INTEGER:,}.")
    if seed is not None and not 0 <= seed <= LARGEST_SEED - (samples - 1):
        raise PocketError(
            f"seed = {seed} cannot work: use a whole number from 0 to {LARGEST_SEED - (samples - 1)}, such as 1."
        )
    if "" in stop:
        raise PocketError("An empty stop string would end every text before it begins: give it at least one character.")
    prompt = read_prompt(prompt, prompt_file)
    chosen = choose_device(device)
    checkpoint = load_checkpoint(model, chosen) if model else load_shipped(chosen)
    check_options(checkpoint.objective_name, denoising, prompt, stop, compile=compile, report=report)
    tokenizer, gpt = checkpoint.tokenizer, checkpoint.model
    if compile:
        check_compiler(chosen)
    if compile or weights != "float32":
        gpt = prepare_for_decoding(gpt, weights, compile)
    if checkpoint.objective_name == "masked-words":
        refuse_for_gaps(stop=stop, compile=compile, report=report)
        print_filled(gpt, tokenizer, prompt, samples, sampler, seed)
        return
    if checkpoint.objective_name == "masked-diffusion":
        named = {"max_new_tokens": max_new_tokens, "sampler": sampler}
        for number in range(samples):
            if samples > 1:
                print(f"── sample {number + 1} of {samples} ──")
            own_seed = None if seed is None else seed + number
            given, text = denoised(gpt, tokenizer, prompt, denoising, seed=own_seed, **named)
            print(given, *until(stop, [text]), sep="")
        return
    if checkpoint.objective_name == "span-corruption":
        refuse_for_gaps(stop=stop, report=report)
        print_spans(gpt, tokenizer, prompt, samples, max_new_tokens, sampler, seed)
        return
    prompt_tokens = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    longest = gpt.config.max_seq_len
    if len(prompt_tokens) > longest:
        print(f"The prompt has {len(prompt_tokens)} tokens; the model reads the last {longest}.", file=sys.stderr)
    for number in range(samples):
        if samples > 1:
            print(f"── sample {number + 1} of {samples} ──")
        stopwatch = Stopwatch()
        tokens = stream(
            gpt,
            prompt_tokens,
            max_new_tokens=max_new_tokens,
            sampler=sampler,
            stop_tokens=(tokenizer.end_of_text,),
            seed=None if seed is None else seed + number,
        )
        print(prompt, end="", flush=True)
        try:
            for text in until(stop, decode_stream(stopwatch.watch(tokens), tokenizer)):
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


def refuse_for_gaps(**options: object) -> None:
    """Raises PocketError for an option that was given to a model that fills gaps."""
    for name, given in options.items():
        if given:
            raise PocketError(
                f"--{name} is for models that write token by token, and this one fills gaps: leave it out."
            )


def print_filled(
    model: Stack, tokenizer: Tokenizer, text: str, samples: int, sampler: Sampler, seed: int | None
) -> None:
    """Print the text with its gaps filled, once for each sample. Raises PocketError for a text without gaps."""
    if GAP not in text:
        raise PocketError(
            f"This model was trained for masked words: it fills gaps, and cannot continue a text. Write {GAP} for each "
            f'missing token, such as "To be or not to {GAP}."'
        )
    mask_id = tokenizer.vocab_size
    tokens = encode_gaps(text, tokenizer, mask_id)
    for number in range(samples):
        if samples > 1:
            print(f"── sample {number + 1} of {samples} ──")
        own_seed = None if seed is None else seed + number
        print(tokenizer.decode(fill_gaps(model, tokens, mask_id, sampler=sampler, seed=own_seed)))


def print_spans(
    model: T5,
    tokenizer: Tokenizer,
    text: str,
    samples: int,
    max_new_tokens: int,
    sampler: Sampler,
    seed: int | None,
) -> None:
    """Print the text with its gaps filled, each with any number of tokens, once for each sample. Raises PocketError for
    a text without gaps."""
    for number in range(samples):
        if samples > 1:
            print(f"── sample {number + 1} of {samples} ──")
        own_seed = None if seed is None else seed + number
        spans = write_spans(model, tokenizer, text, max_new_tokens=max_new_tokens, sampler=sampler, seed=own_seed)
        print(fill_spans(tokenizer, text, spans))


def read_prompt(prompt: str, file: Path | None) -> str:
    """The prompt itself, or the one in a file or on standard input. Raises PocketError for a file without UTF-8 text,
    and for two prompts."""
    if prompt and file:
        raise PocketError(f"There are two prompts, {prompt!r} and the file {file}: give one of them.")
    if prompt == "-":
        return sys.stdin.buffer.read().decode(errors="replace")
    if file is None:
        return prompt
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PocketError(f"{file} is not UTF-8: convert it, for instance with `iconv -f latin1 -t utf-8`.") from error


def until(stops: Collection[str], texts: Iterable[str]) -> Iterator[str]:
    """Pass text on up to the first stop string. The end of a text that may begin one waits for the next."""
    waiting = ""
    for text in texts:
        waiting += text
        if found := [waiting.index(stop) for stop in stops if stop in waiting]:
            yield waiting[: min(found)]
            return
        begun = [n for stop in stops for n in range(1, len(stop)) if waiting.endswith(stop[:n])]
        ready = len(waiting) - max(begun, default=0)
        yield waiting[:ready]
        waiting = waiting[ready:]
    yield waiting


def decode_stream(tokens: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """Decode tokens as they arrive. A character whose bytes span several tokens appears once it is complete."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in tokens:
        yield decoder.decode(tokenizer.token_bytes(token))
    yield decoder.decode(b"", final=True)

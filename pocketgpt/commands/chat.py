"""`pocketgpt chat`: a conversation in the terminal, or one answer in a pipe."""

import sys
from collections.abc import Iterator
from contextlib import closing, suppress

from pocketgpt.checked import LARGEST_INTEGER
from pocketgpt.commands.generate import compiler_named, decode_stream, prepare
from pocketgpt.commands.model_folder import SMOLLM2, load_model_folder
from pocketgpt.device import choose_device
from pocketgpt.errors import PocketError
from pocketgpt.inference.conversation import Conversation
from pocketgpt.inference.quantization import WeightFormat
from pocketgpt.inference.sampling import Sampler
from pocketgpt.inference.speed import Stopwatch
from pocketgpt.output import output_failure

HELP = "Ctrl-C stops an answer. /new begins a new conversation, and /exit or Ctrl-D ends the program."


def chat(
    *,
    model: str = SMOLLM2,
    system: str | None = None,
    max_new_tokens: int = 512,
    temperature: float = 0.2,
    top_k: int | None = None,
    top_p: float | None = 0.9,
    min_p: float | None = None,
    seed: int | None = None,
    device: str = "auto",
    weights: WeightFormat = "float32",
    compile: bool = False,
    report: bool = False,
) -> None:
    """Talk to a model: pocketgpt chat

    In a pipe, the text is one message: echo "What is the capital of France?" | pocketgpt chat

    Args:
        model: smollm2, which is fetched once (93 MB); or a folder or .gguf file of another model with a chat template.
        system: Instruction that the model reads before the conversation; by default that of its chat template.
        max_new_tokens: Maximum number of tokens in an answer.
        temperature: 0 always takes the most probable token; 1 samples from the model's distribution; higher values
            are more random. The defaults are those of SmolLM2's model card.
        top_k: Sample only from this many most probable tokens; None for all.
        top_p: Sample only from the most probable tokens that together reach this probability; None for all.
        min_p: Sample only from tokens with at least this share of the highest probability, such as 0.05.
        seed: The same seed and messages give the same answers on the same machine.
        device: auto, cpu, cuda or mps.
        weights: bf16 reads half the bytes per token, int8 a quarter: faster, slightly less exact.
        compile: Compile the decoding step. The first answer takes longer, all others are faster.
        report: Print the speed after each answer, and its share of what memory bandwidth allows.
    """
    sampler = Sampler(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    if not 1 <= max_new_tokens <= LARGEST_INTEGER:
        raise PocketError(
            f"max_new_tokens = {max_new_tokens} cannot work: use 1 or more, such as 512, and at most "
            f"{LARGEST_INTEGER:,}."
        )
    checkpoint = load_model_folder(model, choose_device(device))
    gpt = prepare(checkpoint.model, weights, compile)

    def begin() -> Conversation:
        options = {"sampler": sampler, "system": system, "max_new_tokens": max_new_tokens, "seed": seed}
        return Conversation(gpt, checkpoint.tokenizer, **options)

    talk = begin()
    if not sys.stdin.isatty():
        message = sys.stdin.buffer.read().decode(errors="replace").strip()
        if not message:
            raise PocketError('There is no message on standard input: echo "Hello!" | pocketgpt chat')
        answer(talk, message, report)
        return
    note(f"{checkpoint.folder.name}: {checkpoint.model.n_params():,} parameters. {HELP}")
    for message in typed_messages():
        if message == "/new":
            talk = begin()
            continue
        try:
            answer(talk, message, report)
        except KeyboardInterrupt:
            note("Stopped.")
        except PocketError as error:
            note(str(error))
        if output_failure():
            return
        print()


def typed_messages() -> Iterator[str]:
    """Lines that are typed at a prompt, until Ctrl-D or /exit."""
    with suppress(ImportError):  # on Windows the terminal edits lines itself
        import readline  # noqa: F401  # input() uses it: arrow keys edit the line and bring back earlier ones
    while True:
        try:
            message = input("> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            note(HELP)
            continue
        if message in ("/exit", "/quit", "/bye"):
            return
        if message:
            yield message


def answer(talk: Conversation, message: str, report: bool) -> None:
    """Print the model's answer as it is written, then why it ended if the model did not end it, and its speed."""
    forgotten, stopwatch = talk.forgotten, Stopwatch()
    with closing(talk.answer(message)) as tokens, compiler_named():
        for text in decode_stream(stopwatch.watch(tokens), talk.tokenizer):
            print(text, end="", flush=True)
            if output_failure():
                return
    print()
    if talk.forgotten > forgotten:
        note(
            f"The conversation filled the context of {talk.model.config.max_seq_len:,} tokens: the model has forgotten "
            f"its oldest exchanges, {talk.forgotten} so far."
        )
    if not talk.finished:
        full = talk.cache.longest == talk.cache.capacity
        limit = "the context is full" if full else f"--max-new-tokens {talk.max_new_tokens}"
        note(f"The answer was cut off: {limit}.")
    if report:
        note(f"{talk.n_read} tokens read; {stopwatch.report(talk.model, len(talk.cached))}")


def note(text: str) -> None:
    """Print a remark that is not part of an answer."""
    print(f"({text})", file=sys.stderr, flush=True)

"""Write text with an exported model. Needs numpy, onnxruntime and tokenizers; neither PyTorch nor pocketgpt.

python generate.py "ROMEO:" 100
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

Cache = dict[str, np.ndarray]


def empty_cache(session: onnxruntime.InferenceSession, batch: int = 1) -> Cache:
    """The cache before the first token: every input but the tokens, with no tokens in it; states are zero."""
    sizes = {"batch": batch, "past": 0}
    shapes = {each.name: each.shape for each in session.get_inputs() if each.name != "input_ids"}
    return {name: np.zeros([sizes.get(n, n) for n in shape], np.float32) for name, shape in shapes.items()}


def step(session: onnxruntime.InferenceSession, tokens: np.ndarray, cache: Cache) -> tuple[np.ndarray, Cache]:
    """Read tokens (batch, seq) after the cached ones: returns the logits (batch, seq, vocab) and the new cache."""
    logits, *present = session.run(None, {"input_ids": tokens, **cache})
    return logits, dict(zip(cache, present, strict=True))  # outputs are in the order of the inputs


def write(session: onnxruntime.InferenceSession, prompt: list[int], n_tokens: int) -> Iterator[int]:
    """Yield up to `n_tokens` new tokens, each the most probable one. The text ends where the model ends it, or where
    the model has no more positions."""
    metadata = session.get_modelmeta().custom_metadata_map
    room = int(metadata["max_seq_len"]) - len(prompt) + 1
    if not prompt or room < 1:
        raise SystemExit(f"A prompt of {len(prompt)} tokens cannot work: use 1 to {metadata['max_seq_len']}.")
    tokens, cache = np.array([prompt]), empty_cache(session)
    for _ in range(min(n_tokens, room)):
        logits, cache = step(session, tokens, cache)
        tokens = logits[:, -1:].argmax(-1)  # (1, 1)
        if (token := int(tokens[0, 0])) == int(metadata["end_of_text"]):
            return
        yield token


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Continue a text, always with the most probable token.")
    parser.add_argument("prompt", nargs="?", default="ROMEO:")
    parser.add_argument("n_tokens", nargs="?", type=int, default=100)
    arguments, folder = parser.parse_args(), Path(__file__).parent
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True  # the name of a special token inside a text is ordinary text
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    prompt = tokenizer.encode(arguments.prompt, add_special_tokens=False).ids
    written = list(write(session, prompt, arguments.n_tokens))
    print(arguments.prompt + tokenizer.decode(written, skip_special_tokens=False))

"""`pocketgpt bench`: run benchmarks, print a table, and write a JSON file and a figure of each."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tyro.conf import Positional

from pocketgpt.assets import asset
from pocketgpt.bench import theirs
from pocketgpt.bench.attention import bench_attention
from pocketgpt.bench.generate import NEW_TOKENS, bench_generate
from pocketgpt.bench.report import Report, draw, growth_notes
from pocketgpt.bench.train import bench_train
from pocketgpt.checked import LARGEST_INTEGER
from pocketgpt.commands.model_folder import load_model_folder
from pocketgpt.device import choose_device, describe
from pocketgpt.errors import PocketError
from pocketgpt.files import check_writable
from pocketgpt.inference.fidelity import fidelity
from pocketgpt.inference.quantization import quantize
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset as model_preset
from pocketgpt.training.checkpoint import load_shipped

# Settings of full benchmarks and, with --quick, of tiny ones.
LENGTHS = [128, 256, 512, 1024, 2048, 4096]
TINY_LENGTHS = [16, 32, 64, 128]
CONTEXTS = [128, 512, 1024, 2048]
TINY_CONTEXTS = [4, 8]
TINY_POCKET = {"d_model": 48, "n_layers": 2, "vocab_size": 64, "max_seq_len": 32}
TINY_LLAMA = {
    "vocab_size": 61,
    "d_model": 24,
    "n_layers": 2,
    "max_seq_len": 64,
    "mixer": {"n_heads": 3, "n_kv_heads": 1},
    "feedforward": {"d_ff": 32},
}

# The columns of each picture, with their labels, and the column of its horizontal axis.
PICTURES = {
    "train": ({"tokens_per_second": "tokens per second", "peak_bytes": "MiB beyond weights and optimizer"}, "variant"),
    "generate": ({"milliseconds": "ms per token", "first_token_ms": "ms to the first token"}, "context"),
    "attention": ({"milliseconds": "ms", "peak_bytes": "MiB at the peak"}, "sequence"),
}


def bench(
    name: Positional[Literal["all", "train", "generate", "attention"]] = "all",
    *,
    preset: str = "pocket",
    model: str | None = None,
    batch_size: int = 16,
    seq_len: int | None = None,
    compile: bool = True,
    runs: int = 5,
    quick: bool = False,
    device: str = "auto",
    out: Path = Path("bench"),
) -> None:
    """Measure how fast this machine trains and generates, next to the usual alternatives.

    Ctrl-C keeps what was measured. On one GPU: pocketgpt bench train --preset gpt2 --batch-size 64

    Args:
        name: train, generate or attention; all three by default.
        preset: Model for `train`.
        model: Model for `generate`: smollm2, a folder, or a .gguf file; by default random weights of SmolLM2's shape.
        batch_size: Windows of text in a training step.
        seq_len: Tokens in a window; by default the longest that the model takes, up to 1024.
        compile: Measure torch.compile too; compiling takes a minute or two.
        runs: Timed runs of each variant; their median counts.
        quick: Tiny shapes and no compilation: a test in seconds that everything runs; its speeds mean nothing.
        device: auto, cpu, cuda or mps.
        out: Folder for a JSON file and a picture of each benchmark.
    """
    for option, value, instead in (("runs", runs, 5), ("batch_size", batch_size, 16), ("seq_len", seq_len, 256)):
        if value is not None and not 1 <= value <= LARGEST_INTEGER:
            raise PocketError(
                f"{option} = {value} cannot work: use a whole number of at least 1, such as {instead}, and at most "
                f"{LARGEST_INTEGER:,}."
            )
    check_writable(out)
    chosen = choose_device(device)
    if quick:
        preset, batch_size, seq_len, compile = "pocket", 2, None, False
    changes = {"dropout": 0.0}
    if preset == "pocket":
        changes["vocab_size"] = 4096  # so that a small model is not mostly head
    config = model_preset(preset, **changes | (TINY_POCKET if quick else {}))
    if type(config) is not ModelConfig:
        raise PocketError(f"preset = {preset!r} cannot work: it is no GPT. Use one that is, such as pocket.")
    if name in ("all", "generate"):
        torch.manual_seed(0)
        shape = model_preset("smollm2-135m", **TINY_LLAMA if quick else {})
        writer = load_model_folder(model, chosen).model if model else GPT(shape).to(chosen).eval()
        if not isinstance(writer, GPT) or not writer.config.causal:
            raise PocketError(f"model = {model!r} cannot work: it does not write token by token. Use one that does.")
    for benchmark in PICTURES if name == "all" else [name]:
        report = Report(benchmark, settings={"runs": runs, "quick": quick}, machine=describe(chosen))
        try:
            if benchmark == "train":
                bench_train(report, chosen, runs, config, batch_size, seq_len or min(config.max_seq_len, 1024), compile)
            elif benchmark == "generate":
                longest = writer.config.max_seq_len - NEW_TOKENS
                contexts = [n for n in (TINY_CONTEXTS if quick else CONTEXTS) if n <= longest]
                bench_generate(report, chosen, runs, writer, contexts or [longest // 2], compile)
                report.notes += fidelity_notes()
            else:
                bench_attention(report, chosen, runs, TINY_LENGTHS if quick else LENGTHS)
        finally:  # after Ctrl-C too
            if report.rows:
                publish(report, out)


def publish(report: Report, folder: Path) -> None:
    """Add the notes on growth, write the JSON file and the picture, and print the table."""
    machine = report.machine
    columns, x = PICTURES[report.benchmark]
    if x != "variant":
        report.notes += growth_notes(report, x)
    if report.benchmark != "attention" and not theirs.available():
        report.notes.append(theirs.MISSING)
    if report.benchmark == "generate" and not theirs.onnx_available():
        report.notes.append(theirs.ONNX_MISSING)
    files = f"{report.save(folder)}\n{draw(report, columns, x, folder)}"
    print(
        f"{report.benchmark}: {machine['processor']}, {machine['device']}, {machine['threads']} threads, "
        f"torch {machine['versions']['torch']}, median of {report.settings['runs']} runs\n"
    )
    print(report.text())
    print(f"\n{files}\n")


def fidelity_notes() -> list[str]:
    """A note for each format of weights: its effect on the trained model's predictions of held-out text."""
    shipped = load_shipped()
    tokens = np.array(shipped.tokenizer.encode(asset("held-out.txt").read_text(encoding="utf-8")))
    found = {name: fidelity(quantize(shipped.model, name), shipped.model, tokens) for name in ("bf16", "int8")}
    return [
        f"{name} weights: KL {loss.kl:.2g} nats per token from float32, perplexity {loss.perplexity:.2f} instead "
        f"of {loss.reference_perplexity:.2f} (pocket-shakespeare, {len(tokens):,} held-out tokens)."
        for name, loss in found.items()
    ]

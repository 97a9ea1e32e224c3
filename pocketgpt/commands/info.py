"""`pocketgpt info`: the parts of a model and what they cost."""

from collections import Counter
from pathlib import Path

import torch
from tyro.conf import Positional

from pocketgpt.commands.model_folder import SMOLLM2, read_model_config
from pocketgpt.layers.part import PartConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import PRESETS, preset
from pocketgpt.table import table

# The part that a parameter belongs to, by a word in its name; the first match counts.
PARTS = {"_norm.": "norms", "mixer": "mixers", "feedforward": "feed-forward", "positions": "positions"}


def info(model: Positional[str] = "pocket-shakespeare") -> None:
    """Show the parts of a model: parameters of each, arithmetic per token, memory of the KV cache.

    Args:
        model: Name of a preset, folder of a run, a checkpoint or a published model, .gguf file, or smollm2.
    """
    print(describe(model))


def describe(name_or_folder: str) -> str:
    """Tables of parameters by part, and of arithmetic per token and KV cache at several contexts.

    Raises PocketError if there is neither a preset nor a folder of that name.
    """
    config = read_config(name_or_folder)
    with torch.device("meta"):  # shapes without memory
        model = GPT(config)
    total, active = model.n_params(), model.n_active_params()
    parts = count_by_part(model)
    shares = [[part, f"{count:,}", f"{count / total:.1%}"] for part, count in parts.items()]
    contexts = sorted({max(1, config.max_seq_len // part) for part in (8, 4, 2, 1)})
    costs = [
        [
            f"{seq:,}",
            with_unit(model.flops_per_token(seq), 1000, "", "k", "M", "G", "T"),
            with_unit(3 * model.flops_per_token(seq), 1000, "", "k", "M", "G", "T"),
            with_unit(model.cache_bytes(1, seq, torch.float32), 1024, "B", "KiB", "MiB", "GiB"),
            with_unit(model.cache_bytes(1, seq, torch.bfloat16), 1024, "B", "KiB", "MiB", "GiB"),
        ]
        for seq in contexts
    ]
    size = with_unit(4 * total, 1024, "B", "KiB", "MiB", "GiB")
    totals = [["total", f"{total:,}", f"100% · {size} in float32"]]
    if active < total:
        totals.append(["active", f"{active:,}", f"{active / total:.1%} · what one token uses"])
    return "\n\n".join(
        [
            f"{name_or_folder}: {outline(config)}",
            table(["part", "parameters", "share"], [*shares, *totals]),
            table(["context", "FLOPs/token", "to train", "KV cache float32", "bf16"], costs),
            f"FLOPs are for one token in a full context; the cache is for one sequence.\nPresets: {', '.join(PRESETS)}",
        ]
    )


def read_config(name_or_folder: str) -> ModelConfig:
    """The preset of that name, or else the config of that model."""
    if name_or_folder in PRESETS or not (name_or_folder == SMOLLM2 or Path(name_or_folder).exists()):
        return preset(name_or_folder)
    return read_model_config(name_or_folder)


def outline(config: ModelConfig) -> str:
    """The config in one line."""
    config = config.resolved()
    head = "tied head" if config.tie_embeddings else "own head"
    return (
        f"{config.n_layers} layers · d_model {config.d_model} · {outline_parts(config.mixer)} · "
        f"{outline_parts(config.feedforward)} · positions {config.positions} · {config.norm} {config.norm_order} · "
        f"vocabulary {config.vocab_size:,} · {head}"
    )


def outline_parts(parts: PartConfig | tuple[PartConfig | None, ...] | None) -> str:
    """A part by its kind and its numbers and choices, or the kinds that repeat down the layers."""
    if isinstance(parts, tuple):
        return f"({' | '.join(map(outline_parts, parts))})"
    if parts is None:
        return "no feed-forward"
    values = {name: value for name, value in parts.to_dict().items() if value not in (None, False, True)}
    kind = values.pop("kind").replace("_", " ")
    return f"{kind} {', '.join(f'{name} {value}' for name, value in values.items())}".rstrip()


def count_by_part(model: GPT) -> Counter[str]:
    """Number of parameters of each part; a tied head counts as part of the embedding."""
    parts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        part = next((part for word, part in PARTS.items() if word in name), name.partition(".")[0])
        parts[part] += parameter.numel()
    return parts


def with_unit(value: int | float, base: int, *units: str) -> str:
    """Format a number with three digits and a unit prefix: 1234567 → "1.23 M"."""
    for unit in units[:-1]:
        if value < base:
            return f"{value:.3g} {unit}".rstrip()
        value /= base
    return f"{value:.3g} {units[-1]}"

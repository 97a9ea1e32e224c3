"""`pocketgpt info`: the parts of a model and what they cost."""

from collections import Counter
from pathlib import Path

import torch
from tyro.conf import Positional

from pocketgpt.files import read_json
from pocketgpt.layers.part import PartConfig
from pocketgpt.models.classes import MODELS, build_model
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.presets import PRESETS, preset
from pocketgpt.models.saving import parse_config
from pocketgpt.models.stack import Stack
from pocketgpt.table import table
from pocketgpt.training.checkpoint import find_checkpoint

# The part that a parameter belongs to, by a word in its name; the first match counts.
PARTS = {"_norm.": "norms", "mixer": "mixers", "feedforward": "feed-forward", "positions": "positions"}


def info(model: Positional[str] = "pocket-shakespeare") -> None:
    """Show the parts of a model: parameters of each, arithmetic per token, memory of the KV cache.

    Args:
        model: Name of a preset, or folder of a run or a checkpoint.
    """
    print(describe(model))


def describe(name_or_folder: str) -> str:
    """Tables of parameters by part, and of arithmetic per token and KV cache at several contexts.

    Raises PocketError if there is neither a preset nor a folder of that name.
    """
    config = read_config(name_or_folder)
    with torch.device("meta"):  # shapes without memory
        model = build_model(config)
    total, active = model.n_params(), model.n_active_params()
    parts = count_by_part(model)
    shares = [[part, f"{count:,}", f"{count / total:.1%}"] for part, count in parts.items()]
    contexts = sorted({max(1, config.max_seq_len // part) for part in (8, 4, 2, 1)})
    dtypes = [torch.float32, torch.bfloat16] if config.causal else []  # a model that looks ahead has no KV cache
    costs = [
        [
            f"{seq:,}",
            with_unit(model.flops_per_token(seq), 1000, "", "k", "M", "G", "T"),
            with_unit(3 * model.flops_per_token(seq), 1000, "", "k", "M", "G", "T"),
            *(with_unit(model.cache_bytes(1, seq, dtype), 1024, "B", "KiB", "MiB", "GiB") for dtype in dtypes),
        ]
        for seq in contexts
    ]
    columns = ["context", "FLOPs/token", "to train", *["KV cache float32", "bf16"][: len(dtypes)]]
    explanation = "FLOPs are for one token in a full context"
    explanation += "; the cache is for one sequence." if dtypes else ". It sees both sides of a token, so no KV cache."
    size = with_unit(4 * total, 1024, "B", "KiB", "MiB", "GiB")
    totals = [["total", f"{total:,}", f"100% · {size} in float32"]]
    if active < total:
        totals.append(["active", f"{active:,}", f"{active / total:.1%} · what one token uses"])
    return "\n\n".join(
        [
            f"{name_or_folder}: {outline(config)}",
            table(["part", "parameters", "share"], [*shares, *totals]),
            table(columns, costs),
            f"{explanation}\nPresets: {', '.join(PRESETS)}",
        ]
    )


def read_config(name_or_folder: str) -> ModelConfig:
    """The preset of that name, or else the config in that folder."""
    if name_or_folder in PRESETS or not Path(name_or_folder).exists():
        return preset(name_or_folder)
    file = find_checkpoint(Path(name_or_folder)) / "config.json"
    return parse_config(read_json(file), file, MODELS)


def outline(config: ModelConfig) -> str:
    """The config in one line."""
    config = config.resolved()
    head = "tied head" if config.tie_embeddings else "own head"
    causal = "" if config.causal else " · not causal"
    return (
        f"{config.n_layers} layers · d_model {config.d_model} · {outline_parts(config.mixer)} · "
        f"{outline_parts(config.feedforward)} · positions {config.positions} · {config.norm} {config.norm_order} · "
        f"vocabulary {config.vocab_size:,} · {head}{causal}"
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


def count_by_part(model: Stack) -> Counter[str]:
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

"""What is on the cheat sheet, as plain data: from terms, symbols, sheet.toml, presets and measured symptoms."""

import json
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from math import log
from typing import Any

from pocketgpt.assets import asset
from pocketgpt.course.reference.costs import MODELS, cost_table
from pocketgpt.course.reference.terms import FOLDER, symbols, term
from pocketgpt.course.syllabus import chapter_of

POCKET = MODELS["pocket model"].resolved()
GUESSING = log(POCKET.vocab_size)
"""Loss of a model that knows nothing, in nats per token."""


@dataclass(frozen=True)
class Equation:
    """A formula with its name; each line is LaTeX that matplotlib draws."""

    name: str
    lines: tuple[str, ...]
    chapter: int


@dataclass(frozen=True)
class Step:
    """A step through the model: what it does, and the shape of what it returns."""

    name: str
    shape: tuple[str, ...]
    part: str
    chapter: int


@dataclass(frozen=True)
class Symptom:
    """A row of the symptom table."""

    loss: float
    leaks: int
    shown: str
    chapter: int | None  # None: nothing is wrong


@cache
def sheet() -> dict[str, Any]:
    """Everything in sheet.toml."""
    return tomllib.loads((FOLDER / "sheet.toml").read_text(encoding="utf-8"))


def equations(group: str) -> list[Equation]:
    """Equations of a group of sheet.toml, as the glossary has them; a \\quad after a comma begins a new line."""
    found = [term(name) for name in sheet()[group]]
    return [Equation(each.name, tuple(each.equation.split(", \\quad ")), each.chapter) for each in found]


def letters() -> list[tuple[str, str, int]]:
    """The most frequent letters: LaTeX, meaning in a few words, value in the pocket model where it has one (else 0)."""
    values = sizes()
    sized = {symbol.latex: symbol for symbol in reversed(symbols()) if symbol.group == "sizes"}
    return [(latex, re.split("[:;,]", sized[latex].meaning)[0], values.get(latex, 0)) for latex in sheet()["letters"]]


def sizes() -> dict[str, int]:
    """Sizes of the pocket model by symbol."""
    mixer, feedforward = POCKET.mixer, POCKET.feedforward
    return {
        "V": POCKET.vocab_size,
        "L": POCKET.n_layers,
        "H": mixer.n_heads,
        "H_\\text{kv}": mixer.n_kv_heads,
        "G": mixer.n_heads // mixer.n_kv_heads,
        "d_\\text{model}": POCKET.d_model,
        "d_\\text{head}": mixer.d_head,
        "d_ff": feedforward.d_ff,
    }


def steps() -> list[Step]:
    """The way of a text through the model, with one block in full."""
    stream = ("B", "T", "d_\\text{model}")
    heads = ("B", "H", "T", "d_\\text{head}")
    shared = ("B", "H_\\text{kv}", "S", "d_\\text{head}")
    hidden = ("B", "T", "d_ff")
    return [
        Step("tokens", ("B", "T"), "", 1),
        Step("embedding: rows of E", stream, "", 1),
        Step("norm", stream, "attention", 5),
        Step("q_proj, split into heads, RoPE", heads, "attention", 8),
        Step("k_proj, split, RoPE, append to cache", shared, "attention", 12),
        Step("v_proj, split, append to cache", shared, "attention", 12),
        Step("scores: q kᵀ / √d_head, per group", ("B", "H", "T", "S"), "attention", 3),
        Step("causal mask, softmax over keys", ("B", "H", "T", "S"), "attention", 2),
        Step("weights times values", heads, "attention", 2),
        Step("merge heads, o_proj", stream, "attention", 4),
        Step("+ add to the stream", stream, "attention", 5),
        Step("norm", stream, "feed-forward", 5),
        Step("gate_proj and up_proj", hidden, "feed-forward", 6),
        Step("SiLU(gate) ⊙ up", hidden, "feed-forward", 6),
        Step("down_proj", stream, "feed-forward", 6),
        Step("+ add to the stream", stream, "feed-forward", 5),
        Step("final norm", stream, "", 10),
        Step("head: times Eᵀ (tied)", ("B", "T", "V"), "", 10),
        Step("logits: next token, or loss", ("B", "T", "V"), "", 11),
    ]


def symptoms() -> list[Symptom]:
    """Measured symptoms, sorted by loss."""
    measured = json.loads(asset("symptoms.json").read_text(encoding="utf-8"))
    rows = [
        Symptom(*measured[find["exercise"]][find["mistake"]], find["shown"], _chapter(find))
        for find in sheet()["symptom"]
    ]
    return sorted(rows, key=lambda row: row.loss)


def _chapter(symptom: dict[str, str]) -> int | None:
    return None if symptom["mistake"] == "right" else chapter_of(symptom["exercise"]).number


def traps() -> dict[str, list[tuple[str, int]]]:
    """Traps by group: text and chapter."""
    groups: dict[str, list[tuple[str, int]]] = {}
    for trap in sheet()["trap"]:
        groups.setdefault(trap["group"], []).append((trap["text"], trap["chapter"]))
    return groups


def content() -> dict[str, Any]:
    """All of it, for the stamp that says what a drawn sheet was made from."""
    groups = {group: equations(group) for group in ("model", "training", "pieces", "sampling")}
    return {
        "steps": steps(),
        "letters": letters(),
        "costs": cost_table(),
        "symptoms": symptoms(),
        "traps": traps(),
    } | groups

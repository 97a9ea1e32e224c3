"""The pages chapters/glossary.md and chapters/notation.md."""

from collections.abc import Collection, Sequence
from itertools import groupby

from pocketgpt.course.reference.terms import Symbol, Term, symbols, terms
from pocketgpt.course.syllabus import CHAPTERS

GROUPS = {
    "sizes": "Sizes",
    "tensors": "Tensors of a pass",
    "weights": "Weights and tables",
    "numbers": "Indices, numbers and functions",
    "training": "Training",
}
GENERATED = "<!-- Made by `pocketgpt build` from pocketgpt/course/reference; changes here are lost. -->"
GLOSSARY = """\
# Glossary

The words of this course, each with the chapter that defines it. Letters are on the page of [notation](notation.md);
both are summed up on the [cheat sheet](cheat_sheet.pdf).
"""
NOTATION = """\
# Notation

Letters in formulas and in shapes, each with the chapter that defines it. Words are in the [glossary](glossary.md).
In code, shapes are written with names: (batch, seq, d_model) is (B, T, d_model). Matrices are stored as (out, in),
as in PyTorch, so a layer computes x Wᵀ for tokens in rows. A boolean mask is True where looking is allowed.
"""
SEVERAL = """\
## One letter, several meanings

Papers use these letters as the chapters do, so they are not renamed. The chapter tells which one is meant.
"""


def glossary(released: Collection[str]) -> str:
    """The glossary, with links to those chapters ("02_attention") that are beside it."""
    ordered = sorted(terms(), key=lambda term: _sorted_as(term.name))
    sections = []
    for initial, group in groupby(ordered, key=lambda term: _sorted_as(term.name)[0].upper()):
        sections.append(f"## {initial}\n")
        sections += [_entry(term, released) for term in group]
    return "\n".join([GENERATED, GLOSSARY, *sections])


def notation(released: Collection[str]) -> str:
    """The page of notation, with links to those chapters that are beside it."""
    parts = [GENERATED, NOTATION]
    for group, title in GROUPS.items():
        parts.append(
            f"## {title}\n\n| symbol | meaning | in code | shape, unit or value | chapters |\n|---|---|---|---|---|"
        )
        parts += [_row(symbol, released) for symbol in symbols() if symbol.group == group]
        parts.append("")
    parts += [SEVERAL, "| letter | meanings |\n|---|---|"]
    parts += [_meanings(letter, those) for letter, those in several_meanings().items()]
    return "\n".join(parts) + "\n"


def several_meanings() -> dict[str, list[Symbol]]:
    """Symbols that are written alike and mean different things, by the symbol."""
    alike: dict[str, list[Symbol]] = {}
    for symbol in symbols():
        alike.setdefault(symbol.latex, []).append(symbol)
    alike["\\epsilon"] = [symbol for symbol in symbols() if symbol.letter == "ε"]  # two ways to write one letter
    return {latex: alike[latex] for latex in sorted(alike, key=_sorted_as) if len(alike[latex]) > 1}


def _entry(term: Term, released: Collection[str]) -> str:
    lines = [f"**{term.name}**: {term.text}"]
    if term.shape:
        lines.append(f"*{term.shape}*")
    lines.append(_links([term.chapter], released, "chapter "))
    entry = " · ".join(lines) + "\n"
    return entry + (f"\n$${term.equation}$$\n" if term.equation else "")


def _row(symbol: Symbol, released: Collection[str]) -> str:
    code = f"`{symbol.code}`" if symbol.code else ""
    meaning = f"{symbol.meaning}. {symbol.note}" if symbol.note else symbol.meaning
    cells = [_math(symbol.latex), meaning, code, symbol.shape, _links(symbol.chapters, released)]
    return f"| {' | '.join(cells)} |"


def _meanings(latex: str, alike: list[Symbol]) -> str:
    each = [f"{symbol.meaning} ({', '.join(map(str, symbol.chapters))})" for symbol in alike]
    return f"| {_math(latex)} | {'; '.join(each)} |"


def _links(chapters: Sequence[int], released: Collection[str], word: str = "") -> str:
    names = {number: CHAPTERS[number].name for number in chapters}
    return ", ".join(
        f"[{word}{number}]({name}.ipynb)" if name in released else f"{word}{number}" for number, name in names.items()
    )


def _math(latex: str) -> str:
    return f"${latex.replace('d_ff', 'd_{ff}')}$"


def _sorted_as(name: str) -> str:
    """Names are ordered without regard to capitals; signs come after letters."""
    return name.lower().lstrip("\\")

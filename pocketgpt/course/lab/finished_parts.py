"""The finished GPT of `finished_gpt.py` read as source: the functions that a learner's own can take the place of."""

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from pocketgpt.course.lab import finished_gpt
from pocketgpt.course.lab.definitions import free_names

HERE = 10  # the chapter that writes the file
PARTS = {
    **dict.fromkeys(("attention_scores", "masked_softmax", "causal_mask", "attention"), 2),
    **dict.fromkeys(("split_heads", "merge_heads"), 4),
    **dict.fromkeys(("layer_norm", "rms_norm", "pre_norm"), 5),
    **dict.fromkeys(("gelu", "relu_squared", "swiglu"), 6),
    "add_positions": 7,
    **dict.fromkeys(("rope_frequencies", "apply_rope"), 8),
    **dict.fromkeys(("expand_kv_heads", "grouped_attention"), 9),
    **dict.fromkeys(("transformer_block", "gpt", "next_token_loss", "init_std"), HERE),
}
"""Exercises whose functions can be in the file, and their chapters."""
ROOTS = ("gpt", "next_token_loss", "load", "new_weights", "write")
"""Functions of the file that are there for their own sake; all others because one of these needs them."""


@cache
def pattern() -> tuple[str, dict[str, str], dict[str, str]]:
    """The finished file: its imports, its functions by name, and the headings that stand above some of them."""
    source = Path(finished_gpt.__file__).read_text(encoding="utf-8")
    lines = source.split("\n")
    body = ast.parse(source).body
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    functions, headings = {}, {}
    end = imports[-1].end_lineno
    for node in body:
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            functions[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
            for line in lines[end : first - 1]:
                if line.startswith("# "):
                    headings[node.name] = line
            end = node.end_lineno
    return "\n".join(lines[imports[0].lineno - 1 : imports[-1].end_lineno]), functions, headings


def stand_in(name: str) -> str:
    """Source that defines the finished function of that name, with what it needs: for the grader's blind run."""
    imports, functions, _ = pattern()
    needed = reached([name], functions)
    return "\n\n".join([imports, *(text for each, text in functions.items() if each in needed)])


def reached(roots: Iterable[str], texts: Mapping[str, str]) -> set[str]:
    """Names of the functions that these need, themselves included."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        if (name := waiting.pop()) in texts and name not in found:
            found.add(name)
            waiting += free_names(texts[name])
    return found

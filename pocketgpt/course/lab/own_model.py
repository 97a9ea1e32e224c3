"""The learner's own GPT: `my_gpt.py`, one file with the functions that they wrote in chapters 2 to 10.

    rms_norm, swiglu = earlier("rms_norm", "swiglu")   # from the notebooks in this folder, or finished versions
    save_my_gpt()                                      # in chapter 10: write my_gpt.py beside the notebook
    mine = my_gpt()                                    # in later chapters: the module, or a finished one

A function of an earlier chapter is read out of the answer cell of its notebook, with the helpers and imports that it
needs, and is used if it passes its check in the company of the others. `finished_gpt.py` is the pattern of the file,
and has the stand-ins.
"""

import ast
import hashlib
import importlib.util
import linecache
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

from pocketgpt.assets import asset
from pocketgpt.course.checking.check import diagnose
from pocketgpt.course.lab import finished_gpt
from pocketgpt.course.lab.definitions import (
    Cells,
    NotUsable,
    definitions,
    free_names,
    is_import,
    renamed,
    run_cells,
    saved_cells,
)
from pocketgpt.course.lab.pocket import pocket_model
from pocketgpt.course.syllabus import CHAPTERS, exercise_names, find_exercise
from pocketgpt.errors import PocketError
from pocketgpt.files import replacing

FILE = "my_gpt.py"
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
HEADER = '''"""My GPT, in one file that needs PyTorch, safetensors and what I import, and nothing of the course.

    import my_gpt
    weights, config = my_gpt.load("path/to/a/model")
    logits = my_gpt.gpt(tokens, weights, config)

Above each function and its helpers: its chapter, and whether it is mine or a stand-in of the course.
"""
'''
SEAL = "# Written by chapter 10. Checksum of the text above, which tells it about changes by hand: "


@dataclass(frozen=True)
class Part:
    """A function of the file. `others`: imports and helpers in front of it. `reason`: why it is a stand-in, or ""."""

    name: str
    text: str
    others: dict[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def whole(self) -> str:
        return "\n\n\n".join([*dict.fromkeys(self.others.values()), self.text])


@cache
def _pattern() -> tuple[str, dict[str, str], dict[str, str]]:
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
    imports, functions, _ = _pattern()
    needed = _reached([name], functions)
    return "\n\n".join([imports, *(text for each, text in functions.items() if each in needed)])


def _reached(roots: Iterable[str], texts: Mapping[str, str]) -> set[str]:
    """Names of the functions that these need, themselves included."""
    reached: set[str] = set()
    waiting = list(roots)
    while waiting:
        if (name := waiting.pop()) in texts and name not in reached:
            reached.add(name)
            waiting += free_names(texts[name])
    return reached


def earlier(*names: str) -> Callable | list[Callable]:
    """Return the functions of earlier chapters: yours, if your notebook is in this folder and they pass their checks.

    Otherwise finished versions; a line says which. One name gives one function, several give a list.
    Raises KeyError for a name that has no place in the GPT.
    """
    if unknown := [name for name in names if PARTS.get(name, HERE) == HERE]:
        known = ", ".join(name for name, chapter in PARTS.items() if chapter < HERE)
        raise KeyError(f"{unknown[0]!r} is no function that the GPT takes from an earlier chapter. These are: {known}.")
    parts = _Assembly(chapters=range(HERE)).parts
    space = _space(parts)
    _say([parts[name] for name in names])
    functions = [space[name] for name in names]
    return functions[0] if len(functions) == 1 else functions


def _say(parts: list[Part]) -> None:
    own = [part.name for part in parts if not part.reason]
    if own:
        print(textwrap.fill(f"Yours: {', '.join(own)}.", 96, subsequent_indent="  "))
    by_reason: dict[str, list[str]] = {}
    for part in parts:
        if part.reason:
            by_reason.setdefault(part.reason, []).append(part.name)
    for reason, names in by_reason.items():
        print(textwrap.fill(f"Finished versions, as {reason}: {', '.join(names)}.", 96, subsequent_indent="  "))


def _space(parts: dict[str, Part]) -> dict[str, object]:
    """A namespace in which all functions of the file are defined."""
    imports, functions, _ = _pattern()
    space: dict[str, object] = {"__name__": "my_gpt"}
    exec(imports, space)
    for name, text in functions.items():
        _define(name, parts[name].whole if name in parts else text, space)
    return space


def _define(name: str, text: str, space: dict[str, object]) -> None:
    """Run source whose lines tracebacks can show. Its file is in "<>", so that a check blames the line that calls."""
    file = f"<{name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec"), space)


class _Assembly:
    """The functions of the file, each the learner's own where it passes its check among those before it."""

    def __init__(self, chapters: range) -> None:
        self.folder = Path.cwd()
        self.places: dict[int, Cells | NotUsable] = {}
        self.parts: dict[str, Part] = {}
        for name, text in _pattern()[1].items():
            if name not in PARTS:
                continue
            try:
                if PARTS[name] not in chapters:
                    raise NotUsable("they belong to this chapter")
                self.parts[name] = self.own(name)
            except NotUsable as problem:
                self.parts[name] = Part(name, text, reason=str(problem))

    def place(self, chapter: int) -> Cells:
        """The cells of a chapter's notebook; for this chapter, those that were run have the last word."""
        if chapter not in self.places:
            run = run_cells() if chapter == HERE else []
            try:
                self.places[chapter] = Cells(saved_cells(self.folder / f"{CHAPTERS[chapter].name}.ipynb", PARTS) + run)
            except NotUsable as problem:
                self.places[chapter] = Cells(run) if run else problem
        place = self.places[chapter]
        if isinstance(place, NotUsable):
            raise place
        return place

    def own(self, name: str) -> Part:
        """The learner's function, if it passes its check. Raises NotUsable."""
        place = self.place(PARTS[name])
        if name not in exercise_names():
            raise NotUsable(f"the check of chapter {PARTS[name]} is not installed")
        cell = place.own(name)
        if re.search(r"^\s*raise NotImplementedError\s*(\(\))?$", cell[name], re.MULTILINE):
            raise NotUsable("not solved yet")
        found: dict[str, str] = {}
        self.gather(name, cell[name], cell, place, found)
        part = self.with_other_names(Part(name, cell[name], found))
        if not _passes(name, part.whole, _space(self.parts)):
            raise NotUsable("your answer does not pass its check")
        return part

    def given(self) -> dict[str, str]:
        """Source of all names that the file has anyway."""
        imports, functions, _ = _pattern()
        return dict(definitions(imports)) | functions | {name: part.text for name, part in self.parts.items()}

    def gather(self, name: str, text: str, cell: dict[str, str], place: Cells, found: dict[str, str]) -> None:
        """Collect what a definition needs: from its own cell, else from the notebook, else the file has it.

        Functions of the file's exercises come from another cell never. Raises NotUsable for what cannot be found.
        """
        given = self.given()
        for needed in sorted(free_names(text) - {name, *found}):
            definition = cell.get(needed) or (None if needed in PARTS else place.elsewhere(needed))
            if definition is None and needed not in given:
                raise NotUsable(f"it uses {needed}, which its notebook does not define")
            if definition in (None, given.get(needed)):
                continue
            if is_import(definition) and "pocketgpt" in definition:
                raise NotUsable(f"it uses {needed}, which is part of the course")
            found[needed] = ""  # its place in the order; it may need itself
            self.gather(needed, definition, cell, place, found)
            del found[needed]
            found[needed] = definition  # after what it needs

    def with_other_names(self, part: Part) -> Part:
        """The part, with helpers renamed whose names mean something else in the file: `half` becomes `half_gelu`."""
        taken = self.given() | {key: text for each in self.parts.values() for key, text in each.others.items()}
        new: dict[str, str] = {}
        while clashing := [
            key
            for key, text in part.others.items()
            if key not in new and taken.get(key, renamed(text, new)) != renamed(text, new)
        ]:
            new |= {key: f"{key}_{part.name}" for key in clashing}
        others = {new.get(key, key): renamed(text, new) for key, text in part.others.items()}
        return Part(part.name, renamed(part.text, new), others)


_verdicts: dict[tuple, bool] = {}  # checks take seconds, and the same functions are asked about again


def _passes(name: str, text: str, space: dict[str, object]) -> bool:
    try:
        _define(name, text, space)
    except Exception:
        return False
    key = (name, text)
    if key not in _verdicts:
        _verdicts[key] = diagnose(find_exercise(name), space[name]) is None
    return _verdicts[key]


def assembled() -> tuple[str, list[Part]]:
    """The text of my_gpt.py as of now, and the exercises' functions in it."""
    parts = _Assembly(chapters=range(HERE + 1)).parts
    imports, functions, headings = _pattern()
    text = {name: parts[name].whole if name in parts else each for name, each in functions.items()}
    needed = _reached(ROOTS, text)
    sections = [f"{HEADER}\n{imports}"]
    heading, seen = "", set()
    more = []
    for name in functions:
        heading = headings.get(name, heading)
        if name not in needed:
            continue
        if heading:
            sections.append(heading)
            heading = ""
        helpers = []
        for other_text in dict.fromkeys(parts[name].others.values() if name in parts else ()):
            if is_import(other_text):
                more.append(other_text)
            elif other_text not in seen:
                helpers.append(other_text)
            seen.add(other_text)
        own = parts[name].text if name in parts else functions[name]
        sections.append(f"{_label(parts.get(name))}\n" + "\n\n\n".join([*helpers, own]))
    sections[0] += "".join(f"\n{line}" for line in sorted(set(more) - set(imports.split("\n"))))
    body = "\n\n\n".join(sections) + "\n"
    return f"{body}\n{SEAL}{_checksum(body)}\n", [part for name, part in parts.items() if name in needed]


def _label(part: Part | None) -> str:
    if part is None:
        return "# given"
    number = f"chapter {PARTS[part.name]}"
    if part.name in exercise_names():
        number = find_exercise(part.name).number
    return f"# {number} · a stand-in: {part.reason}" if part.reason else f"# {number} · mine"


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def edited(text: str) -> bool:
    """Whether a my_gpt.py was changed since it was written."""
    body, seal, checksum = text.rpartition(f"\n{SEAL}")
    return not seal or _checksum(body) != checksum.strip()


def _is_mine(name: str, text: str) -> bool:
    """Whether a my_gpt.py has a function of the learner's of that name."""
    return bool(re.search(rf"^# .* · mine\n(?:(?!# [\w. ]+ · |# given).*\n)*?(def )?{name}\b", text, re.MULTILINE))


def save_my_gpt(overwrite: bool = False) -> ModuleType:
    """Write my_gpt.py into this folder, from your functions of chapters 2 to 10 and stand-ins, and return the module.

    A file that you have changed by hand stays as it is, unless `overwrite`. Where nothing can be written, the module
    lives in this notebook only.
    """
    path = Path.cwd() / FILE
    text, parts = assembled()
    if path.is_file() and not overwrite:
        written = path.read_text(encoding="utf-8", errors="replace")
        lost = [f"{each.name} ({each.reason})" for each in parts if each.reason and _is_mine(each.name, written)]
        problem = "changes made by hand" if edited(written) else ", ".join(["functions of yours that would go", *lost])
        if edited(written) or lost:
            said = f"{FILE} has {problem}, so it stays as it is. To write it anew, rename it and run this cell again, "
            print(textwrap.fill(said + "or call save_my_gpt(overwrite=True).", 96, subsequent_indent="  "))
            return my_gpt()
    try:
        with replacing(path) as beside:
            beside.write_text(text, encoding="utf-8")
        said = f"{FILE} is written: {len(text.splitlines())} lines."
    except (OSError, PocketError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        said = f"{FILE} cannot be written here ({reason}): the model lives in this notebook only."
    print(said)
    _say(parts)
    module = ModuleType("my_gpt")
    exec(compile(text, FILE, "exec"), vars(module))
    if problem := unsound(module):
        print(f"But {problem}.")
    return module


def my_gpt() -> ModuleType:
    """Load the my_gpt.py of this folder if it computes what it should, else a finished one; a line says which."""
    path = Path.cwd() / FILE
    if not path.exists():
        print(f"There is no {FILE} in this folder (chapter 10 writes it): a finished one is used.")
        return finished_gpt
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    try:
        specification = importlib.util.spec_from_file_location("my_gpt", path)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        problem = unsound(module)
        if re.search(r"^\s*(import|from) pocketgpt\b", text, re.MULTILINE):
            problem = "it imports pocketgpt, and should be whole by itself"
    except (Exception, SystemExit) as error:
        problem = f"it stops with {type(error).__name__}: {error}"
    if problem:
        print(f"{FILE} is not used, as {problem}: a finished one is used.")
        return finished_gpt
    mine = len(re.findall(r"^# [\d.]+ · mine$", text, re.MULTILINE))
    print(f"The model is your {FILE}, with {mine} function{'s' * (mine != 1)} of yours.")
    return module


def unsound(module: ModuleType) -> str | None:
    """Why a module does not compute what the shipped model does, or cannot be trained; None if all is well."""
    if missing := [name for name in ROOTS if not callable(getattr(module, name, None))]:
        return f"it has no function {missing[0]}"
    model = pocket_model()
    weights = {name: each.detach().clone().requires_grad_() for name, each in model.named_parameters()}
    tokens = torch.arange(96).view(2, 48) * 37 % model.config.vocab_size
    padded = tokens.index_fill(1, torch.tensor([47]), -100)
    with torch.no_grad():
        expected = model(tokens)
        loss = finished_gpt.next_token_loss(expected, padded)
        text = finished_gpt.write(tokens[:, :6], weights, model.config, 2)
    try:
        logits = module.gpt(tokens, weights, model.config)
        if logits.shape != expected.shape or not torch.allclose(logits, expected, atol=1e-3):
            return "its logits are not those of the shipped model"
        own = module.next_token_loss(logits, padded)
        if not torch.allclose(own, loss, atol=1e-3):
            return f"its loss on a page is {own.item():.2f}, and should be {loss.item():.2f}"
        own.backward()
        if not torch.equal(module.write(tokens[:, :6], weights, model.config, 2), text):
            return "its `write` does not append the most probable tokens"
        if module.load(asset("pocket-shakespeare"))[0].keys() != weights.keys():
            return "its `load` does not read all weights"
        if module.new_weights(weights, 4).keys() != weights.keys():
            return "its `new_weights` does not make all weights"
    except Exception as error:
        return f"it stops with {type(error).__name__}: {error}"
    without = [name for name, each in weights.items() if each.grad is None or not each.grad.any()]
    return f"no gradient reaches {without[0]}, so it cannot be trained" if without else None

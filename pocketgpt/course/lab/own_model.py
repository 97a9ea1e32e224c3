"""The learner's own GPT: `my_gpt.py`, one file with the functions that they wrote in chapters 2 to 10.

    rms_norm, swiglu = earlier("rms_norm", "swiglu")   # from the notebooks in this folder, or finished versions
    save_my_gpt()                                      # in chapter 10: write my_gpt.py beside the notebook
    mine = my_gpt()                                    # in later chapters: the module, or a finished one

A function of an earlier chapter is read out of the answer cell of its notebook, with the helpers and imports that it
needs, and is used if it passes its check in the company of the others. `finished_gpt.py` is the pattern of the file,
and has the stand-ins.
"""

import ast
import builtins
import hashlib
import importlib.util
import inspect
import json
import re
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType

import torch

from pocketgpt.course.checking.check import diagnose
from pocketgpt.course.lab import finished_gpt
from pocketgpt.course.lab.transplanting import pocket_model
from pocketgpt.course.syllabus import CHAPTERS, exercise_names, find_exercise
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
HEADER = '''"""My GPT, in one file that needs PyTorch and safetensors, and nothing of the course.

    import my_gpt
    weights, config = my_gpt.load("path/to/a/model")
    logits = my_gpt.gpt(tokens, weights, config)

Above each function: its chapter, and whether it is mine or a stand-in of the course.
"""
'''
IMPORTS = "import math\nimport torch\nimport torch.nn.functional as F\nfrom torch import nn"
SEAL = "# Written by chapter 10. Checksum of the text above, which tells it about changes by hand: "


class NotUsable(Exception):
    """The reason why a function of the learner's cannot be in the file."""


@dataclass(frozen=True)
class Part:
    """A function of the file. `others`: imports and helpers in front of it. `reason`: why it is a stand-in, or ""."""

    name: str
    text: str
    others: dict[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def whole(self) -> str:
        return "\n\n\n".join([*self.others.values(), self.text])


class Cells:
    """Definitions at the top level of a notebook's code cells, by name: functions, classes, imports and constants."""

    def __init__(self, cells: list[tuple[str, str]]) -> None:
        """cells: id and source of each."""
        self.found: dict[str, str] = {}
        for _, source in sorted(cells, key=lambda cell: cell[0] in PARTS):  # an answer cell has the last word
            for name, text in _definitions(source):
                self.found[name] = text

    @classmethod
    def of_notebook(cls, path: Path) -> "Cells":
        """Raises NotUsable if there is no such notebook, or it cannot be read."""
        try:
            notebook = json.loads(path.read_text(encoding="utf-8"))
            code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
            return cls([(str(cell.get("id", "")), "".join(cell["source"])) for cell in code])
        except FileNotFoundError:
            raise NotUsable(f"{path.name} is not in this folder") from None
        except (OSError, ValueError, KeyError, TypeError):
            raise NotUsable(f"{path.name} cannot be read") from None


class Kernel:
    """Definitions in the notebook that is running."""

    def __init__(self) -> None:
        self.names = vars(sys.modules["__main__"])
        history = self.names.get("In")
        cells = [("", source) for source in history] if isinstance(history, list) else []
        self.found = Cells(cells).found
        for name, value in list(self.names.items()):
            if isinstance(value, FunctionType) and value.__module__ == "__main__":
                try:
                    self.found[name] = _without_markers(textwrap.dedent(inspect.getsource(value)))
                except (OSError, TypeError):
                    continue


def _definitions(source: str) -> Iterator[tuple[str, str]]:
    lines = ["" if re.match(r"\s*[%!?]", line) else line for line in source.split("\n")]
    try:
        body = ast.parse("\n".join(lines)).body
    except (SyntaxError, ValueError):
        return
    for node in body:
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        text = _without_markers("\n".join(lines[first - 1 : node.end_lineno]))
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, text
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield (alias.asname or alias.name.split(".")[0]), _import(node, alias)
        elif isinstance(node, ast.Assign) and _is_constant(node.value):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, text


def _import(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    named = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
    if isinstance(node, ast.Import):
        return f"import {named}"
    return f"from {'.' * node.level}{node.module or ''} import {named}"


def _is_constant(node: ast.expr) -> bool:
    """Numbers, texts, names such as math.pi, and what is computed from them without a call."""
    allowed = ast.Constant | ast.Attribute | ast.Name | ast.UnaryOp | ast.BinOp | ast.Tuple | ast.List | ast.Dict
    others = ast.operator | ast.unaryop | ast.expr_context
    return all(isinstance(each, allowed | others) for each in ast.walk(node))


def _without_markers(text: str) -> str:
    """Source without the comments that mark the place of an answer."""
    marks = ("### BEGIN SOLUTION", "### END SOLUTION", "# YOUR CODE HERE")
    return "\n".join(line for line in text.rstrip().split("\n") if line.strip() not in marks)


def _free_names(text: str) -> set[str]:
    """Global names that a definition uses, builtins left out."""
    tables, names = [symtable.symtable(text, FILE, "exec")], set()
    while tables:
        table = tables.pop()
        top = table.get_type() == "module"
        symbols = table.get_symbols()
        names |= {each.get_name() for each in symbols if (each.is_referenced() if top else each.is_global())}
        tables += table.get_children()
    return names - set(dir(builtins))


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
            waiting += _free_names(texts[name])
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
    exec(f"{IMPORTS}\n{imports}", space)
    for name, text in functions.items():
        exec(compile(parts[name].whole if name in parts else text, FILE, "exec"), space)
    return space


class _Assembly:
    """The functions of the file, each the learner's own where it passes its check among those before it."""

    def __init__(self, chapters: range) -> None:
        self.folder = Path.cwd()
        self.places: dict[int, Cells | Kernel | NotUsable] = {}
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

    def place(self, chapter: int) -> Cells | Kernel:
        """Where the functions of a chapter are."""
        if chapter not in self.places:
            try:
                notebook = self.folder / f"{CHAPTERS[chapter].name}.ipynb"
                self.places[chapter] = Kernel() if chapter == HERE else Cells.of_notebook(notebook)
            except NotUsable as problem:
                self.places[chapter] = problem
        place = self.places[chapter]
        if isinstance(place, NotUsable):
            raise place
        return place

    def own(self, name: str) -> Part:
        """The learner's function, if it passes its check. Raises NotUsable."""
        place = self.place(PARTS[name])
        if name not in exercise_names():
            raise NotUsable(f"the check of chapter {PARTS[name]} is not installed")
        if name not in place.found:
            raise NotUsable("there is no answer of yours")
        others: dict[str, str] = {}
        self.gather(name, place.found[name], place, others)
        part = Part(name, place.found[name], others)
        if not _passes(name, part.whole, _space(self.parts)):
            raise NotUsable("yours do not pass their checks")
        return part

    def gather(self, name: str, text: str, place: Cells | Kernel, others: dict[str, str]) -> None:
        """Collect what a definition needs besides the parts of the file. Raises NotUsable for what cannot be found."""
        taken = {key: other for part in self.parts.values() for key, other in part.others.items()}
        for needed in sorted(_free_names(text) - {name, *_pattern()[1], *others, *_imported()}):
            found = place.found.get(needed)
            if found is None:
                raise NotUsable(f"it uses {needed}, which its notebook does not define")
            if "pocketgpt" in found or taken.get(needed, found) != found:
                raise NotUsable(f"it uses {needed}, which cannot be in the file")
            others[needed] = ""  # its place in the order; it may need itself
            self.gather(needed, found, place, others)
            others[needed] = others.pop(needed) or found  # after what it needs


@cache
def _imported() -> set[str]:
    """Names that the file imports."""
    return {name for name, _ in _definitions(f"{IMPORTS}\n{_pattern()[0]}")}


_verdicts: dict[tuple, bool] = {}  # checks take seconds, and the same functions are asked about again


def _passes(name: str, text: str, space: dict[str, object]) -> bool:
    try:
        exec(compile(text, FILE, "exec"), space)
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
        for other, other_text in parts[name].others.items() if name in parts else ():
            if other_text.startswith(("import ", "from ")):
                more.append(other_text)
            elif other not in seen:
                sections.append(other_text)
            seen.add(other)
        own = parts[name].text if name in parts else functions[name]
        sections.append(f"{_label(parts.get(name))}\n{own}")
    if any("nn." in section for section in sections[1:]):
        more.append("from torch import nn")
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


def save_my_gpt(overwrite: bool = False) -> ModuleType:
    """Write my_gpt.py into this folder, from your functions of chapters 2 to 10 and stand-ins, and return the module.

    A file that you have changed by hand stays as it is, unless `overwrite`. Where nothing can be written, the module
    lives in this notebook only.
    """
    path = Path.cwd() / FILE
    text, parts = assembled()
    if path.exists() and not overwrite and edited(path.read_text(encoding="utf-8")):
        print(
            f"{FILE} has changes made by hand, so it stays as it is. To write it anew, rename it and run this cell "
            "again, or call save_my_gpt(overwrite=True)."
        )
        return my_gpt()
    try:
        with replacing(path) as beside:
            beside.write_text(text, encoding="utf-8")
        said = f"{FILE} is written: {len(text.splitlines())} lines."
    except OSError as problem:
        said = f"{FILE} cannot be written here ({problem.strerror}): the model lives in this notebook only."
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
    try:
        specification = importlib.util.spec_from_file_location("my_gpt", path)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        problem = unsound(module)
    except Exception as error:
        problem = f"it stops with {type(error).__name__}: {error}"
    if problem:
        print(f"{FILE} is not used, as {problem}: a finished one is used.")
        return finished_gpt
    mine = len(re.findall(r"^# [\d.]+ · mine$", path.read_text(encoding="utf-8"), re.MULTILINE))
    print(f"The model is your {FILE}, with {mine} function{'s' * (mine != 1)} of yours.")
    return module


def unsound(module: ModuleType) -> str | None:
    """Why a module does not compute what the shipped model does, or cannot be trained; None if all is well."""
    model = pocket_model()
    weights = {name: each.detach().clone().requires_grad_() for name, each in model.named_parameters()}
    tokens = torch.arange(96).view(2, 48) * 37 % model.config.vocab_size
    try:
        logits = module.gpt(tokens, weights, model.config)
        module.next_token_loss(logits, tokens).backward()
    except Exception as error:
        return f"it stops with {type(error).__name__}: {error}"
    with torch.no_grad():
        expected = model(tokens)
    if logits.shape != expected.shape or not torch.allclose(logits, expected, atol=1e-3):
        return "its logits are not those of the shipped model"
    without = [name for name, each in weights.items() if each.grad is None or not each.grad.any()]
    return f"no gradient reaches {without[0]}, so it cannot be trained" if without else None

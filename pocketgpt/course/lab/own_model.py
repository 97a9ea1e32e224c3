"""The learner's own GPT: `my_gpt.py`, one file with the functions that they wrote in chapters 2 to 10.

    rms_norm, swiglu = earlier("rms_norm", "swiglu")   # from the notebooks in this folder, or finished versions
    save_my_gpt()                                      # in chapter 10: write my_gpt.py beside the notebook
    mine = my_gpt()                                    # in later chapters: the module, or a finished one

A function of an earlier chapter is read out of the answer cell of its notebook, with the helpers and imports that it
needs, and is used if it passes its check in the company of the others (assembly.py). `finished_gpt.py` is the pattern
of the file, and has the stand-ins.
"""

import hashlib
import importlib.util
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch

from pocketgpt.assets import asset
from pocketgpt.course.lab import finished_gpt
from pocketgpt.course.lab.assembly import Assembly, Part, namespace
from pocketgpt.course.lab.definitions import is_import
from pocketgpt.course.lab.finished_parts import HERE, PARTS, ROOTS, pattern, reached
from pocketgpt.course.lab.pocket import pocket_model
from pocketgpt.course.syllabus import exercise_names, find_exercise
from pocketgpt.errors import PocketError
from pocketgpt.files import replacing

FILE = "my_gpt.py"
HEADER = '''"""My GPT, in one file that needs PyTorch, safetensors and what I import, and nothing of the course.

    import my_gpt
    weights, config = my_gpt.load("path/to/a/model")
    logits = my_gpt.gpt(tokens, weights, config)

Above each function and its helpers: its chapter, and whether it is mine or a stand-in of the course.
"""
'''
SEAL = "# Written by chapter 10. Checksum of the text above, which tells it about changes by hand: "


def earlier(*names: str) -> Callable | list[Callable]:
    """Return the functions of earlier chapters: yours, if your notebook is in this folder and they pass their checks.

    Otherwise finished versions; a line says which. One name gives one function, several give a list.
    Raises KeyError for a name that has no place in the GPT.
    """
    if unknown := [name for name in names if PARTS.get(name, HERE) == HERE]:
        known = ", ".join(name for name, chapter in PARTS.items() if chapter < HERE)
        raise KeyError(f"{unknown[0]!r} is no function that the GPT takes from an earlier chapter. These are: {known}.")
    parts = Assembly(chapters=range(HERE)).parts
    space = namespace(parts)
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


def assembled() -> tuple[str, list[Part]]:
    """The text of my_gpt.py as of now, and the exercises' functions in it."""
    parts = Assembly(chapters=range(HERE + 1)).parts
    imports, functions, headings = pattern()
    text = {name: parts[name].whole if name in parts else each for name, each in functions.items()}
    needed = reached(ROOTS, text)
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

"""IPython's own language in a cell: % magics and ! commands, made into Python and named."""

import ast
import re
import warnings

from IPython.core.inputtransformer2 import TransformerManager

from pocketgpt.grading.flags.names import HARMLESS_MAGICS, words

SHELL, INSTALLS = "runs a shell command", "installs a package"
SHELLS = words("bash sh script system sx sc cmd perl ruby python python2 python3 pypy !")
INSTALLERS = words("pip conda mamba micromamba uv")
EXTENSIONS = words("autoreload memory_profiler line_profiler tensorboard")
NOT_PYTHON = re.compile(r"^[ \t]*(?:[%!?,;/]|>>>|\.\.\.|In \[)|=[ \t]*[%!]|\?[ \t]*$", re.MULTILINE)
LINE_END = re.compile(r"\r\n|\r|\n")


def python_of(source: str) -> str:
    """The source with IPython's magics as calls; as it is if it has none, or if IPython cannot read it."""
    if not NOT_PYTHON.search(source):
        return source
    try:
        return TransformerManager().transform_cell(source)
    except Exception:  # hostile text: whatever happens, the text is looked at line by line
        return source


def parsed(text: str) -> ast.AST | None:
    """None if the text is no Python."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(text)
    except (SyntaxError, ValueError):  # ValueError: null bytes, lone surrogates
        return None


def places(original: list[str], text: str, first: int) -> tuple[list[int], set[int]]:
    """For each line of the text the line of the cell it comes from, and which lines IPython made."""
    new, where, made, i = LINE_END.split(text), [], set(), 0
    while new != original and i < len(original) - 1 and not original[i].strip():  # IPython drops empty lines at the top
        i += 1
    for line, written in enumerate(new, 1):
        i = min(i, len(original) - 1)
        where.append(first + i)
        if written.strip() != original[i].strip():
            made.add(line)
            while i < len(original) - 1 and original[i].rstrip().endswith("\\"):
                i += 1
        i += 1
    return where, made


def magic_of(call: ast.Call) -> tuple[str, str, str] | None:
    """Name, line and body of a magic that IPython made into this call."""
    match call.func:
        case ast.Attribute(attr=method, value=ast.Call(func=ast.Name(id="get_ipython"))):
            texts = [node.value for node in call.args if isinstance(node, ast.Constant) and isinstance(node.value, str)]
            if method in ("run_line_magic", "run_cell_magic"):
                name, rest, body = [*texts, "", "", ""][:3]
                return name, rest, body
            return ("!", *texts, "", "")[:3]
    return None


def reason_of(name: str, rest: str) -> str | None:
    """Why a magic, with what stands behind it, should be looked at; None if it is harmless."""
    if name.lstrip("%") in SHELLS:
        return SHELL
    if name in INSTALLERS:
        return INSTALLS
    settings = name == "config" and rest.startswith("InlineBackend.")
    if name in HARMLESS_MAGICS or settings or (name == "load_ext" and rest.strip() in EXTENSIONS):
        return None
    return f"runs the magic %{name[:40]}"

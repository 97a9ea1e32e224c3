"""What the cells of a notebook define, as source: functions, imports and assignments, and what each of them needs."""

import ast
import builtins
import json
import re
import symtable
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path


class NotUsable(Exception):
    """The reason why a function of the learner's cannot be in the file."""


class Cells:
    """What the code cells of a notebook define, by name: functions, classes, imports, and whatever is assigned."""

    def __init__(self, cells: list[tuple[str, str]]) -> None:
        """cells: id and source of each, in the order in which they have the last word."""
        self.cells, self.broken = [], set()
        for id, source in cells:
            try:
                self.cells.append(dict(definitions(source)))
            except (SyntaxError, ValueError):
                self.broken.add(id)

    def own(self, name: str) -> dict[str, str]:
        """The definitions of the cell with an answer. Raises NotUsable."""
        for found in reversed(self.cells):
            if name in found:
                return found
        raise NotUsable("its cell has a syntax error" if name in self.broken else "no answer of yours was found")

    def elsewhere(self, name: str) -> str | None:
        """A definition in another cell."""
        return next((found[name] for found in reversed(self.cells) if name in found), None)


def saved_cells(path: Path, answers: Collection[str]) -> list[tuple[str, str]]:
    """Id and source of a notebook's code cells, those of answers last. Raises NotUsable if it cannot be read."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        cells = [(str(cell.get("id", "")), "".join(cell["source"])) for cell in code]
    except FileNotFoundError:
        raise NotUsable(f"{path.name} is not in this folder") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise NotUsable(f"{path.name} cannot be read") from None
    return sorted(cells, key=lambda cell: cell[0] in answers)


def run_cells() -> list[tuple[str, str]]:
    """The cells that were run in this notebook."""
    history = vars(sys.modules["__main__"]).get("In")
    return [("", str(source)) for source in history] if isinstance(history, list) else []


def definitions(source: str) -> Iterator[tuple[str, str]]:
    """Name and text of what is defined at the top level; not what `yours` and `earlier` hand out."""
    lines = ["" if re.match(r"\s*[%!?]", line) else line for line in source.split("\n")]
    for node in ast.parse("\n".join(lines)).body:
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        text = _without_markers("\n".join(lines[first - 1 : node.end_lineno]))
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield (alias.asname or alias.name.split(".")[0]), _import(node, alias)
        elif not isinstance(node, ast.Expr | ast.AugAssign) and not re.search(r"=\s*(yours|earlier)\(", text):
            for each in symtable.symtable(text, "<cell>", "exec").get_symbols():
                if each.is_assigned() or each.is_imported():
                    yield each.get_name(), text


def _import(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    named = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
    if isinstance(node, ast.Import):
        return f"import {named}"
    return f"from {'.' * node.level}{node.module or ''} import {named}"


def _without_markers(text: str) -> str:
    """Source without the comments that mark the place of an answer."""
    marks = ("### BEGIN SOLUTION", "### END SOLUTION", "# YOUR CODE HERE")
    return "\n".join(line for line in text.rstrip().split("\n") if line.strip() not in marks)


def is_import(text: str) -> bool:
    return text.startswith(("import ", "from "))


def renamed(text: str, new: Mapping[str, str]) -> str:
    """Source with other names for some globals. Formatting stays; parameters of the same name, too."""
    if is_import(text):
        old = next(iter(dict(definitions(text))))
        return re.sub(r"( as \w+)?$", f" as {new[old]}", text) if old in new else text
    lines = [line.encode() for line in text.split("\n")]  # columns of the tree count bytes
    places: set[tuple[int, int, str]] = set()

    def visit(node: ast.AST, hidden: frozenset[str]) -> None:
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            hidden |= {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
        if isinstance(node, ast.Name) and node.id in new and node.id not in hidden:
            places.add((node.lineno, node.col_offset, node.id))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in new:
            column = re.search(rb"(def|class)\s+", lines[node.lineno - 1][node.col_offset :]).end()
            places.add((node.lineno, node.col_offset + column, node.name))
        for child in ast.iter_child_nodes(node):
            visit(child, hidden)

    visit(ast.parse(text), frozenset())
    for line, column, old in sorted(places, reverse=True):
        source = lines[line - 1]
        lines[line - 1] = source[:column] + new[old].encode() + source[column + len(old.encode()) :]
    return b"\n".join(lines).decode()


def free_names(text: str) -> set[str]:
    """Global names that a definition uses, builtins left out."""
    tables, names = [symtable.symtable(text, "<cell>", "exec")], set()
    while tables:
        table = tables.pop()
        top = table.get_type() == "module"
        symbols = table.get_symbols()
        names |= {each.get_name() for each in symbols if (each.is_referenced() if top else each.is_global())}
        tables += table.get_children()
    return names - set(dir(builtins))

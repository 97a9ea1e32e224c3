"""Name resolution: imports and plain assignments, followed across cells."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from pocketgpt.grading.flags.names import EVERYWHERE, SHORT

LONGEST_NAME = 500  # characters


@dataclass
class Names:
    """What names stand for: `ours`, of the given cells, which local variables hide; `theirs`, which nothing hides."""

    exercises: frozenset[str]
    ours: dict[str, str] = field(default_factory=lambda: SHORT | {name: name for name in EVERYWHERE})
    theirs: dict[str, str] = field(default_factory=dict)

    def learn(self, tree: ast.AST, into: dict[str, str]) -> None:
        """Add what the imports and the plain assignments `a = b.c` of a tree bind."""
        nodes = list(ast.walk(tree))
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                for alias, full in imported(node):
                    first = alias.name.split(".")[0]  # `import a.b` binds a
                    into[alias.asname or first] = first if "." in alias.name and not alias.asname else full
        for node in nodes:
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and (name := self.full(node.value)):
                if len(name) > LONGEST_NAME:  # a = a.b, again and again
                    continue
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                into.update((target.id, name) for target in targets if isinstance(target, ast.Name))

    def full(self, node: ast.AST | None, local: frozenset[str] = frozenset()) -> str | None:
        """'os.path.join' for `join`, `path.join` or `o.path.join`; None where the first name was not imported."""
        first, parts = _chain(node)
        if first is None or (first not in self.theirs and first in local):
            return None
        root = self.theirs.get(first, self.ours.get(first))
        return ".".join([root, *parts]) if root else None


def imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[ast.alias, str]]:
    module = f"{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
    for alias in node.names:
        yield alias, module + alias.name


def _chain(node: ast.AST | None) -> tuple[str | None, list[str]]:
    """The first name of `a.b.c`, and the rest; getattr(a, "b") counts as a.b."""
    parts: list[str] = []
    while True:
        if isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        elif _is_getattr(node) and (text := text_of(node.args[1])):
            parts += reversed(text.split("."))
            node = node.args[0]
        else:
            return (node.id if isinstance(node, ast.Name) else None), parts[::-1]


def _is_getattr(node: ast.AST | None) -> bool:
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return is_call and node.func.id == "getattr" and len(node.args) > 1


def text_of(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None

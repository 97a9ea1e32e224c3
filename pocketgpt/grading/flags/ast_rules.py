"""Rules on a cell's syntax tree that find code you should look at."""

import ast
import re
from collections.abc import Iterator
from functools import cache

from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.grading.flags.aliases import Names, imported, text_of
from pocketgpt.grading.flags.names import (
    ATTRIBUTES,
    BUILTINS,
    CHECK,
    EVERYWHERE,
    FINISHED,
    HIDDEN,
    INSIDES,
    METHODS,
    NOTEBOOK,
    SHORT,
    STANDS_IN,
    reason_for,
    words,
)

CHECK_MODULE, YOURS = "pocketgpt.course.lab.check", "pocketgpt.course.lab.yours"
MARK = "prints a check mark, as a passed check does"
REBINDS = "gives the name check to something else"
WHOLE = "hands on a function that does a whole exercise"
HANDS_ON = "hands a module on, to be used under another name"
REPLACES = "changes an imported module or class"
NAMESPACE = "reaches for names as text"
PLACE = "names a place outside the notebook's folder"
MARKS = re.compile(r"✓|\\u2713|\\N\{CHECK MARK\}|^CHECK MARK$|&#(?:10003|x2713);|e29c93", re.IGNORECASE)
PLACES = re.compile(
    r"(?<![\w./])/(?:etc|home|proc|root|dev|sys|var|usr|tmp|mnt|opt|bin|srv|Users|work)(?:/|$)|^\.\.$|\.\./|^~/|^[A-Z]:[\\/]"
)
CODE_IN_TEXT = re.compile(
    r"__import__|get_ipython|\bos\.system|\bsubprocess\b|\bsys\.modules|__globals__|__builtins__|__subclasses__"
    r"|pocketgpt\.(?:course\.(?:checking|ch\d|syllabus)|grading)"
)
CODECS = words("unicode_escape unicode-escape raw_unicode_escape rot13 rot_13 hex_codec base64_codec")
# Settings that libraries mean to be assigned.
SETTINGS = ("torch.backends.", "matplotlib.pyplot.rcParams", "matplotlib.rcParams")
STARS = words("math torch torch.nn numpy matplotlib.pyplot itertools functools collections typing")
_MODULES = frozenset((*STARS, *SHORT.values(), "random", "time", "matplotlib", "pocketgpt"))
LOOKS = words("help print type dir id repr str isinstance issubclass getattr hasattr callable setattr delattr")
SCOPES = (
    ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
)


def found(tree: ast.AST, names: Names) -> Iterator[tuple[int, str]]:
    """Line and reason of each construction, in no order. Never recursive: a tree may be deep."""
    stack: list[tuple[ast.AST, ast.AST | None, frozenset[str], bool]] = [(tree, None, frozenset(), False)]
    while stack:
        node, parent, local, inside = stack.pop()
        if reason := _reason(node, parent, local, inside, names):
            yield getattr(node, "lineno", 1), reason
        if isinstance(node, SCOPES):
            local, inside = local | _bound(node), True
        stack += [(child, node, local, inside) for child in ast.iter_child_nodes(node)]


def _reason(node: ast.AST, parent: ast.AST | None, local: frozenset[str], inside: bool, names: Names) -> str | None:
    match node:
        case ast.Import() | ast.ImportFrom():
            return _of_import(node, names)
        case ast.Constant():
            return _of_constant(node.value)
        case ast.Name():
            return _of_name(node, parent, local, inside, names)
        case ast.Attribute():
            return _of_attribute(node, parent, local, names)
        case ast.Call():
            return _of_call(node, parent, local, names)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            if node.name == "check" and not inside:
                return REBINDS
            if node.name in METHODS and isinstance(parent, ast.ClassDef):
                return "changes what comparisons or type tests see"
            if isinstance(node, ast.ClassDef) and any(
                (names.full(base) or "").startswith("torch") and (names.full(base) or "").endswith("Tensor")
                for base in node.bases
            ):
                return "makes a tensor class of its own"
        case ast.Global() if "check" in node.names:
            return REBINDS
        case ast.ExceptHandler() if node.name == "check":
            return REBINDS
        case ast.MatchAs() | ast.MatchStar() if node.name == "check" and not inside:
            return REBINDS
        case ast.MatchMapping() if node.rest == "check" and not inside:
            return REBINDS
        case ast.MatchClass() if {*node.kwd_attrs} & {*ATTRIBUTES}:
            return INSIDES
        case ast.While() if isinstance(node.test, ast.Constant) and node.test.value and not _leaves(node):
            return "never ends"
    return None


def _of_import(node: ast.Import | ast.ImportFrom, names: Names) -> str | None:
    for alias, full in imported(node):
        if (alias.asname or alias.name) == "check" and full != CHECK_MODULE:
            return REBINDS
        if alias.name == "*" and full.removesuffix(".*") not in STARS:
            return "imports names that are not spelled out"
        if reason := _by_name(full, names):
            return f"imports {reason.removeprefix('uses ')}" if reason == FINISHED else reason
    return None


def _by_name(full: str, names: Names) -> str | None:
    last = full.rsplit(".", 1)[-1]
    if last in names.exercises and full.startswith("pocketgpt.") and ".figures." not in full:
        return CHECK if full.startswith(CHECK_MODULE) else FINISHED
    return reason_for(full)


def _of_constant(value: object) -> str | None:
    if isinstance(value, bytes):
        return MARK if b"\xe2\x9c\x93" in value else None
    if isinstance(value, int):
        return MARK if value == ord("✓") else None
    if not isinstance(value, str):
        return None
    if MARKS.search(value):
        return MARK
    if value in METHODS or (value in ATTRIBUTES and value.startswith(("__", "f_", "tb_"))):
        return INSIDES
    if value in CODECS:
        return HIDDEN
    if CODE_IN_TEXT.search(value):
        return "holds code in a string"
    return PLACE if PLACES.search(value) else None


def _of_name(node: ast.Name, parent: ast.AST | None, local: frozenset[str], inside: bool, names: Names) -> str | None:
    if node.id == "get_ipython":
        return NOTEBOOK
    if not isinstance(node.ctx, ast.Load):
        hidden = inside and "check" in local and not isinstance(parent, ast.NamedExpr)  # := leaves a comprehension
        return REBINDS if node.id == "check" and not hidden else None
    called = isinstance(parent, ast.Call) and parent.func is node
    if isinstance(parent, ast.arguments):  # the default of a parameter, which may have the same name
        local = frozenset()
    if node.id in BUILTINS and (called or node.id not in local):
        return BUILTINS[node.id]
    if node.id in ("globals", "locals", "vars") and not called:
        return NAMESPACE
    if node.id in ("setattr", "delattr", "getattr") and not called:
        return REPLACES
    full = names.full(node, local)
    if full is None or (isinstance(parent, ast.Attribute) and full != YOURS):
        return None
    if full == YOURS:
        return STANDS_IN
    if full == CHECK_MODULE:
        return CHECK
    if reason := _by_name(full, names):
        return reason
    return HANDS_ON if _handed_on(full, parent) else WHOLE if _whole(full, node, parent, names) else None


def _of_attribute(node: ast.Attribute, parent: ast.AST | None, local: frozenset[str], names: Names) -> str | None:
    full = names.full(node, local)
    if not isinstance(node.ctx, ast.Load):
        if full and not full.startswith(SETTINGS):
            return REPLACES
        dunder = node.attr.startswith("__") and node.attr.endswith("__")
        return REPLACES if dunder and node.attr not in ("__doc__", "__name__", "__qualname__") else None
    if full and full.startswith(f"{CHECK_MODULE}."):
        called = isinstance(parent, ast.Call) and parent.func is node
        return None if called and full.removeprefix(f"{CHECK_MODULE}.") in {*names.exercises, "example"} else CHECK
    if full == CHECK_MODULE and not isinstance(parent, ast.Attribute):
        return CHECK
    if full == YOURS:
        return STANDS_IN
    if full and (reason := _by_name(full, names)):
        return reason
    if node.attr == "__dict__" and full:
        return REPLACES
    if node.attr in ATTRIBUTES and not _shipped(node, names):
        return ATTRIBUTES[node.attr]
    if full is None:  # (lambda: torch)().os.system
        parts = _attributes(node)
        starts = (i for i, part in enumerate(parts[:-1]) if part.lstrip("_") in EVERYWHERE)
        if (start := next(starts, None)) is not None:
            return reason_for(".".join([parts[start].lstrip("_"), *parts[start + 1 :]]))
    if full is None:
        return None
    return HANDS_ON if _handed_on(full, parent) else WHOLE if _whole(full, node, parent, names) else None


def _of_call(node: ast.Call, parent: ast.AST | None, local: frozenset[str], names: Names) -> str | None:
    called = node.func.id if isinstance(node.func, ast.Name) else ""
    subject = names.full(node.args[0], local) if node.args else None
    if called == "getattr" and len(node.args) > 1:
        attribute = text_of(node.args[1])
        if attribute is None:
            return "reads an attribute of a module whose name is computed" if subject else None
        if attribute in ATTRIBUTES and attribute.startswith(("_", "f_", "tb_")):
            return INSIDES
        return _by_name(f"{subject}.{attribute}", names) if subject else None
    if called in ("setattr", "delattr"):
        unknown = len(node.args) < 2 or (text_of(node.args[1]) or "").startswith("__")
        return REPLACES if subject or unknown else None
    if called in ("globals", "locals") or (called == "vars" and (subject or not node.args)):
        return None if isinstance(parent, ast.Compare) else NAMESPACE  # `"x" in globals()` only asks
    if called == "chr" and node.args and _number(node.args[0]) == ord("✓"):
        return MARK
    return None


def _attributes(node: ast.AST) -> list[str]:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return parts[::-1]


def _shipped(node: ast.Attribute, names: Names) -> bool:
    """`asset("held-out.txt").readtext_of()`: a file of the course."""
    return isinstance(node.value, ast.Call) and names.full(node.value.func) == "pocketgpt.assets.asset"


def _whole(full: str, node: ast.AST, parent: ast.AST | None, names: Names) -> bool:
    """Whether a function that an exercise forbids is named without being called, which its check would see."""
    called = isinstance(parent, ast.Call) and parent.func is node
    return not called and full.startswith("torch.") and full.rsplit(".", 1)[-1] in _forbidden(names.exercises)


@cache
def _forbidden(names: frozenset[str]) -> frozenset[str]:
    return frozenset(each for name in names if name in exercises() for each in exercises()[name].forbidden)


def _handed_on(full: str, parent: ast.AST | None) -> bool:
    """Whether a module is used for something else than its attributes, or a new name, which is followed."""
    if full not in _MODULES and full.split(".")[-1] not in EVERYWHERE:
        return False
    match parent:
        case ast.Attribute() | ast.Expr() | ast.AnnAssign() | ast.NamedExpr():
            return False
        case ast.Assign(targets=targets):
            return not all(isinstance(target, ast.Name) for target in targets)
        case ast.Call(func=ast.Name(id=name)):
            return name not in LOOKS
    return True


def _number(node: ast.AST) -> int | None:
    """The value of 10002 + 1."""
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.BinOp(left=ast.Constant(value=int(left)), op=op, right=ast.Constant(value=int(right))):
            values = {ast.Add: left + right, ast.Sub: left - right}
            return values.get(type(op), left * right if isinstance(op, ast.Mult) else None)
    return None


def _bound(scope: ast.AST) -> frozenset[str]:
    """The names that are local to a function or a comprehension."""
    names, declared, nodes = set(), set(), list(ast.iter_child_nodes(scope))
    while nodes:
        node = nodes.pop()
        match node:
            case ast.arg(arg=name):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                names.add(name)
            case ast.Global(names=several) | ast.Nonlocal(names=several):
                declared.update(several)
        if not isinstance(node, SCOPES):
            nodes += ast.iter_child_nodes(node)
    return frozenset(names - declared)


def _leaves(loop: ast.While) -> bool:
    return any(
        isinstance(node, ast.Break | ast.Return | ast.Raise | ast.Yield | ast.YieldFrom) for node in ast.walk(loop)
    )

"""Rules on a cell's syntax tree: what could change the check, leave the notebook, or is not the student's own."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from pocketgpt.course.syllabus import all_exercises


def words(text: str) -> frozenset[str]:
    """The words of a text, for tables that read better without quotation marks."""
    return frozenset(text.split())


MARK = "prints a check mark, as a passed check does"
PASTED = "has the body of one of the course's own answers"
FINISHED = "uses the finished function"
CHECK = "reads the course's checks"
REPLACES = "changes an imported module or class"
INSIDES = "reaches into Python's insides"
NOTEBOOK = "reaches into the notebook's own machinery"
RUNS_TEXT = "runs text as code"

# Dotted names, and why an instructor should look. A name includes everything below it; the longest that fits
# decides, and None is harmless.
NAMES = {
    name: reason
    for reason, names in {
        "starts, ends or controls a process": "os.system os.popen os.fork os.forkpty os.exec os.execl os.execv "
        "os.execve os.execvp os.spawnl os.spawnv os.posix_spawn os.kill os.killpg os.abort os._exit os.setsid "
        "subprocess multiprocessing pty ctypes cffi resource psutil torch.multiprocessing torch.hub "
        "torch.utils.cpp_extension",
        "leaves something running beside the notebook": "threading _thread concurrent asyncio atexit signal sched",
        "opens a network connection": "socket ssl urllib.request urllib3 requests httpx http aiohttp ftplib smtplib "
        "telnetlib socketserver xmlrpc websocket webbrowser zmq",
        "opens or changes a file": "shutil os.remove os.unlink os.rename os.replace os.rmdir os.makedirs os.mkdir "
        "os.listdir os.walk os.scandir io.open pickle torch.load torch.save numpy.load numpy.save numpy.memmap",
        "ends the kernel": "sys.exit",
        INSIDES: "sys.modules sys.settrace sys.setprofile sys._getframe sys.meta_path sys.path_hooks sys.addaudithook "
        "gc.get_objects gc.get_referrers inspect.stack inspect.currentframe inspect.getsource importlib runpy pydoc "
        "pkgutil builtins operator.attrgetter operator.methodcaller types.FunctionType types.CodeType torch._C "
        "torch.library torch.utils._python_dispatch torch.overrides",
        RUNS_TEXT: "code codeop cProfile.run cProfile.runctx profile.run pdb.run",
        NOTEBOOK: "IPython ipykernel jupyter_client nbformat nbclient nbval contextlib.redirect_stdout",
        "patches other code": "unittest.mock mock pytest _pytest",
        CHECK: "pocketgpt.grading pocketgpt.course",
        None: "IPython.display pocketgpt.course.lab importlib.metadata",
    }.items()
    for name in words(names)
}
# `torch.os.system` and `random._os.system` are os.system.
ANYWHERE = words("os sys subprocess socket ctypes threading gc inspect importlib builtins")
BUILTINS = {name: RUNS_TEXT for name in ("exec", "eval")} | {
    "__import__": INSIDES,
    "__builtins__": INSIDES,
    "get_ipython": NOTEBOOK,
}
CALLED = {"compile": RUNS_TEXT, "open": "opens or changes a file", "exit": "ends the kernel", "quit": "ends the kernel"}
ATTRIBUTES = {
    **dict.fromkeys(
        words(
            "__globals__ __code__ __closure__ __builtins__ __subclasses__ __bases__ __mro__ __dict__ f_back f_globals "
            "f_locals tb_frame gi_frame cell_contents"
        ),
        INSIDES,
    ),
    "_cause": "reads the answer of a case",
    **dict.fromkeys(words("input_transformers_post ast_transformers set_custom_exc run_cell user_ns"), NOTEBOOK),
}
SETTINGS = ("torch.backends.", "matplotlib.", "numpy.random.")  # meant to be assigned
MARKS = re.compile(r"✓|\\u2713|\\N\{CHECK MARK\}|&#(?:10003|x2713);", re.IGNORECASE)
LONGEST_NAME = 500  # characters
# Nodes of a body's syntax tree. Shorter answers of ours (4 to 56 nodes) say nothing about who wrote them: two people
# who follow a chapter's hints write the same. From 60 on, the names of all variables and the order of all lines would
# have to agree by chance.
LONG = 60


@dataclass
class Names:
    """Full names of the imported names of a notebook, and the names of this package that its chapter imports."""

    exercises: frozenset[str]
    imported: dict[str, str] = field(default_factory=dict)
    given: frozenset[str] = frozenset()

    def learn(self, tree: ast.AST) -> None:
        """Add what the imports and the plain assignments `a = b.c` of a tree bind."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for alias, full in imports(node):
                    first = alias.name.split(".")[0]  # `import a.b` binds a
                    self.imported[alias.asname or first] = full if alias.asname or "." not in alias.name else first
            elif isinstance(node, ast.Assign) and (full := self.full(node.value)) and len(full) < LONGEST_NAME:
                self.imported.update((each.id, full) for each in node.targets if isinstance(each, ast.Name))

    def full(self, node: ast.AST | None) -> str | None:
        """'os.path.join' for `join`, `path.join` or `getattr(os.path, "join")`; None for what was not imported."""
        parts: list[str] = []
        while True:
            match node:
                case ast.Attribute(value=node, attr=part):
                    parts.append(part)
                case ast.Call(func=ast.Name(id="getattr"), args=[inner, ast.Constant(value=str(part)), *_]):
                    node, parts = inner, [*parts, *part.split(".")[::-1]]
                case ast.Name(id=name) if name in self.imported:
                    return ".".join([self.imported[name], *parts[::-1]])
                case _:
                    return None

    def reason(self, full: str) -> str | None:
        """Why a dotted name should be looked at; None if there is no need."""
        parts = full.split(".")
        for start in range(len(parts) - 1, 0, -1):
            if (root := parts[start].lstrip("_")) in ANYWHERE and (reason := _reason([root, *parts[start + 1 :]])):
                return reason
        if parts[0] == "pocketgpt" and len(parts) > 1:
            if any(full == each or full.startswith(f"{each}.") for each in self.given if not each.endswith(".check")):
                return None
            if full.startswith("pocketgpt.course.lab.check."):
                return None if len(parts) == 5 and parts[4] in (*self.exercises, "example") else CHECK
            if parts[-1] in (*self.exercises, "*"):
                return FINISHED
            if full == "pocketgpt.course" or (parts[1] == "course" and parts[-1] == "figures"):
                return None
        return _reason(parts)


def _reason(parts: list[str]) -> str | None:
    known = (name for end in range(min(len(parts), 5), 0, -1) if (name := ".".join(parts[:end])) in NAMES)
    return NAMES.get(next(known, ""))


def imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[ast.alias, str]]:
    """Yield each alias of an import with its full name."""
    module = f"{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
    for alias in node.names:
        yield alias, module + alias.name


def suspicious(tree: ast.AST, names: Names, ours: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and reason of everything in a tree that an instructor should look at. `ours`: from `our_answers`."""
    for node in ast.walk(tree):
        if reason := _of_node(node, names, ours):
            yield getattr(node, "lineno", 1), reason


def _of_node(node: ast.AST, names: Names, ours: frozenset[str]) -> str | None:
    match node:
        case ast.Import() | ast.ImportFrom():
            return next(filter(None, (names.reason(full) for _, full in imports(node))), None)
        case ast.Constant(value=str(text)):
            return MARK if MARKS.search(text) else None
        case ast.Constant(value=value):
            is_mark = b"\xe2\x9c\x93" in value if isinstance(value, bytes) else value == ord("✓")
            return MARK if is_mark else None
        case ast.Name(id=name, ctx=ast.Load()):
            return BUILTINS.get(name) or ((full := names.full(node)) and names.reason(full)) or None
        case ast.Attribute(attr=attribute, ctx=context):
            full = names.full(node)
            if full and not isinstance(context, ast.Load) and not full.startswith(SETTINGS):
                return REPLACES
            return (full and names.reason(full)) or ATTRIBUTES.get(attribute)
        case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[subject, *_]) if names.full(subject):
            return REPLACES
        case ast.Call(func=ast.Name(id="getattr"), args=[subject, *_]) if full := names.full(subject):
            found = names.full(node)
            return names.reason(found) if found else "reads an attribute of a module whose name is computed"
        case ast.Call(func=ast.Name(id=name)):
            return CALLED.get(name)
        case ast.FunctionDef() | ast.AsyncFunctionDef() if _body(node) in ours:
            return PASTED
    return None


@cache
def our_answers(names: tuple[str, ...], solutions: tuple[str, ...]) -> frozenset[str]:
    """Long bodies among the references and accepted answers of some exercises, their helpers, and given sources."""
    sources = list(solutions)
    for exercise in (all_exercises()[name] for name in names):
        module = inspect.getmodule(exercise.reference)
        helpers = [
            each
            for name, each in vars(module).items()
            if inspect.isfunction(each) and (name.startswith("_") or each.__module__.endswith(".shared"))
        ]
        sources += map(inspect.getsource, [exercise.reference, *exercise.accepted_answers, *helpers])
    trees = (ast.parse(textwrap.dedent(source)) for source in sources)
    functions = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return frozenset(filter(None, map(_body, functions)))


def _body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
    """A long body without its docstring; the names of local variables stay. None for a short one."""
    lines = function.body[ast.get_docstring(function, clean=False) is not None :]
    symbols = ast.expr_context | ast.operator | ast.cmpop
    if sum(not isinstance(node, symbols) for line in lines for node in ast.walk(line)) < LONG:
        return None
    try:
        return "\n".join(map(ast.dump, lines))
    except RecursionError:  # deeper than any of ours
        return None

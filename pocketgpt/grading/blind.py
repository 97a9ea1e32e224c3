"""The blind run: a function is asked again, with secret inputs, where nothing can be seen that knows the answer.

A check runs beside the code that it checks, which can therefore change the check, or call the course's own answer.
Here neither helps. In the blind run the package is the handful of files in `SEEN`: no exercises, no finished functions,
no checks. The grader draws the inputs, and compares what comes back with the reference in its own process
(verify.py). What an exercise forbids is taken out of PyTorch's dispatcher while its function runs, so that no other
way of calling it, in no thread, leads there; and no other process can be started to do the work.

`package` runs in the grader, `begin` and `reply` in the sandbox.
"""

import atexit
import contextlib
import copy
import importlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache, wraps
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from IPython import get_ipython
from IPython.display import display

from pocketgpt.grading import REPLY
from pocketgpt.grading.arrays import decode, encode

# Of the package, relative to it: what runs a notebook, and this file. Everything else is absent.
SEEN = (
    "__init__.py",
    "grading/__init__.py",
    "grading/arrays.py",
    "grading/blind.py",
    "grading/startup.py",
    "grading/worker.py",
    "grading/protection/__init__.py",
    "grading/protection/limits.py",
)
# Where PyTorch has the forbidden functions that are no operators of the dispatcher, such as torch.autograd.grad.
HOLDERS = (
    "torch",
    "torch.Tensor",
    "torch.nn.functional",
    "torch.autograd",
    "torch.autograd.functional",
    "torch.func",
    "torch.distributions.Categorical",
)
STARTS_A_PROCESS = re.compile(
    r"os\.(fork|forkpty|posix_spawn|spawn|exec|system|startfile)|subprocess\.Popen|pty\.spawn"
)


class ForbiddenCall(RuntimeError):
    """An answer called a function that does the whole exercise."""


@cache
def package() -> Path:
    """A folder that a sandbox shows in place of this package; removed when the grader ends."""
    folder = Path(tempfile.mkdtemp(prefix="pocketgpt-blind-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)  # a container reads it as another user
    for name in SEEN:
        target = folder / "pocketgpt" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(__file__).parents[1] / name, target)
    return folder / "pocketgpt"


def begin(stand_ins: Mapping[str, str], forbidden: Collection[str]) -> None:
    """Before the first cell: put placeholders where the package's modules were, and forbid new processes.

    stand_ins: source of the finished function of each exercise that earns nothing anyway, for `yours` to return, and of
    those of earlier chapters, for `earlier`.
    forbidden: names of functions that `reply` is going to forbid.
    """
    sys.meta_path.append(_Placeholders(stand_ins))
    for name in forbidden:
        _guard(name)
    sys.addaudithook(_refuse_processes)
    # `!pip install x` and a call of the shell do nothing, and the code around them runs.
    os.system = lambda _: 0
    if (shell := get_ipython()) is not None:
        shell.system = shell.getoutput = lambda *_, **__: None


def reply(function: Callable, questions: str, forbidden: Collection[str]) -> None:
    """Call the function on the questions; display, for the grader, what it returns or raises."""
    with _forbidding(forbidden):
        answers = [_answer(function, decode(question, trusted=True)) for question in json.loads(questions)]
    display({REPLY: json.dumps(answers)}, raw=True)


def _answer(function: Callable, inputs: tuple) -> dict[str, Any]:
    torch.set_default_dtype(torch.float32)
    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return {"value": encode(function(*copy.deepcopy(inputs)))}  # recipes build the objects that they stand for
        except ForbiddenCall as error:
            return {"forbidden": str(error)}
        except Exception as error:
            return {"raised": type(error).__name__}


_asked: set[str] = set()  # names that the function which runs now may not call


@contextlib.contextmanager
def _forbidding(names: Collection[str]) -> Iterator[None]:
    """Refuse, everywhere in this process, the functions and operators of these names."""
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a kernel is replaced is the intention
        for name in names:
            for operator in _operators(name):
                for backend in ("CPU", "SparseCPU", "SparseCsrCPU", "MkldnnCPU", "NestedTensorCPU"):
                    library.impl(operator, _refusal(name), backend, allow_override=True)
    _asked.update(names)
    try:
        yield
    finally:
        _asked.clear()
        library._destroy()


def _operators(name: str) -> list[str]:
    """Operators of PyTorch's dispatcher that do what the function of that name does: _softmax for softmax."""
    family = re.sub(r"^(scaled_dot_product|multi_head)_attention.*", r"\1\\w*", name)  # one operator for each backend
    pattern = re.compile(rf"aten::_*(?:(?:safe|log|sparse|masked|native|fused|special)_)*{family}(?:\..*)?")
    return [each.removeprefix("aten::") for each in _all_operators() if pattern.fullmatch(each)]


@cache
def _all_operators() -> list[str]:
    return torch._C._dispatch_get_all_op_names()


def _refusal(name: str) -> Callable:
    def refuse(*_: object, **__: object) -> None:
        raise ForbiddenCall(f"Your function calls {name}, which does the whole exercise. Write it without.")

    return refuse


def _guard(name: str) -> None:
    """Wrap the functions of that name, so that they refuse while they are forbidden."""
    for holder in map(_found, HOLDERS):
        function = getattr(holder, name, None)
        if callable(function):
            setattr(holder, name, _guarded(name, function))
    if name == "scaled_dot_product_attention":  # it is made of operators that are allowed
        sys.modules["torch.nn.attention.flex_attention"] = None


def _found(path: str) -> object:
    """The module, or the class in a module, of that path."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def _guarded(name: str, function: Callable) -> Callable:
    @wraps(function)
    def guarded(*inputs: object, **options: object) -> object:
        if name in _asked:
            _refusal(name)()
        return function(*inputs, **options)

    return guarded


def _refuse_processes(event: str, _: tuple) -> None:
    """An audit hook, which Python has no way to remove."""
    if STARTS_A_PROCESS.match(event):
        raise PermissionError("no process can be started while an answer is asked again")


class _Placeholders:
    """An importer of last resort: modules of this package that are not there accept every use, and know nothing."""

    def __init__(self, stand_ins: Mapping[str, str]) -> None:
        self.stand_ins = stand_ins

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] == "pocketgpt" else None

    def create_module(self, spec: ModuleSpec) -> Any:
        module = MagicMock(name=spec.name)
        if spec.name == "pocketgpt.course.lab":
            module.yours = self.yours
            module.earlier = self.earlier
        return module

    def exec_module(self, module: Any) -> None:
        """Nothing to do: there is no code."""

    def yours(self, name: str) -> Callable | None:
        """The notebook's function, or the finished one where the notebook's did not pass its check."""
        names = vars(sys.modules["__main__"])
        if name not in self.stand_ins:
            return names.get(name)
        space = dict(names)
        exec(self.stand_ins[name], space)
        return space[name]

    def earlier(self, *names: str) -> Callable | list[Callable | None] | None:
        """Finished functions of earlier chapters."""
        functions = [self.yours(name) for name in names]
        return functions[0] if len(functions) == 1 else functions

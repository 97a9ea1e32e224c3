"""Call a learner's function without trusting it; record what it returns, raises, changes and calls."""

import contextlib
import copy
import io
import random
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor

_LIBRARIES = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib"))
_PACKAGE = str(Path(__file__).parents[2])


@dataclass(frozen=True)
class Run:
    """The record of one call. `error` is the exception, `changed` the index of an input it wrote to."""

    inputs: tuple
    value: object = None
    error: Exception | None = None
    changed: int | None = None
    called: str | None = None


def run(function: Callable, inputs: tuple, *, forbidden: tuple[str, ...] = (), own: str = "") -> Run:
    """Call `function(*inputs)` on copies of the inputs.

    `called` notes the first call of a function named in `forbidden`, or of this package's finished function `own`.
    """
    given = copy.deepcopy(inputs)
    value, error = None, None
    with undisturbed(), _watching(forbidden, own) as calls:
        try:
            value = function(*given)
        except Exception as problem:
            error = problem
    changed = [i for i, (before, after) in enumerate(zip(inputs, given, strict=True)) if not _same(before, after)]
    return Run(inputs, value, error, next(iter(changed), None), next(iter(calls), None))


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Silence, and random states, gradient mode and default dtype put back at the end."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    nowhere = io.StringIO()
    with (
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(action="ignore"),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_grad_enabled(grad)
            torch.set_default_dtype(dtype)
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def blamed(error: Exception) -> traceback.FrameSummary:
    """The learner's last line on the way to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((*_LIBRARIES, _PACKAGE, "<"))]
    return (own or frames)[-1]


def blame(error: Exception) -> str:
    """'RuntimeError in line 3, `return q @ k`: …': an error as the learner reads it."""
    frame, said = blamed(error), _said(error).strip().splitlines()
    return f"{type(error).__name__} in line {frame.lineno}, `{frame.line}`" + (f": {said[0]}" if said else "")


def _said(error: Exception) -> str:
    """Its text, which a learner's own class may be unable to give."""
    try:
        return str(error)
    except Exception:
        return ""


@contextlib.contextmanager
def _watching(forbidden: tuple[str, ...], own: str) -> Iterator[list[str]]:
    """Collect the calls, at any depth, of functions named in `forbidden`, and of this package's function `own`.

    A profile function sees every spelling (F.softmax, torch.softmax, x.softmax, nn.Softmax), however it was imported.
    """
    calls: list[str] = []
    if not (forbidden or own):
        yield calls
        return

    def watch(frame: FrameType, event: str, function: object) -> None:
        if event == "call":
            name, module = frame.f_code.co_name, str(frame.f_globals.get("__name__"))
            finished = module.startswith("pocketgpt.") and not module.startswith("pocketgpt.course.")
            if (name in forbidden and frame.f_code.co_filename.startswith(_LIBRARIES)) or (name == own and finished):
                calls.append(name)
        elif event == "c_call":
            name = getattr(function, "__name__", "").removeprefix("special_")
            if name in forbidden:
                calls.append(name)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def _same(before: object, after: object) -> bool:
    if isinstance(before, Tensor):
        return before.shape == after.shape and torch.equal(before.nan_to_num(), after.nan_to_num())
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(_same, before, after))
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(_same(before[key], after[key]) for key in before)
    return not isinstance(after, bytearray | set) or before == after

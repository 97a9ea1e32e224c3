"""Call a learner's function without trusting it; record what it returns, raises, changes, shares and calls."""

import contextlib
import copy
import functools
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

from pocketgpt.course.checking.recipes import Recipe
from pocketgpt.course.checking.snapshots import memory, same, snapshot
from pocketgpt.course.checking.time_limit import TookTooLong, time_limit

_LIBRARIES = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib"))
_PACKAGE = str(Path(__file__).parents[2])


@dataclass(frozen=True)
class Run:
    """The record of one call.

    value      a copy of what it returned; `returned` is the object itself, which a later call may change
    error      the exception it raised, SystemExit included
    changed    index of an input it wrote to
    shared     index of an input whose memory is also that of the result
    called     a function it calls and must not
    too_long   it was stopped at the time limit
    """

    inputs: tuple
    value: object = None
    error: BaseException | None = None
    changed: int | None = None
    called: str | None = None
    returned: object = None
    shared: int | None = None
    too_long: bool = False


def run(
    function: Callable,
    inputs: tuple,
    *,
    forbidden: tuple[str, ...] = (),
    own: str = "",
    seconds: float | None = None,
) -> Run:
    """Call `function(*inputs)` on copies of the inputs, for at most so many seconds.

    `called` notes the first call of a function named in `forbidden`, or of this package's finished function `own`.
    With float64 inputs the default dtype is float64, too.
    """
    given = copy.deepcopy(inputs)
    value, returned, shared, error, too_long = None, None, [], None, False
    dtype = torch.float64 if any(getattr(x, "dtype", None) == torch.float64 for x in inputs) else torch.float32
    with undisturbed(dtype), _watching(forbidden, own) as calls:
        try:
            with time_limit(seconds):
                returned = function(*given)
                value = snapshot(returned)
                shared = [i for i, each in enumerate(given) if memory(each) & memory(returned)]
        except TookTooLong:
            too_long = True
        except KeyboardInterrupt:
            raise
        except BaseException as problem:
            error = problem
    changed = [
        i
        for i, (before, after) in enumerate(zip(inputs, given, strict=True))
        if not isinstance(before, Recipe) and not same(before, after)
    ]
    return Run(
        inputs,
        value,
        error,
        next(iter(changed), None),
        next(iter(calls), None),
        returned,
        next(iter(shared), None),
        too_long,
    )


def run_ours(function: Callable, inputs: tuple) -> Run:
    """Call a reference or a mistake on copies of the inputs. It is not watched; call it inside `undisturbed`."""
    try:
        return Run(inputs, function(*copy.deepcopy(inputs)))
    except Exception as problem:
        return Run(inputs, error=problem)


@contextlib.contextmanager
def undisturbed(dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Silence on the CPU; at the end random states, gradient mode, default dtype and device are put back."""
    grad, default_dtype, device = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device()
    nowhere = io.StringIO()
    with (
        _random_states_kept(),
        warnings.catch_warnings(action="ignore"),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        if device.type != "cpu":
            torch.set_default_device("cpu")
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_grad_enabled(grad)
            torch.set_default_dtype(default_dtype)
            if torch.get_default_device() != device:
                torch.set_default_device(device)


_kept = False  # random states are kept once for a whole diagnosis: it takes longer than a call


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    global _kept
    if _kept:
        yield
        return
    numpy_state, python_state = np.random.get_state(), random.getstate()
    _kept = True
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        _kept = False
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def blamed(error: BaseException) -> traceback.FrameSummary:
    """The learner's last line on the way to an error."""
    return _own_frames(error)[-1]


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(BaseException.__traceback__.__get__(error))  # its class may hide it
    return [frame for frame in frames if not frame.filename.startswith((*_LIBRARIES, _PACKAGE, "<"))] or frames[-1:]


def blame(error: BaseException) -> str:
    """'RuntimeError in line 3, `return q @ k`: …': an error as the learner reads it.

    The line is in the cell of the answer. What it calls may be written in another one, as `norm` is in chapter 10:
    'KeyError in line 3, `h = norm(x, weights, …)`, inside of norm: …'.
    """
    frames, said = _own_frames(error), said_by(error).splitlines()
    last = max(i for i, frame in enumerate(frames) if frame.filename == frames[0].filename)
    inside = f", inside of {frames[last + 1].name}" if last + 1 < len(frames) else ""
    where = f"{type(error).__name__} in line {frames[last].lineno}, `{frames[last].line}`{inside}"
    return where + (f": {said[0]}" if said else "")


def said_by(error: BaseException) -> str:
    """Its text, which a learner's own class may be unable to give."""
    try:
        return str.strip(str(error))
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

    before = sys.getprofile()
    sys.setprofile(functools.partial(_watch, forbidden, own, calls))
    try:
        yield calls
    finally:
        sys.setprofile(before)


def _watch(forbidden: tuple[str, ...], own: str, calls: list[str], frame: FrameType, event: str, it: object) -> None:
    if event == "call":
        name, module = frame.f_code.co_name, str(frame.f_globals.get("__name__"))
        finished = module.startswith("pocketgpt.") and not module.startswith("pocketgpt.course.")
        if (name in forbidden and frame.f_code.co_filename.startswith(_LIBRARIES)) or (name == own and finished):
            calls.append(name)
    elif event == "c_call":
        name = getattr(it, "__name__", "").removeprefix("special_")
        if name in forbidden:
            calls.append(name)

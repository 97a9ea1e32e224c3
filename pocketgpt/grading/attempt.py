"""One run of a rebuilt notebook in the sandbox, and what became of each of its cells."""

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pocketgpt.grading.protection.limits import Limits
from pocketgpt.grading.protection.sandbox import Sandbox, run
from pocketgpt.grading.worker import IMPORT_SECONDS

LARGEST_LINE = 16 << 20
GRACE_SECONDS = 15  # the worker itself stops a cell in time, unless something stopped the worker
WORKER = (
    sys.executable,
    "-P",
    "-m",  # -P: nothing is imported from the folder that the notebook can write to
    "pocketgpt.grading.worker",
)


@dataclass(frozen=True)
class Task:
    """A code cell to run. prints: what has to be in what it prints; reply: the exercise whose questions it answers."""

    source: str
    prints: str = ""
    reply: str = ""


@dataclass
class Attempt:
    """passed: by the number of the cell, for those that ran to their end. messages: what the failed ones said.

    crashed_cell: the cell that was running when the kernel died or did not come back, and why in words.
    broken: nothing could be run, for a reason that is not the notebook's.
    """

    passed: dict[int, bool] = field(default_factory=dict)
    messages: dict[int, str] = field(default_factory=dict)
    replies: dict[str, str | None] = field(default_factory=dict)
    started: bool = False
    crashed_cell: int | None = None
    why: str = ""
    broken: str | None = None


def attempt(
    tasks: Sequence[Task],
    sandbox: Sandbox,
    limits: Limits,
    seconds: float,
    stop: threading.Event,
) -> Attempt:
    """Run the cells in their order. It ends after so many seconds, or at once when `stop` is set."""
    job = {"cells": [asdict(task) for task in tasks], "limits": asdict(limits)}
    result, late, over = Attempt(), threading.Event(), threading.Event()
    running, heard = 0, time.monotonic()
    with run(sandbox, WORKER) as inside:

        def watch() -> None:
            until = time.monotonic() + seconds
            while not over.wait(0.1):
                idle = max(limits.cell_seconds, 0 if running else IMPORT_SECONDS) + GRACE_SECONDS
                if stop.is_set() or time.monotonic() > min(until, heard + idle):
                    late.set()
                    return inside.process.kill()

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            _send(inside.process.stdin, job)
            for event in _events(inside.process.stdout):
                running, heard = event.get("cell", running), time.monotonic()
                _note(result, event, tasks, limits)
        finally:
            over.set()
            watching.join()
        stopped = inside.stopped
    if stop.is_set():
        result.broken = "it was stopped"
        return result
    missing = [cell for cell in range(len(tasks)) if cell not in result.passed]
    if missing and result.crashed_cell is None and result.broken is None:
        if not result.started:
            result.broken = stopped or "The process that runs notebooks ended before the first cell."
        else:
            result.crashed_cell = running if running in missing else missing[0]
            result.why = stopped or ("It took too long." if late.is_set() else "It killed the process that ran it.")
    return result


def _send(stdin: Any, job: dict[str, Any]) -> None:
    try:
        with stdin:
            stdin.write(json.dumps(job).encode())
    except BrokenPipeError:  # it ended at once; what follows says so
        pass


def _events(stdout: Any) -> Iterator[dict[str, Any]]:
    """The lines that were written to their end: whoever writes them may be killed in the middle of one."""
    while (line := stdout.readline(LARGEST_LINE)).endswith(b"\n"):
        yield json.loads(line)


def _note(result: Attempt, event: dict[str, Any], tasks: Sequence[Task], limits: Limits) -> None:
    state, cell = event["state"], event.get("cell")
    if state == "starts":
        result.started = True
    elif state in ("passed", "failed"):
        result.passed[cell] = state == "passed"
        result.messages[cell] = event.get("message", "")
        if tasks[cell].reply:
            result.replies[tasks[cell].reply] = event.get("reply")
    elif state == "hangs":
        result.crashed_cell, result.why = cell, f"It did not finish within {limits.cell_seconds:g} seconds."
    elif state == "dies":
        result.crashed_cell, result.why = cell, "The kernel died while it ran."
    elif state == "broken":
        result.broken = event["message"]

"""Grading one notebook: a cell that kills or hangs its kernel costs its exercise; the others are graded without it."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pocketgpt.course.exercises import exercises
from pocketgpt.course.grading.attempt import Attempt, Task, attempt
from pocketgpt.course.grading.limits import Limits
from pocketgpt.course.grading.master import Master
from pocketgpt.course.grading.rebuild import Piece, Rebuilt
from pocketgpt.course.grading.results import Verdict
from pocketgpt.course.grading.sandbox import Sandbox
from pocketgpt.course.grading.verify import Questions, judge
from pocketgpt.errors import PocketError

# Whatever the student's code made of the name `check`, here it is ours again.
CHECK = "from pocketgpt.course import check\ncheck.{0}({0})"
ASK = "from pocketgpt.course.grading.verify import reply\nreply('{0}', {0})"


@dataclass
class Grading:
    """What is known so far about one notebook."""

    master: Master
    pieces: list[Piece]
    sandbox: Sandbox
    limits: Limits
    questions: Mapping[str, Questions]
    passed: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)  # by the index of the piece: why
    notes: list[str] = field(default_factory=list)


class NotGraded(PocketError):
    """A notebook could not be run, for a reason that is not its own."""


def grade(
    rebuilt: Rebuilt, master: Master, sandbox: Sandbox, limits: Limits, *, verify: bool = True
) -> tuple[tuple[Verdict, ...], tuple[str, ...]]:
    """A verdict for each exercise of the chapter, in its order, and notes for a person.

    Raises NotGraded if it could not be run.
    """
    seed = secrets.randbits(63)
    names = master.exercises if verify else ()
    questions = {name: Questions.draw(exercises()[name], seed) for name in names}
    grading = Grading(master, rebuilt.pieces, sandbox, limits, questions)
    until = time.monotonic() + limits.notebook_seconds
    while time.monotonic() < until:
        if _run(grading, set(range(len(rebuilt.pieces))) - set(grading.left_out), until):
            break
    else:
        grading.notes.append(f"It was stopped after {limits.notebook_seconds:g} seconds.")
    if len(grading.left_out) > 1:  # whose fault was it? Those that were running get a run of their own
        for name in [name for name in master.exercises if name not in grading.passed]:
            alone = {i for i, piece in enumerate(rebuilt.pieces) if not piece.origin or piece.exercise == name}
            if time.monotonic() < until and any(rebuilt.pieces[i].exercise == name for i in grading.left_out):
                _run(grading, alone, until)
    return tuple(_verdict(grading, name) for name in master.exercises), tuple(grading.notes)


def _run(grading: Grading, kept: set[int], until: float) -> bool:
    """Run the pieces that are kept, and note what comes of it. Returns whether it ran to the end."""
    pieces = [(i, piece if i in kept else _empty(grading.master, piece)) for i, piece in enumerate(grading.pieces)]
    pieces = [(i, piece) for i, piece in pieces if piece]
    tasks, origins = [], []
    for index, piece in pieces:
        for task in _tasks(piece, grading.questions):
            tasks.append(task)
            origins.append(index)
    encoded = {name: questions.encoded() for name, questions in grading.questions.items()}
    result = attempt(tasks, encoded, grading.sandbox, grading.limits, max(until - time.monotonic(), 1.0))
    if result.broken or _ours_failed(grading, result, origins):
        raise NotGraded(f"The notebook could not be run here: {result.broken or result.messages[0]}")
    _note_checks(grading, result, origins, tasks)
    if result.culprit is not None:
        _leave_out(grading, origins[result.culprit], result.why)
    return result.culprit is None


def _tasks(piece: Piece, questions: Mapping[str, Questions]) -> list[Task]:
    if piece.role != "check":
        return [Task(piece.source)]
    name = piece.exercise
    check = Task(CHECK.format(name), prints=exercises()[name].success + "\n")
    return [check, Task(ASK.format(name), reply=name)] if name in questions else [check]


def _empty(master: Master, piece: Piece) -> Piece | None:
    """What stands in the place of a piece that is left out: of an answer, the empty one."""
    if piece.role != "answer":
        return None
    stub = next(cell for cell in master.cells if cell.role == "answer" and cell.exercise == piece.exercise)
    return Piece("answer", stub.source, piece.exercise)


def _ours_failed(grading: Grading, result: Attempt, origins: list[int]) -> bool:
    """Whether the very first cell failed and is ours: then nothing here works."""
    return not grading.pieces[origins[0]].origin and result.passed.get(0) is False


def _note_checks(grading: Grading, result: Attempt, origins: list[int], tasks: list[Task]) -> None:
    for number, (index, task) in enumerate(zip(origins, tasks, strict=True)):
        piece, message = grading.pieces[index], result.messages.get(number, "")
        name = piece.exercise
        if piece.role == "answer" and result.passed.get(number) is False:
            grading.failed[name] = message  # the cell itself fails: what the check says then is of no use
        if not task.prints or number not in result.passed or name in grading.passed:
            continue
        if not result.passed[number]:
            grading.failed.setdefault(name, message or "The check did not print its line.")
        elif name not in grading.questions:
            grading.passed[name] = exercises()[name].success
        elif number + 1 in result.passed:
            problem = judge(grading.questions[name], result.replies.get(name))
            if problem is None:
                grading.passed[name] = exercises()[name].success
            else:
                grading.failed[name] = f"The check passed, but the answer is not right. {problem}"


def _leave_out(grading: Grading, index: int, why: str) -> None:
    """Leave a piece out of the next run; if a check was running, the answer that it called."""
    piece = grading.pieces[index]
    if piece.role in ("check", "answer"):
        both = [i for i, each in enumerate(grading.pieces) if each.exercise == piece.exercise]
        grading.left_out |= dict.fromkeys(both, why)
        grading.failed[piece.exercise] = why
    else:
        grading.left_out[index] = why
        what = f"Cell {piece.origin}" if piece.origin else "A cell of the chapter that uses the answers"
        grading.notes.append(f"{what} was left out. {why}")


def _verdict(grading: Grading, name: str) -> Verdict:
    if name in grading.passed:
        return Verdict(name, True, grading.passed[name])
    return Verdict(name, False, grading.failed.get(name, "It was not reached: the run was stopped before."))

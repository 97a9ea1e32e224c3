"""Grading one notebook: a cell that kills or hangs its kernel costs its exercise; the others are graded without it."""

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.errors import PocketError
from pocketgpt.grading.attempt import Attempt, Task, attempt
from pocketgpt.grading.master import Master
from pocketgpt.grading.protection.limits import Limits
from pocketgpt.grading.protection.sandbox import Sandbox
from pocketgpt.grading.rebuild import Piece
from pocketgpt.grading.results import Verdict
from pocketgpt.grading.verify import Questions, judge

BEGIN = Task("from pocketgpt.course.lab import check")  # if this fails, it is not the notebook's fault
# Whatever the student's code made of the name `check`, here it is ours again.
CHECK = "from pocketgpt.course.lab import check\ncheck.{0}({0})"
ASK = "from pocketgpt.grading.verify import reply\nreply({0}, {1!r})"


class NotGraded(PocketError):
    """A notebook could not be run, for a reason that is not its own."""


def run_pieces(
    pieces: Sequence[Piece],
    master: Master,
    sandbox: Sandbox,
    limits: Limits,
    stop: threading.Event,
    *,
    verify: bool = True,
) -> tuple[tuple[Verdict, ...], tuple[str, ...]]:
    """A verdict for each exercise of the chapter, in its order, and notes for a person.

    Raises NotGraded if nothing can be run here, or if `stop` is set.
    """
    questions = draw(master.exercises) if verify else {}
    grading = Grading(master, pieces, sandbox, limits, questions, stop)
    until = time.monotonic() + limits.notebook_seconds
    while time.monotonic() < until:
        blamed = len(grading.left_out)
        if grading.run(set(range(len(pieces))) - set(grading.left_out), until):
            break
        if len(grading.left_out) == blamed and not grading.leave_out_extras():
            break
    else:
        grading.notes.append(f"It was stopped after {limits.notebook_seconds:g} seconds.")
    answered = [piece.exercise for piece in pieces if piece.role == "answer" and piece.origin]
    for name in [
        each for each in answered if grading.left_out and each not in grading.settled | grading.passed
    ]:  # was it really theirs?
        alone = {i for i, piece in enumerate(pieces) if not piece.origin or piece.exercise == name}
        if len(alone) < len(pieces) and time.monotonic() < until:
            why = grading.failed.pop(name, None)
            grading.run(alone, until)
            if why:
                grading.failed.setdefault(name, why)
    return tuple(grading.verdict(name) for name in master.exercises), tuple(grading.notes)


@dataclass
class Grading:
    """Findings about one notebook so far.

    passed    exercises, and `failed` those that did not pass so far, with what was said
    settled   exercises that were judged while nothing was left out
    left_out  the indices of pieces, and why
    """

    master: Master
    pieces: Sequence[Piece]
    sandbox: Sandbox
    limits: Limits
    questions: Mapping[str, Questions]
    stop: threading.Event
    passed: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    left_out: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    begun: bool = False

    def run(self, kept: set[int], until: float) -> bool:
        """Run the pieces that are kept, and note what comes of it. Returns whether it ran to the end."""
        pieces = [(i, piece if i in kept else _empty(self.master, piece)) for i, piece in enumerate(self.pieces)]
        steps = [(i, task) for i, piece in pieces if piece for task in _tasks(piece, self.questions)]
        steps.insert(0, (None, BEGIN))
        tasks = [task for _, task in steps]
        seconds = max(until - time.monotonic(), 1.0)
        result = attempt(tasks, self.sandbox, self.limits, seconds, self.stop)
        if result.broken or not result.passed.get(0):
            if self.begun and not self.stop.is_set():  # only the time is over
                return False
            raise NotGraded(f"Nothing can be run here: {result.broken or result.why or result.messages[0]}")
        self.begun = True
        for number, (index, task) in list(enumerate(steps))[1:]:
            if index in kept:
                self.note(self.pieces[index], task, number, result)
        if result.crashed_cell is not None:
            self.leave_out(steps[result.crashed_cell][0], result.why)
        return result.crashed_cell is None

    def note(self, piece: Piece, task: Task, number: int, result: Attempt) -> None:
        """Verdict that a cell gives, if it concerns an exercise."""
        name, message = piece.exercise, result.messages.get(number, "")
        if piece.role == "answer" and result.passed.get(number) is False:
            self.failed[name] = message  # what the check says about a cell that does not run is of no use
        if not task.prints or number not in result.passed or name in self.passed:
            return
        if not self.left_out:
            self.settled.add(name)
        if not result.passed[number]:
            self.failed.setdefault(name, message or "The check ran, and did not say that the answer is right.")
        elif name not in self.questions:
            self.passed.add(name)
        elif number + 1 not in result.passed:
            self.settled.discard(name)  # its questions were not answered
        else:
            if problem := judge(self.questions[name], result.replies.get(name)):
                self.failed[name] = f"The check passed, but the answer is not right. {problem}"
            else:
                self.passed.add(name)

    def leave_out(self, index: int, why: str) -> None:
        """Leave a piece out from now on; if a check was running, the answer that it called."""
        piece = self.pieces[index]
        if piece.role in ("check", "answer"):
            both = [i for i, each in enumerate(self.pieces) if each.exercise == piece.exercise]
            self.left_out |= dict.fromkeys(both, why)
            self.failed[piece.exercise] = why
        else:
            self.left_out[index] = why
            what = f"Cell {piece.origin}" if piece.origin else "A cell of the chapter that uses the answers"
            self.notes.append(f"{what} was left out. {why}")

    def leave_out_extras(self) -> bool:
        """Leave out all additional cells: what died was already without its answer. Returns whether there are any."""
        extras = [i for i, piece in enumerate(self.pieces) if piece.role == "extra" and i not in self.left_out]
        self.left_out |= dict.fromkeys(extras, "")
        if extras:
            self.notes.append("The additional cells were left out, because one of them ends the kernel later.")
        return bool(extras)

    def verdict(self, name: str) -> Verdict:
        if name in self.passed:
            return Verdict(name, True, exercises()[name].success)
        return Verdict(name, False, self.failed.get(name, "It was not reached: the run was stopped before."))


def draw(names: Sequence[str]) -> dict[str, Questions]:
    """Secret questions for each exercise."""
    return {name: Questions.draw(exercises()[name], secrets.randbits(63)) for name in names}


def _tasks(piece: Piece, questions: Mapping[str, Questions]) -> list[Task]:
    if piece.role != "check":
        return [Task(piece.source)]
    name = piece.exercise
    check = Task(CHECK.format(name), prints=exercises()[name].success)
    return [check, Task(ASK.format(name, str(questions[name])), reply=name)] if name in questions else [check]


def _empty(master: Master, piece: Piece) -> Piece | None:
    """Replacement for a piece that is left out; for an answer, the empty stub."""
    if piece.role != "answer":
        return None
    stub = next(cell for cell in master.cells if cell.role == "answer" and cell.exercise == piece.exercise)
    return Piece("answer", stub.source, piece.exercise)

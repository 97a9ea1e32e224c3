"""Grading one notebook: a cell that kills or hangs its kernel costs its exercise; the others are graded without it."""

import secrets
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.errors import PocketError
from pocketgpt.grading.attempt import Attempt, Task, attempt
from pocketgpt.grading.blind import package
from pocketgpt.grading.master import Master
from pocketgpt.grading.protection.limits import Limits
from pocketgpt.grading.protection.sandbox import Sandbox
from pocketgpt.grading.rebuild import Piece
from pocketgpt.grading.results import Verdict
from pocketgpt.grading.verify import Questions, borrowed, judge, stand_ins

BEGIN = Task("from pocketgpt.course.lab import check")  # if this fails, it is not the notebook's fault
# Whatever the student's code made of the name `check`, here it is ours again.
CHECK = "from pocketgpt.course.lab import check\ncheck.{0}({0})"
BEGIN_BLIND = "from pocketgpt.grading.blind import begin\nbegin({0!r}, {1!r})"
ASK = "from pocketgpt.grading.blind import reply\nreply({0}, {1!r}, {2!r})"


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
    grading = Grading(master, pieces, sandbox, limits, stop)
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
    if verify:
        grading.confirm(until)
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
        steps = [(None, BEGIN)] + [(i, _task(piece)) for i, piece in pieces if piece]
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
        if result.passed[number]:
            self.passed.add(name)
        else:
            self.failed.setdefault(name, message or "The check ran, and did not say that the answer is right.")

    def confirm(self, until: float) -> None:
        """Ask every function that passed again, in a blind run, and take back what is not right there.

        If the kernel dies, those that are not settled are asked without the additional cells, then one by one.
        """
        extras = {i for i, piece in enumerate(self.pieces) if piece.role == "extra" and i not in self.left_out}
        ran = {
            piece.exercise for i, piece in enumerate(self.pieces) if piece.role == "answer" and i not in self.left_out
        }
        answers = ran | self.passed
        waiting = dict.fromkeys(sorted(self.passed), "It gave no answer when it was asked again with new inputs.")
        if waiting and not self.ask(waiting, [*waiting], answers, extras, until):
            if extras and waiting:
                self.ask(waiting, [*waiting], answers, (), until)
            for name in [*waiting]:
                self.ask(waiting, [name], {name}, extras, until)
        for name, problem in waiting.items():
            self.passed.discard(name)
            self.failed[name] = f"The check passed, but the answer is not right. {problem}"

    def ask(
        self,
        waiting: dict[str, str],
        names: Sequence[str],
        answers: Collection[str],
        extras: Collection[int],
        until: float,
    ) -> bool:
        """One blind run, which asks some functions: the right ones wait no longer, and of the others it notes why.

        Returns whether it ran to its end.
        """
        if time.monotonic() > until:
            return False
        questions = {name: Questions.draw(exercises()[name], secrets.randbits(62)) for name in names}
        # For `yours`; of exercises that are not asked, so that none of them answers a question.
        others = stand_ins(exercises()[name] for name in self.master.exercises if name not in questions)
        others |= borrowed(self.master)
        forbidden = sorted({name for each in names for name in exercises()[each].forbidden})
        steps = [("", Task(BEGIN_BLIND.format(others, forbidden)))]
        for index, piece in enumerate(self.pieces):
            name = piece.exercise
            if piece.role == "check" and name in questions:
                ask = ASK.format(name, str(questions[name]), exercises()[name].forbidden)
                steps.append((name, Task(ask, reply=name)))
            elif piece.role == "given" or name in answers or index in extras:
                steps.append((name, Task(piece.source)))
        blind = replace(self.sandbox, package=package())
        tasks = [task for _, task in steps]
        result = attempt(tasks, blind, self.limits, max(until - time.monotonic(), 1.0), self.stop)
        if self.stop.is_set() or (result.broken and time.monotonic() < until):
            raise NotGraded(f"Nothing can be run here: {result.broken or result.why}")
        problems = {name: judge(questions[name], reply) for name, reply in result.replies.items()}
        if result.crashed_cell is not None and (name := steps[result.crashed_cell][0]) in waiting:
            problems[name] = result.why
        for name, problem in problems.items():
            if problem is None:
                del waiting[name]
            else:
                waiting[name] = problem
        return result.crashed_cell is None

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


def _task(piece: Piece) -> Task:
    if piece.role != "check":
        return Task(piece.source)
    return Task(CHECK.format(piece.exercise), prints=exercises()[piece.exercise].success)


def _empty(master: Master, piece: Piece) -> Piece | None:
    """Replacement for a piece that is left out; for an answer, the empty stub."""
    if piece.role != "answer":
        return None
    stub = next(cell for cell in master.cells if cell.role == "answer" and cell.exercise == piece.exercise)
    return Piece("answer", stub.source, piece.exercise)

"""Grading a folder of submissions: several at once, none of which can stop the others."""

import os
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from pocketgpt.grading.fault_isolation import NotGraded, run_pieces
from pocketgpt.grading.flags import flags
from pocketgpt.grading.master import Master
from pocketgpt.grading.protection.limits import Limits
from pocketgpt.grading.protection.sandbox import Sandbox
from pocketgpt.grading.prune_cells import prune_cells
from pocketgpt.grading.rebuild import Rebuilt, chapter_of, rebuild
from pocketgpt.grading.results import Result, Verdict
from pocketgpt.grading.results_cache import Outcome, keep, key, recall
from pocketgpt.grading.signature import signature_note
from pocketgpt.grading.submissions import Cell, Submission, read
from pocketgpt.grading.verify import ONE_AT_A_TIME, empty


@dataclass(frozen=True, kw_only=True)
class Grader:
    """Grades submissions.

    verify   ask every function again outside of the process that its check runs in
    memory   the folder that results are kept in, None to keep nothing
    """

    masters: dict[str, Master]
    sandbox: Sandbox
    limits: Limits
    verify: bool = True
    memory: Path | None = None

    def grade(self, submission: Submission, stop: threading.Event | None = None) -> Result:
        """The result of one notebook, whatever it is. Raises NotGraded if the reason is not the notebook's."""
        blank = Result(submission.student, submission.file, notes=submission.notes)
        if submission.problem:
            return _with_notes(blank, submission.problem)
        blank = replace(blank, submitted=submission.path.stat().st_mtime)
        cells, problem = read(submission.path)
        with ONE_AT_A_TIME:
            chapter, note = chapter_of(cells, self.masters) if not problem else (None, problem)
            blank = _with_notes(blank, note)
            if chapter is None:
                return blank
            master = self.masters[chapter]
            rebuilt = rebuild(cells, master)
            marked = flags(_written(cells, rebuilt), master)
            known = not submission.notes and chapter not in submission.student
            signature = signature_note(rebuilt, submission.student, known=known)
        outcome = self.outcome(rebuilt, master, stop or threading.Event())
        return replace(
            _with_notes(blank, _misnamed(submission, chapter, self.masters), *rebuilt.notes, signature, *outcome.notes),
            chapter=chapter,
            verdicts=outcome.verdicts,
            flags=marked,
            seconds=outcome.seconds,
            answers=rebuilt.fingerprint,
        )

    def outcome(self, rebuilt: Rebuilt, master: Master, stop: threading.Event) -> Outcome:
        """Run a rebuilt notebook, or recall its cached outcome."""
        if rebuilt.untouched:
            verdicts = tuple(Verdict(name, False, empty(name)) for name in master.exercises)
            return Outcome(verdicts, ("It is untouched: no answer and no other code was written.",), 0.0)
        with ONE_AT_A_TIME:
            pieces = prune_cells(rebuilt.pieces)
        name = key(pieces, (master.chapter, self.limits, self.verify, self.sandbox.kind))
        if self.memory and (known := recall(self.memory, name)):
            return known
        begin = time.monotonic()
        verdicts, notes = run_pieces(pieces, master, self.sandbox, self.limits, stop, verify=self.verify)
        outcome = Outcome(verdicts, notes, round(time.monotonic() - begin, 2))
        if self.memory:
            keep(self.memory, name, outcome)
        return outcome


def grade_all(grader: Grader, submissions: Sequence[Submission], *, jobs: int | None = None) -> list[Result]:
    """The results of all notebooks, several at once, with a progress bar.

    After Ctrl-C what was running is stopped, and what was found is kept for the next time.
    """
    stop = threading.Event()
    results = []
    with (
        ThreadPoolExecutor(jobs or os.cpu_count()) as pool,
        tqdm(total=len(submissions), desc="Grading", unit=" notebook") as bar,
    ):
        waiting = {pool.submit(grader.grade, each, stop): each for each in submissions}
        try:
            for done in as_completed(waiting):
                results.append(_result(done, waiting[done]))
                bar.update()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return _compared(results)


def _result(done: Future, submission: Submission) -> Result:
    """Result of a job; an error in it does not stop the others."""
    blank = Result(submission.student, submission.file, notes=submission.notes)
    try:
        return done.result()
    except NotGraded as error:
        return _with_notes(blank, str(error))
    except Exception as error:
        problem = (
            f"The grader itself failed on this notebook ({type(error).__name__}: {str(error)[:300]}). Grade it by hand."
        )
        return _with_notes(blank, problem)


def _compared(results: Sequence[Result]) -> list[Result]:
    """What needs the whole class: notes on several files of one student for a chapter, and equal answers of several."""
    by_student: dict[tuple, list[Result]] = {}
    by_answers: dict[tuple, set[str]] = {}
    for each in results:
        by_student.setdefault((each.student, each.chapter), []).append(each)
        by_answers.setdefault((each.chapter, each.answers), set()).add(each.student)
    marked = []
    for each in results:
        files = [other.file for other in by_student[each.student, each.chapter]]
        others = by_answers[each.chapter, each.answers] - {each.student}
        notes = []
        if each.chapter and len(files) > 1:
            notes.append(
                f"{len(files)} files by this student for this chapter ({', '.join(sorted(files))}): choose one."
            )
        same_as = tuple(sorted(others)) if each.answers else ()
        marked.append(replace(_with_notes(each, *notes), same_as=same_as))
    return sorted(marked, key=lambda each: each.file)


def _with_notes(result: Result, *notes: str) -> Result:
    return replace(result, notes=(*result.notes, *filter(None, notes)))


def _misnamed(submission: Submission, chapter: str, chapters: Collection[str]) -> str:
    """A note if the file has the name of another chapter than its cells."""
    named = [name for name in chapters if name in submission.file]
    return f"Its name says {named[0]}; its cells are those of {chapter}." if named and chapter not in named else ""


def _written(cells: Sequence[Cell], rebuilt: Rebuilt) -> list[tuple[int, str]]:
    """The cells with code of the student's that were run, by number."""
    numbers = {piece.origin for piece in rebuilt.pieces if piece.origin}
    return [(cell.number, cell.source) for cell in cells if cell.number in numbers]

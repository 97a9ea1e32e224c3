"""How long grading forty honest notebooks of a chapter takes, and what takes the time.

    python tests/benchmarks/grade_forty.py 02_attention

Each notebook is a little different, so that no result is used twice.
"""

import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from pocketgpt.course.building import ROOT
from pocketgpt.grading.attempt import Task, attempt
from pocketgpt.grading.fault_isolation import BEGIN
from pocketgpt.grading.grade import Grader, grade_all
from pocketgpt.grading.master import masters
from pocketgpt.grading.protection.limits import Limits
from pocketgpt.grading.protection.sandbox import choose
from pocketgpt.grading.submissions import submissions

STUDENTS, RUNS = 40, 5


def hand_in(chapter: str, folder: Path) -> None:
    solution = json.loads((ROOT / "solutions" / f"{chapter}.ipynb").read_text())
    for number in range(STUDENTS):
        for cell in solution["cells"]:
            if cell["metadata"].get("nbgrader", {}).get("solution"):
                cell["source"] = [*cell["source"], f"\n# student {number}"]
        (folder / f"student{number:02d}.ipynb").write_text(json.dumps(solution))


def seconds(grader: Grader, tasks: list[Task]) -> float:
    """The median time of running a few cells alone."""
    times = []
    for _ in range(RUNS):
        begin = time.monotonic()
        assert attempt(tasks, grader.sandbox, grader.limits, 600, threading.Event()).passed[0]
        times.append(time.monotonic() - begin)
    return median(times)


def main(chapter: str) -> None:
    limits = Limits()
    grader = Grader(masters=masters(), sandbox=choose(limits), limits=limits)
    print("\n".join(grader.sandbox.lines))
    kernel = seconds(grader, [Task("pass")])
    imports = seconds(grader, [BEGIN]) - kernel
    with tempfile.TemporaryDirectory() as folder:
        hand_in(chapter, Path(folder))
        found = list(submissions(Path(folder), list(grader.masters)))
        alone = median(grader.grade(each).seconds for each in found[:RUNS])
        begin = time.monotonic()
        results = grade_all(grader, found)
        whole = time.monotonic() - begin
    assert all(verdict.passed for result in results for verdict in result.verdicts)
    print(f"one notebook alone: {alone:.2f} s, of which")
    print(f"  starting sandbox, pytest and kernel: {kernel:.2f} s")
    print(f"  importing torch and the checks:      {imports:.2f} s")
    print(f"  everything else:                     {alone - kernel - imports:.2f} s")
    print(f"{STUDENTS} notebooks, several at once: {whole:.1f} s, {whole / STUDENTS:.2f} s each")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "02_attention")

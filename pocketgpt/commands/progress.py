"""`pocketgpt progress`: what the learner has solved, from the progress record."""

from collections import Counter, defaultdict

from pocketgpt.course.progress import events, record_file
from pocketgpt.course.syllabus import exercise_names, find_exercise
from pocketgpt.errors import PocketError
from pocketgpt.table import table


def progress() -> None:
    """Show which exercises you have solved, in how many tries, and the mistakes that checks found by name.

    The record is a file on this machine: ~/.pocketgpt/progress.jsonl, or the one that POCKETGPT_PROGRESS names;
    POCKETGPT_PROGRESS=off switches it off.
    """
    print(describe())


def describe() -> str:
    """Table of the exercises that were checked, in the order of the course; below it, how many of all are solved."""
    try:
        file = record_file()
    except RuntimeError as error:  # no home folder, or ~ with an unknown name
        raise PocketError(f"There is no place for the progress record: {error} Set POCKETGPT_PROGRESS.") from error
    if file is None:
        return "The progress record is switched off (POCKETGPT_PROGRESS)."
    names = exercise_names()
    tries, mistakes, solved = Counter(), defaultdict(Counter), {}
    for event in events():
        name = event.get("exercise")
        if name not in names or name in solved:
            continue
        tries[name] += 1
        if event.get("passed"):
            solved[name] = str(event.get("time", ""))[:10]
        elif event.get("mistake"):
            mistakes[name][event["mistake"]] += 1
    if not tries:
        return f"No exercise has been checked yet ({file}). Open chapters/00_start_here.ipynb and run its check."
    rows = [
        [
            f"{name} ({find_exercise(name).number})",
            f"✓ {solved[name]}" if name in solved else "not yet",
            str(tries[name]),
            ", ".join(mistake.replace("_", " ") for mistake in mistakes[name]),
        ]
        for name in names
        if name in tries
    ]
    points = sum(find_exercise(name).points for name in solved)
    return "\n\n".join(
        [
            table(["exercise", "solved", "tries", "mistakes met"], rows),
            f"{len(solved)} of {len(names)} exercises solved, {points} points. Record: {file}",
        ]
    )

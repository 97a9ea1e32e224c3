"""The symptom table: what a trained model shows when one of its parts has a known mistake.

    symptoms("causal_mask")                                     # print the rows of an exercise
    python -m pocketgpt.course.lab.symptom_table                # measure all rows again, after new weights or mistakes

A row is measured by putting the mistake from an exercise's catalogue into the trained model: the loss on the held-out
passage, and the causality probe. Functions that work with a cache are measured in a model that reads with one.
"""

import json
import math
import textwrap
from collections.abc import Callable, Collection

import torch
from tqdm import tqdm

from pocketgpt.assets import asset
from pocketgpt.course.checking.exercise import Exercise
from pocketgpt.course.lab.caching import WithCache
from pocketgpt.course.lab.reporting import Trained, loss_and_leaks, trained
from pocketgpt.course.lab.transplanting import replaceable_part, transplant
from pocketgpt.course.syllabus import all_exercises, find_exercise
from pocketgpt.files import write_json

FILE = "symptoms.json"
RIGHT = "right"

Row = tuple[float | None, int | None]
"""Loss, or None if it is not a number; earlier positions that change, or None if the model stops with an error."""


def symptoms(*exercises: str, without: Collection[str] = (), only: Collection[str] = ()) -> None:
    """Print the measured symptoms of the known mistakes of these exercises, sorted by loss.

    Mistakes that stop the model with an error are only counted: nobody overlooks them. Those named in `without` are
    left out, such as a `view` that does in the model what a `reshape` does; with `only`, all but those named in it.
    """
    stored = json.loads(asset(FILE).read_text(encoding="utf-8"))
    print("  loss  leaks  mistake")
    _print_row(*stored[exercises[0]][RIGHT], "none: the right function")
    rows = []
    for name in exercises:
        sentences = {mistake.name: f"{name}: {mistake.sentence}" for mistake in find_exercise(name).mistakes}
        rows += [
            (*row, sentences[mistake])
            for mistake, row in stored[name].items()
            if mistake not in (RIGHT, *without) and (not only or mistake in only)
        ]
    for loss, leaks, sentence in sorted(rows, key=lambda row: (row[0] is None, row[0] or 0.0)):
        if leaks is not None:
            _print_row(loss, leaks, sentence)
    if errors := sum(leaks is None for _, leaks, _ in rows):
        print(f" error      –  {errors} more mistake{'s' if errors > 1 else ''}")


def _print_row(loss: float | None, leaks: int, sentence: str) -> None:
    result = "NaN" if loss is None else f"{loss:.2f}"
    shown = f"{result:>6}  {leaks:>5}  "
    print(textwrap.fill(sentence, width=92, initial_indent=shown, subsequent_indent=" " * len(shown)))


def measure(exercise: Exercise) -> dict[str, Row]:
    """The rows of an exercise: the right answer and each mistake, inside a trained model that has the part."""
    subject = trained(replaceable_part(exercise.name).model)
    functions = {RIGHT: exercise.finished_answer} | {mistake.name: mistake.function for mistake in exercise.mistakes}
    return {name: row(subject, exercise, function) for name, function in functions.items()}


def row(subject: Trained, exercise: Exercise, function: Callable) -> Row:
    """The row of one function in place of an exercise's part."""
    try:
        model = transplant(subject.model, **{exercise.name: function})
        decoding = replaceable_part(exercise.name).decoding
        loss, leaks = loss_and_leaks(WithCache(model) if decoding else model, subject.windows)
    except Exception:  # a mistake may raise anything
        return None, None
    return None if math.isnan(loss) else round(loss, 3), leaks


def main() -> None:
    """Measure the exercises that replace a part of a model, and store the rows in assets/."""
    torch.set_num_threads(1)
    shown = [exercise for exercise in all_exercises().values() if exercise.replaces]
    write_json(asset(FILE), {exercise.name: measure(exercise) for exercise in tqdm(shown, unit="exercise")})


if __name__ == "__main__":
    main()

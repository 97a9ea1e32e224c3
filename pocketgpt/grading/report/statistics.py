"""The class at a glance: for each exercise how many solved it, and the mistakes that several made."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.grading.results import Result

MOST_MISTAKES = 3


@dataclass(frozen=True)
class Standing:
    """One exercise in all notebooks of its chapter.

    solved    notebooks that pass
    tried     notebooks with another answer than the empty stub
    handed_in notebooks of the chapter
    mistakes  what the checks said most often, with the number of notebooks, at least two
    """

    exercise: str
    solved: int
    tried: int
    handed_in: int
    mistakes: tuple[tuple[str, int], ...]


def standings(results: Sequence[Result]) -> list[Standing]:
    """A Standing for each exercise that was graded, in the order of the course."""
    verdicts: dict[str, list] = {name: [] for name in exercises()}
    for result in results:
        for each in result.verdicts:
            verdicts[each.exercise].append(each)
    found = []
    for name, each in verdicts.items():
        if each:
            failed = [sentence(verdict.message) for verdict in each if not verdict.passed]
            wrong = Counter(text for text in failed if "is still empty" not in text)
            common = tuple((text, count) for text, count in wrong.most_common(MOST_MISTAKES) if count > 1)
            solved = sum(verdict.passed for verdict in each)
            found.append(Standing(name, solved, solved + wrong.total(), len(each), common))
    return found


def sentence(message: str) -> str:
    """First line of a check's message after the name of the exercise."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("✗")] or ["no message"]
    return lines[0]

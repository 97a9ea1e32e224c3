"""Parts that the three exercises share: the judgement of an answer, and answers that no case can be right for."""

from collections.abc import Callable

from pocketgpt.course.checking.exercise import Exercise, Mistake
from pocketgpt.course.lab.bug_cases import CASES, draw_cases, verdict
from pocketgpt.course.lab.bug_causes import CAUSES, PARTS

HINTS = ("the form of an answer", "where to look first", "a table")


def judge_of(part: str) -> Callable[[object], str | None]:
    """A judge of (seed, names) about the cases of a part."""

    def judge(value: object) -> str | None:
        if isinstance(value, list | tuple) and len(value) == 2:
            seed, names = value
            if isinstance(seed, list | tuple) and type(names) is int:
                return "The seed comes first, and then the names: return seed, names."
            return verdict(part, seed, names)
        if isinstance(value, list | tuple) and value and all(isinstance(each, str) for each in value):
            return "The names alone say nothing: return the seed that their cases were drawn with, too, seed, names."
        return f"The function should return two things, seed and names; yours returns a {type(value).__name__}."

    return judge


def right_names(part: str, seed: int) -> list[str]:
    return [case._cause for case in draw_cases(part, seed)]


def add_form_mistakes(exercise: Exercise, part: str, seed: int = 1) -> None:
    """Add the mistakes of form to the catalogue: what is said about each is what the judge says."""
    names = right_names(part, seed)
    other = next(each for each in PARTS if each != part)
    answers = {
        "seed_forgotten": names,
        "names_first": (names, seed),
        "seed_as_text": (str(seed), names),
        "four_names": (seed, names[:-1]),
        "six_names": (seed, [*names, names[0]]),
        "one_text": (seed, ", ".join(names)),
        "numbers_for_names": (seed, list(range(1, CASES + 1))),
        "set_of_names": (seed, {"number of names": len(names)}),
        "sentences_for_keys": (seed, [CAUSES[part][name] for name in names]),
        "spaces_for_underscores": (seed, [name.replace("_", " ") for name in names]),
        "keys_of_another_part": (seed, list(CAUSES[other])[:CASES]),
    }
    for name, value in answers.items():
        exercise.mistakes.append(Mistake(name, exercise.judge(value), _returning(value), hint=1))


def _returning(value: object) -> Callable[[], object]:
    return lambda: value

"""Cases of the exam, which follow from a name: each reader has others, and a copied answer has the name in it.

Their causes are those of pocketgpt.course.ch24_find_the_bug, which a hand-out of the exam therefore contains.
"""

import hashlib
import unicodedata
from collections.abc import Callable
from functools import partial

from pocketgpt.course.checking.exercise import Exercise, Mistake
from pocketgpt.course.lab.bug_cases import CASES, Case, draw_cases, malformed, right_names
from pocketgpt.course.lab.bug_causes import CAUSES

TERM = "2026"  # another text gives everybody other cases
PART = "all"


def seed_of(name: str) -> int:
    """The seed that belongs to a name, however it is capitalized and spaced."""
    plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    return int.from_bytes(hashlib.sha256(f"{TERM} {plain}".encode()).digest()[:6], "big")


def my_cases(name: str) -> tuple[Case, ...]:
    """The five cases of a name, from all three parts."""
    return draw_cases(PART, seed_of(name))


def right_answer(name: str) -> tuple[str, list[str]]:
    """The name, and the causes of its cases."""
    return name, [case._cause for case in my_cases(name)]


def judge_of(needed: int) -> Callable[[object], str | None]:
    """A judge of (name, keys): None if so many of the causes are right; otherwise a sentence."""
    return partial(_judged, needed)


def guess(value: object) -> tuple | None:
    """The name and the keys of an answer that has the right form, whether they are right or not."""
    if not isinstance(value, tuple | list) or len(value) != 2 or type(value[0]) is not str:
        return None
    name, keys = value
    return None if malformed(my_cases(name), keys) else (seed_of(name), *keys)


def _judged(needed: int, value: object) -> str | None:
    if not isinstance(value, tuple | list) or len(value) != 2:
        returned = f"yours returns a {type(value).__name__}"
        return f"The function should return two things, your name and a list of {CASES} keys; {returned}."
    name, keys = value
    if isinstance(name, tuple | list):
        return "Your name comes first, and then the list of keys."
    if type(name) is not str or not name.strip(" ."):
        return "The first value should be your name, a text: your cases follow from it."
    if problem := malformed(my_cases(name), keys):
        return problem
    right = sum(right_names(PART, seed_of(name), keys))
    if right >= needed:
        return None
    which = "Not all" if needed == CASES else f"Fewer than {needed}"
    return f"{which} of the {CASES} causes are right for the cases of {name}."


def add_wrong_answers(exercise: Exercise, needed: int) -> None:
    """Add to the catalogue what is wrong in its form, and names that do not fit; the judge says what is wrong."""
    ada, keys = right_answer("Ada Lovelace")
    alan, alans = right_answer("Alan Turing")
    wrong = [_another(case) for case in my_cases(alan)]
    answers = {
        "name_forgotten": keys,
        "keys_first": (keys, ada),
        "no_name": ("...", keys),
        "four_keys": (ada, keys[:-1]),
        "six_keys": (ada, [*keys, keys[0]]),
        "one_text": (ada, ", ".join(keys)),
        "numbers": (ada, list(range(1, CASES + 1))),
        "sentences": (ada, [CAUSES[case.part][case._cause] for case in my_cases(ada)]),
        "too_few_right": (alan, alans[: needed - 1] + wrong[needed - 1 :]),
    }
    for name, value in answers.items():
        exercise.mistakes.append(Mistake(name, exercise.judge(value), _returning(value)))


def _another(case: Case) -> str:
    """A key of the case's part that is not its cause."""
    return next(key for key in CAUSES[case.part] if key != case._cause)


def _returning(value: object) -> Callable[[], object]:
    return lambda: value

"""Cases of the exam, which follow from a name: each reader has others, and a copied answer has the name in it."""

import hashlib
import unicodedata

from pocketgpt.course.lab.bug_cases import CASES, Case, draw_cases, malformed, right_names

TERM = "2026"  # another text gives everybody other cases
PART = "all"


def seed_of(name: str) -> int:
    """The seed that belongs to a name, however it is capitalized and spaced."""
    plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    return int.from_bytes(hashlib.sha256(f"{TERM} {plain}".encode()).digest()[:6], "big")


def my_cases(name: str) -> tuple[Case, ...]:
    """The five cases of a name, from all three parts."""
    return draw_cases(PART, seed_of(name))


def problem_in(value: object, needed: int) -> str | None:
    """None if an answer, (name, keys), has as many right names of causes as are needed; otherwise a sentence."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return f"Return two things: your name, and the list of {CASES} keys."
    name, keys = value
    if type(name) is not str or not name.strip(" ."):
        return "The first value should be your name, a text: your cases follow from it."
    if problem := malformed(my_cases(name), keys):
        return problem
    right = sum(right_names(PART, seed_of(name), keys))
    if right >= needed:
        return None
    which = "Not all" if needed == CASES else f"Fewer than {needed}"
    return f"{which} of the {CASES} causes are right for the cases of {name}."

"""Find the bug: cases that follow from a seed, what they show, and the answer to the names of their causes.

    cases = draw_cases("model", seed=1)           # five cases of a part: "model", "running", "training", or "all"
    cases[0].show()                               # a figure: what a practitioner would see
    causes("model")                               # prints the causes to choose from
    verdict("model", 1, ["no_scale", ...])        # None if all are right; otherwise a sentence

The same part and seed always give the same cases.
"""

import difflib
import hashlib
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pocketgpt.course.lab.bug_causes import CAUSES, NEVER_PLANTED, PARTS, RIGHT
from pocketgpt.errors import PocketError

if TYPE_CHECKING:
    from pocketgpt.course.lab.bug_evidence import Evidence

CASES = 5
TRIES = 4  # different wrong answers about one seed before the check says no more than that some are wrong
_tries: dict[tuple[str, int], set[tuple[str, ...]]] = {}


@dataclass(frozen=True)
class Case:
    """A model, or a training, with one planted mistake. `number` counts from 1. Its cause is not printed."""

    part: str
    seed: int
    number: int
    _cause: str = field(repr=False)

    @property
    def evidence(self) -> "Evidence":
        """What is measured of it."""
        return self.with_cause(self._cause)

    def with_cause(self, cause: str) -> "Evidence":
        """What would be measured in its place with another cause, or with "right": none."""
        from pocketgpt.course.lab.bug_evidence import evidence  # loads the model

        return evidence(self.part, cause, _number("setting", self.part, self.seed, self.number))

    def show(self) -> None:
        """Draw the evidence, beside that of the right model."""
        from pocketgpt.course.figures.bug_case import bug_case

        bug_case(self.evidence, self.with_cause(RIGHT), f"Case {self.number}" if self.number else "A worked case")


def draw_cases(part: str, seed: int, count: int = CASES) -> tuple[Case, ...]:
    """Draw cases of a part, each with another cause; with "all", every part has at least one.

    Raises PocketError for an unknown part, or for more cases than there are causes.
    """
    if part not in (*PARTS, "all"):
        raise PocketError(f"There is no part {part!r}. There are: {', '.join(PARTS)}, and all.")
    keys = [(each, key) for each in PARTS for key in CAUSES[each] if part in (each, "all") and key not in NEVER_PLANTED]
    if count > len(keys):
        raise PocketError(f"There are {len(keys)} causes in {part!r}, too few for {count} cases.")
    order = sorted(keys, key=lambda each: _number("cause", part, seed, *each))
    firsts = [next(key for key in order if key[0] == each) for each in PARTS if part == "all"][:count]
    chosen = {*firsts, *[key for key in order if key not in firsts][: count - len(firsts)]}
    drawn = sorted(chosen, key=lambda each: _number("order", part, seed, *each))
    return tuple(Case(each, seed, number, cause) for number, (each, cause) in enumerate(drawn, 1))


def worked_case(part: str, cause: str, seed: int = 0) -> Case:
    """A case with a cause of your choice, to look at."""
    if cause not in CAUSES[part]:
        raise PocketError(f"There is no cause {cause!r} in {part!r}. There are: {', '.join(CAUSES[part])}.")
    return Case(part, seed, 0, cause)


def causes(part: str) -> None:
    """Print the keys to choose from, each with what it means."""
    width = max(map(len, CAUSES[part]))
    for key, sentence in CAUSES[part].items():
        indent = " " * (width + 2)
        print(textwrap.fill(sentence, 100, initial_indent=f"{key:<{width}}  ", subsequent_indent=indent))


def right_names(part: str, seed: int, names: object, count: int = CASES) -> list[bool]:
    """Whether each case is named rightly; all False for an answer that `verdict` calls malformed."""
    cases = draw_cases(part, seed, count)
    if malformed(cases, names):
        return [False] * count
    return [name == case._cause for name, case in zip(names, cases, strict=True)]


def verdict(part: str, seed: object, names: object, count: int = CASES, hints: bool = True) -> str | None:
    """None if every case is named rightly; otherwise a sentence.

    With hints it says, for the first wrong name, what the evidence would have been with it. After TRIES different
    wrong answers about one seed it no longer does, so that nobody walks through by trial.
    """
    if type(seed) is not int:
        return f"The seed should be the whole number that you drew the cases with; yours is a {type(seed).__name__}."
    cases = draw_cases(part, seed, count)
    if problem := malformed(cases, names):
        return problem
    wrong = [case for case, name in zip(cases, names, strict=True) if name != case._cause]
    if not wrong:
        return None
    begin = f"Some of the {count} names are not right for seed {seed}."
    if not hints:
        return begin
    tries = _tries.setdefault((part, seed), set())
    if tuple(names) not in tries and len(tries) >= TRIES:
        return (
            f"{begin} That was another try with these cases, and evidence is not found by trying: draw fresh ones with "
            "another seed."
        )
    tries.add(tuple(names))
    return f"{begin} {contradiction(wrong[0], names[wrong[0].number - 1])}"


def contradiction(case: Case, name: str) -> str:
    """What the evidence would have been with a wrong name, and what it is."""
    said = case.with_cause(name).unlike(case.evidence)
    return f"Case {case.number} is not `{name}`: {said or 'compare its figure with the others once more.'}"


def malformed(cases: tuple[Case, ...], names: object) -> str | None:
    """A sentence about names that cannot be right for any cases: wrong types, unknown keys, too few."""
    count = len(cases)
    if not isinstance(names, list | tuple):
        return f"The names should be a list of {count} texts, one for each case; yours is a {type(names).__name__}."
    for number, name in enumerate(names, 1):
        if type(name) is not str:
            return (
                f"Name {number} should be a text, the key of a cause such as 'no_scale'; yours is a "
                f"{type(name).__name__}."
            )
    if len(names) != count:
        return f"There should be {count} names, one for each case, in their order; yours are {len(names)}."
    for case, name in zip(cases, names, strict=True):
        if name not in CAUSES[case.part]:
            return _unknown(case, name)
    return None


def _unknown(case: Case, name: str) -> str:
    known = {key: part for part in PARTS for key in CAUSES[part]}
    if name in known:
        return f"Case {case.number} belongs to the part {case.part!r}, and `{name}` is a cause of {known[name]!r}."
    close = difflib.get_close_matches(name, CAUSES[case.part], 1)
    meant = f" The closest is `{close[0]}`." if close else f" causes({case.part!r}) prints it."
    return f"There is no cause {name[:60]!r} in the list.{meant}"


def _number(*words: object) -> int:
    """A number that follows from the words, on every machine."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, words)).encode()).digest()[:8], "big")

"""Declaring an exercise: what is asked, what is right, and the mistakes that are known by name.

    @exercise(points=2, returns=("mask",), picture="mask")
    def causal_mask(query_positions, key_positions):
        '''True where a query may look at a key.'''
        return ...                                    # the reference: a framework operator wherever there is one

    @causal_mask.inputs
    def _(rng):                                       # fresh each time; the smallest case first, all sizes different
        yield torch.arange(3), torch.arange(3)

    @causal_mask.mistake
    def strictly_before(query_positions, key_positions):
        '''A query may look at its own position too: compare with ≤ instead of <.'''
        return key_positions[None, :] < query_positions[:, None]

    @causal_mask.finished                             # an accepted answer; later cells use it in place of a missing one
    def mask_by_broadcasting(query_positions, key_positions):
        return query_positions[:, None] >= key_positions

The name and the parameters of the reference are the learner's; the docstring of a mistake is what the learner reads.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Mistake:
    """A wrong implementation that learners really write, and the sentence that tells them what they did."""

    name: str
    sentence: str
    function: Callable


@dataclass(kw_only=True, eq=False)
class Exercise:
    """One exercise: declared once, it is the learner's check, the grade's points and the test of the check.

    number      "2.3": the third exercise of chapter 02, as the syllabus says when it is imported from there
    reference   a right answer, whose parameters are those the learner's function has
    hints       a name for each hint in the chapter
    returns     what the values that are returned are called in messages, such as ("output", "weights")
    picture     which of them is a matrix of queries by keys, to be drawn beside the target when it is wrong
    forbidden   names of functions that would do the whole exercise, wherever they are called from
    replaces    part of the trained model that the function can take the place of (lab/transplanting.py), if any
    tolerance   largest relative difference between two right answers (absolute: a tenth of it)
    """

    number: str
    reference: Callable
    points: int
    hints: tuple[str, ...] = ("a nudge", "the shapes", "pseudocode")
    returns: tuple[str, ...] = ("result",)
    picture: str | None = None
    forbidden: tuple[str, ...] = ()
    replaces: str | None = None
    tolerance: float = 1e-4
    mistakes: list[Mistake] = field(default_factory=list)
    accepted_answers: list[Callable] = field(default_factory=list)
    finished_answer: Callable | None = None
    draw: Callable[[torch.Generator], Iterator[tuple]] | None = None

    @property
    def name(self) -> str:
        return self.reference.__name__

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.reference).parameters)

    @property
    def success(self) -> str:
        """The one line that a check prints when the answer is right."""
        return f"✓ {self.number} {self.name} · {self.points} point{'s' if self.points != 1 else ''}"

    def inputs(self, draw: Callable) -> Callable:
        """Decorator: a generator function that yields the arguments of each case as a tuple."""
        self.draw = draw
        return draw

    def mistake(self, function: Callable) -> Callable:
        """Decorator: a wrong implementation; its docstring is the sentence the learner reads."""
        sentence = inspect.getdoc(function)
        if not sentence:
            raise TypeError(
                f"The mistake {function.__name__!r} of {self.name!r} needs a docstring: what was done wrong."
            )
        self.mistakes.append(Mistake(function.__name__, " ".join(sentence.split()), function))
        return function

    def accepted(self, function: Callable) -> Callable:
        """Decorator: a right answer that is written differently from the reference."""
        self.accepted_answers.append(function)
        return function

    def finished(self, function: Callable) -> Callable:
        """Decorator: the accepted answer that a notebook uses where the learner's does not pass.

        It is not the reference: that may be the framework's operator, which later checks refuse.
        """
        if self.finished_answer is not None:
            raise TypeError(f"The exercise {self.name!r} has two finished answers.")
        self.finished_answer = function
        return self.accepted(function)

    def cases(self, seed: int | None = None) -> list[tuple]:
        """The arguments of every case: new ones at each call, or those of a seed."""
        if self.draw is None:
            raise TypeError(f"The exercise {self.name!r} has no @{self.name}.inputs.")
        rng = torch.Generator()
        rng.manual_seed(seed) if seed is not None else rng.seed()
        return list(self.draw(rng))


def exercise(number: str = "", **properties: object) -> Callable[[Callable], Exercise]:
    """Decorator: the function below is the reference of an exercise, its name and parameters are the exercise's."""
    return lambda reference: Exercise(number=number, reference=reference, **properties)

"""Declaring an exercise: what is asked, what is right, and the mistakes that are known by name.

    @exercise(points=2, returns=("weights",), picture="weights", gradients=("scores",))
    def masked_softmax(scores: Float[Tensor, "*batch seq keys"], mask: Bool[Tensor, "*#batch seq keys"]):
        '''Weights that sum to 1 over the allowed keys.'''
        return ...                                    # the reference: a framework operator wherever there is one

Its inputs follow from the annotations (cases.py). What these cannot say is added:

    @masked_softmax.values                            # how a parameter is drawn: other arguments, sizes and rng by name
    def scores(rng, shape): ...

    @masked_softmax.inputs                            # special cases, as tuples of arguments
    def _(rng):
        yield torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)

    @masked_softmax.mistake(hint=1)
    def mask_ignored(scores, mask):
        '''The mask is not used: hidden keys get weight, too.'''
        return torch.softmax(scores, dim=-1)

    @masked_softmax.finished                          # an accepted answer; later cells use it in place of a missing one
    def softmax_then_zeros(scores, mask): ...

    @attention.composed                               # knows the mistakes of its parts, which are exercises, too
    def _(q, k, v, mask, *, attention_scores, masked_softmax): ...

The name and the parameters of the reference are the learner's; the docstring of a mistake is what the learner reads.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from pocketgpt.course.checking.cases import derived, shuffled


@dataclass(frozen=True)
class Mistake:
    """A wrong implementation that learners really write, the sentence that names it, and the hint that helps."""

    name: str
    sentence: str
    function: Callable
    hint: int | None = None


@dataclass(kw_only=True, eq=False)
class Exercise:
    """One exercise: declared once, it is the learner's check, the grade's points and the test of the check.

    number      "2.3": the third exercise of chapter 02, as the syllabus says when it is imported from there
    reference   a right answer, whose parameters are those the learner's function has
    hints       a name for each hint in the chapter; none in an exam
    returns     what the values that are returned are called in messages, such as ("output", "weights")
    order       the returned values in the order in which they are made, where one follows from others: the first wrong
                one is told, and that those before it are right
    picture     which of them is a matrix of queries by keys, to be drawn beside the target when it is wrong
    forbidden   names of functions that would do the whole exercise, wherever they are called from
    replaces    part of the trained model that the function can take the place of (lab/transplanting.py), if any
    tolerance   largest relative difference between two right answers (absolute: a tenth of it)
    sizes       by axis, the sizes to draw from; without an entry, any size from 1 up
    choices     by parameter that is no tensor, the values to try
    gradients   parameters that a gradient must reach; each tensor of a dictionary
    views       True if the result may share memory with an input
    raises      errors that some inputs demand, whatever their text; any of them counts
    dtype       dtype of the result, where it is not that of the inputs
    seconds     time limit of a call, where it is not the usual one
    signed      True if an answer begins with its student's name, which the grader compares with the path
    judge       instead of a comparison with the reference: a sentence about what is wrong with a returned value, None
                if it is right. For answers that say themselves which question they answer, such as a seed and names
    guess       what of a returned value could be found by trial, None if its form is wrong. After TRIES different wrong
                guesses a check says no more until Python is started anew
    """

    number: str
    reference: Callable
    points: int
    hints: tuple[str, ...] = ("a nudge", "the shapes", "pseudocode")
    returns: tuple[str, ...] = ("result",)
    order: tuple[str, ...] = ()
    picture: str | None = None
    forbidden: tuple[str, ...] = ()
    replaces: str | None = None
    tolerance: float = 1e-4
    sizes: dict[str, Sequence[int]] = field(default_factory=dict)
    choices: dict[str, Sequence] = field(default_factory=dict)
    gradients: tuple[str, ...] = ()
    views: bool = False
    raises: tuple[type[Exception], ...] = ()
    dtype: torch.dtype | None = None
    seconds: float | None = None
    signed: bool = False
    judge: Callable[[object], str | None] | None = None
    guess: Callable[[object], object] | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    accepted_answers: list[Callable] = field(default_factory=list)
    finished_answer: Callable | None = None
    assemble: Callable | None = None
    draws: dict[str, Callable] = field(default_factory=dict)
    special: Callable[[torch.Generator], Iterator[tuple]] | None = None
    own_traits: Callable[..., Iterator[str]] | None = None
    demands: list[Callable[[Callable, tuple], str | None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.reference.__name__

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.reference).parameters)

    @property
    def parts(self) -> tuple[str, ...]:
        """The exercises that it is composed of."""
        parameters = inspect.signature(self.assemble).parameters.values() if self.assemble else ()
        return tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)

    @property
    def success(self) -> str:
        """The one line that a check prints when the answer is right."""
        return f"✓ {self.number} {self.name} · {self.points} point{'s' if self.points != 1 else ''}"

    def inputs(self, special: Callable) -> Callable:
        """Decorator: a generator function that yields the arguments of each special case as a tuple."""
        self.special = special
        return special

    def values(self, draw: Callable) -> Callable:
        """Decorator: draws the parameter of its own name. Its parameters are taken from `rng`, `shape`, the sizes of
        the axes, the parameters drawn before (all without such a function, and those declared above), and, for values
        that are no tensors, `pool` (some tokens) and `length`."""
        if draw.__name__ not in self.parameters:
            raise TypeError(f"The exercise {self.name!r} has no parameter {draw.__name__!r}.")
        self.draws[draw.__name__] = draw
        return draw

    def traits(self, own: Callable) -> Callable:
        """Decorator: a generator function that yields more properties of the arguments of a case, in words that
        go on after "This is right, except where"."""
        self.own_traits = own
        return own

    def told_first(self, name: str) -> int:
        """Sort key of the names of returned values: which of several wrong ones a message tells."""
        return self.order.index(name) if name in self.order else int(name != self.picture)

    def mistake(self, function: Callable | None = None, *, hint: int | None = None) -> Callable:
        """Decorator: a wrong implementation; its docstring is the sentence the learner reads."""
        if function is None:
            return lambda function: self.mistake(function, hint=hint)
        sentence = inspect.getdoc(function)
        if not sentence:
            raise TypeError(
                f"The mistake {function.__name__!r} of {self.name!r} needs a docstring: what was done wrong."
            )
        if hint is not None and not 0 < hint <= len(self.hints):
            raise TypeError(f"The mistake {function.__name__!r} of {self.name!r} names hint {hint}, and there is none.")
        self.mistakes.append(Mistake(function.__name__, " ".join(sentence.split()), function, hint))
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

    def demand(self, function: Callable) -> Callable:
        """Decorator: demand(call, inputs) calls the answer with `call()`, or `call(inputs=others)`, and returns a
        sentence about what is wrong although the values are right, such as the memory it takes; None if nothing is."""
        self.demands.append(function)
        return function

    def composed(self, assemble: Callable) -> Callable:
        """Decorator: the exercise made of others, which are its keyword-only parameters."""
        self.assemble = assemble
        return assemble

    def cases(self, seed: int | None = None) -> list[tuple]:
        """The arguments of every case: new ones at each call, or those of a seed."""
        rng = torch.Generator()
        rng.manual_seed(seed) if seed is not None else rng.seed()
        cases = list(derived(self.reference, self.draws, self.sizes, self.choices, rng))
        cases += self.special(rng) if self.special else ()
        if not cases:
            raise TypeError(f"The exercise {self.name!r} has no @{self.name}.inputs, and its annotations give none.")
        return [tuple(shuffled(value, rng) for value in case) for case in cases]


def exercise(number: str = "", **properties: object) -> Callable[[Callable], Exercise]:
    """Decorator: the function below is the reference of an exercise, its name and parameters are the exercise's."""
    return lambda reference: Exercise(number=number, reference=reference, **properties)

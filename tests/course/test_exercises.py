"""Every exercise of the course keeps its promises: the catalogue of mistakes is the test of the check."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pocketgpt.course.checking.check import CheckFailed, diagnose, recognize
from pocketgpt.course.checking.compare import difference
from pocketgpt.course.checking.run import run
from pocketgpt.course.lab import check
from pocketgpt.course.syllabus import all_exercises as exercises

ALL = list(exercises().values())
SEEDS = range(2)

every_exercise = pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.name)
every_mistake = pytest.mark.parametrize(
    ("exercise", "mistake"),
    [pytest.param(e, m, id=f"{e.name}-{m.name}") for e in ALL for m in e.mistakes],
)
every_variant = pytest.mark.parametrize(
    ("exercise", "variant"),
    [pytest.param(e, v, id=f"{e.name}-{v.__name__}") for e in ALL for v in e.accepted_answers],
)


def changed(value, change):
    """A value with `change` applied to its tensors and numbers, whatever holds them."""
    if isinstance(value, tuple | list):
        return type(value)(changed(part, change) for part in value)
    return change(value) if isinstance(value, Tensor | float) else value


@every_mistake
def test_a_mistake_is_rejected_with_its_own_name(exercise, mistake):
    exercise = replace(exercise, forbidden=())  # a mistake may be written with them
    for seed in SEEDS:
        diagnosis = diagnose(exercise, mistake.function, seed)
        assert diagnosis is not None, "this wrong answer passes"
        assert diagnosis.mistake is mistake, diagnosis.sentence


@every_mistake
def test_the_inputs_tell_a_mistake_from_all_others(exercise, mistake):
    for seed in SEEDS:
        runs = [run(mistake.function, case) for case in exercise.cases(seed)]
        assert list(recognize(exercise, runs)) == [mistake]


@every_variant
def test_a_right_answer_written_differently_passes(exercise, variant):
    for seed in SEEDS:
        assert diagnose(exercise, variant, seed) is None


@every_exercise
def test_an_exercise_has_mistakes_and_variants_enough(exercise):
    assert len(exercise.mistakes) >= 5
    assert len(exercise.accepted_answers) >= 3
    assert len(exercise.hints) == 3
    assert exercise.reference.__doc__


@every_exercise
def test_sentences_are_sentences(exercise):
    sentences = [mistake.sentence for mistake in exercise.mistakes]
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert sentence[0].isupper() and sentence.endswith("."), sentence


@every_exercise
def test_success_prints_exactly_one_line(exercise, capsys):
    getattr(check, exercise.name)(exercise.accepted_answers[0])
    points = "1 point" if exercise.points == 1 else f"{exercise.points} points"
    printed = capsys.readouterr()
    assert printed.out == f"✓ {exercise.number} {exercise.name} · {points}\n"
    assert printed.err == ""


@every_exercise
def test_inputs_are_fresh_at_each_check(exercise):
    assert difference(exercise.cases(), exercise.cases(), tolerance=0.0) is not None


@every_exercise
def test_an_answer_that_remembers_what_was_right_for_other_inputs_fails(exercise):
    remembered = itertools.cycle([run(exercise.reference, case).value for case in exercise.cases(seed=0)])
    assert diagnose(exercise, lambda *inputs: next(remembered), seed=1) is not None


@every_exercise
def test_the_seed_alone_decides_the_inputs(exercise):
    for one, other in zip(exercise.cases(seed=0), exercise.cases(seed=0), strict=True):
        assert difference(one, other, tolerance=0.0) is None


@every_exercise
def test_the_reference_raises_nothing_and_makes_no_nan(exercise):
    for case in exercise.cases(seed=0):
        result = run(exercise.reference, case)
        assert result.error is None
        changed(result.value, lambda x: pytest.fail("NaN") if torch.as_tensor(x).isnan().any() else x)


def stub(*inputs):
    raise NotImplementedError()


def with_return(*inputs):
    return None


def with_ellipsis(*inputs):
    return ...


def text(*inputs):
    return {"not": "this"}.keys()


@every_exercise
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (stub, "is still empty"),
        (with_ellipsis, "is still empty"),
        (with_return, "returns None"),
        (text, "expected|should be"),
        (torch.softmax, "the library's own function"),
        (torch.nn.functional.softmax, "the library's own function"),
        (lambda a, b, c, d, e, f, g: None, "but its parameters are"),
        ("not a function", "needs the function itself"),
        (lambda *inputs: 1 / 0, "raised ZeroDivisionError in line"),
    ],
)
def test_what_is_no_answer_gets_its_own_message(exercise, answer, said):
    with pytest.raises(CheckFailed, match=said) as failure:
        check.check(exercise, answer)
    assert failure.value.args[0].startswith(f"✗ {exercise.number} {exercise.name}\n")


@every_exercise
def test_nan_gets_its_own_message(exercise):
    def answer(*inputs):
        return changed(exercise.accepted_answers[0](*inputs), lambda x: x * torch.nan if is_float(x) else x)

    if not any(map(is_float, parts(run(exercise.reference, exercise.cases(0)[0]).value))):
        pytest.skip("returns no floating-point numbers")
    assert "nan" in diagnose(exercise, answer).sentence.lower()


@every_exercise
def test_a_wrong_shape_gets_its_own_message(exercise):
    def answer(*inputs):
        return changed(exercise.accepted_answers[0](*inputs), lambda x: torch.as_tensor(x)[None])

    if not any(isinstance(part, Tensor) for part in parts(run(exercise.reference, exercise.cases(0)[0]).value)):
        pytest.skip("returns no tensors")
    assert "is (1," in diagnose(exercise, answer).sentence


@every_exercise
def test_an_input_changed_in_place_gets_its_own_message(exercise):
    def answer(*inputs):
        value = exercise.accepted_answers[0](*inputs)
        for x in inputs:
            if isinstance(x, Tensor):
                x.copy_(~x if x.dtype == torch.bool else x + 1)
            elif isinstance(x, list | dict):
                x.clear()
        return value

    if not any(isinstance(x, Tensor | list | dict) for x in exercise.cases(0)[0]):
        pytest.skip("has no inputs that can be changed")
    assert "in place" in diagnose(exercise, answer).sentence


@every_exercise
def test_float64_is_as_right_as_float32(exercise):
    def answer(*inputs):
        return changed(
            exercise.accepted_answers[0](*inputs), lambda x: x.double() if is_float(x) and hasattr(x, "double") else x
        )

    assert diagnose(exercise, answer) is None


def parts(value) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def is_float(x) -> bool:
    return isinstance(x, float) or (isinstance(x, Tensor) and x.is_floating_point())


def test_no_exercise_hides_behind_a_name_of_the_check_module():
    assert not set(exercises()) & set(vars(check))

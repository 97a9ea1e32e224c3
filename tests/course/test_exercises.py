"""Every exercise of the course keeps its promises: the catalogue of mistakes is the test of the check."""

import itertools
import os
from dataclasses import replace
from inspect import get_annotations

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped
from torch import Tensor

from pocketgpt.course.checking.cases import axes_of
from pocketgpt.course.checking.check import CheckFailed, compared, diagnose, inherited
from pocketgpt.course.checking.compare import difference
from pocketgpt.course.checking.run import run, run_ours, undisturbed
from pocketgpt.course.lab import check
from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.course.syllabus import chapter_of

ALL = list(exercises().values())
SEEDS = range(2)
MANY_SEEDS = range(int(os.environ.get("POCKETGPT_SEEDS", "1")))  # 200 before a release

every_exercise = pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.name)
# `test_no_verdict_is_luck` compares all mistakes; here `diagnose` as a whole names some, and with many seeds all.
every_mistake = pytest.mark.parametrize(
    ("exercise", "mistake"),
    [pytest.param(e, m, id=f"{e.name}-{m.name}") for e in ALL for m in e.mistakes[:: 3 if len(MANY_SEEDS) == 1 else 1]],
)
# An answer without inputs says itself what it is an answer to, such as cases of a seed (`Exercise.judge`).
every_with_inputs = pytest.mark.parametrize("exercise", [e for e in ALL if e.parameters], ids=lambda e: e.name)
every_composed = pytest.mark.parametrize("exercise", [e for e in ALL if e.assemble], ids=lambda e: e.name)
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
    diagnosis = diagnose(exercise, mistake.function, seed=0)
    assert diagnosis is not None, "this wrong answer passes"
    assert diagnosis.mistake is mistake, diagnosis.sentence


@every_exercise
def test_no_verdict_is_luck(exercise):
    """With every seed the same: right answers pass, a mistake is rejected, and no other fits it. This is `diagnose`
    with the calls of all mistakes made once for a seed, so that 200 seeds take minutes."""
    own = {mistake.name: mistake.function for mistake in exercise.mistakes}
    for seed in MANY_SEEDS:
        cases = exercise.cases(seed)
        with undisturbed():
            targets = [run_ours(exercise.reference, case) for case in cases]
            calls = {name: [run_ours(function, case) for case in cases] for name, function in own.items()}
            right = {each.__name__: [run_ours(each, case) for case in cases] for each in exercise.accepted_answers}

        def equal(mine, other):
            return all(compared(exercise, *pair) is None for pair in zip(mine, other, strict=True))

        assert not [name for name, each in right.items() if not equal(each, targets)], f"refused with seed {seed}"
        assert not [name for name, each in calls.items() if equal(each, targets)], f"passes with seed {seed}"
        alike = [(a, b) for a, b in itertools.combinations(calls, 2) if equal(calls[a], calls[b])]
        assert not alike, f"the same with seed {seed}"


@every_composed
def test_a_mistake_in_a_part_is_named_or_does_no_harm(exercise):
    exercise = replace(exercise, forbidden=())
    for mistake in inherited(exercise):
        diagnoses = [diagnose(exercise, mistake.function, seed) for seed in SEEDS[:1]]
        harmless = diagnoses[0] is None
        for seed, diagnosis in enumerate(diagnoses):
            assert (diagnosis is None) == harmless, f"{mistake.name} passes by chance, as with seed {seed}"
            said = harmless or diagnosis.mistake is not None or diagnosis.found.name == "error"  # its own line is shown
            assert said, (mistake.name, seed, diagnosis.sentence)


@every_variant
def test_a_right_answer_written_differently_passes(exercise, variant):
    for seed in SEEDS:
        assert diagnose(exercise, variant, seed) is None


@every_exercise
def test_the_annotations_of_an_exercise_hold(exercise):
    assert get_annotations(exercise.reference).keys() >= {*exercise.parameters, "return"}
    typed = jaxtyped(typechecker=beartype)(exercise.reference)
    with undisturbed():
        for case in exercise.cases(seed=0):
            error = run_ours(typed, case).error
            assert not isinstance(error, TypeCheckError), error


@every_exercise
def test_an_exercise_has_mistakes_and_variants_enough(exercise):
    assert len(exercise.mistakes) >= 5
    assert len(exercise.accepted_answers) >= 3
    assert len(exercise.hints) == (3 if chapter_of(exercise.name).hints else 0)
    assert exercise.reference.__doc__


@every_exercise
def test_a_mistake_names_a_hint_of_the_exercise(exercise):
    numbers = range(1, 1 + len(exercise.hints))
    assert {mistake.hint for mistake in exercise.mistakes} <= {None, *numbers}
    assert any(mistake.hint for mistake in exercise.mistakes) == bool(exercise.hints)


@every_exercise
def test_tensors_come_in_all_forms_that_the_annotations_allow(exercise):
    cases, axes = exercise.cases(seed=0), axes_of(exercise.reference)
    for i, (name, its) in enumerate((name, axes[name]) for name in exercise.parameters if name in axes):
        values = [case[exercise.parameters.index(name)] for case in cases]
        if its.leading and its.names:
            assert {0, 1, 3} <= {value.ndim - len(its.names) for value in values}, i
        for axis in range(1, len(its.names) + 1):
            assert any(value.shape[-axis] == 1 for value in values) or its.names[-axis] in exercise.sizes
        assert not all(value.is_contiguous() for value in values)


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


@every_with_inputs
def test_inputs_are_fresh_at_each_check(exercise):
    assert difference(exercise.cases(), exercise.cases(), tolerance=0.0) is not None


@every_with_inputs
def test_an_answer_that_remembers_what_was_right_for_other_inputs_fails(exercise):
    remembered = itertools.cycle([run(exercise.reference, case).value for case in exercise.cases(seed=0)])
    assert diagnose(exercise, lambda *inputs: next(remembered), seed=1) is not None


@every_exercise
def test_the_seed_alone_decides_the_inputs(exercise):
    for one, other in zip(exercise.cases(seed=0), exercise.cases(seed=0), strict=True):
        assert difference(one, other, tolerance=0.0) is None


@every_exercise
def test_the_reference_raises_only_what_is_demanded_and_makes_no_nan(exercise):
    for case in exercise.cases(seed=0):
        result = run(exercise.reference, case)
        assert result.error is None or isinstance(result.error, exercise.raises)
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
        (with_ellipsis, r"returns `\.\.\.`"),
        (with_return, "returns None"),
        (text, "should"),
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
    assert "yours has (1," in diagnose(exercise, answer).shown(exercise)


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
def test_a_result_of_another_dtype_than_the_inputs_gets_its_own_message(exercise):
    case = exercise.cases(0)[0]
    for values in (case, parts(run(exercise.reference, case).value)):
        if not any(isinstance(x, Tensor) and is_float(x) for x in values):
            pytest.skip("has no floating-point tensors")
    for dtype in (torch.float64, torch.float32):

        def answer(*inputs, dtype=dtype):
            return changed(exercise.accepted_answers[0](*inputs), lambda x: x.to(dtype) if is_float(x) else x)

        assert "should have the dtype of the inputs" in diagnose(exercise, answer).sentence


def parts(value) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def is_float(x) -> bool:
    return isinstance(x, float) or (isinstance(x, Tensor) and x.is_floating_point())


def test_no_exercise_hides_behind_a_name_of_the_check_module():
    assert not set(exercises()) & set(vars(check))

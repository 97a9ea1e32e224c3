"""The symptom table is what the shipped models show today."""

import json

import pytest

from pocketgpt.assets import asset
from pocketgpt.course.checking.exercise import Exercise
from pocketgpt.course.lab import symptoms
from pocketgpt.course.lab.reporting import trained
from pocketgpt.course.lab.symptom_table import FILE, RIGHT, row
from pocketgpt.course.lab.transplanting import replaceable_part
from pocketgpt.course.syllabus import all_exercises

SHOWN = [exercise for exercise in all_exercises().values() if exercise.replaces]
STORED = json.loads(asset(FILE).read_text(encoding="utf-8"))
AGAIN = "run: python -m pocketgpt.course.lab.symptom_table"


@pytest.mark.parametrize("exercise", SHOWN, ids=lambda exercise: exercise.name)
def test_the_stored_rows_are_those_of_the_catalogue(exercise: Exercise):
    assert list(STORED[exercise.name]) == [RIGHT, *(mistake.name for mistake in exercise.mistakes)], AGAIN


@pytest.mark.parametrize("exercise", SHOWN, ids=lambda exercise: exercise.name)
def test_rows_measured_again_are_the_stored_ones(exercise: Exercise):
    """The right answer and two mistakes; of models that read token by token one mistake: all of them take minutes."""
    part = replaceable_part(exercise.name)
    functions = {each.name: each.function for each in exercise.mistakes[::7][: 1 if part.decoding else 2]}
    if not part.decoding:
        functions[RIGHT] = exercise.finished_answer
    subject = trained(part.model)
    for name, function in functions.items():
        loss, leaks = row(subject, exercise, function)
        stored_loss, stored_leaks = STORED[exercise.name][name]
        assert loss == pytest.approx(stored_loss, abs=0.003) and leaks == stored_leaks, AGAIN


def test_rows_are_printed_by_loss_with_the_right_function_first(capsys):
    symptoms("causal_mask", "masked_softmax")
    lines = [
        line for line in capsys.readouterr().out.splitlines() if line[:6].strip() and not line.startswith("  loss")
    ]
    assert lines[0].endswith("none: the right function")
    numbers = [line.split()[0] for line in lines[1:]]
    losses = [float(number) for number in numbers if number not in ("NaN", "error")]
    assert losses == sorted(losses) and len(set(losses)) > 5
    others = numbers[len(losses) :]
    assert others == ["NaN"] * (len(others) - 1) + ["error"]


def test_some_mistakes_alone_can_be_shown(capsys):
    symptoms("softmax", only=("not_normalized", "exp_overflows"))
    printed = capsys.readouterr().out
    assert printed.count("softmax:") == 2 and "are not divided by their sum" in printed


def test_a_mistake_can_be_left_out(capsys):
    symptoms("split_heads")
    whole = capsys.readouterr().out
    symptoms("split_heads", without=("view_straight_to_the_shape",))
    assert "`view` keeps the order" in whole and "`view` keeps the order" not in capsys.readouterr().out

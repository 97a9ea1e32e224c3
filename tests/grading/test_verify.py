"""Secret questions: right answers survive the way out of the sandbox, and everything else is found out."""

import contextlib
import copy
import json
import math
import threading
from functools import cache
from importlib.machinery import ModuleSpec

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.course.lab import bug_cases
from pocketgpt.course.lab.bug_cases import draw_cases
from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.grading import REPLY, blind, grade
from pocketgpt.grading.arrays import DTYPES, decode, encode
from pocketgpt.grading.master import masters
from pocketgpt.grading.submissions import Submission
from pocketgpt.grading.verify import ONE_AT_A_TIME, Questions, borrowed, empty, judge, stand_ins

ALL = list(exercises().values())


@cache
def drawn(name):
    questions = Questions.draw(exercises()[name], seed=3)
    return questions, str(questions)


def asked(exercise, function, monkeypatch, forbidden=None):
    """What the grader finds when a function is asked the questions of an exercise."""
    displayed = []
    monkeypatch.setattr(blind, "display", lambda data, raw: displayed.append(data[REPLY]))
    questions, text = drawn(exercise.name)
    blind.reply(function, text, exercise.forbidden if forbidden is None else forbidden)
    return judge(questions, *displayed)


@pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.name)
def test_every_right_answer_is_judged_right(exercise, monkeypatch):
    for function in exercise.accepted_answers:
        assert asked(exercise, function, monkeypatch) is None
    assert asked(exercise, exercise.reference, monkeypatch, forbidden=()) is None  # it may be the forbidden function


@pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.name)
def test_every_known_mistake_is_judged_wrong(exercise, monkeypatch):
    for mistake in exercise.mistakes:
        assert asked(exercise, mistake.function, monkeypatch), mistake.name


def test_an_answer_that_always_equals_is_found_out(monkeypatch):
    class Equal(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            return torch.tensor(True)

    exercise = exercises()["causal_mask"]
    problem = asked(exercise, lambda *_: torch.zeros(3, 3).as_subclass(Equal), monkeypatch)
    assert problem


def test_an_object_that_equals_everything_is_found_out(monkeypatch):
    class Equal(str):
        __eq__ = lambda self, other: True  # noqa: E731
        __hash__ = str.__hash__

    assert asked(exercises()["decode"], lambda *_: Equal("no"), monkeypatch)


@pytest.mark.parametrize("part", ["model", "running", "training"])
def test_names_of_causes_are_judged_by_the_seed_that_comes_with_them(part, monkeypatch):
    monkeypatch.setattr(bug_cases, "contradiction", lambda case, name: "No.")  # the evidence takes seconds
    exercise = exercises()[f"{part}_bugs"]
    names = {seed: [case._cause for case in draw_cases(part, seed)] for seed in (5, 6)}
    assert asked(exercise, lambda: (5, names[5]), monkeypatch) is None
    assert asked(exercise, lambda: (6, names[5]), monkeypatch)
    assert asked(exercise, lambda: (5, [*names[5][1:], names[5][0]]), monkeypatch)


def test_names_that_the_course_was_asked_for_are_none_in_a_blind_run(monkeypatch):
    """There the package is not, and what it gives is a placeholder."""
    module = blind._Placeholders({}).create_module(ModuleSpec("pocketgpt.course.lab.bug_cases", None))
    cases = module.draw_cases("model", 5)
    for answer in (lambda: (5, [case._cause for case in cases]), lambda: (5, [cases[i]._cause for i in range(5)])):
        assert asked(exercises()["model_bugs"], answer, monkeypatch)


def test_questions_differ_from_run_to_run():
    one, two = (str(Questions.draw(exercises()["attention"], seed)) for seed in (1, 2))
    assert one != two


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[",
        "[]",
        "{}",
        "17",
        "[1, 2, 3, 4, 5, 6, 7]",
        '[{"value": 1}]',
        '[{"raised": "ValueError"}]',
        "[" * 100_000,
        '[{"value": {"tensor": "float32", "shape": [1000000000000], "data": ""}}]',
        "9" * 10_000,
    ],
)
def test_a_reply_of_another_form_is_judged_wrong(text):
    assert judge(Questions.draw(exercises()["softmax"], 1), text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False),
    lambda parts: (
        st.lists(parts)
        | st.lists(parts).map(tuple)
        | st.dictionaries(st.binary() | st.tuples(st.integers(), st.text()), parts)
    ),
)


@given(values)
def test_values_come_back_as_they_were(value):
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value
    assert repr(back) == repr(value)  # tuples stay tuples, True stays True


@given(st.sets(st.integers() | st.text()))
def test_sets_come_back_as_they_were(value):
    assert decode(json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (3, 0, 2)], ids=str)
def test_tensors_come_back_bit_for_bit(dtype, shape):
    tensor = torch.arange(math.prod(shape)).reshape(shape).to(dtype)
    back = decode(json.loads(json.dumps(encode(tensor))))
    assert back.dtype == dtype and back.shape == tensor.shape
    assert torch.equal(back, tensor)


@pytest.mark.parametrize("tensor", [torch.arange(2)[::2], torch.arange(9).view(3, 3).T, torch.arange(6)[1::2]], ids=str)
def test_tensors_of_any_strides_come_back(tensor):
    assert torch.equal(decode(encode(tensor)), tensor)


def test_a_number_too_large_for_any_tensor_is_judged_wrong(monkeypatch):
    exercise = exercises()["count_pairs"]
    right = exercise.reference
    assert asked(exercise, lambda words: {pair: 10**400 for pair in right(words)}, monkeypatch)


def test_views_and_infinities_come_back():
    tensor = torch.tensor([[1.0, math.inf], [-math.inf, math.nan]]).T
    assert torch.equal(decode(encode(tensor)).nan_to_num(7), tensor.nan_to_num(7))
    assert math.isnan(decode(encode(math.nan)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda p: st.lists(p) | st.dictionaries(st.text(), p)
)


@given(json_values)
def test_foreign_json_raises_nothing_but_value_error(value):
    with contextlib.suppress(ValueError):
        decode(value)


@pytest.mark.parametrize(
    "value",
    [
        {"tensor": "object", "shape": [1], "data": ""},
        {"tensor": "float32", "shape": [2], "data": "AAAA"},
        {"tensor": "float32", "shape": [-1], "data": ""},
        {"tensor": "float32", "shape": [1 << 40], "data": ""},
        {"tensor": "float32", "shape": "x", "data": ""},
        {"tensor": "float32", "shape": [1], "data": "?"},
        {"tensor": 1},
        {"float": "x"},
        {"dict": [[[], 1]]},
        {"pickle": "gASVAAAA"},
        {"source": ["f", "def f(): ..."]},  # code is for the sandbox, never for the grader
    ],
)
def test_damaged_values_are_refused(value):
    with pytest.raises(ValueError):
        decode(value)


def test_a_function_among_the_inputs_travels_as_its_source(monkeypatch):
    exercise = exercises()["order_error"]
    sent = json.loads(str(Questions.draw(exercise, seed=0)))
    layers = [decode(case, trusted=True)[0] for case in sent]
    assert {layer.__name__ for layer in layers} == {case[0].__name__ for case in exercise.cases(0)}
    assert not any(str(layer.__module__).startswith("pocketgpt") for layer in layers)
    with pytest.raises(ValueError):
        decode(sent[0])


def test_any_demanded_error_is_judged_right_and_another_is_not(monkeypatch):
    exercise = exercises()["add_positions"]

    def raising(error):
        def add_positions(x, table, start):
            if start + x.shape[1] > len(table):
                raise error
            return exercise.finished_answer(x, table, start)

        return add_positions

    assert asked(exercise, raising(ValueError), monkeypatch) is None
    assert "raises RuntimeError" in asked(exercise, raising(RuntimeError), monkeypatch)


def test_objects_of_one_case_share_what_they_share(monkeypatch):
    """The loss of a case depends on the very blocks that come with it; with other blocks every gradient is None."""
    exercise = exercises()["gradient_norms"]
    cases = json.loads(str(Questions.draw(exercise, 3)))
    loss, blocks = copy.deepcopy(decode(cases[0], trusted=True))
    loss.backward()
    assert all(parameter.grad is not None for parameter in blocks.parameters())


def test_a_source_without_trust_is_an_error():
    case = json.loads(str(Questions.draw(exercises()["gradient_norms"], 3)))[0]
    with pytest.raises(ValueError, match="source"):
        decode(case)


@pytest.mark.parametrize("name", ["softmax", "causal_mask", "stretch"])
def test_an_untouched_answer_is_called_empty_and_nothing_else(name):
    assert f"{name} is still empty" in empty(name)


CHAPTER_12 = masters()["12_kv_cache"]


@pytest.mark.parametrize(
    "work",
    [
        lambda: borrowed(CHAPTER_12),
        lambda: stand_ins([exercises()["softmax"]]),
        lambda: Questions.draw(exercises()["softmax"], 0),
        lambda: str(drawn("softmax")[0]),
    ],
    ids=["borrowed", "stand_ins", "draw", "text"],
)
def test_two_threads_never_parse_at_once(work):
    """Python 3.11 then ends in "AST recursion depth mismatch", now and then."""
    work()  # what is cached is not what takes time below
    thread = threading.Thread(target=work, daemon=True)
    with ONE_AT_A_TIME:
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join(60)
    assert not thread.is_alive()


def test_a_notebook_is_read_while_no_other_thread_parses(monkeypatch, tmp_path):
    begun, notebook = threading.Event(), tmp_path / "ada.ipynb"
    notebook.touch()
    monkeypatch.setattr(grade, "read", lambda path: ([], None))
    monkeypatch.setattr(grade, "chapter_of", lambda *_: begun.set() or (None, "of no chapter"))
    grader = grade.Grader(masters={}, sandbox=None, limits=None)
    thread = threading.Thread(target=grader.grade, args=(Submission(notebook, "ada.ipynb", "ada"),), daemon=True)
    with ONE_AT_A_TIME:
        thread.start()
        assert not begun.wait(0.5)
    assert begun.wait(60)

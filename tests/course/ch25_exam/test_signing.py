"""Cases follow from a name, so that a copied answer is an answer about somebody else's."""

import pytest

from pocketgpt.course.ch25_exam.signing import judge_of, my_cases, right_answer, seed_of
from pocketgpt.course.checking import check as checking
from pocketgpt.course.lab.bug_causes import CAUSES, PARTS
from pocketgpt.course.syllabus import find_exercise

NAMES = ("Ada Lovelace", "Alan Turing", "Grace Hopper", "名前", "4711")


@pytest.mark.parametrize("other", ["ada lovelace", " ADA  Lovelace ", "Ada\u00a0Lovelace", "Ａda Lovelace"])
def test_capitals_and_spaces_of_a_name_do_not_matter(other):
    assert seed_of(other) == seed_of("Ada Lovelace")


def test_each_name_has_cases_of_its_own_from_all_parts():
    answers = [right_answer(name)[1] for name in NAMES]
    assert len({tuple(keys) for keys in answers}) == len(NAMES)
    for name, keys in zip(NAMES, answers, strict=True):
        assert {case.part for case in my_cases(name)} == set(PARTS)
        assert len(set(keys)) == 5


def test_the_causes_of_a_neighbor_are_wrong_under_another_name():
    name, keys = right_answer("Ada Lovelace")
    assert judge_of(3)((name, keys)) is None
    assert judge_of(3)(("Alan Turing", keys))


@pytest.mark.parametrize("wrong", range(6))
def test_three_of_five_are_enough_for_the_first_and_five_for_the_second(wrong):
    name, keys = right_answer("Grace Hopper")
    for i, case in enumerate(my_cases(name)[:wrong]):
        keys[i] = next(key for key in CAUSES[case.part] if key != keys[i])
    assert (judge_of(3)((name, keys)) is None) == (wrong <= 2)
    assert (judge_of(5)((name, keys)) is None) == (wrong == 0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "return two things"),
        ("Ada Lovelace", "return two things"),
        (("", ["no_scale"] * 5), "your name"),
        (("...", ["no_scale"] * 5), "your name"),
        ((17, ["no_scale"] * 5), "your name"),
        ((["no_scale"] * 5, "Ada Lovelace"), "comes first"),
        (("Ada Lovelace", "no_scale"), "list of 5"),
        (("Ada Lovelace", ["no_scale"]), "5 names"),
    ],
)
def test_the_form_of_an_answer_is_explained(answer, said):
    assert said in judge_of(3)(answer)


def test_the_check_does_not_say_which_name_is_wrong():
    name, keys = right_answer("Ada Lovelace")
    case = my_cases(name)[4]
    keys[4] = next(key for key in CAUSES[case.part] if key != keys[4])
    assert judge_of(5)((name, keys)) == "Not all of the 5 causes are right for the cases of Ada Lovelace."


def test_only_the_answers_of_part_1_are_signed():
    exercises = [find_exercise(name) for name in ("most_cases", "all_cases", "window_attention")]
    assert [exercise.signed for exercise in exercises] == [True, True, False]


def test_after_five_different_wrong_answers_a_check_says_no_more(monkeypatch):
    monkeypatch.setattr(checking, "_guesses", {})
    exercise = find_exercise("all_cases")
    name, keys = right_answer("Ada Lovelace")
    case = my_cases(name)[0]
    others = [key for key in CAUSES[case.part] if key != keys[0]][: checking.TRIES]

    def said(value):
        def all_cases():
            return value

        with pytest.raises(checking.CheckFailed) as failed:
            checking.check(exercise, all_cases)
        return str(failed.value)

    assert "5 names" in said((name, keys[:-1]))  # a wrong form is no try
    for other in [*others[:-1], *others]:  # nor is the same answer again
        assert "Not all of the 5" in said((name, [other, *keys[1:]]))
    assert "until the kernel is restarted" in said((name, keys))
    assert exercise.judge((name, keys)) is None  # the grader still judges
    assert checking.diagnose(exercise, exercise.finished_answer) is None

"""An answer that is signed with a name other than the student's is noted."""

import pytest

from pocketgpt.grading.rebuild import Piece, Rebuilt
from pocketgpt.grading.signature import signature_note, signatures

ANSWER = 'def most_cases():\n    return "{}", ["no_scale"] * 5'


def note(name, student):
    return signature_note(Rebuilt([Piece("answer", ANSWER.format(name), "most_cases", 3)], [], False), student)


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("Ada Lovelace", "Ada Lovelace"),
        ("Ada Lovelace", "ada"),
        ("ada LOVELACE", "lovelace_ada (123)"),
        ("Jörg Åström", "Astrom"),
        ("4711", "student 4711"),
        ("名前", "名前"),
    ],
)
def test_a_name_that_shares_a_word_with_the_path_is_the_students(name, student):
    assert note(name, student) == ""


@pytest.mark.parametrize(("name", "student"), [("Ada Lovelace", "bob"), ("Ada", "adam"), ("Ada Lovelace", "4711")])
def test_another_name_is_noted(name, student):
    assert note(name, student) == f"It answers the cases of {name}. Is that who handed it in?"


@pytest.mark.parametrize("source", ["def most_cases():\n    return name, keys", "def most_cases(:", "return 1"])
def test_a_name_that_is_not_written_is_noted(source):
    rebuilt = Rebuilt([Piece("answer", source, "most_cases", 3)], [], False)
    assert "not written in the answer" in signature_note(rebuilt, "ada")


def test_answers_that_nobody_signs_have_no_note():
    rebuilt = Rebuilt([Piece("answer", ANSWER.format("x"), "causal_mask", 3)], [], False)
    assert signature_note(rebuilt, "ada") == ""
    ours = Rebuilt([Piece("answer", ANSWER.format("x"), "most_cases", 0)], [], True)
    assert signature_note(ours, "ada") == ""


def test_an_answer_that_calls_the_other_one_has_its_signature():
    pieces = [
        Piece("answer", ANSWER.format("Ada"), "most_cases", 3),
        Piece("answer", "def all_cases():\n    return most_cases()", "all_cases", 5),
    ]
    assert signature_note(Rebuilt(pieces, [], False), "ada") == ""
    assert list(signatures(pieces[1].source)) == []


def test_where_nobody_knows_whose_it_is_the_signature_says():
    rebuilt = Rebuilt([Piece("answer", ANSWER.format("Ada"), "most_cases", 3)], [], False)
    assert signature_note(rebuilt, "25_exam", known=False) == "It answers the cases of Ada."

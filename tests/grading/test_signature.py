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
        ("Ada", "ada_lovelace"),
        ("Ada King Lovelace", "lovelace_ada"),
        ("Ada Lovelace", "ada (17)"),
    ],
)
def test_a_name_that_shares_a_word_with_the_path_is_the_students(name, student):
    assert note(name, student) == ""


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("Ada Lovelace", "bob"),
        ("Ada", "adam"),
        ("Ada Lovelace", "4711"),
        ("Grete Hermann", "grete_berger"),
        ("Max Planck", "born_max (17)"),
    ],
)
def test_another_name_is_noted(name, student):
    assert note(name, student) == f"It answers the cases of {name}. Is that who handed it in?"


@pytest.mark.parametrize("source", ["def most_cases():\n    return name, keys", "def most_cases(:", "return 1"])
def test_a_name_that_is_not_written_is_noted(source):
    rebuilt = Rebuilt([Piece("answer", source, "most_cases", 3)], [], False)
    assert "not written in the answer" in signature_note(rebuilt, "ada")


def noted(body, student="ada_lovelace", name="most_cases"):
    source = f"def {name}():\n" + "\n".join(f"    {line}" for line in body.splitlines())
    return signature_note(Rebuilt([Piece("answer", source, name, 3)], [], False), student)


@pytest.mark.parametrize(
    "body",
    [
        'name = "Ada Lovelace"\nreturn name, []',
        'name, keys = "Ada Lovelace", []\nreturn name, keys',
        'answer = ("Ada Lovelace", [])\nreturn answer',
        'name: str = "Ada Lovelace"\nif name:\n    return name, []\nreturn "Ada LOVELACE", []',
        'def help():\n    return 3\nreturn ["Ada Lovelace", []]',
    ],
)
def test_a_name_that_a_variable_holds_is_read(body):
    assert noted(body) == ""
    assert noted(body, "emmy_noether").casefold().startswith("it answers the cases of ada lovelace. is that")


@pytest.mark.parametrize(
    "body",
    [
        'who = "Grete Hermann"\nreturn who, []\nreturn "Ada Lovelace", []',
        'return ("Grete Hermann" if True else "Ada Lovelace"), []',
        'name = "Ada Lovelace"\nname = "Grete Hermann"\nreturn name, []',
        'name = "Ada Lovelace"\nname += " Grete Hermann"\nreturn name, []',
    ],
)
def test_several_names_are_noted(body):
    assert noted(body).startswith("Several names are written in the answer:")
    assert "Grete Hermann" in noted(body)


@pytest.mark.parametrize("hidden", ['"Grete" + " Hermann", []', "other()", "person, []", 'f"{first} Hermann", []'])
def test_a_name_that_is_computed_is_noted_whatever_is_written_below(hidden):
    assert "not written in the answer" in noted(f'return {hidden}\nreturn "Ada Lovelace", []')


def test_a_name_in_a_maze_of_variables_is_noted_at_once():
    maze = "\n".join(f"a{i} = " + " or ".join(f"a{j}" for j in range(200)) for i in range(200))
    assert "not written in the answer" in noted(f"{maze}\nreturn a0, []")


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

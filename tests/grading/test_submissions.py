"""What counts as a notebook in a folder, and whose it is: said where it is not sure, never guessed."""

import os
import unicodedata
from pathlib import Path

import pytest

from pocketgpt.errors import PocketError
from pocketgpt.grading.submissions import class_list, student_of, submissions

CHAPTERS = ("01_tokens", "02_attention")


def files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return [each.file for each in submissions(folder, CHAPTERS)]


def whose(path, *students):
    return student_of(Path(path), CHAPTERS, students)


@pytest.mark.parametrize(
    "name",
    [
        "x.ipynb",
        "X.IPYNB",
        "x.Ipynb",
        "x.ipynb.txt",
        "x.ipynb.json",
        "x.ipynb (1)",
        "x (1).ipynb",
        "a.b.ipynb",
        "ü.ipynb",
        "deep/er/x.ipynb",
        ".ipynb",
        "x.ipynb~",
        "a b/x y.ipynb",
        "x\ny.ipynb",
        os.fsdecode(b"\xff.ipynb"),
    ],
    ids=ascii,
)
def test_a_notebook_is_found_whatever_a_browser_made_of_its_name(tmp_path, name):
    assert files(tmp_path, name) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "x.ipynb2",
        "xipynb",
        "ipynb",
        "README.md",
        "x.txt",
        "gradebook.csv",
        ".ipynb_checkpoints/x-checkpoint.ipynb",
        "ada/.ipynb_checkpoints/x.ipynb",
        "__MACOSX/ada/x.ipynb",
        "ada/._x.ipynb",
    ],
)
def test_what_no_student_wrote_is_no_submission(tmp_path, name):
    assert files(tmp_path, name) == []


def test_another_file_in_place_of_a_notebook_is_listed(tmp_path):
    names = ["ada/answers.py", "bob/x.ipynb", "bob/helper.py", "eve_02_attention.pdf", "out/results.json"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = submissions(tmp_path, CHAPTERS, out=tmp_path / "out")
    assert [(each.student, each.file) for each in found] == [
        ("bob", "bob/x.ipynb"),
        ("ada", "ada/answers.py"),
        ("eve", "eve_02_attention.pdf"),
    ]
    assert "a .py file, not a notebook" in found[1].problem and found[0].problem is None


def test_students_of_one_name_are_told_apart_by_moodles_number(tmp_path):
    one, two = "Ann Lee_123_assignsubmission_file_", "Ann Lee_456_assignsubmission_file_"
    files(tmp_path, f"{one}/a.ipynb", f"{one}/b.ipynb", f"{two}/a.ipynb", "Bob_7_assignsubmission_file_/a.ipynb")
    found = submissions(tmp_path, CHAPTERS)
    assert [each.student for each in found] == ["Ann Lee (123)", "Ann Lee (123)", "Ann Lee (456)", "Bob"]


def test_a_student_has_another_number_in_each_assignment_of_moodle(tmp_path):
    for path in (
        "Week 1/Ann Lee_7_assignsubmission_file_/x.ipynb",
        "02_attention/Ann Lee_8_assignsubmission_file_/x.ipynb",
    ):
        files(tmp_path, path)
    assert {each.student for each in submissions(tmp_path, CHAPTERS)} == {"Ann Lee"}


def test_one_name_in_two_spellings_of_unicode_is_one_student(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Zoé") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert whose(f"{composed}/x.ipynb") == whose(f"{decomposed}/x.ipynb") == (composed, ())


def test_a_folder_that_is_called_like_a_notebook_is_only_a_folder(tmp_path):
    assert files(tmp_path, "ada.ipynb/x.ipynb", "empty.ipynb/x.txt") == ["ada.ipynb/x.ipynb"]


def test_submissions_are_sorted_by_path(tmp_path):
    assert files(tmp_path, "b.ipynb", "a/z.ipynb", "c.ipynb", "a.ipynb") == [
        "a/z.ipynb",
        "a.ipynb",
        "b.ipynb",
        "c.ipynb",
    ]


def test_a_link_is_said_and_not_followed(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x.ipynb").write_text("{}")
    folder = tmp_path / "handed in"
    folder.mkdir()
    (folder / "file.ipynb").symlink_to(tmp_path / "secret" / "x.ipynb")
    (folder / "broken.ipynb").symlink_to(tmp_path / "nothing")
    (folder / "folder").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(folder)
    (folder / "honest.ipynb").write_text("{}")
    found = {each.file: each.problem for each in submissions(folder, CHAPTERS)}
    assert found.keys() == {"file.ipynb", "broken.ipynb", "honest.ipynb"}
    assert "link" in found["file.ipynb"] and "link" in found["broken.ipynb"] and found["honest.ipynb"] is None


def test_a_pipe_is_said_and_not_opened(tmp_path):
    os.mkfifo(tmp_path / "x.ipynb")
    (found,) = submissions(tmp_path, CHAPTERS)
    assert "not a regular file" in found.problem


@pytest.mark.parametrize(
    ("path", "student"),
    [
        ("ada/02_attention.ipynb", "ada"),  # nbgrader's, below submitted/
        ("ada/02_attention/02_attention.ipynb", "ada"),
        ("02_attention/ada/02_attention.ipynb", "ada"),
        ("02_Attention/ada/x.ipynb", "ada"),
        ("02_attention/ada.ipynb", "ada"),
        ("Ada Lovelace_123456_assignsubmission_file_/02_attention.ipynb", "Ada Lovelace"),
        ("lovelaceada_1234_567890_02_attention.ipynb", "lovelaceada_1234"),  # Canvas
        ("lovelaceada_1234_567890_02_attention-1.ipynb", "lovelaceada_1234"),  # Canvas, handed in again
        ("lovelaceada_1234_567890_02_attention-12.ipynb", "lovelaceada_1234"),
        ("ada.ipynb", "ada"),
        ("ada (1).ipynb", "ada"),
        ("ada(2).ipynb", "ada"),
        ("ada.ipynb (1)", "ada"),
        ("ada.ipynb.txt", "ada"),
        ("ada_02_attention.ipynb", "ada"),
        ("02_attention_ada.ipynb", "ada"),
        ("02_attention - Ada Lovelace (1).ipynb", "Ada Lovelace"),
        ("02_ATTENTION-ada.IPYNB", "ada"),
        ("Ada Lovelace, 02_attention.ipynb", "Ada Lovelace"),
        ("group 3.ipynb", "group 3"),
        ("student 12 02_attention.ipynb", "student 12"),
        ("02_attention 12.ipynb", "12"),
        ("02_attention_4711.ipynb", "4711"),
        ("名前.ipynb", "名前"),
    ],
)
def test_without_a_class_list_the_path_says_who_it_was(path, student):
    assert whose(path) == (student, ())


@pytest.mark.parametrize("name", ["02_attention.ipynb", "my homework.ipynb", "x.ipynb (1)"])
def test_moodle_without_folders_puts_the_student_into_the_name_of_the_file(name):
    assert whose(f"Ann Lee_7_assignsubmission_file_{name}") == ("Ann Lee", ())


@pytest.mark.parametrize(
    "path", ["02_attention.ipynb", "02_attention (1).ipynb", "01_tokens/02_attention.ipynb", ".ipynb"]
)
def test_a_path_that_names_nobody_is_said(path):
    student, notes = whose(path)
    assert student == path and notes == ("The path does not say who handed it in.",)


def test_numbered_students_stay_apart():
    assert len({whose(f"student {number}.ipynb")[0] for number in range(20)}) == 20


@pytest.mark.parametrize(
    ("path", "student"),
    [
        ("Ada Lovelace_123_assignsubmission_file_/02_attention.ipynb", "Ada Lovelace"),
        ("02_attention/ada-lovelace.ipynb", "Ada Lovelace"),
        ("ADA__LOVELACE.ipynb", "Ada Lovelace"),
        ("week 2/ada.lovelace/x.ipynb", "Ada Lovelace"),
        ("submitted/Ada Lovelace/02_attention/02_attention.ipynb", "Ada Lovelace"),
        ("ada lovelace (1).ipynb", "Ada Lovelace"),
        ("x_ada_lovelace_late.ipynb (2)", "Ada Lovelace"),
        ("Ada/Lovelace.ipynb", "Ada Lovelace"),
        ("a.turing@kings.example/x.ipynb", "a.turing@kings.example"),
        ("4711_02_attention.ipynb", "4711"),
        ("Müller.ipynb", "müller"),
        ("Ａｄａ ﬁelds.ipynb", "Ada Fields"),
        ("Groß.ipynb", "GROSS"),
        ("名前_02_attention.ipynb", "名前"),
    ],
)
def test_a_name_of_the_class_list_is_found_whatever_separates_its_words(path, student):
    others = ("Alan Turing", "Lovelace Byron", "471", "Ad", "ada lovel", "Mull")
    assert whose(path, *others, student) == (student, ())


@pytest.mark.parametrize("listed", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_an_umlaut_is_the_same_in_each_of_its_spellings(listed, stored):
    name = unicodedata.normalize(listed, "Jörg Åström")
    assert whose(unicodedata.normalize(stored, "Jörg_Åström/x.ipynb"), "Jorg Astrom", name) == (name, ())


@pytest.mark.parametrize(("path", "student"), [("ann_lee/x.ipynb", "Ann Lee"), ("ann/x.ipynb", "Ann")])
def test_of_a_name_within_a_name_the_longer_counts(path, student):
    assert whose(path, "Ann", "Ann Lee", "Lee") == (student, ())


@pytest.mark.parametrize("path", ["ann_alan.ipynb", "ann/alan.ipynb", "alan/for ann/x.ipynb"])
def test_two_names_in_a_path_are_said(path):
    student, (note,) = whose(path, "Ann", "Alan")
    assert student == path and "several" in note and "Ann" in note and "Alan" in note


@pytest.mark.parametrize("path", ["bob/x.ipynb", "annabel.ipynb", "02_attention.ipynb", "joann.ipynb"])
def test_nobody_of_the_class_list_is_said(path):
    student, (note,) = whose(path, "Ann", "Alan", "--")
    assert student == path and "nobody" in note


def test_a_chapter_is_not_a_student():
    assert whose("02_attention/x.ipynb", "Ann")[1]


def listed(folder, content):
    path = folder / "class.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return class_list(path)


@pytest.mark.parametrize(
    "content",
    [
        "student\nAda Lovelace\nJörg\n",
        "student\r\nAda Lovelace\r\nJörg\r\n",
        "\ufeffstudent\nAda Lovelace\nJörg",
        "number;student;mail\n1;Ada Lovelace;a@x\n2;Jörg;j@x\n",
        "number,student\n1,Ada Lovelace\n2,Jörg\n",
        '"student","mail"\n"Ada Lovelace","a,b"\n"Jörg",""\n',
        " Student ,mail\n  Ada Lovelace ,x\nJörg,y\n",
        "student\nAda Lovelace\n\n  \nJörg\nAda Lovelace\n",
        "mail,student\na,Ada Lovelace\nshort\nb,Jörg,and,more\n",
    ],
)
def test_a_class_list_is_the_column_student_of_a_csv_file(tmp_path, content):
    assert listed(tmp_path, content) == ["Ada Lovelace", "Jörg"]


@pytest.mark.parametrize(
    "content", ["", "\n", "name\nAda\n", "Ada\nBob\n", "students\nAda\n", "Jörg".encode("latin-1"), b"\xff\xfes\x00"]
)
def test_a_class_list_without_its_column_is_an_error_that_names_the_file(tmp_path, content):
    with pytest.raises(PocketError, match=r"class\.csv"):
        listed(tmp_path, content)


def test_a_class_list_with_an_endless_field_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(PocketError, match=r"class\.csv"):
        listed(tmp_path, "student\n" + "x" * 200_000)


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_class_list_that_is_no_file_is_an_error(tmp_path, name):
    with pytest.raises(PocketError, match="cannot be read"):
        class_list(tmp_path / name)

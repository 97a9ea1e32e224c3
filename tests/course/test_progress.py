"""The progress record keeps checks and predictions, can be switched off, and never disturbs a notebook."""

import pytest

from pocketgpt.commands.progress import describe
from pocketgpt.course.lab import check, predict, recall
from pocketgpt.course.lab.recalling import code_of
from pocketgpt.course.progress import events, record, record_file
from pocketgpt.course.syllabus import exercise_names, find_exercise
from pocketgpt.errors import PocketError


@pytest.fixture
def file(tmp_path, monkeypatch):
    file = tmp_path / "new folder" / "progress.jsonl"
    monkeypatch.setenv("POCKETGPT_PROGRESS", str(file))
    return file


def mistake(exercise: str, name: str):
    return next(each for each in find_exercise(exercise).mistakes if each.name == name)


def test_checks_and_predictions_are_recorded_in_order(file):
    with pytest.raises(check.CheckFailed):
        check.masked_softmax(mistake("masked_softmax", "mask_ignored").function)
    check.masked_softmax(find_exercise("masked_softmax").finished_answer)
    predict(3).compare(4)
    predict(...).compare(4)  # no guess
    wrong, right, guess = events()
    assert (wrong["exercise"], wrong["passed"], wrong["mistake"]) == ("masked_softmax", False, "mask_ignored")
    assert (right["passed"], right["mistake"]) == (True, None)
    assert (guess["guess"], guess["outcome"]) == ("3", "4")


def test_off_means_off(monkeypatch, tmp_path):
    monkeypatch.setenv("POCKETGPT_PROGRESS", "off")
    monkeypatch.setenv("HOME", str(tmp_path))
    record(exercise="softmax")
    assert record_file() is None and events() == [] and list(tmp_path.iterdir()) == []


def test_the_record_is_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("POCKETGPT_PROGRESS")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert record_file() == tmp_path / ".pocketgpt" / "progress.jsonl"


def test_a_folder_that_cannot_be_written_and_damaged_lines_disturb_nobody(file, monkeypatch):
    record(exercise="softmax")
    with file.open("a") as opened:
        opened.write('{"exercise": "sof\n[]\n')
    record(exercise="decode")
    assert [event["exercise"] for event in events()] == ["softmax", "decode"]
    monkeypatch.setenv("POCKETGPT_PROGRESS", str(file / "below a file"))
    record(exercise="decode")
    assert events() == []


def shown(capsys) -> str:
    return capsys.readouterr().out


def test_recall_asks_about_a_mistake_that_was_made(file, monkeypatch):
    pages = []
    monkeypatch.setattr("pocketgpt.course.lab.recalling.display", lambda page: pages.append(page.data))
    record(exercise="masked_softmax", passed=False, mistake="mask_ignored")
    recall(4)
    made = mistake("masked_softmax", "mask_ignored")
    assert "in your answer" in pages[0] and made.sentence in pages[0] and "def masked_softmax(" in pages[0]
    recall(2)  # an exercise of chapter 2 is not an earlier one
    assert "a common mistake" in pages[1] and made.sentence not in pages[1]


def test_a_mistake_is_shown_without_the_sentence_that_names_it():
    exercise = find_exercise("masked_softmax")
    for each in exercise.mistakes:
        code = code_of(exercise, each)
        assert code.startswith("def masked_softmax(scores, mask):") and each.sentence[:20] not in code


def test_the_command_counts_tries_up_to_the_solution_and_lists_mistakes(file):
    for passed, name in ((False, "mask_ignored"), (False, None), (True, None), (False, "mask_ignored")):
        record(exercise="masked_softmax", passed=passed, mistake=name)
    record(exercise="decode", passed=False, mistake=None)
    record(exercise="an exercise that is gone", passed=True)
    printed = describe()
    assert "mask ignored" in printed and "not yet" in printed and f"1 of {len(exercise_names())}" in printed
    row = next(line for line in printed.splitlines() if "masked_softmax" in line)
    assert "✓" in row and " 3 " in row


def test_the_command_says_when_there_is_nothing(file, monkeypatch):
    assert "No exercise has been checked yet" in describe()
    monkeypatch.setenv("POCKETGPT_PROGRESS", "off")
    assert "switched off" in describe()


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00", b'{"exercise": "softmax", "mistake": ["a"]}', b'{"exercise": {}}'])
def test_lines_of_the_wrong_shape_are_left_out(file, damage):
    record(exercise="softmax", passed=True)
    with file.open("ab") as opened:
        opened.write(damage + b"\n")
    assert [event["exercise"] for event in events()] == ["softmax"]
    assert "1 of" in describe()


def test_a_record_of_an_unknown_user_is_named_with_its_variable(monkeypatch):
    monkeypatch.setenv("POCKETGPT_PROGRESS", "~nobody-here/progress.jsonl")
    with pytest.raises(PocketError, match="Set POCKETGPT_PROGRESS"):
        describe()

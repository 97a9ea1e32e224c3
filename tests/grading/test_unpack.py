"""A platform's zip file becomes the folder that it was made from, and nothing is written elsewhere."""

import zipfile
from datetime import datetime

import pytest

from pocketgpt.errors import PocketError
from pocketgpt.grading import unpack as module
from pocketgpt.grading.submissions import submissions
from pocketgpt.grading.unpack import unpack

CHAPTERS = ("01_tokens", "02_attention")


def archive(path, *names, date=(2026, 11, 5, 12, 30, 10)):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(zipfile.ZipInfo(name, date), "{}")
    return path


def whose(tmp_path, *names):
    unpack(archive(tmp_path / "export.zip", *names), tmp_path / "out")
    return {each.file: each.student for each in submissions(tmp_path / "out", CHAPTERS)}


def test_folders_of_moodle(tmp_path):
    assert whose(
        tmp_path,
        "Ada Lovelace_12_assignsubmission_file_/02_attention.ipynb",
        "Alan Turing_34_assignsubmission_file/02_attention.ipynb",
    ) == {
        "Ada Lovelace_12_assignsubmission_file_/02_attention.ipynb": "Ada Lovelace",
        "Alan Turing_34_assignsubmission_file/02_attention.ipynb": "Alan Turing",
    }


def test_file_names_of_canvas_have_one_student_over_all_chapters(tmp_path):
    names = ("lovelaceada_77_1001_02_attention-1.ipynb", "lovelaceada_LATE_77_1002_01_tokens.ipynb")
    assert set(whose(tmp_path, *names, "turingalan_78_1003_02_attention.ipynb").values()) == {
        "lovelaceada_77",
        "turingalan_78",
    }


def test_the_time_of_the_last_change_is_that_of_the_archive(tmp_path):
    unpack(archive(tmp_path / "export.zip", "a/x.ipynb"), tmp_path / "out")
    changed = (tmp_path / "out" / "a" / "x.ipynb").stat().st_mtime
    assert datetime.fromtimestamp(changed) == datetime(2026, 11, 5, 12, 30, 10)


def test_no_path_leads_out_of_the_folder(tmp_path):
    unpack(archive(tmp_path / "export.zip", "../../x.ipynb", "/tmp/pocketgpt-test-y.ipynb"), tmp_path / "in" / "out")
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.ipynb"))
    assert written == ["in/out/tmp/pocketgpt-test-y.ipynb", "in/out/x.ipynb"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"text"])
def test_a_damaged_archive_is_named(tmp_path, content):
    (tmp_path / "export.zip").write_bytes(content)
    with pytest.raises(PocketError, match=r"export\.zip cannot be unpacked"):
        unpack(tmp_path / "export.zip", tmp_path / "out")


def test_an_archive_that_is_no_class_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 3)
    with pytest.raises(PocketError, match="unpack it by hand"):
        unpack(archive(tmp_path / "export.zip", "a.ipynb", "b.ipynb"), tmp_path / "out")
    assert not (tmp_path / "out").exists()

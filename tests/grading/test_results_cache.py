"""Results that were found before: the same ones, for the same answers and settings only, and never a damaged one."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pocketgpt.grading import results_cache
from pocketgpt.grading.protection.limits import Limits
from pocketgpt.grading.rebuild import Piece
from pocketgpt.grading.results import Verdict
from pocketgpt.grading.results_cache import Outcome, keep, key, recall, versions

OUTCOME = Outcome((Verdict("softmax", True, "✓ 0.1 softmax · 2 points"),), ("A note.", "another \ud800"), 1.25)
PIECES = [Piece("given", "import torch"), Piece("answer", "def softmax(): '\ud800 é'", "softmax", 3)]
SETTINGS = ("00_start_here", Limits(), True, "namespaces")


def test_what_was_kept_is_recalled(tmp_path):
    keep(tmp_path / "new", "name", OUTCOME)
    assert recall(tmp_path / "new", "name") == OUTCOME


def test_what_was_not_kept_is_not_recalled(tmp_path):
    assert recall(tmp_path / "nothing", "name") is None
    keep(tmp_path, "name", OUTCOME)
    assert recall(tmp_path, "other") is None


@pytest.mark.parametrize("left", [0, 1, 10, 100, -3])
def test_a_file_that_was_cut_short_is_not_recalled(tmp_path, left):
    keep(tmp_path, "name", OUTCOME)
    path = tmp_path / "name.json"
    path.write_bytes(path.read_bytes()[:left])
    assert recall(tmp_path, "name") is None


def damaged(**parts):
    return {"verdicts": [{"exercise": "softmax", "passed": True, "message": "✓"}], "notes": [], "seconds": 1.0, **parts}


@pytest.mark.parametrize(
    "values",
    [
        None,
        5,
        [],
        {},
        "text",
        damaged(verdicts=5),
        damaged(verdicts=[5]),
        damaged(verdicts=[{"exercise": "softmax"}]),
        damaged(verdicts=[{"exercise": "softmax", "passed": True, "message": "✓", "points": 5}]),
        damaged(notes=None),
        {"verdicts": [], "notes": []},
    ],
)
def test_json_of_another_shape_is_not_recalled(tmp_path, values):
    (tmp_path / "name.json").write_text(json.dumps(values))
    assert recall(tmp_path, "name") is None


def test_what_is_no_text_is_not_recalled(tmp_path):
    (tmp_path / "name.json").write_bytes(b"\xff\xfe\x00")
    assert recall(tmp_path, "name") is None


def test_nothing_is_left_beside_a_kept_result(tmp_path):
    keep(tmp_path, "name", OUTCOME)
    assert [path.name for path in tmp_path.iterdir()] == ["name.json"]


def test_equal_notebooks_may_be_kept_at_the_same_moment(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: keep(tmp_path, "name", OUTCOME), range(200)))
    assert recall(tmp_path, "name") == OUTCOME


def test_the_same_notebook_and_settings_have_the_same_key():
    again = [replace(piece) for piece in PIECES]
    assert key(again, ("00_start_here", Limits(), True, "namespaces")) == key(PIECES, SETTINGS)


@pytest.mark.parametrize(
    "pieces",
    [
        PIECES[:1],
        PIECES[::-1],
        [PIECES[0], replace(PIECES[1], source="def softmax(): 'e'")],
        [PIECES[0], replace(PIECES[1], exercise="entropy")],
        [PIECES[0], replace(PIECES[1], role="extra")],
        [PIECES[0], replace(PIECES[1], origin=4)],
        [Piece("given", "import torch\ndef softmax(): '\ud800 é'")],
    ],
)
def test_another_notebook_has_another_key(pieces):
    assert key(pieces, SETTINGS) != key(PIECES, SETTINGS)


@pytest.mark.parametrize(
    "settings",
    [
        ("01_tokens", *SETTINGS[1:]),
        (SETTINGS[0], Limits(cell_seconds=61.0), *SETTINGS[2:]),
        (SETTINGS[0], Limits(memory=1 << 30), *SETTINGS[2:]),
        (*SETTINGS[:2], False, SETTINGS[3]),
        (*SETTINGS[:3], "none"),
    ],
)
def test_other_settings_have_another_key(settings):
    assert key(PIECES, settings) != key(PIECES, SETTINGS)


@pytest.mark.parametrize("part", ["pocketgpt", "torch", "nbval", "python", "code"])
def test_another_version_has_another_key(monkeypatch, part):
    before = key(PIECES, SETTINGS)
    monkeypatch.setattr(results_cache, "versions", lambda: {**versions(), part: "another"})
    assert key(PIECES, SETTINGS) != before


def test_any_change_of_the_package_is_another_version(tmp_path, monkeypatch):
    monkeypatch.setattr(results_cache, "PACKAGE", tmp_path)
    seen = set()
    for name, text in [("a.py", "1"), ("a.py", "2"), ("b/c.py", "2"), ("b/c.py", "")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        versions.cache_clear()
        seen.add(versions()["code"])
    versions.cache_clear()
    assert len(seen) == 4

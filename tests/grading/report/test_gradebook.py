"""The gradebook's files: every notebook is in them once, with its points, and no name or message can do harm."""

import csv
import json
from xml.etree import ElementTree

import pytest

from pocketgpt.grading.report.gradebook import (
    clean,
    defused,
    handed_in_nothing,
    line,
    write_csv,
    write_junit,
    write_results,
    write_students_csv,
)
from pocketgpt.grading.report.grading_policy import GradingPolicy, exercises_of
from pocketgpt.grading.results import Flag, Result, Verdict, from_json

HOSTILE = {
    "markup": "<script>alert(1)</script>]]>&amp;\"'",
    "formula": '=HYPERLINK("http://example.org";"x")',
    "path": "../../x",
    "device": "CON",
    "long": "n" * 300,
    "emoji": "👩‍🔬 Ångström 李",
    "override": "\u202egnp.exe",
    "half a pair": "\ud800 a \udfff",
    "null": "\x00Ann\x1b[31m\r\nLee\x7f\ufffe",
    "large": "y\n" * 2_500_000,
}
FLAGS = tuple(Flag(cell, 1, f"import os  # {cell}", "reaches the shell") for cell in range(1, 6))


def result(student: str, chapter: str = "02_attention", *, right: tuple[str, ...] = (), **values: object) -> Result:
    verdicts = tuple(Verdict(name, name in right, f"{name} is said") for name in exercises_of(chapter))
    return Result(
        **{"student": student, "file": f"{student}.ipynb", "chapter": chapter, "verdicts": verdicts, **values}
    )


def hostile(text: str) -> Result:
    verdicts = tuple(Verdict(name, False, text) for name in exercises_of("02_attention"))
    flags = (Flag(1, 1, text, "is long"),)
    return Result(text, f"{text}.ipynb", "02_attention", verdicts, flags, (text,), 1.0, 1.0)


@pytest.fixture
def table(tmp_path):
    def written(*results: Result, policy: GradingPolicy = GradingPolicy()) -> list[dict[str, str]]:  # noqa: B008
        write_csv(tmp_path / "grades.csv", results, policy)
        with (tmp_path / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file, strict=True))

    return written


@pytest.fixture
def junit(tmp_path):
    def written(*results: Result, policy: GradingPolicy = GradingPolicy()) -> ElementTree.Element:  # noqa: B008
        write_junit(tmp_path / "junit.xml", results, policy)
        return ElementTree.parse(tmp_path / "junit.xml").getroot()

    return written


def test_a_row_has_the_points_of_each_exercise_and_their_sum(table):
    policy = GradingPolicy(changed={"attention": 5.5})
    (row,) = table(result("Ann", right=("attention", "causal_mask"), seconds=6.14), policy=policy)
    assert row == {
        "student": "Ann",
        "chapter": "02_attention",
        "file": "Ann.ipynb",
        "2.1 attention_scores": "0",
        "2.2 masked_softmax": "0",
        "2.3 causal_mask": "2",
        "2.4 attention": "5.5",
        "total": "7.5",
        "possible": "10.5",
        "late": "",
        "flags": "",
        "notes": "",
        "seconds": "6.1",
    }


def test_an_exercise_of_another_chapter_is_an_empty_cell(table):
    attention, tokens = table(result("Ann"), result("Bob", "01_tokens"))
    assert attention["1.5 embed"] == tokens["2.4 attention"] == ""
    assert attention["2.4 attention"] == tokens["1.5 embed"] == "0"


def test_only_chapters_that_occur_have_columns(table):
    (row,) = table(result("Ann", "01_tokens"))
    assert "1.5 embed" in row and "2.4 attention" not in row


def test_what_could_not_be_graded_has_a_row_with_a_note_and_no_total(table):
    (row,) = table(Result("Ann", "essay.ipynb", notes=("No chapter has these cells.",)))
    assert (row["student"], row["notes"]) == ("Ann", "No chapter has these cells.")
    assert row["chapter"] == row["total"] == row["possible"] == ""


def test_who_handed_in_nothing_has_a_row_without_points(table):
    (row,) = table(handed_in_nothing("Ann", "02_attention"))
    assert (row["student"], row["chapter"], row["notes"]) == ("Ann", "02_attention", "handed in nothing")
    assert (row["2.4 attention"], row["total"], row["possible"]) == ("", "0", "8")


def test_two_files_of_one_student_and_chapter_stay_two_rows(table):
    rows = table(result("Ann", file="b.ipynb"), result("Ann", file="a.ipynb"))
    assert [row["file"] for row in rows] == ["a.ipynb", "b.ipynb"]


def test_rows_are_sorted_by_student_and_chapter(table):
    rows = table(result("bob"), result("Cid"), result("Ann"), result("Ann", "01_tokens"))
    assert [(row["student"], row["chapter"][:2]) for row in rows] == [
        ("Ann", "01"),
        ("Ann", "02"),
        ("bob", "02"),
        ("Cid", "02"),
    ]


def test_the_first_flags_are_quoted_and_all_are_counted(table):
    (row,) = table(result("Ann", flags=FLAGS))
    assert row["flags"].startswith("5: cell 1 line 1 (reaches the shell) import os # 1 · cell 2 ")
    assert "# 3" in row["flags"] and "# 4" not in row["flags"]


def test_flags_cost_no_points(table):
    flagged, honest = table(result("Ann", right=("attention",), flags=FLAGS), result("Bob", right=("attention",)))
    assert flagged["total"] == honest["total"] == "3"


def test_a_spreadsheet_is_told_that_names_are_utf_8(tmp_path):
    write_csv(tmp_path / "grades.csv", [result("Zoë")], GradingPolicy())
    assert (tmp_path / "grades.csv").read_bytes().startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("first", "=+-@%|＝＋－＠")
@pytest.mark.parametrize("before", ["", "  ", "\t", "\r\n", "\x00", "\u200b", "\ufeff ", "\u202e"])
def test_no_cell_begins_as_a_formula(first, before):
    assert defused(f"{before}{first}1+1").startswith("'")


def test_no_formula_begins_where_a_semicolon_separates_cells():
    assert defused('x; =HYPERLINK("y")') == 'x;\' =HYPERLINK("y")'


@pytest.mark.parametrize("name", ["Ann-Lee", "a=b", "ann@example.org", "O'Neill; Ann", "50%"])
def test_a_name_that_is_no_formula_stays_as_it_is(name):
    assert defused(name) == name


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_one_row_between_honest_ones(table, text):
    rows = table(result("AAA", right=("attention",)), hostile(text), result("ａｆｔｅｒ", right=("attention",)))
    assert len(rows) == 3
    for row in rows:
        assert not any(each[:1] in "=+-@%|＝＋－＠\t\r" for each in row.values() if each)
        assert not any(ord(sign) < 32 for each in row.values() for sign in each)
        assert max(map(len, row.values())) < 1_100
    assert sorted(row["total"] for row in rows) == ["0", "3", "3"]


def test_two_names_stay_two_students(table):
    assert [row["student"] for row in table(result("Ann_Lee"), result("Ann/Lee"))] == ["Ann/Lee", "Ann_Lee"]


def test_colors_of_a_terminal_leave_no_trace():
    assert clean("\x1b[1;31mRed\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]8;;\x07\r\nnext") == "Red link\nnext"


def test_an_escape_sequence_that_never_ends_hides_nothing():
    assert clean("\x1b]0;all of this\nis kept") == "�]0;all of this\nis kept"


def test_what_is_written_in_many_scripts_and_emoji_is_kept():
    assert line("नमस्ते مرحبا 👩‍🔬 李小龍 Zoë") == "नमस्ते مرحبا 👩‍🔬 李小龍 Zoë"


def test_each_exercise_is_a_testcase_that_fails_with_the_checks_message(junit):
    suite = junit(result("Ann", right=("attention",))).find("testsuite")
    failed = {case.get("name"): case.find("failure") for case in suite.iter("testcase")}
    assert [name for name, failure in failed.items() if failure is None] == ["2.4 attention"]
    assert failed["2.3 causal_mask"].text == "causal_mask is said"
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "3", "0")


def test_a_notebook_that_could_not_be_graded_is_an_error(junit):
    suite = junit(Result("Ann", "essay.ipynb", notes=("No chapter has these cells.",))).find("testsuite")
    assert suite.find("testcase/error").text == "No chapter has these cells."
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "0", "1")


def test_a_notebook_that_was_not_handed_in_is_skipped(junit):
    suite = junit(handed_in_nothing("Ann", "02_attention")).find("testsuite")
    assert suite.find("testcase/skipped") is not None
    assert suite.get("skipped") == "1"


def test_flags_are_in_the_output_of_the_suite_and_fail_nothing(junit):
    suite = junit(result("Ann", right=exercises_of("02_attention"), flags=FLAGS)).find("testsuite")
    assert suite.find("system-out").text.splitlines()[4] == "cell 5, line 1: reaches the shell: import os # 5"
    assert suite.get("failures") == "0"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_xml_with_a_hostile_text_is_read_back(junit, tmp_path, text):
    root = junit(hostile(text), result("Ann", right=("attention",)))
    assert [len(suite.findall(".//failure")) for suite in root] in ([4, 3], [3, 4])
    assert (tmp_path / "junit.xml").stat().st_size < 200_000


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_json_has_every_result_as_it_was_found(tmp_path, text):
    found = [hostile(text), result("Ann", right=("attention",))]
    write_results(tmp_path / "results.json", found, GradingPolicy(), ["no network"], {"pocketgpt": "0.1.0"})
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert {from_json(each["result"]) for each in written["results"]} == set(found)
    assert (written["protections"], written["versions"]) == (["no network"], {"pocketgpt": "0.1.0"})


def test_json_says_what_was_earned_by_which_terms(tmp_path):
    policy = GradingPolicy(changed={"attention": 5})
    found = [result("Ann", right=("attention",)), Result("Bob", "b.ipynb")]
    write_results(tmp_path / "results.json", found, policy, [], {})
    ann, bob = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["results"]
    assert (ann["earned"]["attention"], ann["total"], ann["possible"]) == (5, 5, 10)
    assert (bob["earned"], bob["total"], bob["possible"]) == ({}, None, None)


def test_a_student_is_one_row_over_all_chapters(tmp_path):
    right = ("causal_mask", "attention")
    results = [
        result("Ann", right=right, flags=FLAGS[:2]),
        result("Ann", right=right[:1], file="again.ipynb"),
        result("Ann", "01_tokens", right=("embed",)),
        result("Bob", right=("attention",)),
        handed_in_nothing("Bob", "01_tokens"),
        result(HOSTILE["formula"]),
        Result("Cy", "broken.ipynb", notes=("it is broken",)),
    ]
    policy = GradingPolicy(changed={"attention": 2.5})
    write_students_csv(tmp_path / "students.csv", results, policy)
    with (tmp_path / "students.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file, strict=True)}
    assert next(iter(rows)) == "(possible)" and len(rows) == 5
    assert rows["(possible)"]["total"] == str(policy.possible("01_tokens") + policy.possible("02_attention"))
    mask = policy.points("causal_mask")
    assert rows["Ann"] == {
        "student": "Ann",
        "01_tokens": "1",
        "02_attention": f"{mask + 2.5}",
        "total": f"{mask + 3.5}",
        "flags": "2",
    }
    assert (rows["Bob"]["01_tokens"], rows["Bob"]["02_attention"], rows["Bob"]["total"]) == ("", "2.5", "2.5")
    assert rows["Cy"]["total"] == "0" and not any(name.startswith("=") for name in rows)

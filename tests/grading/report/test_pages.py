"""The pages: the words that the student saw, nothing of others, and nothing that a submission makes of them."""

from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pocketgpt.grading.report.gradebook import handed_in_nothing
from pocketgpt.grading.report.grading_policy import GradingPolicy, exercises_of
from pocketgpt.grading.report.pages import page_name, write_pages
from pocketgpt.grading.report.statistics import standings
from pocketgpt.grading.results import Flag, Result, Verdict

MESSAGE = "✗ 2.3 causal_mask\nA query may look at its own position.\n\nyour mask    expected\n· · ·        ■ · ·  <&>"
FLAG = Flag(7, 3, "import subprocess", "starts a process")
HOSTILE = {
    "markup": "</pre></style><script>alert(1)</script><img src=x onerror=alert(2)>]]>",
    "attribute": "\" onmouseover=\"alert(1)' onclick='alert(2)",
    "template": "{{ 7 * 7 }}{% raw %}",
    "formula": '=HYPERLINK("x")',
    "path": "../../x",
    "windows path": "..\\..\\x:y",
    "device": "CON",
    "device with an ending": "nul.txt",
    "long": "n" * 300,
    "emoji": "👩‍🔬👩‍🔬",
    "many bytes": "𝔞" * 300,
    "override": "\u202egnp.exe",
    "half a pair": "\ud800 a \udfff",
    "null": "\x00",
    "nothing": "",
    "index": "index",
    "link": "#a?b%2f",
}


class Seen(HTMLParser):
    """The elements of a page with their attributes, its text, and what stands in each <pre>."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.messages = "", []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "pre":
            self.messages.append("")

    def handle_data(self, data):
        if self.elements[-1:] == [("style", {})]:
            return
        self.text = " ".join([*self.text.split(), *data.split()])
        if self.elements and self.elements[-1][0] == "pre" and not self.messages[-1]:
            self.messages[-1] = data.removeprefix("\n")  # HTML takes the first newline of a <pre> away


def result(student: str, chapter: str = "02_attention", *, message: str = MESSAGE, **values: object) -> Result:
    verdicts = tuple(Verdict(name, name == "attention", message) for name in exercises_of(chapter))
    return Result(
        **{"student": student, "file": f"{student}.ipynb", "chapter": chapter, "verdicts": verdicts, **values}
    )


@pytest.fixture
def write(tmp_path):
    def written(*results: Result, policy: GradingPolicy = GradingPolicy()) -> dict[str, Seen]:  # noqa: B008
        """The pages by student; the index is that of nobody."""
        write_pages(tmp_path, results, policy, ["No network.", "64 processes."])
        students = {each.student: Seen(tmp_path / "students" / page_name(each.student)) for each in results}
        return {**students, "the index": Seen(tmp_path / "index.html")}

    return written


def test_a_message_is_on_the_page_with_all_its_spaces(write):
    assert write(result("Ann"))["Ann"].messages == [MESSAGE] * 4


def test_a_message_that_begins_with_an_empty_line_keeps_it(write):
    assert write(result("Ann", message="\n  x"))["Ann"].messages[0] == "\n  x"


def test_colors_of_a_terminal_are_taken_out_of_a_message(write):
    assert write(result("Ann", message="\x1b[31mError\x1b[0m: x"))["Ann"].messages[0] == "Error: x"


def test_a_message_of_megabytes_is_cut_with_a_note(write, tmp_path):
    page = write(result("Ann", message="é<\n" * 1_700_000))["Ann"]
    assert page.messages[0].endswith("(5090000 more characters)")
    assert (tmp_path / "students" / page_name("Ann")).stat().st_size < 500_000


def test_a_page_has_points_by_exercise_and_their_sum(write):
    page = write(result("Ann"), result("Ann", "01_tokens"))["Ann"]
    assert "3 of 16 points" in page.text
    assert "02_attention · 3 of 8" in page.text
    assert "2.3 causal_mask 0 of 2" in page.text and "2.4 attention 3 of 3" in page.text


def test_points_that_are_not_the_courses_are_explained_where_the_check_names_others(write):
    page = write(result("Ann"), policy=GradingPolicy(changed={"attention": 5, "causal_mask": 1}))["Ann"]
    assert "2.4 attention 5 of 5 The points above count." in page.text
    assert page.text.count("The points above count.") == 1


def test_two_files_of_one_chapter_are_both_shown_and_not_added_up(write):
    pages = write(result("Ann", file="one.ipynb"), result("Ann", file="two.ipynb"))
    for page in (pages["Ann"], pages["the index"]):
        assert "2 files of 02_attention: no sum" in page.text
        assert "one.ipynb" in page.text and "two.ipynb" in page.text
        assert "of 16 points" not in page.text and "6 of 8" not in page.text


def test_notes_are_on_the_page_and_in_the_index(write):
    pages = write(Result("Ann", "essay.ipynb", notes=("No chapter has these cells.",)))
    assert all("No chapter has these cells." in page.text for page in pages.values())
    assert "1 could not be graded" in pages["the index"].text


def test_who_handed_in_nothing_has_a_page_that_says_so(write):
    pages = write(handed_in_nothing("Ann", "02_attention"))
    assert all("handed in nothing" in page.text and "0 of 8" in page.text for page in pages.values())


def test_lateness_is_told_and_that_it_costs_nothing(write):
    policy = GradingPolicy(deadlines={"02_attention": datetime(2026, 12, 1, 23, 59, tzinfo=UTC)})
    late = result("Ann", submitted=policy.deadlines["02_attention"].timestamp() + 97_200)
    pages = write(late, result("Bob"), policy=policy)
    assert "1 d 3 h after the deadline, 2026-12-01 23:59 UTC" in pages["Ann"].text
    assert "deadline" not in pages["Bob"].text
    assert "late: 1 d 3 h" in pages["the index"].text and "1 late" in pages["the index"].text
    assert all("costs no points by itself" in pages[page].text for page in ("Ann", "the index"))


def test_flags_are_quoted_in_the_index_and_not_on_the_page_of_the_student(write):
    pages = write(result("Ann", flags=(FLAG,)))
    assert "1 line to look at" in pages["the index"].text
    assert "cell 7, line 3 import subprocess starts a process" in pages["the index"].text
    assert "to look at" not in pages["Ann"].text and "subprocess" not in pages["Ann"].text


def test_thousands_of_flags_do_not_fill_the_index(write):
    index = write(result("Ann", flags=(FLAG,) * 5000))["the index"]
    assert index.text.count("import subprocess") == 50
    assert "5000 lines to look at" in index.text and "4950 more" in index.text


def test_a_page_says_nothing_of_other_students(write):
    pages = write(result("Ann"), result("Bob"))
    assert "Bob" not in pages["Ann"].text and "Ann" not in pages["Bob"].text


def test_the_index_begins_with_the_protections(write):
    index = write(result("Ann"))["the index"]
    assert "Protections that were active while the notebooks ran: No network. 64 processes." in index.text


def test_an_index_without_protections_says_none(tmp_path):
    write_pages(tmp_path, [result("Ann")], GradingPolicy(), [])
    assert "while the notebooks ran: none" in Seen(tmp_path / "index.html").text


def test_the_index_counts_what_needs_a_look(write):
    text = write(result("Ann", flags=(FLAG,)), result("Bob"), handed_in_nothing("Bob", "01_tokens"))["the index"].text
    assert "2 students · 2 notebooks · 1 not handed in · 1 with lines to look at" in text


def test_the_index_shows_what_the_class_has_solved_and_which_mistakes_several_made(write):
    empty = "✗ 2.3 causal_mask\ncausal_mask is still empty: write your answer in its cell and run it."
    other = "✗ 2.3 causal_mask\nSomething else."
    messages = {"ada": MESSAGE, "bob": MESSAGE, "eve": empty, "joe": other}
    text = write(*(result(name, message=message) for name, message in messages.items()))["the index"].text
    assert "2.3 causal_mask 0 of 4 2 × A query may look at its own position." in text
    assert "2.4 attention 4 of 4" in text and "Something else" not in text


def test_standings_tell_tried_from_solved_and_from_handed_in():
    empty = "✗ 2.3 causal_mask\ncausal_mask is still empty: write your answer in its cell and run it."
    found = standings([result("ada"), result("bob", message=empty), result("eve", "00_start_here")])
    (mask,) = [each for each in found if each.exercise == "causal_mask"]
    assert (mask.solved, mask.tried, mask.handed_in, mask.mistakes) == (0, 1, 2, ())
    assert [each.exercise for each in found][:2] == ["softmax", "attention_scores"]


def test_the_index_links_every_page(write, tmp_path):
    index = write(*map(result, HOSTILE.values()))["the index"]
    links = [attributes["href"] for tag, attributes in index.elements if tag == "a"]
    pages = [f"students/{page.name}" for page in (tmp_path / "students").iterdir()]
    assert sorted(links) == sorted(pages) and len(pages) == len(HOSTILE)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_of_a_submission_becomes_part_of_the_page(write, text):
    def shape(said: str) -> dict[str, list]:
        """All elements with the names and values of their attributes, but for links to pages."""
        verdicts = tuple(Verdict(name, False, said) for name in exercises_of("02_attention"))
        flags = (Flag(1, 1, said, said),)
        pages = write(Result(said, f"{said}.ipynb", "02_attention", verdicts, flags, (said,)))
        return {
            page: [
                (tag, {key: value for key, value in attributes.items() if key != "href"})
                for tag, attributes in pages[name].elements
            ]
            for page, name in (("student", said), ("index", "the index"))
        }

    assert shape(text) == shape("Ann")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_shown_without_marks_that_no_one_sees(write, text):
    page = write(result(text))[text]
    assert not set(page.text) & set("\x00\x1b\u202e")


def test_pages_forbid_scripts_and_load_nothing(write):
    for page in write(result("Ann", flags=(FLAG,))).values():
        policies = [values["content"] for tag, values in page.elements if "http-equiv" in values]
        assert len(policies) == 1 and policies[0].startswith("default-src 'none';") and "script-src" not in policies[0]
        assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "base", "form"}


def test_a_student_whose_name_is_empty_can_be_clicked_on(write):
    assert "Missed (no name) 3 of 8 points" in write(result(" "))["the index"].text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_page_has_a_name_that_every_system_takes(text):
    name = page_name(text)
    stem = name.removesuffix(".html")
    assert stem.replace("-", "").replace("_", "").isalnum()  # so no separators, no dots
    assert len(name.encode()) < 200
    assert stem[-13] == "-" and stem[:-13]  # never CON alone, nor index


@pytest.mark.parametrize(
    ("one", "other"), [("Ann/Lee", "Ann_Lee"), ("ann", "Ann"), ("\ud800", "?"), ("n" * 300, "n" * 301), ("\x00", "")]
)
def test_two_students_have_two_pages_even_where_case_does_not_count(one, other):
    assert page_name(one).casefold() != page_name(other).casefold()


def test_nothing_is_written_outside_the_folder(tmp_path):
    write_pages(tmp_path / "a" / "b", [*map(result, HOSTILE.values())], GradingPolicy(), [])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["index.html", "students"]


def test_pages_of_students_who_are_no_longer_there_are_removed(write, tmp_path):
    write(result("Ann"), result("Bob"))
    write(result("Ann"))
    assert [page.name for page in (tmp_path / "students").iterdir()] == [page_name("Ann")]


@pytest.mark.parametrize("name", ["essay.ipynb", "notes.html", "my-notes.html", page_name("Bob")])
def test_a_file_that_is_not_a_page_of_grades_is_never_removed(write, tmp_path, name):
    (tmp_path / "students").mkdir()
    (tmp_path / "students" / name).write_text("<p>mine</p>", encoding="utf-8")
    write(result("Ann"))
    assert (tmp_path / "students" / name).read_text(encoding="utf-8") == "<p>mine</p>"


def test_the_same_results_make_the_same_bytes_in_any_order(write, tmp_path):
    def pages() -> dict[str, bytes]:
        return {str(page): page.read_bytes() for page in tmp_path.rglob("*.html")}

    write(result("Ann"), result("Bob"))
    before = pages()
    write(result("Bob"), result("Ann"))
    assert pages() == before

"""The syllabus is the only table of chapters: files, rooms, numbers, the map and the README agree with it."""

import re
import subprocess
import sys

import pytest

from pocketgpt.course import syllabus
from pocketgpt.course.building import ROOT
from pocketgpt.course.building.build import solution_notebook
from pocketgpt.course.figures.model_map import NUMBERS
from pocketgpt.course.syllabus import CHAPTERS, all_exercises, exercise_names, find_exercise

WRITTEN = [chapter for chapter in CHAPTERS if chapter.written]
every_written = pytest.mark.parametrize("chapter", WRITTEN, ids=lambda chapter: chapter.name)
SHARED = {"__init__", "experiments", "figures", "rare", "shared"}  # files of a room that are not exercises
SHARED |= {"effects", "two_processes"}  # of chapter 15
SHARED |= {"signing"}  # of chapter 25


def loaded_after(code: str) -> set[str]:
    """The modules of this project that are loaded when some code has run in a fresh process."""
    script = (
        f"{code}\nimport sys\nprint(*[name for name in sys.modules if name.startswith('pocketgpt') or name == 'torch'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.splitlines()[-1].split())


def exercise_modules(loaded: set[str]) -> set[str]:
    found = {name for name in loaded if re.match(r"pocketgpt\.course\.ch\d\d_\w+\.", name)}
    return {name for name in found if name.rsplit(".", 1)[1] not in SHARED}


def source_of(chapter) -> str:
    return (ROOT / "solutions" / f"{chapter.name}.py").read_text(encoding="utf-8")


def test_chapters_are_numbered_from_zero_without_gaps():
    assert [chapter.number for chapter in CHAPTERS] == list(range(26))
    assert len({chapter.topic for chapter in CHAPTERS}) == 26


@pytest.mark.parametrize(("folder", "ending"), [("solutions", ".py"), ("solutions", ".ipynb"), ("chapters", ".ipynb")])
def test_the_files_are_those_of_the_written_chapters(folder, ending):
    found = sorted(path.stem for path in (ROOT / folder).glob(f"[0-9]*{ending}"))
    assert found == [chapter.name for chapter in WRITTEN]


def test_the_rooms_are_those_of_the_written_chapters():
    found = sorted(path.name for path in (ROOT / "pocketgpt" / "course").glob("ch[0-9]*"))
    assert found == [chapter.room for chapter in WRITTEN]


@every_written
def test_a_room_has_one_file_for_each_exercise(chapter):
    files = {path.stem for path in (ROOT / "pocketgpt" / "course" / chapter.room).glob("*.py")}
    assert files - SHARED == set(chapter.exercises)


@every_written
def test_an_exercise_is_numbered_by_its_chapter_and_position(chapter):
    for position, name in enumerate(chapter.exercises, 1):
        assert find_exercise(name).number == f"{chapter.number}.{position}"
        assert find_exercise(name).name == name


@every_written
def test_a_notebook_shows_title_minutes_and_exercises_of_the_syllabus(chapter):
    source = source_of(chapter)
    assert source.startswith(f"# %% [markdown]\n# # {chapter.number} · {chapter.title}\n")
    assert f"**Time**: about {chapter.minutes} minutes" in source
    headings = re.findall(r"### Exercise (\d+\.\d+) · `(\w+)`", source)
    assert headings == [(find_exercise(name).number, name) for name in chapter.exercises]


@every_written
def test_a_chapter_has_at_most_3500_words_of_text(chapter):
    cells = solution_notebook(ROOT / "solutions" / f"{chapter.name}.py").cells
    assert sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown") <= 3500


@every_written
def test_a_notebook_needs_and_announces_the_chapters_of_the_syllabus(chapter):
    source = source_of(chapter)
    needed = source[source.index("**You need**") :].split("\n#\n")[0]
    assert tuple(int(number) for number in re.findall(r"chapter (\d+)", needed)) == chapter.needs
    if chapter is CHAPTERS[-1]:
        assert "**Next**" not in source
        return
    following = source[source.index("**Next**") :]
    assert re.findall(r"[Cc]hapter (\d+)", following)[0] == str(chapter.number + 1)
    files = re.findall(r"`?(\d\d_\w+)\.ipynb", following)
    assert set(files) <= {each.name for each in CHAPTERS[chapter.number + 1 :][:1]}


def test_the_map_numbers_the_topics_as_the_syllabus_does():
    assert {topic: CHAPTERS[number].topic for topic, number in NUMBERS.items()} == {topic: topic for topic in NUMBERS}
    assert {chapter.topic for chapter in WRITTEN if chapter.on_map} <= set(NUMBERS)


def test_the_readme_lists_the_written_chapters():
    rows = re.findall(r"^\| (\d+) \| \[.*?\]\(chapters/(\w+)\.ipynb\)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert rows == [(str(chapter.number), chapter.name) for chapter in WRITTEN]


def test_the_syllabus_imports_nothing_heavy():
    loaded = loaded_after("from pocketgpt.course.syllabus import exercise_names\nexercise_names()")
    assert "torch" not in loaded and not exercise_modules(loaded)


EACH_ALONE = r"""
import re
import sys
from pocketgpt.course.lab import check
from pocketgpt.course.syllabus import exercise_names
for name in exercise_names():
    for module in filter(re.compile(r"pocketgpt\.course\.ch\d").match, [*sys.modules]):
        del sys.modules[module]
    getattr(check, name)
    print(name, *filter(re.compile(r"pocketgpt\.course\.ch\d").match, sys.modules))
"""


def test_a_check_imports_one_exercise():
    done = subprocess.run([sys.executable, "-c", EACH_ALONE], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, *_ in loaded] == list(exercise_names())
    for name, *modules in loaded:
        assert {module.rsplit(".", 1)[1] for module in exercise_modules({*modules})} == {name}


def test_a_right_answer_opens_twelve_files_of_the_checks_and_those_that_describe_wrong_ones_stay_closed():
    name = find_exercise("softmax").finished_answer.__name__
    answer = f"from pocketgpt.course.ch00_start_here.softmax import {name}"
    loaded = loaded_after(f"from pocketgpt.course.lab import check\n{answer}\ncheck.softmax({name})")
    opened = {module.rpartition(".")[2] for module in loaded if module.startswith("pocketgpt.course.checking.")}
    assert len(opened) <= 12, opened
    assert not opened & {"relations", "tendencies", "traits", "transforms"}
    assert not [module for module in loaded if module.startswith(("pocketgpt.models", "pocketgpt.course.lab."))]


def test_all_exercises_are_in_order():
    assert list(all_exercises()) == [name for chapter in WRITTEN for name in chapter.exercises]


def test_an_unknown_exercise_is_answered_with_the_known_ones():
    with pytest.raises(KeyError, match=r"no exercise 'casual_mask'.*causal_mask"):
        find_exercise("casual_mask")


def test_a_chapter_that_is_not_installed_has_no_exercises_here(tmp_path, monkeypatch):
    (tmp_path / "ch02_attention").mkdir()
    monkeypatch.setattr(syllabus, "__file__", str(tmp_path / "syllabus.py"))
    assert exercise_names() == CHAPTERS[2].exercises


@pytest.mark.parametrize("file", ["README.md", *(f"solutions/{chapter.name}.py" for chapter in WRITTEN)])
def test_files_of_the_package_that_a_text_names_exist(file):
    named = re.findall(r"pocketgpt/[\w/]+\.py", (ROOT / file).read_text(encoding="utf-8"))
    assert not [path for path in named if not (ROOT / path).is_file()]

"""The hand-out: everything a student needs, nothing that gives an answer away, and it installs."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import nbformat
import pytest

from pocketgpt.course.building import ROOT
from pocketgpt.course.building.build import solution_notebook
from pocketgpt.course.building.cells import BuildError, without_answers
from pocketgpt.course.building.release import FOLDER, release
from pocketgpt.course.lab.bug_causes import PLANTS
from pocketgpt.course.syllabus import CHAPTERS, chapter_of
from pocketgpt.errors import PocketError

SMALL = '''# %% [markdown]
# # 98 · A tiny chapter
# Hint 1 · a nudge
# Hint 2 · the shapes
# Hint 3 · pseudocode

# %%
from pocketgpt.course.lab import check


# %%
def softmax(x, dim):
    """Probabilities."""
    ### BEGIN SOLUTION
    return (x - x.amax(dim, keepdim=True)).softmax(dim)
    ### END SOLUTION


# %%
check.softmax(softmax)
'''


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Path:
    return release(tmp_path_factory.mktemp("release") / "course.zip")


@pytest.fixture
def small(tmp_path) -> Path:
    """A project with one chapter, as after `pocketgpt build`, though never executed."""
    for folder in ("solutions", "chapters", "assets", "pocketgpt", "tests", ".git"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file.txt").write_text(folder)
    for name in ("LICENSE", "requirements.lock", "Makefile"):
        (tmp_path / name).write_text(name)
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    source = tmp_path / "solutions" / "98_tiny.py"
    source.write_text(SMALL, encoding="utf-8")
    solution = solution_notebook(source)
    for cell in solution.cells:
        if cell.cell_type == "code":
            cell.execution_count = 1
    write(tmp_path / "solutions" / "98_tiny.ipynb", solution)
    write(tmp_path / "chapters" / "98_tiny.ipynb", without_answers(solution))
    return tmp_path


def write(path, notebook):
    path.write_text(nbformat.writes(notebook, version=4) + "\n", encoding="utf-8")


def contents(path) -> dict[str, bytes]:
    """By name, without the one folder at the top."""
    with zipfile.ZipFile(path) as file:
        assert {name.split("/")[0] for name in file.namelist()} == {FOLDER}
        assert len(set(file.namelist())) == len(file.namelist())
        return {name.removeprefix(f"{FOLDER}/"): file.read(name) for name in file.namelist()}


def test_it_holds_the_chapters_the_package_and_the_assets_and_nothing_else(everything):
    found = {name.split("/")[0] for name in contents(everything)}
    assert found == {"chapters", "pocketgpt", "assets", "pyproject.toml", "requirements.lock", "LICENSE", "README.md"}


def test_the_package_is_complete_and_without_caches(everything):
    tracked = subprocess.run(["git", "ls-files", "pocketgpt", "assets"], cwd=ROOT, capture_output=True, text=True)
    found = contents(everything)
    assert set(tracked.stdout.split()) <= set(found)
    assert not [name for name in found if "__pycache__" in name or "/." in name or name.endswith(".pyc")]


def test_the_pristine_chapters_are_those_of_the_project(everything):
    found = contents(everything)
    for path in (ROOT / "chapters").glob("*.ipynb"):
        assert found[f"chapters/{path.name}"] == found[f"assets/chapters/{path.name}"] == path.read_bytes()


def test_no_answer_of_a_solution_is_in_a_chapter(everything):
    found = contents(everything)
    for source in (ROOT / "solutions").glob("[0-9]*.py"):
        answers = re.findall(r"### BEGIN SOLUTION\n(.*?)\n *### END SOLUTION", source.read_text("utf-8"), re.DOTALL)
        code = "\n".join(
            cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
            for cell in json.loads(found[f"chapters/{source.stem}.ipynb"])["cells"]
            if cell["cell_type"] == "code"
        )
        assert answers
        assert not [answer for answer in answers if answer in code]


def test_only_the_named_chapters_are_in_it(tmp_path):
    found = contents(release(tmp_path / "one.zip", ("02_attention",)))
    notebooks = [name for name in found if name.endswith(".ipynb")]
    assert notebooks == ["assets/chapters/02_attention.ipynb", "chapters/02_attention.ipynb"]
    assert "01_tokens" not in found["README.md"].decode()


def test_the_same_files_give_the_same_bytes(small, tmp_path):
    first = release(tmp_path / "first.zip", root=small).read_bytes()
    for path in small.rglob("*"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o700)
    assert release(tmp_path / "second.zip", root=small).read_bytes() == first


def test_no_time_of_writing_is_in_it(everything):
    with zipfile.ZipFile(everything) as file:
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_caches_hidden_files_and_notes_of_the_author_stay_out(small, tmp_path):
    for name in ("pocketgpt/__pycache__/a.pyc", "pocketgpt/.ipynb_checkpoints/a.ipynb", "assets/.hidden"):
        (small / name).parent.mkdir(exist_ok=True)
        (small / name).write_text("no")
    found = contents(release(tmp_path / "out.zip", root=small))
    assert [name for name in found if name.endswith((".txt", ".pyc", "hidden", "a.ipynb"))] == [
        "assets/file.txt",
        "pocketgpt/file.txt",
    ]


@pytest.mark.parametrize(
    ("position", "change", "said"),
    [
        (2, {"source": "def softmax(x, dim):\n    return x.softmax(dim)"}, "contains an answer"),
        (2, {"source": "# YOUR CODE HERE\nraise NotImplementedError()\nx.softmax(dim)"}, "contains an answer"),
        (1, {"source": "### BEGIN SOLUTION\n1"}, "contains a marked answer"),
        (1, {"outputs": [nbformat.v4.new_output("stream", text="✓")]}, "contains an output"),
        (3, {"execution_count": 7}, "contains an output"),
    ],
)
def test_what_gives_an_answer_away_is_refused_whatever_building_says(small, monkeypatch, position, change, said):
    monkeypatch.setattr("pocketgpt.course.building.release.build", lambda *names, **options: None)
    path = small / "chapters" / "98_tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[position].update(change)
    write(path, notebook)
    with pytest.raises(BuildError, match=f"chapters/98_tiny.ipynb {said}, in the cell"):
        release(small / "out.zip", root=small)
    assert not list(small.glob("*out.zip*"))


def test_a_chapter_that_is_out_of_date_is_refused(small):
    with (small / "solutions" / "98_tiny.py").open("a") as file:
        file.write("\n\n# %%\n1 + 1\n")
    with pytest.raises(BuildError, match=r"chapters/98_tiny.ipynb is not what solutions/98_tiny.py gives"):
        release(small / "out.zip", root=small)


def test_an_unknown_chapter_lists_the_chapters(small):
    with pytest.raises(BuildError, match=r"no chapter '99_none'.*98_tiny"):
        release(small / "out.zip", ("99_none",), root=small)


def test_a_failure_in_the_middle_leaves_the_old_file_as_it_was(small, monkeypatch):
    old = release(small / "out.zip", root=small).read_bytes()

    def full_disk(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full_disk)
    with pytest.raises(OSError, match="No space left"):
        release(small / "out.zip", root=small)
    assert (small / "out.zip").read_bytes() == old


def test_a_folder_in_place_of_the_zip_is_explained(small):
    with pytest.raises(PocketError, match=r"is a folder\. Name the zip"):
        release(small, root=small)


def test_what_installing_needs_is_there(everything, tmp_path):
    with zipfile.ZipFile(everything) as file:
        file.extractall(tmp_path)
    folder = tmp_path / FOLDER
    handed, ours = (tomllib.loads((path / "pyproject.toml").read_text("utf-8")) for path in (folder, ROOT))
    assert handed["project"] == ours["project"]
    assert handed["build-system"] == ours["build-system"]
    assert (folder / handed["project"]["readme"]).exists()
    wheel = handed["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert all((folder / path).exists() for path in [*wheel["packages"], *wheel["force-include"]])
    assert "chapters" not in wheel["force-include"]  # those are the student's own


def test_a_wheel_of_the_project_holds_the_chapters():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"]["chapters"] == "pocketgpt/assets/chapters"


def test_the_pristine_chapters_are_found_from_the_handed_out_package(everything, tmp_path):
    with zipfile.ZipFile(everything) as file:
        file.extractall(tmp_path)
    folder = tmp_path / FOLDER
    command = [sys.executable, "-c", "from pocketgpt.assets import asset; print(asset('chapters'))"]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(found) == folder / "assets" / "chapters"


def test_every_file_and_folder_that_the_readme_names_exists(everything):
    found = contents(everything)
    readme = found["README.md"].decode()
    assert "$" not in readme
    for path in re.findall(r"chapters/\w+\.\w+", readme):
        assert path in found


@pytest.mark.parametrize("chapters", [("02_attention",), ("00_start_here", "08_rope"), ()])
def test_glossary_notation_and_cheat_sheet_are_in_it_without_dead_links(tmp_path, chapters):
    found = contents(release(tmp_path / "course.zip", chapters))
    assert {"chapters/cheat_sheet.pdf", "chapters/cheat_sheet_1.png", "chapters/cheat_sheet_2.png"} <= set(found)
    for page in ("glossary.md", "notation.md"):
        assert f"(chapters/{page})" in found["README.md"].decode()
        links = set(re.findall(r"\]\(([^)]+)\)", found[f"chapters/{page}"].decode()))
        assert len(links) >= 2  # the other page and a chapter
        assert not [link for link in links if f"chapters/{link}" not in found]


@pytest.mark.parametrize(("chapters", "rooms"), [(("02_attention",), {"ch02_attention"}), ((), None)])
def test_only_the_rooms_of_the_released_chapters_are_handed_out(tmp_path, chapters, rooms):
    with zipfile.ZipFile(release(tmp_path / "course.zip", chapters)) as file:
        found = {match[1] for name in file.namelist() if (match := re.search(r"pocketgpt/course/(ch\d\d_\w+)/", name))}
    assert found == (rooms or {chapter.room for chapter in CHAPTERS if chapter.written})


def test_a_hand_out_of_one_chapter_checks_its_exercises_without_the_others(tmp_path):
    with zipfile.ZipFile(release(tmp_path / "course.zip", ("02_attention",))) as file:
        file.extractall(tmp_path)
    code = (
        "from pocketgpt.course import syllabus\n"
        "print(syllabus.__file__)\n"
        "print(*[each.number for each in syllabus.all_exercises().values()])"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / FOLDER)}
    where = tmp_path / FOLDER
    done = subprocess.run([sys.executable, "-c", code], cwd=where, env=environment, capture_output=True, text=True)
    file, numbers = done.stdout.splitlines()
    assert Path(file).is_relative_to(where)
    assert numbers == "2.1 2.2 2.3 2.4"


def test_a_hand_out_of_the_exam_has_the_mistakes_that_its_cases_are_planted_with(tmp_path):
    with zipfile.ZipFile(release(tmp_path / "course.zip", ("25_exam",))) as file:
        names = "\n".join(file.namelist())
    planted = {chapter_of(exercise).room for plants in PLANTS.values() for exercise, _ in plants.values()}
    assert not [room for room in planted if f"pocketgpt/course/{room}/" not in names]

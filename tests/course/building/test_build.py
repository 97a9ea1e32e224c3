"""The three files of a chapter: one follows from the other, and a learner's notebook holds no answer."""

import re

import nbformat
import pytest

from pocketgpt.course.building import ROOT
from pocketgpt.course.building.build import build
from pocketgpt.course.building.cells import BuildError
from pocketgpt.course.syllabus import all_exercises as exercises

HINTS = "".join(f"\n# Hint {i} · {hint}" for i, hint in enumerate(exercises()["causal_mask"].hints, 1))
CHAPTER = f'''# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # A tiny chapter{HINTS}

# %%
from pocketgpt.course.lab import check


# %%
def causal_mask(query_positions, key_positions):
    """True where the query may look."""
    ### BEGIN SOLUTION
    secret = key_positions <= query_positions[:, None]
    return secret
    ### END SOLUTION


# %%
check.causal_mask(causal_mask)

# %%
# NBVAL_IGNORE_OUTPUT
print("six")

# %% tags=["raises-exception"]
check.causal_mask(lambda q, k: k <= q[:, None] + 1)
'''


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with one chapter, built once."""
    root = tmp_path_factory.mktemp("course")
    (root / "solutions").mkdir()
    (root / "solutions" / "98_tiny.py").write_text(CHAPTER, encoding="utf-8")
    build(root=root)
    return root


@pytest.fixture
def root(built, tmp_path):
    """A copy of it to spoil."""
    for path in sorted(built.glob("*/98_tiny.*")):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        (tmp_path / path.parent.name / path.name).write_bytes(path.read_bytes())
    return tmp_path


def files(root) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob("*/*"))}


def notebook(root, folder):
    return nbformat.read(root / folder / "98_tiny.ipynb", as_version=4)


def cell(root, folder, name):
    return next(cell for cell in notebook(root, folder).cells if cell.id == name)


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_executing_again_gives_the_same_bytes(root):
    source = root / "solutions" / "98_tiny.py"
    replace(source, "check.causal_mask(lambda q, k: k <= q[:, None] + 1)", "check.causal_mask(17)")  # shows no inputs
    build(root=root)
    before = files(root)
    build(root=root, force=True)
    assert files(root) == before


def test_nothing_is_executed_without_a_change(root, monkeypatch):
    monkeypatch.setattr("pocketgpt.course.building.build.NotebookClient", None)
    before = files(root)
    build(root=root)
    build(root=root, check=True)
    assert files(root) == before


def test_a_change_of_prose_keeps_the_outputs(root, monkeypatch):
    monkeypatch.setattr("pocketgpt.course.building.build.NotebookClient", None)
    replace(root / "solutions" / "98_tiny.py", "A tiny chapter", "A small chapter")
    build(root=root)
    assert "A small chapter" in notebook(root, "chapters").cells[0].source
    assert cell(root, "solutions", "check-causal_mask").outputs


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("solutions/98_tiny.py", "A tiny", "Another", ["solutions/98_tiny.ipynb", "chapters/98_tiny.ipynb"]),
        ("solutions/98_tiny.py", "secret", "hidden", ["solutions/98_tiny.ipynb"]),
        ("solutions/98_tiny.ipynb", "six\\\\", "seven\\\\", ["solutions/98_tiny.ipynb"]),
        ("solutions/98_tiny.ipynb", '"execution_count": 3', '"execution_count": null', ["solutions/98_tiny.ipynb"]),
        ("chapters/98_tiny.ipynb", "YOUR CODE", "MY CODE", ["chapters/98_tiny.ipynb"]),
        ("chapters/98_tiny.ipynb", '"points": 2', '"points": 3', ["chapters/98_tiny.ipynb"]),
    ],
)
def test_check_finds_the_file_that_differs(root, file, old, new, named):
    replace(root / file, old.replace("\\\\", '\\"'), new.replace("\\\\", '\\"'))
    with pytest.raises(BuildError) as error:
        build(root=root, check=True)
    lines = str(error.value).splitlines()
    assert [line.split()[0] for line in lines] == named
    assert all(line.endswith("run: pocketgpt build 98_tiny") for line in lines)


def test_check_finds_a_notebook_without_a_source(root):
    (root / "chapters" / "97_gone.ipynb").write_text("{}")
    with pytest.raises(BuildError, match=r"chapters/97_gone.ipynb has no solutions/97_gone.py"):
        build(root=root, check=True)


def test_the_chapter_holds_no_answer_and_no_output(root):
    text = (root / "chapters" / "98_tiny.ipynb").read_text(encoding="utf-8")
    assert "secret" not in text and "SOLUTION" not in text
    assert cell(root, "chapters", "causal_mask").source == (
        "def causal_mask(query_positions, key_positions):\n"
        '    """True where the query may look."""\n'
        "    # YOUR CODE HERE\n"
        "    raise NotImplementedError()"
    )
    code = [cell for cell in notebook(root, "chapters").cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_ids_are_names_or_positions(root):
    ids = ["98-000", "98-001", "causal_mask", "check-causal_mask", "98-004", "98-005"]
    assert [cell.id for cell in notebook(root, "chapters").cells] == ids
    assert [cell.id for cell in notebook(root, "solutions").cells] == ids


def test_markers_of_nbval_and_tags_pass_through(root):
    assert cell(root, "chapters", "98-004").source.splitlines()[0] == "# NBVAL_IGNORE_OUTPUT"
    assert cell(root, "chapters", "98-005").metadata.tags == ["raises-exception"]


def test_the_kernel_is_named_without_a_version(root):
    assert set(notebook(root, "solutions").metadata) == {"kernelspec", "language_info"}
    assert notebook(root, "solutions").metadata.language_info == {"name": "python"}


def test_success_is_one_line_in_the_stored_output(root):
    (output,) = cell(root, "solutions", "check-causal_mask").outputs
    assert output.text == "✓ 2.3 causal_mask · 2 points\n"


def test_failure_in_a_kernel_is_a_picture_and_a_few_lines_without_library_frames(root):
    shown, error = cell(root, "solutions", "98-005").outputs
    assert "image/png" in shown.data
    assert error.ename == "CheckFailed"
    assert error.traceback[0] == "✗ 2.3 causal_mask"
    assert any(re.fullmatch(r"[■·][■· ]*   +[■·][■· ]*", line) for line in error.traceback)
    assert not re.search(r"Traceback|File |\.py|\x1b", "\n".join(error.traceback))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("check.causal_mask(causal_mask)", "check.casual(casual)", "no exercise 'casual'. There are: "),
        ("check.causal_mask(causal_mask)", "pass", "has an answer cell and no check cell"),
        ("    ### BEGIN SOLUTION\n", "", "comes before its answer cell, or has none"),
        ("    ### END SOLUTION\n", "", "not paired"),
        ("def causal_mask", "def mask", "defines 0 exercises"),
        ("Hint 2", "Tip 2", "lacks the text 'Hint 2 · "),
        ('print("six")', "check.causal_mask(causal_mask)", ""),
        ("# %%\n# NBVAL_IGNORE_OUTPUT\nprint", "# %%\ncheck.causal_mask(causal_mask)\n\n# %%\nprint", "checked twice"),
    ],
)
def test_what_does_not_fit_together_is_named(root, old, new, said):
    replace(root / "solutions" / "98_tiny.py", old, new)
    with pytest.raises(BuildError) as error:
        build(root=root, check=True)
    assert said in str(error.value)


def test_a_folder_without_chapters_is_explained(tmp_path):
    with pytest.raises(BuildError, match="in a clone"):
        build(root=tmp_path)


def test_an_unknown_chapter_lists_the_chapters(root):
    with pytest.raises(BuildError, match=r"no chapter '02_attentoin'.*98_tiny"):
        build(("02_attentoin",), root=root)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ('import sys; print("half done", file=sys.stderr)', "writes to stderr"),
        ("raise ValueError('no such luck')", "no such luck"),
        (f"# {'x' * 99}", "longer than 100 columns"),
    ],
)
def test_a_solution_that_fails_writes_to_stderr_or_needs_a_wide_window_is_refused(tmp_path, code, said):
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "97_bad.py").write_text(f"# %%\n{code}\n")
    with pytest.raises(BuildError, match=said):
        build(root=tmp_path)
    assert not list(tmp_path.glob("*/*.ipynb"))


def test_checksums_are_those_of_nbgrader(root):
    """Computed with nbgrader 0.9.6."""
    assert cell(root, "chapters", "check-causal_mask").metadata.nbgrader.checksum == "9096349fe1d803726fbdd56987cdc947"


def test_every_exercise_of_a_written_chapter_is_in_it():
    for source in sorted((ROOT / "solutions").glob("[0-9]*.py")):
        checked = set(re.findall(r"^check\.(\w+)\(\1\)$", source.read_text(encoding="utf-8"), re.MULTILINE))
        number = str(int(source.stem.split("_")[0]))
        assert checked == {e.name for e in exercises().values() if e.number.split(".")[0] == number}

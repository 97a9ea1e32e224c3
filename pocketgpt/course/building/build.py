"""`solutions/NN_topic.py` → `solutions/NN_topic.ipynb`, executed → `chapters/NN_topic.ipynb`, without the answers.

Everything in a notebook except its outputs is determined by the .py file: regenerating without a change gives
the same bytes, and comparing the three files needs no execution. The two notebooks are valid nbgrader assignments
(metadata v3).
"""

import os
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbclient.output_widget import OutputWidget
from nbformat import NotebookNode
from tqdm import tqdm

from pocketgpt.course.building import ROOT
from pocketgpt.course.building.cells import BuildError, mark, without_answers
from pocketgpt.course.building.reference import belongs_to, build_reference, differing_reference

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET = "application/vnd.jupyter.widget-view+json"  # an output that is empty without its kernel


class SilentOutput(OutputWidget):
    """Output of a widget, which is not sent back to the kernel.

    No code here reads it there, and sending on the socket that waits for the kernel's reply makes nbclient miss the
    reply now and then: a build that hangs after a slider.
    """

    def send(self, *_: object, **__: object) -> None:
        """Send nothing."""


def build(names: tuple[str, ...] = (), *, check: bool = False, force: bool = False, root: Path = ROOT) -> None:
    """Update the notebooks of the named chapters ("02_attention") from their .py files, or of all and the pages beside.

    Executes only notebooks whose code changed, unless `force`. With `check`, writes and executes nothing.
    Raises BuildError for a mistake in a .py file, for a cell that fails, and with `check` for outdated files.
    """
    sources = _sources(root, names)
    stale = []
    for source in sources:
        if check:
            stale += _differing(source)
        else:
            _build_one(source, force)
    if not names:
        stale += _orphans(root)
        stale += _reference(root, [source.stem for source in sources], check)
    if stale:
        raise BuildError("\n".join(stale))
    print(f"Up to date: {', '.join(source.stem for source in sources)}.")


def _build_one(source: Path, force: bool) -> None:
    wanted, stored = solution_notebook(source), _read(_solution(source))
    if force or stored is None or not _keep_outputs(wanted, stored):
        _execute(wanted, source)
    _write(_solution(source), wanted)
    _write(_chapter(source), without_answers(wanted))


def solution_notebook(source: Path) -> NotebookNode:
    """Convert a .py file to an unexecuted notebook with ids and nbgrader metadata."""
    notebook = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    mark(notebook, source.stem)
    return notebook


def _differing(source: Path) -> list[str]:
    """Report each of the two notebooks that differs from what the .py file gives, one line each."""
    mend = f"run: pocketgpt build {source.stem}"
    wanted, stored = solution_notebook(source), _read(_solution(source))
    lines = []
    if stored is None or not _keep_outputs(wanted, stored) or not _is(_solution(source), wanted):
        lines.append(f"solutions/{source.stem}.ipynb is not what solutions/{source.name} gives; {mend}")
    if not _is(_chapter(source), without_answers(wanted)):
        lines.append(f"chapters/{source.stem}.ipynb is not what solutions/{source.name} gives; {mend}")
    return lines


def _keep_outputs(wanted: NotebookNode, stored: NotebookNode) -> bool:
    """Copy the stored outputs into `wanted` if the code is unchanged and was executed; return whether it was."""
    new, old = ([cell for cell in notebook.cells if cell.cell_type == "code"] for notebook in (wanted, stored))
    if [(cell.source, cell.metadata.get("tags")) for cell in new] != [
        (cell.source, cell.metadata.get("tags")) for cell in old
    ] or any(cell.execution_count is None for cell in old if cell.source):
        return False
    for cell, executed in zip(new, old, strict=True):
        cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
    return True


def _execute(notebook: NotebookNode, source: Path) -> None:
    """Run all cells in the folder of the source, and drop outputs that differ between runs."""
    bar = tqdm(total=sum(cell.cell_type == "code" for cell in notebook.cells), desc=source.stem, unit="cell")
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(source.parent)}},
        timeout=900,
        record_timing=False,
        coalesce_streams=True,
        on_cell_complete=lambda cell, cell_index: bar.update(),
    )
    client.widget_registry = {"@jupyter-widgets/output": {"OutputModel": SilentOutput}}
    try:
        client.execute(env=os.environ | {"POCKETGPT_PROGRESS": "off"})
    except CellExecutionError as error:
        raise BuildError(f"solutions/{source.name}: a cell fails.\n{error}") from None
    finally:
        bar.close()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        for output in outputs:
            if output.get("name") == "stderr":
                raise BuildError(
                    f"solutions/{source.name}: this cell writes to stderr, which stored outputs must not contain "
                    f"(a progress bar or a warning?):\n\n{cell.source}\n\n{output.text.strip()}"
                )
        if "outputs" in cell:
            cell.outputs = [output for output in outputs if WIDGET not in output.get("data", {})]


def _reference(root: Path, chapters: list[str], check: bool) -> list[str]:
    """Write or compare glossary, notation and cheat sheet, where there are chapters of the course."""
    if not belongs_to(chapters):
        return []
    if check:
        return differing_reference(root / "chapters", chapters)
    build_reference(root / "chapters", chapters)
    return []


def _sources(root: Path, names: tuple[str, ...]) -> list[Path]:
    sources = sorted((root / "solutions").glob("[0-9][0-9]_*.py"))
    if not sources:
        raise BuildError(f"There are no chapters in {root / 'solutions'}. Build in a clone of the project.")
    stems = [source.stem for source in sources]
    if unknown := [name for name in names if name not in stems]:
        raise BuildError(f"There is no chapter {unknown[0]!r} in {root / 'solutions'}. There are: {', '.join(stems)}.")
    return [source for source in sources if not names or source.stem in names]


def _orphans(root: Path) -> list[str]:
    found = sorted(path for folder in ("solutions", "chapters") for path in (root / folder).glob("*.ipynb"))
    return [
        f"{path.parent.name}/{path.name} has no solutions/{path.stem}.py; delete it"
        for path in found
        if not (root / "solutions" / f"{path.stem}.py").exists()
    ]


def _solution(source: Path) -> Path:
    return source.with_suffix(".ipynb")


def _chapter(source: Path) -> Path:
    return source.parents[1] / "chapters" / f"{source.stem}.ipynb"


def _text(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook, version=4) + "\n"


def _read(path: Path) -> NotebookNode | None:
    return nbformat.read(path, as_version=4) if path.exists() else None


def _is(path: Path, notebook: NotebookNode) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == _text(notebook)


def _write(path: Path, notebook: NotebookNode) -> None:
    nbformat.validate(notebook)
    path.parent.mkdir(exist_ok=True)
    beside = path.with_suffix(".ipynb.new")
    beside.write_text(_text(notebook), encoding="utf-8")
    os.replace(beside, path)

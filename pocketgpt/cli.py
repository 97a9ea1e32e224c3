"""The `pocketgpt` command: a table of subcommands, and the exit codes.

The signature, help text and work of a subcommand are one function in its module, with the subcommand's name. Only the
module that a command line asks for is imported: `pocketgpt --help` does not wait for PyTorch, and training does not
need Jupyter.
"""

import ast
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import tyro
from tyro.conf import Positional

from pocketgpt.errors import PocketError

DESCRIPTION = "PocketGPT: train a small GPT, generate text, and look inside the model. Start with: pocketgpt doctor"

COMMANDS = {
    "train": "pocketgpt.commands.train",
    "generate": "pocketgpt.commands.generate",
    "info": "pocketgpt.commands.info",
    "doctor": "pocketgpt.commands.doctor",
    "build": "pocketgpt.commands.build",
    "release": "pocketgpt.commands.release",
    "grade": "pocketgpt.cli",
    "fetch": "pocketgpt.commands.fetch",
    "bench": "pocketgpt.commands.bench",
    "tokenizer": "pocketgpt.commands.tokenizer",
}


def grade(
    submissions: Positional[Path],
    *,
    out: Path = Path("grades"),
    class_list: Path | None = None,
    terms: Path | None = None,
    jobs: int | None = None,
    verify: bool = True,
    cell_seconds: float = 60.0,
    notebook_seconds: float = 600.0,
    memory: float = 4.0,
    sandbox: Literal["auto", "bubblewrap", "namespaces", "none"] = "auto",
    docker: str | None = None,
) -> int:
    """Grade a folder of notebooks into a gradebook, or check one notebook: pocketgpt grade submissions --out grades

    Each is rebuilt from our own chapter with the student's answers, and run apart from everything else. Stopped with
    Ctrl-C, it goes on where it was.

    Args:
        submissions: A folder with notebooks, of any names, in any sub-folders; or one notebook.
        out: Folder for gradebook.csv, index.html, a page for each student, junit.xml and results.json.
        class_list: CSV file with a column `student`, whose entries stand somewhere in the paths of the notebooks.
        terms: TOML file with points and deadlines of chapters.
        jobs: Notebooks at a time; without it one for each core.
        verify: Ask every function again with secret inputs, and compare what it returns outside of its process.
        cell_seconds: A cell that runs longer is left out.
        notebook_seconds: Time for all runs of one notebook.
        memory: GB that one notebook may use.
        sandbox: Keeps notebooks away from your files and the network; auto takes the best that works here.
        docker: Run notebooks in containers of this image, which has pocketgpt and its extra `course`.
    """
    try:
        from pocketgpt.commands.grade import grade_folder, grade_one
        from pocketgpt.course.grading.protection.limits import Limits
    except ImportError as error:
        raise PocketError(f"Grading needs {error.name}: pip install 'pocketgpt[course]'") from error
    limits = Limits(memory=int(memory * 2**30), cell_seconds=cell_seconds, notebook_seconds=notebook_seconds)
    how = {"sandbox": None if sandbox == "auto" else sandbox, "docker": docker, "verify": verify}
    if submissions.is_file():
        return grade_one(submissions, limits, **how)
    if not submissions.is_dir():
        raise PocketError(f"There is no folder or notebook {submissions}.")
    return grade_folder(submissions, out, limits, students=class_list, terms_file=terms, jobs=jobs, **how)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 1 if a check failed, 2 for a mistake, 130 after Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if argv and argv[0] in COMMANDS:
            name, *options = argv
            result = tyro.cli(load(name, options), prog=f"pocketgpt {name}", args=options)
        else:
            result = overview(argv)
    except PocketError as error:
        rank = os.environ.get("RANK", "0")
        print(f"pocketgpt{f' (rank {rank})' if rank != '0' else ''}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\npocketgpt: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `pocketgpt info | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result or 0


def load(name: str, options: Sequence[str]) -> Callable[..., int | None]:
    """Import a subcommand. A module whose defaults depend on the options builds its function with `with_defaults`."""
    module = import_module(COMMANDS[name])
    return module.with_defaults(options) if hasattr(module, "with_defaults") else getattr(module, name)


def overview(argv: list[str]) -> int | None:
    """Answer a command line that does not begin with a subcommand: --help, a mistake, or tyro's shell completion."""
    for_completion = any(word.startswith("--tyro-") for word in argv)
    commands = {name: load(name, []) if for_completion else listed(name) for name in COMMANDS}
    return tyro.extras.subcommand_cli_from_dict(commands, prog="pocketgpt", description=DESCRIPTION, args=argv)


def listed(name: str) -> Callable[[], None]:
    """An entry of `pocketgpt --help`: the first docstring line of a subcommand, read from its file without importing
    it."""
    file = Path(find_spec(COMMANDS[name]).origin)
    functions = (node for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.FunctionDef))
    docstring = next(ast.get_docstring(function) for function in functions if function.name == name)

    def entry() -> None: ...

    entry.__doc__ = docstring.splitlines()[0]
    return entry


if __name__ == "__main__":
    sys.exit(main())

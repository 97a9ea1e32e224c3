"""Command line: the table of subcommands, and the exit codes.

The signature, help text and work of a subcommand are one function in its module, with the subcommand's name. Only the
module that a command line asks for is imported: `pocketgpt --help` does not wait for PyTorch, and training does not
need Jupyter.
"""

import ast
import errno
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pocketgpt import __version__
from pocketgpt.errors import PocketError
from pocketgpt.output import output_failure, steady_output

DESCRIPTION = "PocketGPT: train a small GPT, generate text, and look inside the model. Start with: pocketgpt doctor. \
Learners use progress, instructors release and grade, authors of chapters build; the other commands are for models and \
text. Downloads and tokens are in ~/.cache/pocketgpt, or the folder that the variable POCKETGPT_CACHE names."

NARROWEST = 40
"""Columns of the narrowest terminal that help is formatted for: below about ten, the formatter never ends."""

COMMANDS = {
    "train": "pocketgpt.commands.train",
    "generate": "pocketgpt.commands.generate",
    "chat": "pocketgpt.commands.chat",
    "eval": "pocketgpt.commands.eval",
    "info": "pocketgpt.commands.info",
    "export": "pocketgpt.commands.export",
    "bench": "pocketgpt.commands.bench",
    "fetch": "pocketgpt.commands.fetch",
    "tokenizer": "pocketgpt.commands.tokenizer",
    "doctor": "pocketgpt.commands.doctor",
    "progress": "pocketgpt.commands.progress",
    "release": "pocketgpt.commands.release",
    "grade": "pocketgpt.commands.grade",
    "build": "pocketgpt.commands.build",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 1 if a check failed, 2 for a mistake, 130 after Ctrl-C."""
    with steady_output():
        try:
            code = run(list(sys.argv[1:] if argv is None else argv))
        except KeyboardInterrupt as interrupt:
            if argv is None:
                let_ctrl_c_kill()
            print(f"\npocketgpt: interrupted{'. ' if str(interrupt) else ''}{interrupt}", file=sys.stderr)
            code = 130
        if argv is None:
            let_ctrl_c_kill()
        failure = output_failure()
        if code == 0 and failure and failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            print(f"pocketgpt: the output is incomplete: {failure.strerror}. Make room first.", file=sys.stderr)
            return 2
        return code


def run(argv: list[str]) -> int:
    """Run a command line as `main` does, without preparing the output. Raises KeyboardInterrupt after Ctrl-C."""
    try:
        import tyro  # here, so that Ctrl-C during the import ends without a traceback

        if shutil.get_terminal_size().columns < NARROWEST:
            os.environ["COLUMNS"] = str(NARROWEST)
        if argv == ["--version"]:
            print(f"pocketgpt {__version__}")
            return 0
        if argv and argv[0] in COMMANDS:
            name, *options = argv
            result = tyro.cli(load(name, options), prog=f"pocketgpt {name}", args=options)
        else:
            result = overview(argv)
    except PocketError as error:
        rank = os.environ.get("RANK", "0")
        # An option is named as it is on the command line.
        message = re.sub(
            r"\b(?:TrainConfig|Sampler)\.(\w+) = ", lambda match: f"--{match[1]} ".replace("_", "-"), str(error)
        )
        print(f"pocketgpt{f' (rank {rank})' if rank != '0' else ''}: {message}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"pocketgpt: out of memory: {error}. Use a smaller model or batch.", file=sys.stderr)
        return 2
    except OSError as error:
        place = f"{error.filename} cannot be used" if error.filename else "The system refused"
        print(f"pocketgpt: {place}: {error.strerror or error}. Use another file or folder.", file=sys.stderr)
        return 2
    return result or 0


def let_ctrl_c_kill() -> None:
    """Let Ctrl-C end a process whose work is done at once: inside the exit handlers of libraries, which take a third of
    a second, it would print a traceback."""
    with suppress(ValueError):  # outside the main thread
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def is_out_of_memory(error: Exception) -> bool:
    """Return True if memory ran out, or a size is beyond any memory."""
    reasons = ("can't allocate memory", "calculation overflowed", "out of memory", "Overflow when unpacking")
    return isinstance(error, MemoryError) or any(reason in str(error) for reason in reasons)


def load(name: str, options: Sequence[str]) -> Callable[..., int | None]:
    """Import a subcommand. A module whose defaults depend on the options builds its function with `with_defaults`."""
    module = import_module(COMMANDS[name])
    return module.with_defaults(options) if hasattr(module, "with_defaults") else getattr(module, name)


def overview(argv: list[str]) -> int | None:
    """Answer a command line that does not begin with a subcommand: --help, a mistake, or tyro's shell completion."""
    import tyro

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

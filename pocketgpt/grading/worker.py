"""Inside the sandbox: run the cells of a notebook with pytest and nbval, and report each on standard output.

The job comes as JSON on standard input: cells (source, and what they must print) and limits. The report is a
line of JSON for each event. Before any of the student's code runs, the descriptor of the report is hidden from it: the
kernel is another process, which inherits nothing and may not look into this one.
"""

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from pocketgpt.grading import REPLY
from pocketgpt.grading.protection import limits

LARGEST_MESSAGE = 20_000  # characters
LARGEST_REPLY = 1_000_000  # characters; those of the course have up to 7,000
IMPORT_SECONDS = 120.0  # for the first cell, which is ours and imports torch


def main() -> None:
    report = take_stdout()
    job = json.load(sys.stdin)
    kept = limits.Limits(**job["limits"])
    limits.apply(kept)
    scratch = Path.cwd()
    prepare(job, scratch)
    # jsonschema, which nbformat imports, would spend seconds on a grammar of internationalized addresses.
    sys.modules["rfc3987_syntax"] = None
    options = ["--nbval-lax", "--nbval-current-env", "--runxfail", "--color=no", "-p", "nbval.plugin"]
    options += ["-p", "no:cacheprovider", "-c", "pytest.ini", f"--nbval-cell-timeout={2 * kept.cell_seconds + 60}"]
    reporter = Reporter(report, [cell["prints"] for cell in job["cells"]], kept.cell_seconds)
    pytest.main([*options, "notebook.ipynb"], plugins=[reporter])
    reporter.write({"state": "end"})
    os._exit(0)


def take_stdout() -> TextIO:
    """Standard output as a file that no child inherits; whoever prints from here on prints to nowhere."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")  # a duplicate is not inheritable
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    return report


def prepare(job: dict[str, Any], scratch: Path) -> None:
    """Write the notebook and the settings into the scratch folder."""
    known = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    cells = [{**known, "id": f"cell-{number}", "source": cell["source"]} for number, cell in enumerate(job["cells"])]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (scratch / "notebook.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    (scratch / "pytest.ini").write_text("[pytest]\n")
    profile = scratch / "ipython" / "profile_default" / "startup"
    profile.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("startup.py"), profile)
    os.environ["IPYTHONDIR"] = str(scratch / "ipython")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"


class Reporter:
    """A plugin of pytest: writes what happens to each cell, and ends everything when the kernel dies or hangs."""

    def __init__(self, report: TextIO, prints: list[str], cell_seconds: float) -> None:
        self.report, self.prints, self.cell_seconds = report, prints, cell_seconds
        self.lock = threading.Lock()

    def write(self, event: dict[str, Any]) -> None:
        with self.lock:
            self.report.write(json.dumps(event) + "\n")
            self.report.flush()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: Any) -> Iterator[None]:
        process = item.parent.kernel.km.provisioner.process
        self.write({"state": "starts", "cell": item.cell_num})
        done = threading.Event()
        threading.Thread(target=self.watch, args=(item.cell_num, process, done), daemon=True).start()
        yield
        done.set()

    def watch(self, cell: int, process: Any, done: threading.Event) -> None:
        """nbval would notice a dead kernel only at its time limit, and after that limit judge nothing any more."""
        limit = time.monotonic() + (self.cell_seconds if cell else max(self.cell_seconds, IMPORT_SECONDS))
        while not done.wait(0.1):
            state = "dies" if process.poll() is not None else "hangs" if time.monotonic() > limit else None
            if state and not done.is_set():
                self.give_up(state, cell)

    def give_up(self, state: str, cell: int) -> None:
        self.write({"state": state, "cell": cell})
        os._exit(0)

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        if call.when == "setup" and call.excinfo:
            self.write({"state": "broken", "message": str(call.excinfo.value)[:LARGEST_MESSAGE]})
        if call.when != "call":
            return
        if item.parent.timed_out:  # nbval has lost its kernel, and would fail every later cell
            self.give_up("hangs", item.cell_num)
        event: dict[str, Any] = {"state": "passed", "cell": item.cell_num, "seconds": call.duration}
        printed, reply = outputs(item.test_outputs or [])
        if call.excinfo:
            error = call.excinfo.value
            said = str(getattr(error, "inner_traceback", "") or error).strip()
            event |= {"state": "failed", "message": said[:LARGEST_MESSAGE]}
        elif self.prints[item.cell_num] not in printed:
            event |= {"state": "failed", "message": ""}
        self.write(event | ({"reply": reply} if reply else {}))


def outputs(messages: list[Any]) -> tuple[str, str | None]:
    """Output of a cell, and its reply to secret questions. A kernel may send anything."""
    printed, reply = "", None
    for each in messages:
        text, data = each.get("text"), each.get("data")
        printed += text if isinstance(text, str) else ""
        value = data.get(REPLY) if isinstance(data, dict) else None
        reply = value if isinstance(value, str) and len(value) <= LARGEST_REPLY else reply
    return printed, reply


if __name__ == "__main__":
    main()

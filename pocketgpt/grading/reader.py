"""Reading a notebook that may be broken or huge, in a process of its own: `python -I reader.py FILE`.

Prints JSON: {"cells": [{"number", "kind", "ids", "source"}, …]}, or {"error": "…"} where it is no notebook. Only the
standard library is imported, so that it starts at once; outputs are read and forgotten, and with them their memory.
"""

import json
import sys

LARGEST_FILE = 1 << 30
MOST_CELLS = 2000  # a chapter has 60
LARGEST_SOURCE = 1_000_000  # characters of all code together: a chapter has 20,000


def cells(path: str) -> list[dict]:
    """Every cell with its number (from 1), its kind ("code", "markdown", …), its possible ids and the source of code.

    Raises ValueError if this is not a notebook.
    """
    with open(path, "rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if not data.strip():
        raise ValueError("the file is empty")
    if len(data) > LARGEST_FILE:
        raise ValueError("the file is larger than 1 GiB; clear its outputs and save it again")
    try:
        notebook = json.loads(data, parse_int=float)  # an int has at most 4300 digits
    except RecursionError:
        raise ValueError("it is not a notebook: its JSON is nested without end") from None
    except ValueError as error:  # not JSON, or cut short, or not text
        raise ValueError(f"it is not a notebook, or cut short ({error})") from None
    found = notebook.get("cells") if isinstance(notebook, dict) else None
    if found is None and isinstance(notebook, dict) and isinstance(sheets := notebook.get("worksheets"), list):
        parts = [sheet["cells"] for sheet in sheets if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list)]
        found = [cell for part in parts for cell in part] if parts else None  # as it was before 2015
    if not isinstance(found, list):
        raise ValueError("it is not a notebook: it has no list of cells")
    if len(found) > MOST_CELLS:
        raise ValueError(f"it has {len(found):,} cells, more than {MOST_CELLS:,}")
    read = [_cell(number, cell) for number, cell in enumerate(found, 1) if isinstance(cell, dict)]
    if sum(len(cell["source"]) for cell in read) > LARGEST_SOURCE:
        raise ValueError(f"its cells hold more than {LARGEST_SOURCE:,} characters of code")
    return read


def _cell(number: int, cell: dict) -> dict:
    metadata = cell.get("metadata") if isinstance(cell.get("metadata"), dict) else {}
    nbgrader = metadata.get("nbgrader") if isinstance(metadata.get("nbgrader"), dict) else {}
    ids = (cell.get("id"), nbgrader.get("grade_id"), metadata.get("id"))  # the last one is where Colab keeps it
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    kind = str(cell.get("cell_type"))
    if not isinstance(source, str) or kind != "code":  # texts may hold pictures
        source = ""
    source = source.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    return {
        "number": number,
        "kind": kind,
        "ids": list(dict.fromkeys(each for each in ids if isinstance(each, str))),
        "source": source.encode("utf-8", "replace").decode("utf-8"),  # half a character cannot be run or written
    }


def limit_memory() -> None:
    """At most 6 GiB, where the system knows such limits."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))


if __name__ == "__main__":
    limit_memory()
    try:
        answer = {"cells": cells(sys.argv[1])}
    except (ValueError, OSError) as problem:
        answer = {"error": str(problem)}
    except MemoryError:
        answer = {"error": "reading it takes more than 6 GiB of memory; clear its outputs and save it again"}
    json.dump(answer, sys.stdout)

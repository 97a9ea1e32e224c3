"""Reading what was handed in: any file gives cells or one sentence, and what a notebook holds is never lost."""

import json
import os
import subprocess
import sys

import pytest

from pocketgpt.grading import reader
from pocketgpt.grading.submissions import read


def code(source="x = 1", **more):
    return {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "source": source, **more}


def book(*cells, **more):
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **more}


def stored(folder, content, name="x.ipynb"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def sources(path):
    return [cell["source"] for cell in reader.cells(str(path))]


def only(folder, cell):
    (found,) = reader.cells(str(stored(folder, book(cell))))
    return found


NOTEBOOK = json.dumps(book(code("é = '🌹'")), ensure_ascii=False)
BROKEN = {
    "empty": b"",
    "white space": b" \n\t ",
    "cut short": NOTEBOOK.encode()[:60],
    "cut within a character": NOTEBOOK.encode().split("🌹".encode())[0] + b"\xf0\x9f",
    "no JSON": b"def attention(q, k): ...",
    "a page of a login": b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "a zip file": b"PK\x03\x04" + bytes(range(256)),
    "null bytes": bytes(5000),
    "Latin-1": NOTEBOOK.replace("🌹", "ü").encode("latin-1"),
    "a list": b"[1, 2]",
    "a number": b"17",
    "null": b"null",
    "a text": b'"cells"',
    "no cells": b'{"metadata": {}}',
    "cells are a dictionary": b'{"cells": {"a": 1}}',
    "cells are null": b'{"cells": null}',
    "cells are a text": b'{"cells": "x"}',
    "worksheets without cells": b'{"worksheets": [{"cells": 5}]}',
    "worksheets of something else": b'{"worksheets": 3}',
    "nested without end": b"[" * 100_000,
    "nested and closed": b'{"cells":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested dictionaries": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "too much source": json.dumps(book(code("x" * 600_000), code("y" * 600_000))).encode(),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_no_notebook_is_an_error_of_one_sentence(tmp_path, content):
    with pytest.raises(ValueError) as raised:
        reader.cells(str(stored(tmp_path, content)))
    said = str(raised.value)
    assert 10 < len(said) < 250 and "\n" not in said and not said.endswith(".")


def test_an_empty_file_is_called_empty(tmp_path):
    with pytest.raises(ValueError, match="empty"):
        reader.cells(str(stored(tmp_path, b"")))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_unicode_encoding_is_read(tmp_path, encoding):
    assert sources(stored(tmp_path, NOTEBOOK.encode(encoding))) == ["é = '🌹'"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (["a\n", "b"], "a\nb"),
        ("a\nb", "a\nb"),
        ("a\r\nb\rc", "a\nb\nc"),
        (["a\r\n", "b\r\n"], "a\nb\n"),
        ([], ""),
        (["a\n", 5, None, "b"], "a\nb"),
        (17, ""),
        (None, ""),
        ({"a": 1}, ""),
        ("a\x00b", "ab"),
        ("'\ud83d'", "'?'"),
        ("🌹 \u2028 \x0c", "🌹 \u2028 \x0c"),
    ],
)
def test_a_source_is_text_whatever_it_was(tmp_path, source, text):
    assert only(tmp_path, code(source))["source"] == text


def test_a_missing_source_is_empty(tmp_path):
    assert only(tmp_path, {"cell_type": "code"})["source"] == ""


def test_numbers_count_all_cells_and_what_is_none_too(tmp_path):
    found = reader.cells(str(stored(tmp_path, book(code("a"), 5, None, "text", ["b"], code("c")))))
    assert [(cell["number"], cell["source"]) for cell in found] == [(1, "a"), (6, "c")]


@pytest.mark.parametrize("kind", ["code", "markdown", "raw", "heading", None, True])
def test_the_kind_of_a_cell_is_text(tmp_path, kind):
    assert only(tmp_path, code(cell_type=kind))["kind"] == str(kind)


def test_a_cell_without_a_type_is_no_code(tmp_path):
    assert only(tmp_path, {"source": "x"})["kind"] != "code"


@pytest.mark.parametrize(
    ("cell", "ids"),
    [
        ({"id": "a"}, ["a"]),
        ({"id": "a", "metadata": {"nbgrader": {"grade_id": "b"}}}, ["a", "b"]),
        ({"metadata": {"nbgrader": {"grade_id": "b"}}}, ["b"]),
        ({"metadata": {"id": "c"}}, ["c"]),
        ({"id": "a", "metadata": {"nbgrader": {"grade_id": "a"}, "id": "a"}}, ["a"]),
        ({"id": 5, "metadata": {"nbgrader": {"grade_id": None}, "id": ["x"]}}, []),
        ({"id": "a", "metadata": None}, ["a"]),
        ({"id": "a", "metadata": ["nbgrader"]}, ["a"]),
        ({"id": "a", "metadata": {"nbgrader": "b"}}, ["a"]),
        ({}, []),
    ],
)
def test_ids_come_from_every_place_that_tools_keep_them(tmp_path, cell, ids):
    assert only(tmp_path, {"cell_type": "code", "source": "x", **cell})["ids"] == ids


def test_notebooks_of_format_3_are_read(tmp_path):
    cells = [
        {"cell_type": "code", "input": ["a\n", "b"], "language": "python"},
        {"cell_type": "markdown", "source": "c"},
    ]
    old = {
        "worksheets": [{"cells": cells}, {"cells": [{"cell_type": "code", "input": "d"}]}, "no sheet"],
        "nbformat": 3,
    }
    assert sources(stored(tmp_path, old)) == ["a\nb", "", "d"]


def test_of_doubled_keys_the_last_counts_as_in_jupyter(tmp_path):
    assert sources(stored(tmp_path, b'{"cells": [], "cells": [{"cell_type": "code", "source": "x"}]}')) == ["x"]


@pytest.mark.parametrize(
    "number", ["9" * 100_000, "-" + "9" * 5000, "NaN", "-Infinity", "1e999999", "0." + "3" * 100_000]
)
def test_a_number_beside_the_sources_is_not_looked_at(tmp_path, number):
    content = json.dumps(book(code("x", outputs=["HERE"]))).replace('"HERE"', number)
    assert sources(stored(tmp_path, content.encode())) == ["x"]


def test_a_picture_pasted_into_the_text_does_not_count_as_code(tmp_path):
    picture = {"cell_type": "markdown", "source": "![](data:image/png;base64," + "A" * 3_000_000 + ")"}
    assert sources(stored(tmp_path, book(picture, code("x")))) == ["", "x"]


def test_outputs_of_60_megabytes_are_read_and_forgotten(tmp_path):
    output = {"output_type": "stream", "name": "stdout", "text": ["█" * 1000 + "\n"] * 20_000}
    path = stored(tmp_path, json.dumps(book(code("x", outputs=[output]), code("y")), ensure_ascii=False).encode())
    assert path.stat().st_size > 60e6
    done = subprocess.run([sys.executable, "-I", reader.__file__, path], capture_output=True, check=True)
    assert len(done.stdout) < 1000 and [cell["source"] for cell in json.loads(done.stdout)["cells"]] == ["x", "y"]


def test_a_file_that_needs_too_much_memory_is_an_error_that_says_so(tmp_path):
    path = stored(tmp_path, json.dumps(book(code("x", outputs=["█" * 50_000_000])), ensure_ascii=False).encode())
    program = (
        "import resource, runpy, sys; reader, path = sys.argv[1:]; lower = resource.setrlimit;"
        "resource.setrlimit = lambda which, limits: lower(which, (200 << 20, 200 << 20));"
        "sys.argv = [reader, path]; runpy.run_path(reader, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program, reader.__file__, path], capture_output=True)
    assert "memory" in json.loads(done.stdout)["error"], done.stderr


def test_a_file_larger_than_the_limit_is_not_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "LARGEST_FILE", 100)
    with pytest.raises(ValueError, match="larger"):
        reader.cells(str(stored(tmp_path, book(code("x" * 100)))))


NAMES = [
    "a b.ipynb",
    "a\nb.ipynb",
    "🌹.ipynb",
    "-I.ipynb",
    "x'\"$(touch y).ipynb",
    os.fsdecode(b"\xff\xfe.ipynb"),
    "x" * 249 + ".ipynb",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_file_name_can_be_read(tmp_path, name):
    cells, problem = read(stored(tmp_path, book(code("x")), name))
    assert problem is None and [cell.source for cell in cells] == ["x"]


def test_a_path_may_be_long(tmp_path):
    folder = tmp_path
    for _ in range(8):
        folder = folder / ("d" * 200)
        folder.mkdir()
    assert read(stored(folder, book(code("x"))))[1] is None


def test_what_was_read_is_the_same_in_another_process(tmp_path):
    path = stored(tmp_path, book(code("é\ud800", id="b"), code("y", cell_type="raw", metadata={"id": "c"})))
    cells, problem = read(path)
    assert problem is None
    assert [(cell.number, cell.kind, cell.ids, cell.source) for cell in cells] == [
        (1, "code", ("b",), "é?"),
        (2, "raw", ("a", "c"), ""),
    ]


@pytest.mark.parametrize("content", [b"", b"[1", b"[" * 100_000, b'{"worksheets": [{"cells": 5}]}'])
def test_a_broken_file_is_a_problem_in_words(tmp_path, content):
    cells, problem = read(stored(tmp_path, content))
    assert cells == [] and problem.startswith("It cannot be graded: ") and problem.endswith(".")


@pytest.mark.parametrize("path", ["missing.ipynb", "folder.ipynb"])
def test_what_is_no_file_is_a_problem_in_words(tmp_path, path):
    (tmp_path / "folder.ipynb").mkdir()
    cells, problem = read(tmp_path / path)
    assert cells == [] and problem.startswith("It cannot be graded: ")


def test_a_pipe_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("pocketgpt.grading.submissions.READING_SECONDS", 1)
    os.mkfifo(tmp_path / "x.ipynb")
    cells, problem = read(tmp_path / "x.ipynb")
    assert cells == [] and "more than 1 seconds" in problem


def test_a_device_without_end_is_not_read_to_its_end():
    program = f"import sys; sys.path.insert(0, ''); import runpy; module = runpy.run_path({reader.__file__!r});" + (
        "module['cells'].__globals__['LARGEST_FILE'] = 1 << 20\n"
        "try: module['cells']('/dev/zero')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout and not done.stderr

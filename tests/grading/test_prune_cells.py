"""Whatever a student's code may use is still there, and as it was, when what nobody uses is left out."""

import io
import re
import symtable
import sys
import types
from collections import defaultdict
from contextlib import redirect_stdout

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from pocketgpt.commands import doctor
from pocketgpt.course.ch14_training.experiments import train
from pocketgpt.grading.master import masters
from pocketgpt.grading.prune_cells import names_in, prune_cells
from pocketgpt.grading.rebuild import Piece

CHAPTERS = masters()


def pieces_of(master, *probes):
    """Our notebook with our answers up to the last check, and before it cells of a student."""
    pieces = []
    for cell in master.cells:
        if cell.role != "text":
            source = master.solutions[cell.exercise] if cell.role == "answer" else cell.source
            pieces.append(Piece(cell.role, source, cell.exercise))
    last = max(index for index, piece in enumerate(pieces) if piece.role == "check")
    return [*pieces[:last], *(Piece("extra", probe, origin=1) for probe in probes), pieces[last]]


def given(pieces):
    return "\n".join(piece.source for piece in pieces if piece.role == "given")


SHORTER = {  # measurements and trainings of chapters
    "pocketgpt.course.ch13_flash_attention.experiments.seconds": lambda *_, **__: 1.0,
    "pocketgpt.course.ch14_training.experiments.train": lambda *inputs, **options: train(
        *inputs, **options | {"steps": 2}
    ),
}


def execute(pieces):
    """The names after the cells, checks left out; what they print and draw goes nowhere."""
    matplotlib.use("agg")
    torch.manual_seed(0)
    names = vars(notebook := types.ModuleType("__main__"))
    with redirect_stdout(io.StringIO()), pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", notebook)
        patch.setattr(doctor, "CHECKS", doctor.CHECKS[:1])  # the others take seconds, and so does `yours`
        patch.setattr("pocketgpt.course.lab.finished.yours", lambda name: vars(notebook)[name])
        for path, shorter in SHORTER.items():
            patch.setattr(path, shorter)
        for piece in pieces:
            if piece.role != "check":
                torch.manual_seed(0)  # what a cell draws without a seed depends on all cells before it
                exec(compile(piece.source, "cell", "exec"), names)
    plt.close("all")
    return names


def names_bound(chapter):
    """What the given cells of a chapter bind before the last check: variables and functions, and what they import."""
    imported, others = set(), set()
    for piece in pieces_of(CHAPTERS[chapter]):
        if piece.role == "given":
            for symbol in symtable.symtable(piece.source, "cell", "exec").get_symbols():
                if symbol.is_imported() or symbol.is_assigned():
                    (imported if symbol.is_imported() else others).add(symbol.get_name())
    return sorted(others), sorted(imported)


NOT_THE_SAME = {  # and no answer reads them
    ("08_rope", "samples"),  # drawn after another draw of the same cell, which is pruned
    ("13_flash_attention", "times"),  # measured anew in every run
    ("14_training", "probe"),  # of a model that a function trains, which pruning does not see
}


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, types.FunctionType | types.ModuleType | type):
        return a.__name__ == b.__name__
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, str | int | float | None | np.ndarray):
        return bool(np.all(a == b))
    return type(a) is type(b)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_cell_that_reads_a_name_finds_what_it_was(chapter):
    whole = execute(pieces_of(CHAPTERS[chapter]))
    read_by = defaultdict(list)  # several names may need the same cells
    for name in names_bound(chapter)[0]:
        if name in whole and (chapter, name) not in NOT_THE_SAME:  # some are bound only where there is a GPU
            pieces = prune_cells(pieces_of(CHAPTERS[chapter], f"lambda: {name}"))
            read_by[tuple(piece for piece in pieces if piece.role != "extra")].append(name)
    assert read_by
    for pieces in sorted(read_by, key=len)[:12]:  # where little is kept, something can be missing
        names, found = read_by[pieces], execute(pieces)
        assert [name for name in names if name not in found or not same(found[name], whole[name])] == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_cell_that_reads_what_we_import_finds_it(chapter):
    imported = names_bound(chapter)[1]
    kept = {name: given(prune_cells(pieces_of(CHAPTERS[chapter], name))) for name in imported}
    assert imported and all(re.search(rf"import [^=]*\b{name}\b", kept[name]) for name in imported)


READERS = [
    "NAME",
    "print(NAME)",
    'f"{NAME:.1f}"',
    "f\"{'a':{NAME}}\"",
    "def f(): return NAME",
    "def f(x=NAME): ...",
    "def f(x: NAME): ...",
    "def f() -> NAME: ...",
    "async def f(): await NAME",
    "@NAME\ndef f(): ...",
    "@f(NAME)\nclass A: ...",
    "class A(NAME): ...",
    "class A:\n    x = NAME",
    "class A:\n    def f(self): return lambda: NAME",
    "lambda x=NAME: x",
    "[x for x in NAME]",
    "[NAME for x in range(3)]",
    "{x: y for x in range(3) if NAME}",
    "NAME += 1",
    "del NAME",
    "global NAME; NAME",
    "def f():\n    global NAME\n    NAME += 1",
    "def f():\n    global NAME\n    del NAME",
    "def f():\n    def g(): return NAME",
    "NAME[0] = 1",
    "NAME.x = 1",
    "NAME.x.y += 1",
    "(y := NAME)",
    "match NAME:\n    case 1: ...",
    "match x:\n    case NAME.y: ...",
    "with NAME as x: ...",
    "for x in NAME: ...",
    "try: ...\nexcept NAME: ...",
    "x: NAME = 1",
    "assert NAME",
    "raise NAME",
    "from a import NAME",
    "if False: NAME",
    "await NAME",
    "get_ipython().user_ns",
    'eval("NA" + "ME")',
    'exec("NAME")',
    'globals()["NAME"]',
    "locals()",
    "vars()",
    "dir()",
    "def f(): return globals()",
    "import __main__",
    "%timeit NAME",
    "%%time",
    "NAME?",
    "x = !echo {NAME}",
    "x = %timeit -o NAME",
    "!echo $NAME",
    "%run other.py",
    "this is no Python",
]


@pytest.mark.parametrize("cell", READERS)
def test_a_name_is_kept_for_whatever_reads_it(cell):
    master = CHAPTERS["02_attention"]
    kept = given(prune_cells(pieces_of(master, cell.replace("NAME", "keys"))))
    assert "keys = torch.tensor" in kept and "import torch\n" in f"{kept}\n"


@pytest.mark.parametrize(
    "cell",
    ["def f(keys): return keys", "x.keys", "f(keys=1)", "'keys'", "# keys", "lambda keys: keys", "[k for keys in x]"],
)
def test_a_word_that_is_not_the_name_keeps_nothing(cell):
    assert "keys = torch.tensor" not in given(prune_cells(pieces_of(CHAPTERS["02_attention"], cell)))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_of_a_solved_chapter_what_draws_prints_and_trains_is_left_out(chapter):
    pieces = pieces_of(CHAPTERS[chapter])
    kept = given(prune_cells(pieces))
    assert "print(" not in kept and "model_map(preset" not in kept and len(kept) < len(given(pieces)) / 2


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_answers_checks_and_cells_of_the_student_all_stay_in_order(chapter):
    pieces = pieces_of(CHAPTERS[chapter], "print('hello')", "x = 1")
    theirs = [piece for piece in pieces if piece.role != "given"]
    assert [piece for piece in prune_cells(pieces) if piece.role != "given"] == theirs


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_answers_go_through_yours_where_later_answers_use_them(chapter):
    if chapter == "02_attention":
        assert 'masked_softmax = yours("masked_softmax")' in given(prune_cells(pieces_of(CHAPTERS[chapter])))


def kept_of(*cells):
    """What is left of given cells if the last cell is a student's."""
    *ours, theirs = cells
    return given(prune_cells([*(Piece("given", cell) for cell in ours), Piece("extra", theirs, origin=1)])).split("\n")


@pytest.mark.parametrize(
    ("cells", "kept"),
    [
        (("a = 1\nb = 2", "a"), ["a = 1"]),
        (("a = 1\nb = a", "b"), ["a = 1", "b = a"]),
        (("a = 1", "b = a", "b"), ["a = 1", "b = a"]),
        (("a = 1\na = 2", "a"), ["a = 1", "a = 2"]),
        (("a = []\na.append(1)\nprint(a)", "a"), ["a = []", "a.append(1)"]),
        (("a = []\nfor i in x:\n    a.append(i)", "a"), ["a = []", "for i in x:", "    a.append(i)"]),
        (("a = {}\na['k'] = 1\na.b.c = 2\na += 1", "a"), ["a = {}", "a['k'] = 1", "a.b.c = 2", "a += 1"]),
        (("import a\na.seed(0)\nb = 1", "a"), ["import a", "a.seed(0)"]),
        (("if x:\n    a = 1\nelse:\n    b = 2", "b"), ["if x:", "    a = 1", "else:", "    b = 2"]),
        (("@d\ndef f():\n    return g\ng = 1\nd = 2", "f"), ["@d", "def f():", "    return g", "g = 1"]),
        (("d = 2\n@d\ndef f(): ...", "f"), ["d = 2", "@d", "def f(): ..."]),
        (("a = '''\nb\n'''  # text\nc = 1", "a"), ["a = '''", "b", "'''  # text"]),
        (("with x as a:\n    b = 1", "b"), ["with x as a:", "    b = 1"]),
        (("(a, b), c = x", "b"), ["(a, b), c = x"]),
        (
            ("import a.b.c\nimport d as e\nfrom f import g as h", "a, e, h"),
            ["import a.b.c", "import d as e", "from f import g as h"],
        ),
    ],
)
def test_statements_stay_that_make_what_is_read(cells, kept):
    assert kept_of(*cells)[: len(kept)] == kept


def test_a_cell_that_cannot_be_parsed_may_read_anything():
    for source in ("def f(:", "%matplotlib inline", "(" * 5000, "x\x00"):
        assert "eval" in names_in(source)


def test_a_check_reads_the_function_of_its_exercise():
    pieces = [Piece("given", "softmax = torch.softmax\nother = 1"), Piece("check", "", "softmax")]
    assert given(prune_cells(pieces)) == "softmax = torch.softmax"


def test_a_name_imported_from_the_notebook_itself_is_needed():
    pieces = [Piece("given", "query = 1"), Piece("answer", "from __main__ import query", "softmax", 1)]
    assert given(prune_cells(pieces)) == "query = 1"

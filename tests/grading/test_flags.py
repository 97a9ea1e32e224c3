"""Constructions that could cheat are flagged with their line; what honest people write is not."""

import inspect
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pocketgpt.course.building import ROOT
from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.grading.flag_rules import MARK, PASTED
from pocketgpt.grading.flags import LONGEST_CELL, MOST_FLAGS, flags
from pocketgpt.grading.master import masters

CHAPTERS = masters()
ATTENTION = CHAPTERS["02_attention"]


def reasons(*sources: str, chapter=ATTENTION) -> set[str]:
    return {flag.reason for flag in flags(list(enumerate(sources, 1)), chapter)}


SHELL = "runs a shell command"
PROCESS = "starts, ends or controls a process"
UNPARSED = " (the cell does not parse)"

SUSPICIOUS = {
    SHELL: [
        "!ls",
        "x = !cat secret",
        "if True:\n    !ls",
        "!!ls",
        "%%bash\nls",
        "%%sh\nls",
        "%%script bash\nls",
        "%sx ls",
        "%system ls",
        "%%time\n!ls",
        "%time !ls",
        "!ls \\\n -la\nx = 1",
        "print 'x'\n!ls",
    ],
    "runs the magic %writefile": ["%%writefile check.py\nx"],
    "runs the magic %run": ["%run other.py"],
    "runs the magic %javascript": ["%%javascript\nalert(1)"],
    PROCESS: [
        "import subprocess",
        "import os\nos.system('ls')",
        "import os as o\no.system('ls')",
        "from os import system as s",
        "import os\ns = os.system",
        "import os\np = os\np._exit(0)",
        "import os\nos.fork()",
        "import os\nos.kill(os.getppid(), 9)",
        "import os\ngetattr(os, 'system')('ls')",
        "torch.os.system('ls')",
        "torch.serialization.os.system('ls')",
        "import random\nrandom._os.system('ls')",
        "import multiprocessing as mp",
        "from torch.multiprocessing import Process",
        "import ctypes",
        "import os\n%time os.system('ls')",
        "import os\n%timeit -n 1 -r 1 os.system('ls')",
        ">>> import subprocess",
        "%%capture out\nimport subprocess",
    ],
    PROCESS + UNPARSED: ["import os\ndef f(:\n    os.system('ls')", "import subprocess\ndef f(:"],
    "reads an attribute of a module whose name is computed": ["import os\ngetattr(os, 'sys' + 'tem')('ls')"],
    "reaches into the notebook's own machinery": [
        "get_ipython().system('ls')",
        "g = get_ipython",
        "ip.set_custom_exc((E,), f)",
        "from IPython import get_ipython as g",
        "import IPython.core.interactiveshell",
        "from ipykernel.kernelapp import IPKernelApp",
        "import nbval",
    ],
    "leaves something running beside the notebook": [
        "import threading",
        "import atexit",
        "import asyncio",
        "from concurrent.futures import ThreadPoolExecutor",
        "import signal",
    ],
    "opens a network connection": ["import socket", "import urllib.request", "import requests", "import http.client"],
    "opens or changes a file": ["open('x')", "import shutil", "import pickle", "torch.load('x.pt')"],
    "ends the kernel": ["exit()", "import sys\nsys.exit(0)"],
    "reaches into Python's insides": [
        "import sys\nsys.modules['torch']",
        "from sys import modules",
        "import importlib",
        "__import__('os')",
        "import gc\ngc.get_objects()",
        "import inspect\ninspect.stack()",
        "import builtins",
        "import sys\nsys._getframe(1)",
        "import sys\nsys.setprofile(None)",
        "f.__globals__['x'] = 1",
        "import pydoc",
        "().__class__.__base__.__subclasses__()",
        "torch.__dict__['isclose'] = f",
        "import operator\noperator.attrgetter",
    ],
    "runs text as code": ["exec('x = 1')", "e = eval", "compile('1', '', 'eval')"],
    "runs text as code" + UNPARSED: ["exec('x'"],
    "changes an imported module or class": [
        "torch.isclose = lambda *a: torch.tensor(True)",
        "torch.Tensor.__eq__ = f",
        "import torch as t\nt.isclose = f",
        "from torch import Tensor\nTensor.allclose = f",
        "check.diagnose = f",
        "T = torch.Tensor\nT.allclose = f",
        "setattr(torch, 'isclose', f)",
        "import sys\nsys.stdout = f",
    ],
    "patches other code": ["from unittest import mock", "import unittest.mock as m"],
    "reads the course's checks": [
        "from pocketgpt.course.checking.check import diagnose",
        "check._failures",
        "from pocketgpt.grading import verify",
        "from pocketgpt import grading",
        "import pocketgpt.course.checking.run",
        "from pocketgpt.course.syllabus import all_exercises",
        "import pocketgpt\npocketgpt.course.syllabus",
        "check.causal_mask.args[0].reference",
        "from pocketgpt.course.ch02_attention import shared",
        "from pocketgpt.course.lab import check as c\nc.diagnose(1)",
    ],
    "uses the finished function": [
        "from pocketgpt.layers.attention_backends import causal_mask as m",
        "import pocketgpt.layers.attention as a\na.causal_mask(q, k)",
        "from pocketgpt.layers.attention import *",
        "import pocketgpt\npocketgpt.layers.attention.causal_mask",
        "from pocketgpt.course.lab.attention_adapters import causal_mask",
    ],
    "prints a check mark, as a passed check does": [
        "print('✓ 2.3 causal_mask · 2 points')",
        r"print('\u2713 2.3')",
        r"print('\N{CHECK MARK} 2.3')",
        r"print(b'\xe2\x9c\x93'.decode())",
        "print(f'{x} ✓')",
        "print(chr(10003))",
    ],
    "prints a check mark, as a passed check does" + UNPARSED: ["print('✓'"],
    "tells nbval to treat the cell differently": ["# NBVAL_SKIP\nx = 1", "x = 1\n  #NBVAL_RAISES_EXCEPTION "],
    "is a very long line": ["x = '" + "a" * 1000 + "'"],
    "has characters that cannot be seen": ["x = 1  # \u202e", "x\u200b = 1", "x = 1\0", "x = '\ud800'"],
    "is too long to be read to its end": ["x = 1\n" * LONGEST_CELL],
}

HONEST = [
    "import math\nimport time\nimport functools, itertools, collections\nfrom typing import Callable\nimport torch",
    "import numpy as np\nimport matplotlib.pyplot as plt\nfrom tqdm.auto import tqdm\nfrom einops import rearrange",
    "import torch.nn.functional as F\nfrom torch import nn, Tensor\nweights = F.softmax(torch.randn(3, 3), dim=-1)",
    "import sys, os\nprint(sys.version, os.cpu_count())\nsys.stdout.write('x')\nsys.stdout.flush()",
    "print('shape', x.shape, file=sys.stderr)",
    "assert torch.allclose(a, b), 'not the same'",
    "plt.plot([1, 2])\nplt.title('a/b, 50 %')\nplt.rcParams['figure.dpi'] = 100\nplt.savefig('plot.png')\nplt.show()",
    "fig, ax = plt.subplots()\nax.set_xlabel('t')",
    "%timeit causal_mask(q, k)",
    "%%timeit -n 10\ncausal_mask(q, k)",
    "%%time\nfor i in range(3):\n    print(i)",
    "%time y = f(x)",
    "%matplotlib inline\n%config InlineBackend.figure_format = 'retina'",
    "%load_ext autoreload\n%autoreload 2",
    "%%capture out\nprint(1)",
    "%precision 3",
    "try:\n    f()\nexcept ValueError as error:\n    print(error)",
    "class Head(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.q = nn.Linear(2, 2)\n"
    "    def forward(self, x):\n        return self.q(x)",
    "f = lambda x: x + 1\ncounter = 0\ndef g():\n    global counter\n    counter += 1",
    "help(causal_mask)\nhelp(torch)",
    "causal_mask?",
    "?causal_mask",
    "check.causal_mask(causal_mask)",
    "check.attention(attention)  # again",
    "q, k = check.example('attention_scores')",
    "import pocketgpt",
    "from pocketgpt.course.lab import yours",
    "from pocketgpt.course.lab import check",
    "from pocketgpt.models.presets import preset\nfrom pocketgpt.course.lab import pocket_model, before_and_after",
    "import pocketgpt.course.ch02_attention.figures as figures\nfigures.attention_map(m, words, 'x')",
    "time.sleep(0.1)",
    "import warnings\nwarnings.filterwarnings('ignore')",
    "def f(check):\n    return check + 1",
    "def f(q):\n    check = q.sum()\n    return check",
    "print([check for check in range(3)])",
    "def f(signal, site, code, os):\n    return signal.mean() + site.sum() + code.x + os.system",
    "def train(model, compile=False):\n    if compile:\n        model = torch.compile(model)",
    "model.eval()\nimport re\nre.compile('x')",
    "torch.backends.cudnn.deterministic = True\ntorch.manual_seed(0)\nnp.random.seed(0)",
    "relu = getattr(F, 'relu')\nfor k in d:\n    setattr(self, k, d[k])",
    "self.x = 1\nself.x.y = 2\nmodel.attention = f",
    "if 'x' in globals():\n    print(x)",
    "while True:\n    if f():\n        break",
    "print(x.__class__.__name__, f.__name__, f.__doc__)",
    "@functools.wraps(f)\ndef g(*a):\n    return f(*a)",
    "import inspect\nprint(inspect.signature(f))",
    "import gc\ngc.collect()",
    "import zlib\nlen(zlib.compress(page.encode()))",
    "from IPython.display import display, Markdown\ndisplay(Markdown('x'))",
    "import io\nbuffer = io.StringIO()",
    "print('👩\u200d🔬', '✗', 'é', '—', '🌹', '→')",
    "print('yours and/or theirs; 1/√d; km/h; a..b; ... 3/4; w/o; /')",
    "# ✓ done, subprocess and os.system are only mentioned\nx = 1",
    "# NBVAL_IGNORE_OUTPUT\nx = 1",
    "# the scores\n# 3 by 3\n\nq @ k.mT",
    "def f(:\n    return the signal",
    "this is my answer: open the file and signal the code",
    "print 'hello'",
    "raise NotImplementedError()",
    "",
    "   \n\n",
    "scores = q @ k.mT / math.sqrt(q.shape[-1])\nscores = scores.masked_fill(mask == 0, float('-inf'))",
    "x = 1 if a else 2; y = {**d, 'a': 1}; z = [*x, *y]",
    "from dataclasses import dataclass\n@dataclass\nclass Config:\n    d_model: int = 3",
    "env",
    "help(torch.softmax)\nassert torch.equal(softmax(x, -1), torch.softmax(x, -1))",
    "F.scaled_dot_product_attention(q[None], k[None], v[None])",
    "# check.causal_mask(causal_mask)\n# from pocketgpt.course.lab import check, yours",
    "check = scores.sum()\nfor check in range(3):\n    print(check)",
    "!pip install einops",
    "%pip install einops",
    "causal_mask = yours('causal_mask')",
    "class Point:\n    def __eq__(self, other):\n        return self.x == other.x",
]


@pytest.mark.parametrize("reason", SUSPICIOUS)
def test_a_suspicious_construction_is_flagged(reason):
    for source in SUSPICIOUS[reason]:
        assert reason in reasons(source), source[:100]


@pytest.mark.parametrize("source", HONEST, ids=lambda text: text[:50].encode("unicode_escape").decode())
def test_honest_code_is_not_flagged(source):
    assert reasons("env = 1, 2", source) == set()


def code_cells(chapter: str) -> list[tuple[str, str]]:
    cells = json.loads((ROOT / "solutions" / f"{chapter}.ipynb").read_text())["cells"]
    return [(cell["id"], "".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]


WITH_LONG_ANSWERS = [chapter for chapter in CHAPTERS if chapter >= "09"]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_our_solutions_are_flagged_for_nothing_but_long_answers_that_are_ours(chapter):
    answers = [source for name, source in code_cells(chapter) if name in exercises()]
    assert answers
    assert reasons(*answers, chapter=CHAPTERS[chapter]) <= ({PASTED} if chapter in WITH_LONG_ANSWERS else set())


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_code_of_a_chapter_is_honest_code(chapter):
    """Somebody who changes a given cell, or copies one, gets no flags but those meant for just that."""
    cells = [source for name, source in code_cells(chapter) if name not in exercises()]
    saves = {"opens or changes a file"} if chapter == "14_training" else set()  # the state of a training
    assert reasons(*cells, chapter=CHAPTERS[chapter]) <= {MARK} | saves


def source_of(function) -> str:
    """Without decorators."""
    lines = inspect.getsource(function).split("\n")
    return "\n".join(lines[next(i for i, line in enumerate(lines) if line.startswith("def ")) :])


@pytest.mark.parametrize("name", exercises())
def test_accepted_variants_are_flagged_as_pasted_at_most(name):
    chapter = next(each for each in CHAPTERS.values() if name in each.exercises)
    imports = "import math, codecs\nimport torch\nfrom collections import Counter\nfrom itertools import pairwise"
    for variant in exercises()[name].accepted_answers:
        assert reasons(imports, source_of(variant), chapter=chapter) <= {PASTED}


def test_a_long_answer_of_ours_is_recognized_under_any_name_and_docstring():
    source = source_of(exercises()["attention_scores"].accepted_answers[-1])
    assert "scores_in_loops" in source
    own = source.replace("scores_in_loops", "attention_scores").replace(":\n", ':\n    """Mine."""\n', 1)
    assert reasons(f"# my own work\n\n{own}  # done") == {PASTED}


def test_our_answer_with_other_names_is_not_recognized():
    source = source_of(exercises()["attention_scores"].accepted_answers[-1])
    assert reasons(source.replace("scores", "products")) == set()


def test_short_answers_of_ours_are_not_recognized():
    assert reasons(source_of(exercises()["causal_mask"].accepted_answers[0])) == set()


def test_helpers_of_our_answers_are_recognized():
    module = inspect.getmodule(exercises()["merge_pair"].reference)
    assert reasons(source_of(module.merged), chapter=CHAPTERS["01_tokens"]) == {PASTED}


def test_an_alias_is_known_in_other_cells():
    assert PROCESS in reasons("import os as o", "def f():\n    return o.system('ls')")
    assert PROCESS in reasons("def f():\n    return o.system('ls')", "import os as o")


def test_a_flag_quotes_its_line():
    source = "\n\nx = 1\n!ls \\\n  -la\ny = 2\ntorch.save(y, 'y')  # here"
    found = flags([(7, source)], ATTENTION)
    assert [(flag.cell, flag.line, flag.quoted) for flag in found] == [
        (7, 4, "!ls \\"),
        (7, 7, "torch.save(y, 'y')  # here"),
    ]


def test_lines_within_a_cell_magic_are_counted_from_its_top():
    (flag,) = flags([(1, "%%time\nx = 1\nopen('x')")], ATTENTION)
    assert (flag.line, flag.quoted) == (3, "open('x')")


def test_a_quotation_is_short_and_shows_what_cannot_be_seen():
    quoted = {flag.quoted for flag in flags([(1, "open('x')  # \u202e\ud800")], ATTENTION)}
    assert quoted == {r"open('x')  # \u202e\ud800"}
    assert all(len(flag.quoted) <= 160 for flag in flags([(1, f"open('{'x' * 2000}')")], ATTENTION))


def test_one_flag_for_a_line_and_reason():
    found = flags([(1, "open('x'), open('y')\nopen('z')")], ATTENTION)
    assert [flag.line for flag in found] == [1, 2]


def test_a_cell_is_counted_as_it_stands_in_the_file():
    assert [flag.cell for flag in flags([(3, "open('x')"), (9, "open('y')")], ATTENTION)] == [3, 9]


def test_there_are_not_more_flags_than_somebody_can_read():
    assert len(flags([(1, "open('x')\n" * (MOST_FLAGS + 1))], ATTENTION)) == MOST_FLAGS


HOSTILE = [
    "(" * 10_000,
    "[" * 10_000 + "]" * 10_000,
    "-" * 40_000 + "1",
    "x" + ".a" * 20_000,
    "1" + "+1" * 20_000,
    "lambda:" * 5_000 + "1",
    "f'" + "{" * 300,
    "\0",
    "'\ud800'",
    "!ls\n" * 10_000,
    "x = !ls\n" * 1_000,
    "%%time\n" * 5_000,
    "%time " * 5_000,
    "%%capture\n%%time\n%%timeit %time !",
    "?" * 40_000,
    "\\\n" * 20_000,
    'x = """\n' + "%time x\n" * 5_000,
    "".join(" " * i + "if x:\n" for i in range(99)) + " " * 99 + "x",
    "".join(" " * i + "def f(x):\n" for i in range(99)) + " " * 99 + "x",
    "a = b = " * 5_000 + "c",
    "import os\n" + ("os" + ".os" * 300 + "\n") * 9,
    "a = torch\n" + "a = a.b\n" * 1_000,
    "match x:\n  case {'a': [*check]}: pass",
    "\r\r\n\x0c\u2028!ls",
    "from . import x\nfrom .. import check",
    "import a.b.c, a.b as d\nfrom a import *",
    "a = a\nb = c\nc = b\nb.d = 1",
    "getattr(x, '')\ngetattr()\ngetattr(getattr(getattr(os, 'a'), 'b..'), '.')",
    "x" * 5_000_000,
    "\n" * 3_000_000,
]


@pytest.mark.parametrize("source", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_read(source):
    for flag in flags([(1, source)], ATTENTION):
        assert flag.quoted.encode() is not None


PIECES = ["!", "%%", "%time ", "?", "\n", "\\\n", "check", ".", "(", ")", "=", "os", " ", "✓", "def ", ":", "{", "\r"]


@given(st.lists(st.text() | st.lists(st.sampled_from(PIECES)).map("".join), max_size=3))
@example(["\ud800"])
@settings(deadline=None, max_examples=200)
def test_no_text_is_too_strange(sources):
    for flag in flags(list(enumerate(sources, 1)), ATTENTION):
        assert flag.quoted.encode() is not None
        assert flag.line >= 1


def test_the_cause_of_a_case_is_read_off_its_figure_and_not_off_the_case():
    looked_up = "names = [case._cause for case in draw_cases('model', seed=1)]"
    assert reasons(looked_up, chapter=CHAPTERS["24_find_the_bug"]) == {"reads the answer of a case"}

"""Constructions that could cheat are flagged with their line; what honest people write is not."""

import inspect
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pocketgpt.course.building.build import ROOT
from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.grading.flags.flags import LONGEST_CELL, MOST_FLAGS, flags
from pocketgpt.grading.flags.pasted import PASTED
from pocketgpt.grading.master import masters

CHAPTERS = masters()
ATTENTION = CHAPTERS["02_attention"]


def reasons(*sources: str, chapter=ATTENTION) -> set[str]:
    return {flag.reason for flag in flags(list(enumerate(sources, 1)), chapter)}


SHELL = "runs a shell command"
PROCESS = "starts, ends or controls a process"
INSIDES = "reaches into Python's insides"
NOTEBOOK = "reaches into the notebook's own machinery"
CHECK = "reads the course's checks"
REBINDS = "gives the name check to something else"
REPLACES = "changes an imported module or class"
MARK = "prints a check mark, as a passed check does"
FILE = "opens or changes a file"
TEXT = "runs text as code"
BESIDE = "leaves something running beside the notebook"
NETWORK = "opens a network connection"
PICKLE = "unpickles, which can run anything"
HIDDEN = "decodes hidden text"
SECRET = "holds characters that cannot be seen"
FINISHED = "uses the finished function"
IMPORTS = "imports the finished function"
STANDS_IN = "lets the finished function stand in"
HANDS_ON = "hands a module on, to be used under another name"
TENSOR = "makes a tensor class of its own"
COMPARES = "changes what comparisons or type tests see"
NAMESPACE = "reaches for names as text"
PLACE = "names a place outside the notebook's folder"
WHOLE = "hands on a function that does a whole exercise"

SUSPICIOUS = [
    # shell and magics
    ("!ls", SHELL),
    ("x = !cat secret", SHELL),
    ("if True:\n    !ls", SHELL),
    ("!!ls", SHELL),
    ("%%bash\nls", SHELL),
    ("%%sh\nls", SHELL),
    ("%%script bash\nls", SHELL),
    ("%sx ls", SHELL),
    ("%system ls", SHELL),
    ("sx ls", SHELL),
    ("%%time\n!ls", SHELL),
    ("%%capture out\nimport subprocess", PROCESS),
    ("%time os.system('ls')", PROCESS),
    ("%timeit -n 1 -r 1 os.system('ls')", PROCESS),
    ("%precision {os.system('ls')}", f"{PROCESS} (the cell does not parse)"),
    ("%%writefile check.py\nx", "runs the magic %writefile"),
    ("%run other.py", "runs the magic %run"),
    ("run other.py", "runs the magic %run"),
    ("%load other.py", "runs the magic %load"),
    ("%load_ext evil", "runs the magic %load_ext"),
    ("%config Application.verbose_crash = True", "runs the magic %config"),
    ("%%javascript\nalert(1)", "runs the magic %javascript"),
    ("%%html\n<script>", "runs the magic %html"),
    ("%pip install torch", "installs a package"),
    ("!ls \\\n -la\nx = 1", SHELL),
    (">>> import subprocess", PROCESS),
    # the notebook's machinery
    ("get_ipython().system('ls')", NOTEBOOK),
    ("g = get_ipython", NOTEBOOK),
    ("get_ipython().input_transformers_post.append(f)", NOTEBOOK),
    ("ip.events.register('post_run_cell', f); ip.set_custom_exc((E,), f)", NOTEBOOK),
    ("from IPython import get_ipython as g", NOTEBOOK),
    ("import IPython.core.interactiveshell", NOTEBOOK),
    ("from ipykernel.kernelapp import IPKernelApp", NOTEBOOK),
    ("import nbval", NOTEBOOK),
    # processes, threads, networks
    ("import subprocess", PROCESS),
    ("import os\nos.system('ls')", PROCESS),
    ("import os as o\no.system('ls')", PROCESS),
    ("from os import system as s", PROCESS),
    ("import os\ns = os.system", PROCESS),
    ("import os\np = os\np._exit(0)", PROCESS),
    ("import os\nos.fork()", PROCESS),
    ("import os\nos.kill(os.getppid(), 9)", PROCESS),
    ("import os\ngetattr(os, 'system')('ls')", PROCESS),
    ("import os\ngetattr(os, 'sys' + 'tem')('ls')", "reads an attribute of a module whose name is computed"),
    ("torch.os.system('ls')", PROCESS),
    ("torch.serialization.os.system('ls')", PROCESS),
    ("(lambda: torch)().os.system('ls')", PROCESS),
    ("import random\nrandom._os.system('ls')", PROCESS),
    ("import os\nfor m in [os]:\n    m.system('ls')", HANDS_ON),
    ("import os\ndef f(m=os):\n    m.system('ls')", HANDS_ON),
    ("x = [torch.os][0]", HANDS_ON),
    ("import os\nmatch os:\n    case object(system=s):\n        s('ls')", HANDS_ON),
    ("import multiprocessing as mp", PROCESS),
    ("from torch.multiprocessing import Process", PROCESS),
    ("import torch.utils.cpp_extension", PROCESS),
    ("import ctypes", PROCESS),
    ("import threading", BESIDE),
    ("import signal", BESIDE),
    ("import atexit\n@atexit.register\ndef f(): ...", BESIDE),
    ("from concurrent.futures import ThreadPoolExecutor", BESIDE),
    ("import asyncio", BESIDE),
    ("import socket", NETWORK),
    ("import urllib.request", NETWORK),
    ("import requests", NETWORK),
    ("import http.client", NETWORK),
    ("import pickle", PICKLE),
    ("torch.load('x.pt')", PICKLE),
    ("exit()", "ends the kernel"),
    ("import sys\nsys.exit(0)", "ends the kernel"),
    ("while True:\n    pass", "never ends"),
    # Python's insides
    ("import sys\nsys.modules['torch']", INSIDES),
    ("from sys import modules", INSIDES),
    ("import importlib", INSIDES),
    ("__import__('os')", INSIDES),
    ("exec('x = 1')", TEXT),
    ("e = eval", TEXT),
    ("[exec('1') for exec in [exec]]", TEXT),
    ("compile('1', '', 'eval')", TEXT),
    ("import gc\ngc.get_objects()", INSIDES),
    ("import inspect\ninspect.stack()", INSIDES),
    ("import inspect\ninspect.getsource(f)", INSIDES),
    ("import sys\nsys._getframe(1)", INSIDES),
    ("import sys\nsys.settrace(f)", INSIDES),
    ("import sys\nsys.setprofile(None)", INSIDES),
    ("f.__globals__['x'] = 1", INSIDES),
    ("f.__code__ = g.__code__", REPLACES),
    ("().__class__.__base__.__subclasses__()", INSIDES),
    ("getattr(f, '__globals__')", INSIDES),
    ("print.__self__", INSIDES),
    ("import builtins\nbuiltins.print = f", INSIDES),
    ("__builtins__.print = f", INSIDES),
    ("torch.isclose = lambda *a, **k: torch.tensor(True)", REPLACES),
    ("torch.Tensor.__eq__ = f", REPLACES),
    ("F.softmax = f", REPLACES),
    ("import torch as t\nt.isclose = f", REPLACES),
    ("from torch import Tensor\nTensor.allclose = f", REPLACES),
    ("T = torch.Tensor\nT.allclose = f", REPLACES),
    ("def g():\n    T = torch.Tensor\n    T.allclose = f", REPLACES),
    ("type(torch.ones(1)).__eq__ = f", REPLACES),
    ("setattr(torch, 'isclose', f)", REPLACES),
    ("list(map(setattr, [torch], ['isclose'], [f]))", REPLACES),
    ("torch.__dict__['isclose'] = f", REPLACES),
    ("vars(torch)['isclose'] = f", NAMESPACE),
    ("globals()['check'] = f", NAMESPACE),
    ("locals().update(check=f)", NAMESPACE),
    ("import sys\nsys.stdout = f", REPLACES),
    ("import contextlib\ncontextlib.redirect_stdout(f).__enter__()", NOTEBOOK),
    ("from unittest import mock", "patches other code"),
    ("import unittest.mock as m", "patches other code"),
    ("import warnings\nwarnings.showwarning = f", REPLACES),
    ("import site", "reads or changes the environment"),
    ("class T(torch.Tensor):\n    pass", TENSOR),
    ("class T:\n    def __torch_function__(self): ...", COMPARES),
    ("class X(float):\n    def __eq__(self, other): return True", COMPARES),
    ("class X:\n    @property\n    def __class__(self): return dict", COMPARES),
    ("X = type('X', (float,), {'__eq__': f})", INSIDES),
    ("causal_mask.__module__ = 'x'", REPLACES),
    ("from torch.serialization import *", "imports names that are not spelled out"),
    ("import timeit\ntimeit.timeit('import os; os.system(1)')", "holds code in a string"),
    ("import timeit\ntimeit.timeit('import pocketgpt.grading.verify')", "holds code in a string"),
    ("import os\nos.environ['X'] = '1'", "reads or changes the environment"),
    # the check
    ("from pocketgpt.course.checking.check import CheckFailed", CHECK),
    ("from pocketgpt.course.checking.check import diagnose", CHECK),
    ("from pocketgpt.grading import verify", CHECK),
    ("from pocketgpt import grading", CHECK),
    ("import pocketgpt.grading", CHECK),
    ("import pocketgpt.course.checking.run", CHECK),
    ("import pocketgpt.course.checking.compare as c", CHECK),
    ("from pocketgpt.course.syllabus import all_exercises as exercises", CHECK),
    ("from pocketgpt.course.ch02_attention.attention import attention", IMPORTS),
    ("from pocketgpt.course.checking.exercise import Exercise", CHECK),
    ("from pocketgpt.course.lab.finished import exercises", CHECK),
    ("import pocketgpt\npocketgpt.course.syllabus", CHECK),
    ("def check(x): ...", REBINDS),
    ("class check: ...", REBINDS),
    ("check = 1", REBINDS),
    ("import math as check", REBINDS),
    ("for check in []: ...", REBINDS),
    ("with f as check: ...", REBINDS),
    ("def f():\n    global check\n    check = 1", REBINDS),
    ("del check", REBINDS),
    ("(check := 1)", REBINDS),
    ("[check := 1 for x in y]", REBINDS),
    ("match x:\n    case {**check}: ...", REBINDS),
    ("check.check = f", REPLACES),
    ("check.diagnose = f", REPLACES),
    ("check._failures", CHECK),
    ("check.softmax.func", CHECK),
    ("check.causal_mask.args[0].reference", CHECK),
    ("c = check.causal_mask", CHECK),
    ("print(check)", CHECK),
    ("from pocketgpt.course.lab import check as c\nc.diagnose(1)", CHECK),
    # the answer
    ("from pocketgpt.layers.attention_backends import causal_mask", IMPORTS),
    ("from pocketgpt.layers.attention_backends import causal_mask as m", IMPORTS),
    ("import pocketgpt.layers.attention as a\na.causal_mask(q, k)", FINISHED),
    ("import pocketgpt\npocketgpt.layers.attention.causal_mask", FINISHED),
    ("from pocketgpt.layers.attention import *", "imports names that are not spelled out"),
    ("from pocketgpt.course.lab.transplanting import causal_mask", IMPORTS),
    ("from pocketgpt.course.lab.transplanting import scaled_scores", IMPORTS),
    ("import pocketgpt.course.lab.transplanting as t\nt.scaled_scores(q, k)", FINISHED),
    ('causal_mask = yours("causal_mask")', STANDS_IN),
    ("def causal_mask(q, k):\n    return yours(f)(q, k)", STANDS_IN),
    ("from pocketgpt.course.lab import yours as y\ny(f)", STANDS_IN),
    # what is printed, read and hidden
    ("print('✓ 2.3 causal_mask · 2 points')", MARK),
    (r"print('\u2713 2.3')", MARK),
    (r"print('\N{CHECK MARK} 2.3')", MARK),
    (r"print('\\u2713'.encode().decode('unicode_escape'))", MARK),
    (r"print(b'\xe2\x9c\x93'.decode())", MARK),
    ("print(f'{x} ✓')", MARK),
    ("print(chr(10003))", MARK),
    ("print(chr(0x2713))", MARK),
    ("print(chr(10002 + 1))", MARK),
    ("open('x')", FILE),
    ("def f(open=open):\n    return open('x')", FILE),
    ("from pathlib import Path\nPath('x').read_text()", FILE),
    ("import os\nos.listdir()", FILE),
    ("import shutil", FILE),
    ("import glob", FILE),
    ("torch.save(x, 'x')", FILE),
    ("np.save('x', x)", FILE),
    ("f('/etc/passwd')", PLACE),
    ("f('/home')", PLACE),
    ("f('../solutions')", PLACE),
    ("f('..')", PLACE),
    ("# NBVAL_SKIP\nx = 1", "tells nbval to treat the cell differently"),
    ("x = 1\n  #NBVAL_RAISES_EXCEPTION ", "tells nbval to treat the cell differently"),
    ("x = '" + "a" * 1000 + "'", "is a very long line"),
    ("import base64", HIDDEN),
    ("import zlib\nzlib.decompress(x)", HIDDEN),
    ("import codecs\ncodecs.decode(x, 'rot13')", HIDDEN),
    ("import marshal", PICKLE),
    ("x = 1  # \u202e", SECRET),
    ("x\u200b = 1", SECRET),
    ("x = 1\0", SECRET),
    ("x = '\ud800'", SECRET),
    # a cell that does not parse
    ("def f(:\n    os.system('ls')", f"{PROCESS} (the cell does not parse)"),
    ("import subprocess\ndef f(:", f"{PROCESS} (the cell does not parse)"),
    ("exec('x'", f"{TEXT} (the cell does not parse)"),
    ("print('✓'", f"{MARK} (the cell does not parse)"),
    ("-" * 30_000 + "1", "is nested too deeply to be read"),
    ("x = 1\n" * LONGEST_CELL, "is too long to be read"),
]

HONEST = [
    'from pocketgpt.course.lab import check\ninputs = check.example("softmax")',
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
]


@pytest.mark.parametrize(
    "source",
    [
        "out = functools.partial(F.scaled_dot_product_attention)(q, k, v)",
        "out = list(map(F.scaled_dot_product_attention, [q], [k], [v]))",
        "fused = F.scaled_dot_product_attention",
        "from torch.nn.functional import scaled_dot_product_attention as s\nout = next(map(s, [q], [k], [v]))",
    ],
)
def test_a_function_that_does_the_whole_exercise_is_flagged_where_its_call_would_not_be_seen(source):
    assert WHOLE in reasons(f"import functools\n{source}")


def test_comparing_with_the_fused_operator_is_honest():
    assert reasons("F.scaled_dot_product_attention(q[None], k[None], v[None])") == set()


@pytest.mark.parametrize(("source", "reason"), SUSPICIOUS, ids=lambda text: text[:50].encode("unicode_escape").decode())
def test_a_suspicious_construction_is_flagged(source, reason):
    assert reason in reasons(source)


@pytest.mark.parametrize("source", HONEST, ids=lambda text: text[:50].encode("unicode_escape").decode())
def test_honest_code_is_not_flagged(source):
    assert reasons("env = 1, 2", source) == set()


def code_cells(chapter: str) -> list[tuple[str, str]]:
    cells = json.loads((ROOT / "solutions" / f"{chapter}.ipynb").read_text())["cells"]
    return [(cell["id"], "".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_our_solutions_are_not_flagged(chapter):
    answers = [source for name, source in code_cells(chapter) if name in exercises()]
    assert answers
    assert reasons(*answers, chapter=CHAPTERS[chapter]) == set()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_code_of_a_chapter_is_honest_code(chapter):
    """Somebody who changes a given cell, or copies one, gets no flags but those meant for just that."""
    cells = [source for _, source in code_cells(chapter)]
    assert reasons(*cells, chapter=CHAPTERS[chapter]) <= {STANDS_IN, MARK}


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


def test_more_text_than_can_be_read_is_said_and_not_read():
    cells = [(i, "x = !ls\n" * 10 + "y = 1\n" * 1_000) for i in range(1, 60)]
    assert reasons(*(source for _, source in cells)) == {SHELL, "is too long to be read"}


PIECES = ["!", "%%", "%time ", "?", "\n", "\\\n", "check", ".", "(", ")", "=", "os", " ", "✓", "def ", ":", "{", "\r"]


@given(st.lists(st.text() | st.lists(st.sampled_from(PIECES)).map("".join), max_size=3))
@example(["\ud800"])
@settings(deadline=None, max_examples=200)
def test_no_text_is_too_strange(sources):
    for flag in flags(list(enumerate(sources, 1)), ATTENTION):
        assert flag.quoted.encode() is not None
        assert flag.line >= 1

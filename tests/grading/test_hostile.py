"""Hostile and broken notebooks that run: none earns what it did not deserve, loses what it did, or harms the next one.

Each case is one notebook of chapter 02 with attacks in some of its cells, often one an exercise, and the right answers
elsewhere; behind it in the folder stands an honest notebook. The whole folder is graded once, then looked at.
"""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent, indent

import nbformat
import psutil
import pytest

from pocketgpt.course.building import ROOT
from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.grading import attempt as attempts
from pocketgpt.grading.grade import Grader, grade_all
from pocketgpt.grading.master import masters
from pocketgpt.grading.protection.limits import MIB, Limits
from pocketgpt.grading.protection.sandbox import choose
from pocketgpt.grading.report.gradebook import write_csv, write_junit, write_results
from pocketgpt.grading.report.grading_policy import GradingPolicy
from pocketgpt.grading.report.pages import write_pages
from pocketgpt.grading.results import Result
from pocketgpt.grading.submissions import submissions

if sys.platform != "linux":
    pytest.skip("These notebooks are run in the sandbox of Linux alone.", allow_module_level=True)

LIMITS = Limits(
    memory=1024 * MIB, file_size=64 * MIB, processes=128, scratch=64 * MIB, cell_seconds=6.0, notebook_seconds=300.0
)
SECRET = "gudgeon-4471"  # stands in files that no notebook may read
DAEMON = "halibut-9052"  # stands in the command line of a process that wants to live on
TRACE = "turbot-3318"  # stands in the names of files that a notebook tries to write outside its folder

HEADS = {
    "attention_scores": "def attention_scores(q, k):",
    "masked_softmax": "def masked_softmax(scores, mask):",
    "causal_mask": "def causal_mask(query_positions, key_positions):",
    "attention": "def attention(q, k, v, mask):",
    "softmax": "def softmax(x, dim):",
    "count_pairs": "def count_pairs(words):",
}
BODIES = {
    "attention_scores": "return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])",
    "masked_softmax": "return scores.masked_fill(~mask, -math.inf).softmax(dim=-1).nan_to_num()",
    "causal_mask": "return key_positions[None, :] <= query_positions[:, None]",
    "attention": "weights = masked_softmax(attention_scores(q, k), mask)\nreturn weights @ v, weights",
}
# Right shapes and dtypes, wrong values.
WRONG = {
    "attention_scores": "return q @ k.transpose(-2, -1)",
    "masked_softmax": "return torch.ones_like(scores) / scores.shape[-1]",
    "causal_mask": "return torch.ones(len(query_positions), len(key_positions), dtype=torch.bool)",
    "attention": "return q @ k.transpose(-2, -1) @ v, q @ k.transpose(-2, -1)",
}
CHAPTER = tuple(BODIES)
FIRST = "02-001"  # the id of the cell with the imports


@dataclass(frozen=True)
class Case:
    """earns: what must have its points, may: what can have them; all others must not. says: patterns in messages."""

    name: str
    answers: dict[str, str] = field(default_factory=dict)
    extras: dict[str, str] = field(default_factory=dict)
    earns: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    says: dict[str, str] = field(default_factory=dict)
    notes: str = ""
    flagged: bool = False
    chapter: str = "02_attention"
    kind: str = ""


CASES: dict[str, Case] = {}


def case(name: str, **properties) -> None:
    assert name not in CASES
    CASES[name] = Case(name, **properties, kind=KIND)


def function(name: str, body: str) -> str:
    """The source of an answer with this body."""
    return f"{HEADS[name]}\n{indent(dedent(body).strip(), '    ')}\n"


def right(name: str, first: str = "", before: str = "", after: str = "") -> str:
    """The right answer, which does something first; and what the cell does before and after it."""
    body = f"{dedent(first).strip()}\n{BODIES[name]}"
    return f"{dedent(before)}\n{function(name, body)}\n{dedent(after)}"


def wrong(name: str, before: str = "", after: str = "") -> str:
    return f"{dedent(before)}\n{function(name, WRONG[name])}\n{dedent(after)}"


ALL_WRONG = {name: wrong(name) for name in CHAPTER}
FORGED = "^The check passed, but the answer is not right"  # the forgery worked, and was found out

# Ending and hanging: it costs the exercise that does it, and no other.

KIND = "ending and hanging"
case(
    "kills the kernel, and the process above it",
    answers={
        "attention_scores": right("attention_scores", first="import os; os._exit(0)"),
        "causal_mask": right("causal_mask", first="import os, signal; os.kill(os.getppid(), signal.SIGKILL)"),
    },
    earns=("masked_softmax", "attention"),
    says={"attention_scores": "kernel died", "causal_mask": "killed the process that ran it"},
    flagged=True,
)
case(
    "kills everything it can, and reads address 0 when it is called for the second time",
    answers={
        "masked_softmax": right("masked_softmax", before="import os, signal; os.kill(-1, signal.SIGKILL)"),
        "attention": right("attention", first="calls.append(1)\nif len(calls) == 2: __import__('ctypes').string_at(0)")
        + "calls = []",
    },
    earns=("attention_scores", "causal_mask"),
    says={"masked_softmax": "killed the process|kernel died", "attention": "kernel died"},
    flagged=True,
)
STUBBORN = """
calls.append(1)
while len(calls) > 1:
    try:
        while True: pass
    except KeyboardInterrupt:
        pass
"""
case(
    "never ends when it is called for the second time, and swallows interrupts",
    answers={"masked_softmax": right("masked_softmax", before="calls = []", first=STUBBORN)},
    earns=("attention_scores", "causal_mask", "attention"),
    says={"masked_softmax": "did not finish within 6 seconds"},
)
case(
    "waits for ever, beside right answers",
    extras={"check-attention_scores": "import asyncio\nawait asyncio.sleep(1e9)"},
    earns=CHAPTER,
    notes=r"Cell \d+ was left out. It did not finish within 6 seconds",
    flagged=True,
)
case(
    "stops the process that watches the time",
    answers={"causal_mask": right("causal_mask", first="import os, signal; os.kill(os.getppid(), signal.SIGSTOP)")},
    earns=("attention_scores", "masked_softmax", "attention"),
    says={"causal_mask": "did not finish|too long"},
    flagged=True,
)
case(  # the loop of the kernel stops a moment later, in the next cell
    "calls exit() at the end of a right answer",
    answers={"causal_mask": right("causal_mask", after="exit()")},
    earns=("attention_scores", "masked_softmax", "attention"),
    may=("causal_mask",),
    flagged=True,
)
case("calls exit() in a cell of its own", extras={FIRST: "exit()"}, earns=CHAPTER, flagged=True)
case(
    "leaves a thread that kills the kernel later, in an exercise that is right",
    answers={
        "attention_scores": right("attention_scores", after="import threading, os\n")
        + "threading.Timer(1.0, os._exit, [1]).start()\n",
        "masked_softmax": right("masked_softmax", first="import time; time.sleep(0.01)"),
    },
    earns=("masked_softmax", "causal_mask", "attention"),
    may=("attention_scores",),
    flagged=True,
)

# Taking too much: memory, processes, disk, output.

KIND = "taking too much"
case(
    "takes all memory in one exercise, and starts processes without end in another",
    answers={
        "attention_scores": right("attention_scores", first="hog = [bytearray(32 << 20) for _ in range(64)]"),
        "causal_mask": right(
            "causal_mask",
            first="""
            import os, time
            for _ in range(400):
                if os.fork() == 0:
                    time.sleep(20)
                    os._exit(0)
            """,
        ),
    },
    earns=("masked_softmax", "attention"),
    flagged=True,
)
case(
    "fills the disk, beside right answers",
    extras={
        FIRST: """
        import contextlib
        for n in range(6):
            with contextlib.suppress(OSError), open(f"big-{n}", "wb") as file:
                for _ in range(24):
                    file.write(bytes(1 << 20))
        """
    },
    earns=CHAPTER,
    flagged=True,
)
case(
    "prints 100 MB, a million lines, binary junk, and shows 50 MB, beside right answers",
    extras={
        FIRST: "print('x' * 100_000_000)",
        "check-attention_scores": "print('\\n'.join(map(str, range(1_000_000))))",
        "check-masked_softmax": "print(bytes(range(256)).decode('latin-1') * 100, '\\x1b[2J\\x1b]0;title\\x07')",
        "check-causal_mask": "from IPython.display import HTML, display\ndisplay(HTML('x' * 50_000_000))",
    },
    earns=CHAPTER,
)
case(
    "leaves a daemon, threads, tasks, figures and settings behind, beside right answers",
    extras={
        FIRST: f"""
        import os, sys
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                null = os.open(os.devnull, os.O_RDWR)
                for number in range(3): os.dup2(null, number)
                os.closerange(3, 100)
                os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(300)", "{DAEMON}"], {{}})
            os._exit(0)
        """,
        "check-attention_scores": """
        import asyncio, gc, faulthandler, random, signal, sys, threading, time, warnings
        import matplotlib.pyplot as plt, numpy
        for _ in range(100): plt.figure()
        async def busy():
            while True: await asyncio.sleep(0.01)
        task = asyncio.create_task(busy())
        threading.Thread(target=lambda: [time.sleep(0.01) for _ in range(100_000)], daemon=True).start()
        gc.disable(); faulthandler.enable(); warnings.simplefilter("error"); sys.setrecursionlimit(100_000)
        signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)
        """,
        "check-masked_softmax": "torch.manual_seed(0); torch.set_grad_enabled(False); os.chdir('/'); os.nice(5)\n"
        "torch.use_deterministic_algorithms(True); numpy.seterr(all='raise'); del check, math.pi\n",
        "check-causal_mask": "os.environ.clear()",
    },
    earns=CHAPTER,
    flagged=True,
)
case(
    "changes the default dtype, beside right answers",
    extras={FIRST: "torch.set_default_dtype(torch.float64)"},
    earns=CHAPTER,
)
case(
    "prints after every cell and now and then, beside right answers",
    extras={
        FIRST: """
        import threading, time
        get_ipython().events.register("post_run_cell", lambda result: print("took 0.1 s"))
        def talk():
            while True:
                print("…", flush=True)
                time.sleep(0.02)
        threading.Thread(target=talk, daemon=True).start()
        """
    },
    earns=CHAPTER,
    flagged=True,
)

# Broken: what goes wrong is said, and costs its exercise.

KIND = "broken"
case(
    "does not run: a syntax error, an unknown magic, a shell, a question to a person",
    answers={
        "attention_scores": "def attention_scores(q, k)\n    return q @ k.mT",
        "masked_softmax": "%nonsense 3\n" + right("masked_softmax"),
        "causal_mask": "%%bash\n" + right("causal_mask"),
        "attention": right("attention", first="input('your name? ')"),
    },
    says={"attention_scores": "SyntaxError", "causal_mask": "bash", "attention": "Stdin|input was requested"},
    flagged=True,
)
case(
    "raises what nobody expects",
    answers={
        "attention_scores": "class Weird(BaseException): pass\n" + function("attention_scores", "raise Weird('odd')"),
        "masked_softmax": "class Mute(Exception):\n    def __str__(self): raise ValueError\n"
        + function("masked_softmax", "raise Mute()"),
        "causal_mask": function("causal_mask", "return causal_mask(query_positions, key_positions)"),
        "attention": function(
            "attention", "raise ValueError('</pre><script>alert(1)</script>\\x1b[31m\\ud800' * 50_000)"
        ),
    },
    says={"attention_scores": "Weird", "causal_mask": "RecursionError"},
)
case(
    "ends itself in every way that is an exception",
    answers={
        "attention_scores": function("attention_scores", "import sys; sys.exit(0)"),
        "masked_softmax": function("masked_softmax", "raise KeyboardInterrupt"),
        "causal_mask": function("causal_mask", "raise ExceptionGroup('several', [GeneratorExit and ValueError('x')])"),
        "attention": function("attention", "raise GeneratorExit"),
    },
    flagged=True,
)
case(
    "forgets all names in the middle",
    extras={"check-causal_mask": "%reset -f"},
    earns=("attention_scores", "masked_softmax", "causal_mask"),
    says={"attention": "NameError"},
    flagged=True,
)
case(
    "orders nbval to skip, and debugs",
    answers={
        "attention_scores": "# NBVAL_SKIP\n" + wrong("attention_scores"),
        "masked_softmax": "# NBVAL_RAISES_EXCEPTION\n" + wrong("masked_softmax"),
        "causal_mask": right("causal_mask", first="breakpoint()"),
        "attention": "# NBVAL_IGNORE_OUTPUT\n" + wrong("attention"),
    },
    may=("causal_mask",),
    flagged=True,
)

# Forging the check: the line is printed, and nothing is earned.

CHECK = "import pocketgpt.course.checking.check as m\nkeep = m.check, m.diagnose, m.difference\n"
UNDO = "m.check, m.diagnose, m.difference = keep"
KIND = "forging the check"
case(
    "replaces the check, its diagnosis, its comparison, its reference",
    answers={
        "attention_scores": wrong("attention_scores", CHECK + "m.check = lambda exercise, _: print(exercise.success)"),
        "masked_softmax": wrong("masked_softmax", "m.diagnose = lambda *_: None"),
        "causal_mask": wrong("causal_mask", "m.difference = lambda *_, **__: None"),
        "attention": wrong("attention", after="m.find_exercise('attention').reference = attention"),
    },
    extras={f"check-{name}": UNDO for name in CHAPTER[:3]},
    says=dict.fromkeys(CHAPTER, FORGED),
    flagged=True,
)
case(
    "replaces what the check is made of: torch, its module, its cases, its words",
    answers={
        "attention_scores": wrong(
            "attention_scores",
            "kept = torch.isclose\ntorch.isclose = lambda x, *_, **__: torch.ones_like(x, dtype=torch.bool)",
        ),
        "masked_softmax": wrong(
            "masked_softmax",
            f"""
            import sys, types, pocketgpt.course
            ours, fake = check, types.ModuleType("pocketgpt.course.checking.check")
            fake.masked_softmax = lambda _: print({exercises()["masked_softmax"].success!r})
            sys.modules["pocketgpt.course.checking.check"] = pocketgpt.course.checking.check = fake
            """,
        ),
        "causal_mask": wrong("causal_mask", "cases = m.Exercise.cases\nm.Exercise.cases = lambda *_: []"),
        "attention": wrong(
            "attention", "m.CheckFailed = type('Fine', (Exception,), {})\nm._diagnosed = lambda *_: None"
        ),
    },
    extras={
        FIRST: "import pocketgpt.course.checking.check as m",
        "check-attention_scores": "torch.isclose = kept",
        "check-masked_softmax": "sys.modules['pocketgpt.course.checking.check'] = ours",
        "check-causal_mask": "m.Exercise.cases = cases",
    },
    says=dict.fromkeys(CHAPTER, FORGED),
    flagged=True,
)
case(
    "rewrites the checks on their way to Python, and the kernel's answers on their way back",
    answers={
        "attention_scores": wrong(
            "attention_scores",
            f"""
            def rewrite(lines):
                said = "print({exercises()["attention_scores"].success!r})\\n"
                return [said if "check.attention_scores(" in line else line for line in lines]
            get_ipython().input_transformers_post.append(rewrite)
            """,
        ),
        "masked_softmax": wrong(
            "masked_softmax",
            f"""
            import ast
            class Rewrite(ast.NodeTransformer):
                def visit_Expr(self, node):
                    if "check.masked_softmax(" not in ast.unparse(node): return node
                    return ast.parse("print({exercises()["masked_softmax"].success!r})").body[0]
            get_ipython().ast_transformers.append(Rewrite())
            """,
        ),
        "causal_mask": wrong(
            "causal_mask",
            f"""
            def fine(shell, kind, value, traceback, tb_offset=None):
                print({exercises()["causal_mask"].success!r})
            get_ipython().set_custom_exc((Exception,), fine)
            """,
        ),
        "attention": wrong(
            "attention",
            f"""
            kernel, shell = get_ipython().kernel, get_ipython()
            shell.set_custom_exc((), None)
            send = kernel.session.send
            def forge(stream, kind, content=None, *rest, **more):
                if kind == "error":
                    kind, content = "stream", {{"name": "stdout", "text": {exercises()["attention"].success!r} + "\\n"}}
                    more["ident"] = b"stream"
                if kind == "execute_reply" and content: content["status"] = "ok"
                return send(stream, kind, content, *rest, **more)
            kernel.session.send = forge
            """,
        ),
    },
    says={"attention_scores": FORGED, "masked_softmax": FORGED},
    flagged=True,
)
SAID = {name: exercises()[name].success for name in CHAPTER}
case(
    "prints the line itself: in its cell, in another, in the function, at the end, in a thread",
    answers={
        "attention_scores": wrong("attention_scores", after=f"print({SAID['attention_scores']!r})"),
        "masked_softmax": function("masked_softmax", f"print({SAID['masked_softmax']!r})\nreturn scores"),
        "causal_mask": wrong("causal_mask", f"import atexit; atexit.register(print, {SAID['causal_mask']!r})"),
        "attention": wrong(
            "attention",
            f"""
            import sys, threading, time
            out = sys.stdout
            def talk():
                for _ in range(200):
                    print({SAID["attention"]!r}, file=out, flush=True)
                    time.sleep(0.02)
            threading.Thread(target=talk, daemon=True).start()
            """,
        ),
    },
    extras={"check-attention_scores": f"print({SAID['attention_scores']!r})"},
    says={"attention_scores": "^✗ 2.1", "masked_softmax": "^✗ 2.2", "causal_mask": "^✗ 2.3"},
    flagged=True,
)
case(
    "returns things that equal everything, and is right only while it is checked",
    answers={
        "attention_scores": """
            class Equal(torch.Tensor):
                @classmethod
                def __torch_function__(cls, function, types, args=(), kwargs=None):
                    name = getattr(function, "__name__", "")
                    if name in ("isclose", "eq", "equal"): return torch.ones(args[0].shape, dtype=torch.bool)
                    return super().__torch_function__(function, types, args, kwargs or {})
            def attention_scores(q, k): return (q @ k.transpose(-2, -1)).as_subclass(Equal)
            """,
        "masked_softmax": right("masked_softmax", "calls.append(1)\nif len(calls) > 5: return scores", "calls = []"),
        "causal_mask": function(
            "causal_mask",
            f"""
            import sys
            frame = sys._getframe()
            while frame := frame.f_back:
                if frame.f_code.co_name == "diagnose": {BODIES["causal_mask"]}
            {WRONG["causal_mask"]}
            """,
        ),
        "attention": wrong("attention"),
    },
    says={"masked_softmax": "^✗ 2.2", "causal_mask": FORGED},
    flagged=True,
)

# Forging the answer to the secret questions.

FORGE = """
import base64, json, pickle
import pocketgpt.course.checking.check as m, pocketgpt.grading.blind as v
from pocketgpt.grading import REPLY
kept = m.check, v.reply
m.check = lambda exercise, _: print(exercise.success)
def show(data): get_ipython().display_pub.publish(data)
def replies(*texts): v.reply = lambda *_: [show({REPLY: text}) for text in texts]
"""
KIND = "forging the answer"
case(
    "answers the secret questions with a pickle, without text, with 40 MB, with JSON without end",
    answers={
        "attention_scores": wrong("attention_scores", FORGE)
        + "replies(base64.b64encode(pickle.dumps(print)).decode())",
        "masked_softmax": wrong("masked_softmax") + "replies('[]', [None], {'a': 1}, 17)",
        "causal_mask": wrong("causal_mask") + "replies(json.dumps([{'value': 'x' * 8_000_000}] * 5))",
        "attention": wrong("attention") + "replies('[' * 1_000_000)",
    },
    says=dict.fromkeys(CHAPTER, FORGED),
    flagged=True,
)
case(
    "answers the secret questions with nonsense, shapes without end, a promise to raise, and nothing",
    answers={
        "attention_scores": wrong("attention_scores", FORGE)
        + "replies(json.dumps([{'raised': ['a']}, 1, {'value': 1e999}]))",
        "masked_softmax": wrong("masked_softmax") + "replies(json.dumps([{'raised': 'ValueError'}] * 5))",
        "causal_mask": wrong("causal_mask")
        + "huge = {'tensor': 'bool', 'shape': [0, 10**30], 'data': ''}\nreplies(json.dumps([{'value': huge}] * 5))",
        "attention": wrong("attention") + "replies()",
    },
    says=dict.fromkeys(CHAPTER, FORGED),
    flagged=True,
)
HUGE = """
def huge(function, questions, forbidden):
    from pocketgpt.grading.arrays import encode
    show({REPLY: json.dumps([{"value": encode({(b"a", b"b"): 10 ** 400})} for _ in json.loads(questions)])})
v.reply = huge
"""
case(
    "answers the secret questions with numbers beyond all bounds",
    chapter="01_tokens",
    answers={"count_pairs": f"{FORGE}\n{HUGE}\n{function('count_pairs', 'return {}')}"},
    extras={"check-count_pairs": "m.check, v.reply = kept"},
    earns=("merge_pair", "encode_word", "decode", "embed"),
    says={"count_pairs": FORGED},
    flagged=True,
)
case(
    "sends messages that no kernel sends, beside right answers",
    answers={
        "causal_mask": right(
            "causal_mask",
            """
            kernel, calls = get_ipython().kernel, []
            for content in ({"data": None}, {"data": {REPLY: 5}, "metadata": 3}, {}):
                kernel.session.send(kernel.iopub_socket, "display_data", content, parent=kernel.get_parent("shell"))
            for content in ({"name": 5, "text": 7}, {"name": "stdout"}):
                kernel.session.send(kernel.iopub_socket, "stream", content, parent=kernel.get_parent("shell"))
            """,
            before="from pocketgpt.grading import REPLY",
        )
    },
    earns=("attention_scores", "masked_softmax", "attention"),
    may=("causal_mask",),
    flagged=True,
)

# Right values that are not the student's own: what runs blind cannot reach them.

KIND = "right values that are not the student's own"
case(
    "calls the finished function and the reference behind the check's back",
    answers={
        "attention_scores": function(
            "attention_scores",
            "import sys; sys.setprofile(None)\nfrom pocketgpt.course.syllabus import all_exercises as exercises\n"
            "return exercises()['attention_scores'].reference(q, k)",
        ),
        "masked_softmax": function(
            "masked_softmax",
            "import gc\nfrom pocketgpt.course.checking.exercise import Exercise\n"
            "each = next(e for e in gc.get_objects() if isinstance(e, Exercise) and e.name == 'masked_softmax')\n"
            "return each.accepted_answers[0](scores, mask)",
        ),
        "causal_mask": function(
            "causal_mask",
            "import sys; sys.setprofile(None)\nfrom pocketgpt.layers.attention_backends import causal_mask\n"
            "return causal_mask(query_positions, key_positions)",
        ),
        "attention": function(
            "attention",
            "import threading\nfrom pocketgpt.layers import attention as theirs\nfound = []\n"
            "thread = threading.Thread(target=lambda: found.append(theirs.attention(q, k, v, mask)))\n"
            "thread.start(); thread.join()\nreturn found[0]",
        ),
    },
    flagged=True,
)
case(
    "finds our answers through names that are put together, files, and the check that it was given",
    answers={
        "attention_scores": "from pocketgpt import course\nimport operator\n"
        "tables = {'x': operator.attrgetter('syllabus.all_exercises')(course)}\n"
        "for table in tables.values(): attention_scores = table()['attention_scores'].accepted_answers[0]",
        "masked_softmax": "import pydoc\n"
        "masked_softmax = pydoc.locate('pocketgpt.course.ch02_attention.masked_softmax.softmax_then_zeros')",
        "causal_mask": function(
            "causal_mask",
            "theirs = getattr(check, 'causal_' + 'mask').args[0]\n"
            "return theirs.reference(query_positions, key_positions)",
        ),
        "attention": """
        import pathlib, re, sys, torch
        package = pathlib.Path(sys.modules["pocketgpt"].__file__).parent
        text = "\\n".join(file.read_text() for file in package.rglob("*.py"))
        body = re.search(r"def attention_with_einsum.*?return [^\\n]*", text, re.DOTALL)
        exec("import math, torch\\n" + body[0])
        attention = attention_with_einsum
        """,
    },
    says={"attention_scores": FORGED, "causal_mask": FORGED},
    flagged=True,
)
case(
    "calls the library's function through C, where no profiler sees it",
    answers={
        "attention": function(
            "attention",
            """
            identity = torch.eye(k.shape[-2]).expand(*k.shape[:-2], -1, -1)
            (output,) = map(F.scaled_dot_product_attention, [q], [k], [v], [mask])
            (weights,) = map(F.scaled_dot_product_attention, [q], [k], [identity], [mask])
            return output, weights
            """,
        )
    },
    earns=CHAPTER[:3],
)
case(
    "calls the library's softmax through C, where no profiler sees it",
    chapter="00_start_here",
    answers={"softmax": "import functools\n" + function("softmax", "return functools.partial(torch.softmax)(x, dim)")},
)
SPY = """
import itertools, os
seen = globals().setdefault("spied", [])  # once: a check calls a function many times, and has six seconds
for top in () if seen else PLACES:
    seen.append(f"{top} {os.path.exists(top)}")
    for where, _, names in [("", [], [top]), *itertools.islice(os.walk(top), 200)]:
        for name in names:
            try:
                text = open(os.path.join(where, name), errors="replace").read(200_000)
                seen += [text] if WORD[:7] + WORD[7:] in text and name != "notebook.ipynb" else []
            except (OSError, ValueError) as error:
                pass
raise RuntimeError(" ".join(seen))
"""


# Grading them.


def notebook(path: Path, case: Case) -> None:
    """A student's copy of a chapter."""
    chapter = nbformat.read(ROOT / "chapters" / f"{case.chapter}.ipynb", as_version=4)
    solution = {cell.id: cell.source for cell in nbformat.read(ROOT / "solutions" / f"{case.chapter}.ipynb", 4).cells}
    cells = []
    for cell in chapter.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = dedent(case.answers.get(cell.id, solution[cell.id]))
        cells.append(cell)
        if cell.id in case.extras:
            cells.append(nbformat.v4.new_code_cell(dedent(case.extras[cell.id]).strip()))
    assert {*case.answers, *case.extras} <= {cell.id for cell in cells}
    chapter.cells = cells
    path.write_text(nbformat.writes(chapter))


@dataclass(frozen=True)
class World:
    """What came of grading the folder. connections: to a server of ours, which no notebook may reach."""

    results: dict[str, Result]
    honest: dict[str, Result]
    folder: Path
    out: Path
    connections: list[object]


def spying(folder: Path, out: Path, port: int) -> Case:
    """A notebook that looks for the secret, calls our server and writes where it must not."""
    places = [
        str(folder),
        str(out),
        str(ROOT / "solutions"),
        str(ROOT / "tests"),
        str(Path.home()),
        "/tmp",
        "..",
        "/root",
    ]
    spy = SPY.replace("PLACES", repr(places)).replace("WORD", repr(SECRET))
    call = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=2).sendall(b'hello')"
    targets = [str(each / TRACE) for each in (folder, out, ROOT, ROOT / "pocketgpt", Path.home(), Path("/var/tmp"))]
    write = f"done = []\nfor path in {targets}:\n    try: open(path, 'w').write('x'); done.append(path)\n"
    write += "    except OSError as error: done.append(type(error).__name__)\nraise RuntimeError(str(done))"
    return Case(
        "spies, calls and writes outside",
        answers={
            "attention_scores": function("attention_scores", spy),
            "masked_softmax": right("masked_softmax", first=call),
            "causal_mask": function("causal_mask", write),
        },
        earns=("attention",),
        says={
            "attention_scores": r"RuntimeError.*grades\d* False",
            "masked_softmax": "ConnectionRefusedError|OSError|did not finish",
            "causal_mask": "RuntimeError.*(FileNotFoundError|OSError)",
        },
        flagged=True,
    )


def serve(connections: list[object]) -> socket.socket:
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connections.append(server.accept()[1])
            except OSError:  # closed
                return

    threading.Thread(target=accept, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    """Every hostile notebook, with an honest one behind each kind of attack, graded in this order."""
    folder, out = tmp_path_factory.mktemp("submissions"), tmp_path_factory.mktemp("grades")
    for secret in (folder / "SECRET.txt", out / "gradebook.csv", folder.parent / "SECRET.txt"):
        secret.write_text(SECRET)
    connections: list[object] = []
    with serve(connections) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempts, "GRACE_SECONDS", 3)
        cases = {**CASES, "spies, calls and writes outside": spying(folder, out, server.getsockname()[1])}
        chosen = list(cases.values())
        for number, each in enumerate(chosen):
            notebook(folder / f"{number:02}-hostile.ipynb", each)
            if number in LAST_OF_KIND.values():
                answers = {name: f"# {SECRET}, notebook {number}\n{right(name)}" for name in CHAPTER}
                notebook(folder / f"{number:02}-next.ipynb", Case("honest", answers=answers))
        sandbox = choose(LIMITS, hidden=[folder, out, *(ROOT / name for name in ("solutions", "tests", ".git"))])
        grader = Grader(masters=masters(), sandbox=sandbox, limits=LIMITS)
        found = grade_all(grader, list(submissions(folder, list(grader.masters))), jobs=2)
    by_file = {result.file: result for result in found}
    write_csv(out / "gradebook.csv", found, GradingPolicy())
    write_junit(out / "junit.xml", found, GradingPolicy())
    write_results(out / "results.json", found, GradingPolicy(), sandbox.lines, {})
    write_pages(out, found, GradingPolicy(), sandbox.lines)
    yield World(
        {each.name: by_file[f"{number:02}-hostile.ipynb"] for number, each in enumerate(chosen)},
        {kind: by_file[f"{number:02}-next.ipynb"] for kind, number in LAST_OF_KIND.items()},
        folder,
        out,
        connections,
    )


NAMES = [*CASES, "spies, calls and writes outside"]
LAST_OF_KIND = {each.kind: number for number, each in enumerate(CASES.values())} | {"spying": len(CASES)}
each_case = pytest.mark.parametrize("name", NAMES)


def case_of(name: str) -> Case:
    return CASES.get(name) or spying(Path("/submissions"), Path(), 1)


def earned(result: Result) -> set[str]:
    return {verdict.exercise for verdict in result.verdicts if verdict.passed}


@each_case
def test_a_hostile_notebook_keeps_what_it_deserves(world, name):
    result = world.results[name]
    assert result.verdicts, result.notes
    assert {*case_of(name).earns} <= earned(result), [(each.exercise, each.message) for each in result.verdicts]


@each_case
def test_a_hostile_notebook_earns_nothing_more(world, name):
    assert earned(world.results[name]) <= {*case_of(name).earns, *case_of(name).may}


@pytest.mark.parametrize("kind", LAST_OF_KIND)
def test_the_next_notebook_has_full_marks(world, kind):
    result = world.honest[kind]
    assert earned(result) == {*CHAPTER}, (result.notes, [each.message for each in result.verdicts])
    assert not result.flags


@each_case
def test_messages_say_what_went_wrong(world, name):
    result, expected = world.results[name], case_of(name)
    said = {verdict.exercise: verdict.message for verdict in result.verdicts}
    for exercise, pattern in expected.says.items():
        assert re.search(pattern.replace("/submissions", ""), said[exercise]), said[exercise][:1000]
    assert re.search(expected.notes, " ".join(result.notes))
    assert all(len(message) < 25_000 for message in said.values())


@each_case
def test_what_a_person_should_see_is_flagged(world, name):
    if case_of(name).flagged:
        assert world.results[name].flags


def test_nothing_of_other_files_is_in_any_result(world):
    for name, result in world.results.items():
        assert SECRET not in json.dumps([verdict.message for verdict in result.verdicts]), name
    assert not world.connections


def test_nothing_is_written_outside(world):
    places = (world.folder, world.out, ROOT, ROOT / "pocketgpt", Path.home(), Path("/var/tmp"), Path("/tmp"))
    assert not [place for place in places if (place / TRACE).exists()]


def command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended in the meantime
        return ""


def belongs_to_another_test(process: psutil.Process) -> bool:
    """True below a process that has the same parent as this one: the other workers of the test run grade as well."""
    this = psutil.Process()
    try:
        return any(parent != this and parent.parent() == this.parent() for parent in process.parents())
    except psutil.Error:
        return False


def test_nothing_is_left_running(world):
    lines = [command(process) for process in psutil.process_iter() if not belongs_to_another_test(process)]
    assert not [line for line in lines if DAEMON in line or "pocketgpt.grading.worker" in line]


def test_reports_hold_no_markup_and_no_terminal_codes_of_a_notebook(world):
    files = [path for path in world.out.rglob("*") if path.is_file()]
    assert len(files) > len(world.results)
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert "<script>alert" not in text or path.suffix in (".json", ".csv")
        assert "\x1b" not in text
        assert len(text) < 2_000_000


# The grader itself.

PEAK = """
import resource, sys
from pathlib import Path
from pocketgpt.grading import attempt as attempts
from pocketgpt.grading.grade import Grader, grade_all
from pocketgpt.grading.protection.limits import Limits
from pocketgpt.grading.master import masters
from pocketgpt.grading.protection.sandbox import choose
from pocketgpt.grading.submissions import submissions
limits, folder = Limits(), Path(sys.argv[1])
grader = Grader(masters=masters(), sandbox=choose(limits), limits=limits)
(result,) = grade_all(grader, list(submissions(folder, list(grader.masters))), jobs=1)
assert all(verdict.passed for verdict in result.verdicts), result
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_of_grading(folder: Path) -> int:
    """In MiB, of the grader's own process."""
    done = subprocess.run([sys.executable, "-c", PEAK, str(folder)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout.split()[-1])


def grade_command(folder: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "pocketgpt", "grade", str(folder), "--out", str(out), "--jobs", "1"]


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


class TestTheGraderItself:
    """A class, so that the other test process can run it meanwhile."""

    def test_memory_of_the_grader_does_not_depend_on_what_a_notebook_prints(self, tmp_path):
        (tmp_path / "quiet").mkdir()
        (tmp_path / "loud").mkdir()
        notebook(tmp_path / "quiet" / "a.ipynb", Case("quiet"))
        loud = {
            FIRST: "print('x' * 100_000_000)",
            "check-causal_mask": "from IPython.display import HTML, display\n"
            "for _ in range(2): display(HTML('x' * 50_000_000))",
        }
        notebook(tmp_path / "loud" / "a.ipynb", Case("loud", extras=loud))
        stored = nbformat.read(tmp_path / "loud" / "a.ipynb", as_version=4)
        code = [cell for cell in stored.cells if cell.cell_type == "code"]
        for cell in code[:5]:
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="stored " * 1_500_000)]
        nbformat.write(stored, tmp_path / "loud" / "a.ipynb")
        assert (tmp_path / "loud" / "a.ipynb").stat().st_size > 50_000_000
        assert peak_of_grading(tmp_path / "loud") < peak_of_grading(tmp_path / "quiet") + 100

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
    def test_a_stopped_run_leaves_nothing_behind_and_goes_on(self, tmp_path, how):
        folder, out = tmp_path / "submissions", tmp_path / "grades"
        folder.mkdir()
        notebook(folder / "1-honest.ipynb", Case("honest"))
        notebook(folder / "2-slow.ipynb", Case("slow", extras={FIRST: "import time; time.sleep(50)"}))
        grading = subprocess.Popen(grade_command(folder, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        own = psutil.Process(grading.pid)
        try:
            wait_for(lambda: list((out / "results_cache").glob("*.json")))
            wait_for(lambda: any("ipykernel" in command(each) for each in own.children(recursive=True)))
            started = own.children(recursive=True)
            grading.send_signal(how)
            grading.wait(timeout=60)
        finally:
            grading.kill()
        _, alive = psutil.wait_procs(started, timeout=30)
        assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
        assert not (out / "gradebook.csv").exists()

        (cached,) = (out / "results_cache").glob("*.json")
        cached.write_text(cached.read_text().replace('"notes": []', '"notes": ["this was kept"]'))
        (folder / "2-slow.ipynb").unlink()
        assert subprocess.run(grade_command(folder, out), capture_output=True, cwd=ROOT).returncode == 0
        (result,) = json.loads((out / "results.json").read_text())["results"]
        assert result["result"]["notes"] == ["this was kept"]


def test_a_worker_that_ends_in_the_middle_of_a_line_costs_one_cell(monkeypatch):
    lines = [
        '{"state": "starts", "cell": 0}',
        '{"state": "passed", "cell": 0}',
        '{"state": "starts", "cell": 1}',
        '{"sta',
    ]
    program = f"import sys; sys.stdin.read(); print({chr(10).join(lines)!r}, end='')"
    monkeypatch.setattr(attempts, "WORKER", (sys.executable, "-c", program))
    tasks = [attempts.Task("pass"), attempts.Task("pass")]
    sandbox = choose(LIMITS, kind="none")
    result = attempts.attempt(tasks, sandbox, LIMITS, 30.0, threading.Event())
    assert (result.passed, result.crashed_cell) == ({0: True}, 1)


SOURCES = [
    "%time 1\n" * 490 + "x = 1\n" * 60_000,
    "%time 1\n" * 600,
    "a?\n" * 400,
    "1" + "+1" * 100_000,
    "a" + ".b" * 100_000,
    "(" * 5_000,
    "'\ud800'",
    "x = 1\n" * 150_000,
    "'''" * 100_001,
    "\x00\x0c\x1a",
]
READING = """
import json, resource, sys
from pocketgpt.grading.prune_cells import prune_cells
from pocketgpt.grading.rebuild import Piece, defined
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
for source in json.load(sys.stdin):
    print(repr(source[:16]), len(source), file=sys.stderr)
    defined(source)
    prune_cells([Piece("given", "x = 1"), Piece("answer", source, "softmax", 1)])
"""


def test_reading_hostile_cells_takes_the_grader_no_time():
    """In a process with a limit of CPU time, because the defect is one that never ends."""
    done = subprocess.run([sys.executable, "-c", READING], input=json.dumps(SOURCES).encode(), capture_output=True)
    assert done.returncode == 0, done.stderr[-1000:]

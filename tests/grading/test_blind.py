"""The blind run: what an answer can reach there, and what it cannot."""

import functools
import json
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pocketgpt.course.checking.check import diagnose
from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.grading import blind
from pocketgpt.grading.protection.limits import Limits
from pocketgpt.grading.protection.sandbox import choose, run
from pocketgpt.grading.verify import standalone

X = torch.randn(3, 4)
Q = torch.randn(1, 2, 3, 4)


def in_a_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


SOFTMAX = {
    "the method": lambda: X.softmax(-1),
    "an operator": lambda: torch._softmax(X, -1, False),
    "partial": lambda: functools.partial(X.softmax, -1)(),
    "map": lambda: list(map(F.softmax, [X], [-1])),
    "a module": lambda: nn.Softmax(-1)(X),
    "with gradients": lambda: X.clone().requires_grad_().softmax(-1),
    "without gradients": lambda: torch.inference_mode()(lambda: X.softmax(-1))(),
    "the logarithm": lambda: F.log_softmax(X, -1).exp(),
    "softmin": lambda: F.softmin(-X, -1),
    "sparse": lambda: torch.sparse.softmax(X.to_sparse(), -1),
    "float64": lambda: X.double().softmax(-1),
    "vmap": lambda: torch.vmap(lambda row: row.softmax(-1))(X),
    "a trace": lambda: torch.jit.trace(lambda x: x.softmax(-1), X)(X),
    "a script": lambda: torch.jit.script(nn.Softmax(-1))(X),
    "a distribution": lambda: torch.distributions.Categorical(logits=X).probs,
}
ATTENTION = {
    "the function": lambda: F.scaled_dot_product_attention(Q, Q, Q),
    "a backend": lambda: torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(Q, Q, Q),
    "with gradients": lambda: F.scaled_dot_product_attention(Q.clone().requires_grad_(), Q, Q),
    "getattr and map": lambda: list(map(getattr(F, "scaled_dot_product" + "_attention"), [Q], [Q], [Q])),
}


@pytest.mark.parametrize("spelling", SOFTMAX)
def test_no_spelling_of_a_forbidden_function_gets_through(spelling):
    SOFTMAX[spelling]()  # allowed otherwise
    with (
        blind._forbidding(["softmax"]),
        pytest.raises((blind.ForbiddenCall, RuntimeError), match=r"calls softmax|Script"),
    ):
        SOFTMAX[spelling]()
    SOFTMAX[spelling]()


@pytest.mark.parametrize("spelling", ATTENTION)
def test_no_backend_of_attention_gets_through(spelling):
    with blind._forbidding(["scaled_dot_product_attention"]):
        with pytest.raises(blind.ForbiddenCall):
            ATTENTION[spelling]()
        X.softmax(-1)  # what an honest answer uses
    ATTENTION[spelling]()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_is_no_way_around():
    with blind._forbidding(["softmax"]), pytest.raises(IndexError):  # nothing was found
        in_a_thread(lambda: X.softmax(-1))


@pytest.mark.parametrize("name", exercises())
def test_a_finished_answer_can_stand_in_alone(name):
    space = {}
    exec(standalone(exercises()[name]), space)
    assert diagnose(exercises()[name], space[name]) is None


def test_a_stand_in_with_a_helper_is_refused():
    """The helper might answer another exercise."""

    def with_a_helper(x, dim):
        return standalone(x)

    exercise = replace(exercises()["softmax"], finished_answer=with_a_helper)
    with pytest.raises(TypeError, match="uses standalone"):
        standalone(exercise)


LOOK = """
import json, os, pathlib, sys
from pocketgpt.grading.blind import begin
stand_ins = {name: f"def {name}(x, dim): return 'stand-in'" for name in ("softmax", "gelu")}
begin(stand_ins, ["softmax"])
def outcome(action):
    try: return repr(action())
    except BaseException as error: return type(error).__name__
here = pathlib.Path(sys.modules["pocketgpt"].__file__).parent
import pocketgpt.course.lab, pocketgpt.course.ch02_attention.figures as figures
from pocketgpt.course.lab import check, earlier, pocket_model, yours
from pocketgpt.models.gpt import GPT
causal_mask = 17
packages = [pathlib.Path(folder) for folder in sys.path]
folders = [here, *(each / "pocketgpt" for each in packages)]
text = [file.read_text() for folder in folders for file in folder.rglob("*.py")]
print(json.dumps({
    "files": sorted(str(file.relative_to(here)) for file in here.rglob("*") if file.is_file() and file.suffix == ".py"),
    "answers": sum("accepted_answers" in each or "def causal_mask" in each for each in text),
    "reference": outcome(lambda: float(check.causal_mask.args[0].reference(1))),
    "yours": [outcome(lambda: yours("softmax")(1, 2)), outcome(lambda: yours("causal_mask"))],
    "earlier": [outcome(lambda: earlier("gelu")(1, 2)), outcome(lambda: [f(1, 2) for f in earlier("gelu", "softmax")])],
    "fork": outcome(os.fork),
    "system": outcome(lambda: os.system("touch made-by-a-shell") or os.path.exists("made-by-a-shell")),
    "behind it": outcome(lambda: sys.modules["posix"].system("true")),
    "popen": outcome(lambda: __import__("subprocess").run(["true"])),
}))
"""


@pytest.fixture(scope="module", params=["best", "none"])
def seen(request):
    """What a program sees in a blind run, in the best sandbox of this machine and without one."""
    limits = Limits()
    sandbox = replace(choose(limits, kind=None if request.param == "best" else "none"), package=blind.package())
    with run(sandbox, [sys.executable, "-P", "-c", LOOK]) as running:
        said, _ = running.process.communicate(timeout=120)
    assert running.process.returncode == 0, running.errors.decode()
    return json.loads(said) | {"sandbox": sandbox.kind}


def test_of_the_package_only_what_runs_a_notebook_is_there(seen):
    assert seen["files"] == sorted(blind.SEEN)
    if seen["sandbox"] != "none":  # without a sandbox the files of this machine can be read, as the report says
        assert seen["answers"] == 0


def test_missing_modules_import_and_know_nothing(seen):
    assert seen["reference"] == "1.0"  # what a MagicMock is as a number, for every question


def test_yours_is_the_notebooks_function_or_the_stand_in(seen):
    assert seen["yours"] == ["'stand-in'", "17"]


def test_functions_of_earlier_chapters_are_stand_ins(seen):
    assert seen["earlier"] == ["'stand-in'", "['stand-in', 'stand-in']"]


def test_no_process_can_be_started(seen):
    assert {seen["fork"], seen["popen"], seen["behind it"]} == {"PermissionError"}
    assert seen["system"] == "False"  # a shell in an honest answer does nothing, and harms nothing


def test_the_files_that_are_seen_import_no_others():
    """In a process of its own, with the folder in place of the package."""
    program = "import pocketgpt.grading.worker, pocketgpt.grading.blind"
    folder = str(blind.package().parent)
    done = subprocess.run([sys.executable, "-P", "-c", program], env={"PYTHONPATH": folder}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()

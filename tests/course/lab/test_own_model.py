"""my_gpt.py: the learner's functions in one file, which computes what the course's model does, without the course."""

import json
import re
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import nbformat
import pytest
import torch

from pocketgpt.assets import asset
from pocketgpt.course.building import ROOT
from pocketgpt.course.checking.check import diagnose
from pocketgpt.course.checking.run import blamed
from pocketgpt.course.lab import finished_gpt, own_model
from pocketgpt.course.lab.assembly import define
from pocketgpt.course.lab.finished_parts import HERE, PARTS, pattern, stand_in
from pocketgpt.course.lab.own_model import FILE, earlier, my_gpt, save_my_gpt, unsound
from pocketgpt.course.syllabus import CHAPTERS, exercise_names, find_exercise
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset

WRITTEN = [name for name in PARTS if name in exercise_names()]
SMALL = {"vocab_size": 97, "d_model": 48, "n_layers": 3, "max_seq_len": 32}
# As in the notebook of chapter 10: the answers of its solution are defined in __main__, and their source is known.
SAVE = f"""
import nbformat, torch, torch.nn.functional as F
from pocketgpt.course.building import ROOT
from pocketgpt.course.lab import earlier, save_my_gpt
notebook = nbformat.read(ROOT / "solutions" / "{CHAPTERS[HERE].name}.ipynb", 4)
In = [cell.source for cell in notebook.cells if cell.cell_type == "code" and "def " in cell.source]
for source in In:
    if "BEGIN SOLUTION" in source:
        exec(source, globals())
save_my_gpt()
"""
# The file alone: importing the course is an error.
ALONE = """
import sys, torch
sys.modules["pocketgpt"] = None
import my_gpt
for folder in sys.argv[1:]:
    weights, config = my_gpt.load(folder)
    expected = torch.load(folder + "/expected.pt", weights_only=True)
    got = my_gpt.gpt(expected["tokens"], weights, config)
    print(((got - expected["logits"]).abs().max() / expected["logits"].abs().max()).item())
"""


def python(code: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin", "POCKETGPT_PROGRESS": "off"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def solved(tmp_path_factory) -> Path:
    """A folder with the solutions of all chapters, and the my_gpt.py that was made of them."""
    folder = tmp_path_factory.mktemp("solved")
    for path in (ROOT / "solutions").glob("*.ipynb"):
        shutil.copy(path, folder)
    python(SAVE, folder)
    return folder


def test_from_the_solutions_every_function_is_the_learners(solved):
    text = (solved / FILE).read_text()
    mine = set(re.findall(r"· mine\n(?:.*\n)*?def (\w+)", text))
    defined = set(re.findall(r"^def (\w+)", text, re.MULTILINE))
    assert defined & set(WRITTEN) == mine & set(WRITTEN)
    assert len(mine) >= 15


@pytest.mark.parametrize("name", ["gpt2", "llama", "brain", "pocket", "the shipped model"])
@torch.no_grad()
def test_alone_it_computes_the_logits_of_the_library(solved, tmp_path, name):
    if name == "the shipped model":
        model = GPT.load(asset("pocket-shakespeare"))
    else:
        torch.manual_seed(0)
        model = GPT(preset(name, **SMALL)).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    model.save(tmp_path)
    tokens = torch.randint(model.config.vocab_size, (2, 32))
    torch.save({"tokens": tokens, "logits": model(tokens)}, tmp_path / "expected.pt")
    assert float(python(ALONE, solved, str(tmp_path))) < 1e-5


def test_the_shipped_weights_as_they_lie_in_assets(solved):
    code = "import sys; sys.modules['pocketgpt'] = None\nimport my_gpt, torch\n"
    code += f"weights, config = my_gpt.load({str(asset('pocket-shakespeare'))!r})\n"
    code += "print(my_gpt.write(torch.tensor([[5, 6, 7]]), weights, config, 3).shape)"
    assert python(code, solved) == "torch.Size([1, 6])\n"


@pytest.mark.parametrize("name", WRITTEN)
def test_a_stand_in_passes_the_check_of_its_exercise(name):
    assert diagnose(find_exercise(name), getattr(finished_gpt, name), seed=0) is None


@pytest.mark.parametrize("name", PARTS)
def test_the_source_of_a_stand_in_is_whole(name):
    space = {}
    exec(stand_in(name), space)
    assert callable(space[name])
    assert not {"gpt", "transformer_block"} & set(space) - {name, "transformer_block" if name == "gpt" else name}


def test_every_part_is_in_the_finished_file_and_in_its_chapter():
    assert set(PARTS) <= set(pattern()[1])
    for name in WRITTEN:
        assert name in CHAPTERS[PARTS[name]].exercises


def test_the_functions_that_the_notebook_gives_are_those_of_the_file():
    source = (ROOT / "solutions" / f"{CHAPTERS[HERE].name}.py").read_text()
    for name in ("linear", "norm", "feed_forward"):
        assert pattern()[1][name] in source


# A folder with one notebook of chapter 5, whose author is us.

GOOD = "import math as m\n\nTWO = 2\n\n\ndef mean_of_squares(x):\n    return (x**TWO).mean(-1, keepdim=True)\n"
ANSWER = (
    "def rms_norm(x, weight, eps):\n    ### BEGIN SOLUTION\n"
    "    wide = x.float()\n"
    "    return weight * (wide * m.e**0 / (mean_of_squares(wide) + eps) ** 0.5).to(x.dtype)\n    ### END SOLUTION\n"
)


def notebook(folder: Path, *cells: tuple[str, str]) -> None:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source, id=id) for id, source in cells if source])
    nbformat.write(made, folder / f"{CHAPTERS[5].name}.ipynb")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_helpers_imports_and_constants_of_an_answer_come_with_it(folder, capsys):
    notebook(folder, ("a", GOOD), ("rms_norm", ANSWER))
    x, weight = torch.randn(3, 8), torch.randn(8)
    expected = torch.nn.functional.rms_norm(x, (8,), weight, 0.1)
    torch.testing.assert_close(earlier("rms_norm")(x, weight, 0.1), expected)
    assert capsys.readouterr().out == "Yours: rms_norm.\n"
    module = save_my_gpt()
    text = (folder / FILE).read_text()
    assert "import math as m\n" in text and "TWO = 2" in text and "BEGIN SOLUTION" not in text
    assert "# 5.2 · mine\nTWO = 2\n\n\ndef mean_of_squares" in text  # the label stands above the helpers
    assert unsound(module) is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ANSWER.replace("+ eps", ""), "your answer does not pass its check"),
        (ANSWER.replace("mean_of_squares", "elsewhere"), "it uses elsewhere, which its notebook does not define"),
        ("", "no answer of yours was found"),
        ("def rms_norm(x, weight, eps)\n    return", "its cell has a syntax error"),
        ("def rms_norm(x, weight, eps):\n    raise NotImplementedError", "not solved yet"),
        (
            "from pocketgpt.layers.norm import RMSNorm as R\ndef rms_norm(x, weight, eps): return R(3)(x)",
            "it uses R, which is part of the course",
        ),
    ],
)
def test_a_function_that_cannot_be_used_gets_a_stand_in_and_a_reason(folder, capsys, answer, said):
    notebook(folder, ("a", GOOD), ("rms_norm", answer))
    earlier("rms_norm")
    assert said in capsys.readouterr().out
    save_my_gpt()
    assert "# 5.2 · a stand-in: " in (folder / FILE).read_text()


def test_without_notebooks_everything_is_a_stand_in(folder, capsys):
    apply_rope, gelu = earlier("apply_rope", "gelu")
    assert "08_rope.ipynb is not in this folder: apply_rope" in capsys.readouterr().out
    assert callable(apply_rope) and callable(gelu)


def test_a_notebook_that_is_no_notebook_is_named(folder, capsys):
    (folder / "08_rope.ipynb").write_text("{")
    earlier("apply_rope")
    assert "08_rope.ipynb cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["gpt", "softmax"])
def test_a_name_without_a_place_is_refused(folder, name):
    with pytest.raises(KeyError, match="is no function that the GPT takes from an earlier chapter"):
        earlier(name)


def test_a_file_with_changes_by_hand_stays_as_it_is(folder, capsys):
    save_my_gpt()
    written = (folder / FILE).read_text()
    changed = written.replace("# given\ndef linear", "# mine\ndef linear")
    (folder / FILE).write_text(changed)
    save_my_gpt()
    assert "changes made by hand" in capsys.readouterr().out
    assert (folder / FILE).read_text() == changed
    save_my_gpt(overwrite=True)
    assert (folder / FILE).read_text() == written


def test_a_file_without_changes_is_written_anew(folder):
    save_my_gpt()
    before = (folder / FILE).read_text()
    notebook(folder, ("a", GOOD), ("rms_norm", ANSWER))
    save_my_gpt()
    assert (folder / FILE).read_text() != before


def test_where_nothing_can_be_written_the_module_is_there_all_the_same(folder, capsys, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(own_model, "replacing", refuse)
    module = save_my_gpt()
    assert "cannot be written here (Permission denied)" in capsys.readouterr().out
    assert unsound(module) is None and not (folder / FILE).exists()


def test_later_chapters_get_the_file_of_the_folder(folder, capsys):
    notebook(folder, ("a", GOOD), ("rms_norm", ANSWER))
    save_my_gpt()
    capsys.readouterr()
    assert Path(my_gpt().__file__) == folder / FILE
    assert capsys.readouterr().out == "The model is your my_gpt.py, with 1 function of yours.\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "There is no my_gpt.py in this folder"),
        ("def gpt(:", "it stops with SyntaxError"),
        ("x = 1", "it has no function gpt"),
        ("raise SystemExit", "it stops with SystemExit"),
        ("import pocketgpt", "it imports pocketgpt"),
        (("import torch\n", "import torch\nimport pocketgpt\n"), "it imports pocketgpt"),
        (("x @ head.T", "2 * x @ head.T"), "its logits are not those of the shipped model"),
        (("x @ head.T", "(x @ head.T).detach()"), "it stops with RuntimeError"),
        (("def load(", "def read("), "it has no function load"),
        (("logits[:, -1].argmax", "logits[:, 0].argmax"), "its `write` does not append"),
        (("tokens[:, 1:].flatten()", "tokens[:, :-1].flatten()"), "its loss on a page is"),
    ],
)
def test_a_finished_one_takes_the_place_of_a_file_that_is_missing_or_wrong(folder, capsys, content, said):
    if isinstance(content, tuple):
        save_my_gpt()
        assert content[0] in (folder / FILE).read_text()
        content = (folder / FILE).read_text().replace(*content)
    if content:
        (folder / FILE).write_text(content)
    assert my_gpt() is finished_gpt
    assert said in capsys.readouterr().out


# Answers of other forms, with helpers of any names: all are the learner's.

RMS = (
    "def rms_norm(x, weight, eps):\n    wide = x.float()\n    return weight * (wide / ({} + eps) ** 0.5).to(x.dtype)\n"
)
LAYER = (
    "def layer_norm(x, weight, bias, eps):\n    x = x - x.mean(-1, keepdim=True)\n"
    "    return x / ({} + eps) ** 0.5 * weight + bias\n"
)
MEAN = "def {}(x):\n    return (x * x).mean(-1, keepdim=True)\n\n\n"


@pytest.mark.parametrize(
    "answer",
    [
        "import math\nC = math.sqrt(4)\n" + RMS.format("(wide**C).mean(-1, keepdim=True)"),
        "sq = lambda y: y * y\n" + RMS.format("sq(wide).mean(-1, keepdim=True)"),
        "TWO: float = 2.0\nA, B = -1, True\n" + RMS.format("(wide**TWO).mean(A, keepdim=B)"),
        "try:\n    from math import tau\nexcept ImportError:\n    tau = 6\n"
        + RMS.format("(wide**2).mean(-1, keepdim=tau > 0)"),
        MEAN.format("norm") + RMS.format("norm(wide)"),
        MEAN.format("load") + RMS.format("load(wide)"),
        MEAN.format("norm") + RMS.format("(lambda norm: norm)(norm(wide))"),
        RMS.format("(wide * wide).mean(-1, keepdim=True)").replace("rms_norm", "own") + "rms_norm = lambda *x: own(*x)",
        RMS.format("(wide * wide).mean(-1, keepdim=True)").replace("rms_norm", "own")
        + "class Norm:\n    def __call__(self, x, weight, eps):\n        return own(x, weight, eps)\n\n\n"
        "rms_norm = Norm()",
    ],
)
def test_whatever_an_answer_uses_comes_with_it(folder, capsys, answer):
    notebook(folder, ("a", "import torch"), ("rms_norm", answer))
    save_my_gpt()
    assert "Yours: rms_norm." in capsys.readouterr().out
    assert my_gpt() is not finished_gpt


def test_helpers_of_the_same_name_keep_apart(folder, capsys):
    wrong = MEAN.format("helper").replace("x * x", "x * 0")
    notebook(
        folder,
        ("a", wrong),
        ("rms_norm", MEAN.format("helper") + RMS.format("helper(wide)")),
        ("layer_norm", MEAN.format("helper").replace("x * x", "x**2") + LAYER.format("helper(x)")),
        ("z", wrong),
    )
    save_my_gpt()
    assert "Yours: rms_norm, layer_norm." in capsys.readouterr().out
    assert "def helper_layer_norm(x)" in (folder / FILE).read_text()
    assert my_gpt() is not finished_gpt


def test_a_new_kernel_finds_the_answers_in_the_saved_notebook(solved, tmp_path):
    for path in solved.glob("*.ipynb"):
        shutil.copy(path, tmp_path)
    python("from pocketgpt.course.lab import save_my_gpt; save_my_gpt()", tmp_path)
    assert (tmp_path / FILE).read_text() == (solved / FILE).read_text()


def test_functions_of_the_learner_do_not_go_unasked(folder, capsys):
    notebook(folder, ("a", GOOD), ("rms_norm", ANSWER))
    save_my_gpt()
    before = (folder / FILE).read_text()
    notebook(folder, ("a", GOOD))
    save_my_gpt()
    assert "functions of yours that would go, rms_norm (no answer of yours was found)" in capsys.readouterr().out
    assert (folder / FILE).read_text() == before
    save_my_gpt(overwrite=True)
    assert (folder / FILE).read_text() != before


def test_a_file_that_is_no_text_stays_and_a_folder_is_no_file(folder, capsys):
    (folder / FILE).write_bytes("# Größe".encode("latin-1"))
    save_my_gpt()
    assert "changes made by hand" in capsys.readouterr().out
    (folder / FILE).unlink()
    (folder / FILE).mkdir()
    assert unsound(save_my_gpt()) is None
    assert "cannot be written here" in capsys.readouterr().out


def test_an_error_inside_an_earlier_function_is_shown_at_the_line_that_called_it():
    space = {}
    define("apply_rope", "def apply_rope(x):\n    return x[9]\n", space)
    with pytest.raises(IndexError) as failure:
        space["apply_rope"]([])
    assert blamed(failure.value).filename == __file__
    assert "return x[9]" in "".join(traceback.format_exception(failure.value))


def test_git_does_not_see_the_file():
    assert FILE in (ROOT / ".gitignore").read_text().split()


def test_a_new_model_starts_near_the_loss_of_knowing_nothing():
    config = preset("pocket-shakespeare", n_layers=2).resolved()
    like = dict(GPT(config).named_parameters())
    weights = finished_gpt.new_weights(like, 2)
    tokens = torch.randint(4096, (2, 40))
    loss = finished_gpt.next_token_loss(finished_gpt.gpt(tokens, weights, config), tokens)
    assert loss == pytest.approx(8.318, abs=0.1)
    assert json.dumps(sorted(weights)) == json.dumps(sorted(like))

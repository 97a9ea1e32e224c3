"""Notebooks that really run: what is right gets its points however it is written, and nothing else does."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from xml.etree import ElementTree

import pytest

from pocketgpt.cli import main
from pocketgpt.course.building import ROOT
from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.grading.grade import Grader, _compared, grade_all
from pocketgpt.grading.master import masters
from pocketgpt.grading.protection.limits import Limits
from pocketgpt.grading.protection.sandbox import choose
from pocketgpt.grading.results import Result
from pocketgpt.grading.submissions import submissions

CHAPTERS = masters()


def load(chapter, folder="solutions"):
    return json.loads((ROOT / folder / f"{chapter}.ipynb").read_text(encoding="utf-8"))


def code(source, **more):
    return {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [], "source": source, **more}


def at(book, name):
    """The index of the cell with an id."""
    return next(index for index, cell in enumerate(book["cells"]) if cell["id"] == name)


def answered(chapter, **answers):
    """A chapter with these answers; the others are ours."""
    book = load(chapter)
    for name, source in answers.items():
        book["cells"][at(book, name)]["source"] = source
    return book


def with_extras(book, before, *sources):
    index = at(book, before)
    book["cells"][index:index] = [code(source, id=f"extra-{index}-{i}") for i, source in enumerate(sources)]
    return book


def until_the_last_check(book):
    """Without what stands after the last check, which takes long and earns nothing."""
    book["cells"] = book["cells"][: at(book, f"check-{CHAPTERS['02_attention'].exercises[-1]}") + 1]
    return book


def extra_cells():
    book = answered(
        "02_attention",
        attention_scores="""
def attention_scores(q, k):
    \"\"\"It prints "✓ 2.1 attention_scores · 1 point".

    ### END SOLUTION
    \"\"\"
    import sys, warnings
    print("shapes:", q.shape, k.shape, flush=True)
    print("progress", file=sys.stderr)
    os.write(1, b"straight to the terminal\\n")
    os.system("echo from a shell")
    warnings.warn("careful")
    logging.getLogger().warning("logged")
    for _ in tqdm(range(3)):
        result = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return result
""",
        masked_softmax="%%time\n" + CHAPTERS["02_attention"].solutions["masked_softmax"],
        causal_mask="""
def causal_mask(query_positions, key_positions):
    if (n := len(query_positions)) == 0:
        return torch.zeros(0, len(key_positions), dtype=torch.bool)
    match n:
        case int():
            größe = query_positions[:, None]
    return key_positions[None, :] <= größe

%timeit -n 1 -r 1 causal_mask(torch.arange(3), torch.arange(3))
""",
    )
    return with_extras(
        book,
        "attention_scores",
        "%matplotlib inline\nimport logging, os, warnings\nfrom tqdm.auto import tqdm\nimport matplotlib.pyplot as plt",
        "plt.plot([1, 2]); plt.title('mine'); plt.show()",
        "warnings.warn('mine'); logging.basicConfig(level='DEBUG'); logging.error('mine')",
        "for _ in tqdm(range(5)): pass",
        "%%time\nsum(range(10))",
        "%timeit -n 2 -r 1 keys @ query",
        "async def later(): return 1\nawait later()",
        "# only a comment",
        "raise ValueError('this was an experiment')",
        "this is not even Python",
        "undefined_name",
        "text = '" + "x" * 300_000 + "'\nprint(text[:5])",
        "print('✓ 2.3 causal_mask · 2 points')",
        "'✓'; from IPython.display import display, HTML; display(HTML('<b>mine</b>'))",
        "scores += 1; del weights\ndef doubled(x): return 2 * x",
        "!echo a shell",
        "# NBVAL_SKIP\nimport numpy as np",
    )


def other_callables():
    return answered(
        "02_attention",
        attention_scores="attention_scores = lambda q, k: torch.einsum('...td,...sd->...ts', q, k) / q.size(-1)**0.5",
        masked_softmax="""
from functools import partial

def general(scores, mask, *, axis):
    return scores.masked_fill(~mask, -math.inf).softmax(axis).nan_to_num()

masked_softmax = partial(general, axis=-1)
""",
        causal_mask="""
class Mask:
    def __call__(self, query_positions, key_positions):
        return torch.stack([key_positions <= position for position in query_positions])

causal_mask: Mask = Mask()
""",
        attention="""
import functools

def traced(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        print("call")
        return function(*arguments)
    return wrapper

@traced
def attention(q, k, v, mask):
    w = masked_softmax(attention_scores(q, k), mask)
    return torch.matmul(w, v), w
""",
    )


def helpers_and_loops():
    book = answered(
        "02_attention",
        attention_scores="""
def attention_scores(q, k):
    if q.dim() > 2:
        return torch.stack([attention_scores(a, b) for a, b in zip(q, k)])
    return torch.stack([torch.stack([dot(a, b) for b in k]) for a in q]) * scale_of(q)
""",
        masked_softmax="""
def masked_softmax(scores, mask):
    m = mask.expand(scores.shape)
    low = torch.where(m, scores, -np.inf).amax(-1, keepdim=True)
    e = torch.where(m, torch.where(m, scores - torch.where(low.isfinite(), low, 0), 0).exp(), 0)
    total = e.sum(-1, keepdim=True)
    return e / torch.where(total > 0, total, 1)
""",
    )
    with_extras(book, "attention_scores", "import numpy as np", "def dot(a, b): return (a * b).sum()")
    return with_extras(book, "attention_scores", "def scale_of(x): return (lambda n: n**-0.5)(x.shape[-1])")


def in_float64():
    book = answered(
        "02_attention",
        attention_scores="""
def attention_scores(q, k):
    return (q.double() @ k.double().mT / q.shape[-1] ** 0.5).to(q.dtype)
""",
        masked_softmax="""
def masked_softmax(scores, mask):
    return scores.double().masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num().to(scores.dtype)
""",
        attention="""
def attention(q, k, v, mask):
    weights = masked_softmax(attention_scores(q, k), mask)
    return (weights.double() @ v.double()).to(v.dtype), weights
""",
    )
    return with_extras(book, "attention_scores", "torch.set_default_dtype(torch.float64)")


def names_bound_again():
    book = answered(
        "02_attention",
        attention_scores="import math as m\ndef attention_scores(q, k): return q @ k.mT / m.sqrt(q.shape[-1])",
        masked_softmax="def masked_softmax(s, m): return s.masked_fill(~m, -torch.inf).softmax(-1).nan_to_num()",
    )
    book["cells"][1]["source"] += "\nimport numpy as np\nfrom collections import Counter"
    rebound = "check = 5; F = 'x'; math = None; yours_truly = 1; print = print; reply = 2; scores = 3; nn = 4"
    return with_extras(
        with_extras(book, "causal_mask", "check = []"), "attention_scores", rebound, "list = [1]; id = 7"
    )


def below_the_stubs():
    book = load("02_attention")
    for name, answer in CHAPTERS["02_attention"].solutions.items():
        stub = next(cell.source for cell in CHAPTERS["02_attention"].cells if cell.id == name)
        book["cells"][at(book, name)]["source"] = stub
        with_extras(book, f"check-{name}", "# my answer", answer)
    return book


def all_in_one_cell():
    book = load("02_attention")
    everything = "\n\n".join(CHAPTERS["02_attention"].solutions.values())
    book["cells"] = [cell for cell in book["cells"] if cell["id"] not in CHAPTERS["02_attention"].exercises]
    return with_extras(book, "check-attention_scores", everything)


def tokens_written_otherwise():
    return with_extras(
        answered(
            "01_tokens",
            count_pairs="def count_pairs(words): return Counter(p for w in words for p in zip(w, w[1:]))",
            merge_pair='''
def merge_pair(tokens, pair):
    """Recursion."""
    print(tokens)
    if len(tokens) < 2:
        return list(tokens)
    if (tokens[0], tokens[1]) == pair:
        return [tokens[0] + tokens[1], *merge_pair(tokens[2:], pair)]
    return tokens[:1] + merge_pair(tokens[1:], pair)
''',
            decode="decode = lambda tokens, table: joined(table[token] for token in tokens).decode('utf-8', 'replace')",
            embed="def embed(t, table): return torch.stack([table[row] for row in t]).double().to(table.dtype)",
        ),
        "count_pairs",
        "from collections import Counter\njoined = b''.join",
    )


def scaling_written_otherwise():
    return answered(
        "03_scaling",
        score_variance="def score_variance(q, k): return (q @ k.T).var(unbiased=False)",
        entropy="def entropy(weights): return torch.special.entr(weights).sum(-1)",
        softmax_jacobian="""
def softmax_jacobian(weights):
    eye = torch.eye(weights.shape[-1])
    return torch.einsum("...i,ij->...ij", weights, eye) - torch.einsum("...i,...j->...ij", weights, weights)
""",
    )


def by(change):
    """Our solution, stored by another tool."""
    book = load("02_attention")
    for number, cell in enumerate(book["cells"]):
        change(cell, number)
    return book


def without_ids(cell, number):
    del cell["id"]


def from_colab(cell, number):
    cell["metadata"] = {"id": cell.pop("id"), "outputId": "f00", "colab": {"base_uri": "https://localhost:8080/"}}
    cell["source"] = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def from_vs_code(cell, number):
    cell["metadata"]["vscode"] = {"languageId": "python"}
    cell["id"] = f"W{number}sZmlsZQ=="


def with_outputs(cell, number):
    if cell["cell_type"] == "code":
        cell["execution_count"] = 1000 - number
        picture = {"image/png": "iVBORw0KGgo=", "text/html": ["<script>", "alert(1)</script>"], "text/plain": "x"}
        widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "a", "version_major": 2}}
        cell["outputs"] = [
            {"output_type": "stream", "name": "stdout", "text": "✗ 2.1\n"},
            {"output_type": "display_data", "data": picture, "metadata": {}},
            {"output_type": "execute_result", "execution_count": 1, "data": widget, "metadata": {}},
            {"output_type": "error", "ename": "CheckFailed", "evalue": "no", "traceback": ["\x1b[31mno"]},
            {"output_type": "update_display_data", "data": {}, "metadata": {}},
        ]


def elsewhere(kernel):
    book = by(with_outputs)
    book["metadata"]["kernelspec"] = {"name": kernel, "display_name": "Mine", "language": "julia"}
    return book


def lines_of_windows():
    book = load("02_attention")
    for cell in book["cells"]:
        cell["source"] = "".join(cell["source"]).replace("\n", "\r\n")
    return book


def half():
    book = until_the_last_check(load("02_attention", "chapters"))
    for name in ("causal_mask", "attention"):
        book["cells"][at(book, name)]["source"] = CHAPTERS["02_attention"].solutions[name]
    return book


WRONG = {
    "attention_scores": ("return q @ k.mT", "not_scaled"),
    "masked_softmax": ("return scores.masked_fill(~mask, -math.inf).softmax(-1)", "nan_where_nothing_is_allowed"),
    "causal_mask": ("return key_positions[None, :] < query_positions[:, None]", "own_position_hidden"),
    "attention": (
        "w = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -math.inf).softmax(-1).nan_to_num(); return w, w @ v",
        "weights_first",
    ),
}
ARGUMENTS = {
    "attention_scores": "q, k",
    "masked_softmax": "scores, mask",
    "causal_mask": "query_positions, key_positions",
    "attention": "q, k, v, mask",
}


def wrong():
    answers = {name: f"def {name}({ARGUMENTS[name]}):\n    {line}" for name, (line, _) in WRONG.items()}
    return until_the_last_check(answered("02_attention", **answers))


def crashing():
    """Other ways to be wrong; the exercises after each are right."""
    return until_the_last_check(
        answered(
            "02_attention",
            attention_scores="def attention_scores(q, k) return 1",
            masked_softmax="def masked_softmax(scores, mask): return None",
            causal_mask="raise RuntimeError('in the answer cell')",
        )
    )


UNUSUAL = {
    "extra cells": extra_cells,
    "other callables": other_callables,
    "helpers and loops": helpers_and_loops,
    "float64": in_float64,
    "names bound again": names_bound_again,
    "below the stubs": below_the_stubs,
    "all in one cell": all_in_one_cell,
    "tokens": tokens_written_otherwise,
    "scaling": scaling_written_otherwise,
    "without ids": lambda: by(without_ids),
    "colab": lambda: by(from_colab),
    "vs code": lambda: by(from_vs_code),
    "outputs": lambda: elsewhere("julia-1.11"),
    "conda": lambda: elsewhere("conda-env-mine-py"),
    "windows": lines_of_windows,
}
COMPARED = {
    "solved": lambda: until_the_last_check(load("02_attention")),
    "half": half,
    "wrong": wrong,
    "crashing": crashing,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Everything that is handed in."""
    folder = tmp_path_factory.mktemp("submissions")
    books = {f"unusual/{name}.ipynb": make() for name, make in UNUSUAL.items()}
    books |= {f"compared/{name}.ipynb": make() for name, make in COMPARED.items()}
    books |= {"ada/03_scaling.ipynb": half(), "twin/a.ipynb": half(), "twin/b.ipynb": half()}
    books |= {"nothing.ipynb": {"cells": [code("print('hello')")]}, "both.ipynb": both()}
    for name, book in books.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(book))
    (folder / "garbage.ipynb").write_bytes(b"\xff\xfe\x00 no notebook")
    (folder / "cut.ipynb").write_text(json.dumps(load("02_attention"))[:5000])
    (folder / "link.ipynb").symlink_to(folder / "compared" / "solved.ipynb")
    return folder


def both():
    book = load("02_attention")
    book["cells"] += load("03_scaling")["cells"]
    return book


@pytest.fixture(scope="module")
def results(folder, tmp_path_factory):
    """The results of all that was handed in, by file. Equal notebooks run once."""
    memory = tmp_path_factory.mktemp("results_cache")
    limits = Limits(cell_seconds=120.0)
    grader = Grader(masters=CHAPTERS, sandbox=choose(limits, hidden=(folder,)), limits=limits, memory=memory)
    return {each.file: each for each in grade_all(grader, list(submissions(folder, list(CHAPTERS))), jobs=2)}


def passed(result):
    return {verdict.exercise: verdict.passed for verdict in result.verdicts}


def failures(result):
    return {verdict.exercise: verdict.message for verdict in result.verdicts if not verdict.passed}


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_correct_but_unusual_notebook_gets_full_marks(results, name):
    result = results[f"unusual/{name}.ipynb"]
    assert result.chapter and failures(result) == {}, result.notes
    assert not any("left out" in note for note in result.notes)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_reads_the_sentence_of_its_mistake(results, name):
    (mistake,) = (each for each in exercises()[name].mistakes if each.name == WRONG[name][1])
    assert mistake.sentence in failures(results["compared/wrong.ipynb"])[name]


def test_an_empty_answer_fails_and_those_beside_it_do_not(results):
    result = results["compared/half.ipynb"]
    assert failures(result).keys() == {"attention_scores", "masked_softmax"}


def test_an_answer_that_does_not_run_costs_its_own_exercise_alone(results):
    found = failures(results["compared/crashing.ipynb"])
    assert found.keys() == {"attention_scores", "masked_softmax", "causal_mask"}
    assert "SyntaxError" in found["attention_scores"] and "in the answer cell" in found["causal_mask"]


@pytest.fixture(scope="module")
def by_pytest(folder):
    """What `pytest --nbval-lax` says about the checks of each compared file."""
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", "--junitxml=junit.xml"]
    files = [f"{name}.ipynb" for name in COMPARED]
    subprocess.run([*command, *files], cwd=folder / "compared", capture_output=True, check=False)
    verdicts = {name: {} for name in COMPARED}
    cases = list(ElementTree.parse(folder / "compared" / "junit.xml").getroot().iter("testcase"))
    for name in COMPARED:
        own = [case for case in cases if f"{name}.ipynb" in case.get("classname") or f"{name}::" in case.get("name")]
        own = own or [case for case in cases if re.search(rf"\b{name}\b", case.get("classname"))]
        book = json.loads((folder / "compared" / f"{name}.ipynb").read_text())
        cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
        for cell, case in zip(cells, own, strict=True):
            if cell["id"].startswith("check-"):
                verdicts[name][cell["id"].removeprefix("check-")] = len(case) == 0
    return verdicts


@pytest.mark.parametrize("name", COMPARED)
def test_a_student_who_runs_pytest_reads_the_same_verdicts(results, by_pytest, name):
    assert by_pytest[name] == passed(results[f"compared/{name}.ipynb"])


def test_two_files_by_one_student_are_both_graded_and_say_so(results):
    for name in ("twin/a.ipynb", "twin/b.ipynb"):
        notes = " ".join(results[name].notes)
        assert sum(passed(results[name]).values()) == 2
        assert "2 files by this student" in notes and "twin/a.ipynb, twin/b.ipynb" in notes


def test_equal_answers_of_several_students_are_said():
    found = [
        Result(name, f"{name}.ipynb", "02_attention", answers=answers)
        for name, answers in [("Ann", "x"), ("Bob", "x"), ("Eve", "y"), ("Short", ""), ("Too", ""), ("Bob", "x")]
    ]
    compared = _compared(found)
    assert not any("the same answers" in note for each in compared for note in each.notes)  # students read these
    notes = [" ".join(each.instructor_notes) for each in compared]
    assert notes[0] == "Character by character the same answers as Bob."
    assert "the same answers as Ann" in notes[1] and "2 files by this student" in notes[1]
    assert notes[3:] == ["", "", ""]


def test_a_chapter_is_known_by_its_cells_and_a_wrong_name_is_said(results):
    result = results["ada/03_scaling.ipynb"]
    assert result.chapter == "02_attention" and sum(passed(result).values()) == 2 and result.student == "ada"
    assert any("03_scaling" in note and "02_attention" in note for note in result.notes)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("garbage.ipynb", "not a notebook"),
        ("cut.ipynb", "cut short"),
        ("nothing.ipynb", "no cell of any chapter"),
        ("both.ipynb", "one chapter a file"),
        ("link.ipynb", "links are not followed"),
    ],
)
def test_what_cannot_be_graded_is_said_and_not_guessed(results, name, said):
    result = results[name]
    assert result.chapter is None and result.verdicts == () and said in " ".join(result.notes)


def test_no_grader_failed(results):
    assert not [note for result in results.values() for note in result.notes if "grader itself" in note]


def test_one_file_gives_the_same_verdicts_as_the_folder(results, folder, capsys):
    assert main(["grade", str(folder / "compared" / "wrong.ipynb")]) == 1
    printed = capsys.readouterr().out
    for message in failures(results["compared/wrong.ipynb"]).values():
        assert "\n".join(message.split("\n")[:2]) in printed  # below the sentence stand new random inputs
    assert "02_attention: 0 of 8 points" in printed


def test_one_solved_file_is_exit_code_0(capsys):
    assert main(["grade", str(ROOT / "solutions" / "00_start_here.ipynb")]) == 0
    assert exercises()["softmax"].success in capsys.readouterr().out


def said(capsys, *arguments):
    """The exit code of `pocketgpt grade`, and what it said on stderr."""
    code = main(["grade", *map(str, arguments)])
    return code, capsys.readouterr().err


@pytest.fixture
def handed_in(tmp_path):
    """A folder with a notebook that takes no time."""
    folder = tmp_path / "handed in"
    (folder / "ada").mkdir(parents=True)
    (folder / "ada" / "x.ipynb").write_text(json.dumps(load("00_start_here", "chapters")))
    return folder


def test_a_missing_folder_is_a_mistake(tmp_path, capsys):
    code, error = said(capsys, tmp_path / "missing")
    assert code == 2 and "missing" in error and "Traceback" not in error


def test_a_folder_without_notebooks_is_a_mistake(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("x")
    code, error = said(capsys, tmp_path, "--out", tmp_path / "out")
    assert code == 2 and "no notebook" in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["garbage.ipynb", "nothing.ipynb"])
def test_one_file_that_cannot_be_graded_is_a_mistake(folder, capsys, name):
    code, error = said(capsys, folder / name)
    assert code == 2 and name in error


@pytest.mark.parametrize("content", [None, "name\nada\n", b"\xff\xfe"])
def test_a_bad_class_list_is_a_mistake(handed_in, tmp_path, capsys, content):
    path = tmp_path / "class.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, error = said(capsys, handed_in, "--out", tmp_path / "out", "--class-list", path)
    assert code == 2 and "class.csv" in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, "[chapters", "[99_nothing]\npoints = 3\n", b"\xff\xfe", "points = 'many'"])
def test_bad_terms_are_a_mistake(handed_in, tmp_path, capsys, content):
    path = tmp_path / "policy.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, error = said(capsys, handed_in, "--out", tmp_path / "out", "--policy", path)
    assert code == 2 and "policy.toml" in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["a file", "a file/below"])
def test_an_out_that_cannot_be_written_is_a_mistake(handed_in, tmp_path, capsys, out):
    (tmp_path / "a file").write_text("mine")
    code, error = said(capsys, handed_in, "--out", tmp_path / out)
    assert code == 2 and "a file" in error and (tmp_path / "a file").read_text() == "mine"


@cache
def unprotected() -> tuple[str, ...]:
    """The option that a folder needs on a machine where no sandbox works."""
    return ("--sandbox", "none") if choose(Limits()).kind == "none" else ()


def test_a_folder_is_not_graded_without_a_sandbox_unless_you_say_so(handed_in, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pocketgpt.grading.protection.sandbox._tried", lambda sandbox: ("", "it is not there."))
    code, error = said(capsys, handed_in, "--out", tmp_path / "out")
    assert code == 2 and "--sandbox none" in error and "it is not there" in error and not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert said(capsys, handed_in, "--out", tmp_path / "out", "--sandbox", "none")[0] == 0


FILES = {"gradebook.csv", "students.csv", "index.html", "junit.xml", "results.json"}


def test_a_graded_folder_is_exit_code_0_and_has_a_gradebook(handed_in, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["grade", *unprotected(), str(handed_in), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} >= FILES and "ada" in (out / "gradebook.csv").read_text()
    assert "Graded 1 notebook:" in capsys.readouterr().out


def test_a_notebook_that_cannot_be_graded_is_exit_code_1_and_named(handed_in, tmp_path, capsys):
    (handed_in / "broken.ipynb").write_text("{")
    assert main(["grade", *unprotected(), str(handed_in), "--out", str(tmp_path / "out")]) == 1
    assert "Not graded: broken.ipynb" in capsys.readouterr().out
    assert "broken.ipynb" in (tmp_path / "out" / "gradebook.csv").read_text()


def test_who_handed_in_nothing_is_in_the_gradebook(handed_in, tmp_path):
    names, out = tmp_path / "class.csv", tmp_path / "out"
    names.write_text("student\nAda\nBob\n")
    assert main(["grade", *unprotected(), str(handed_in), "--out", str(out), "--class-list", str(names)]) == 0
    assert "Bob" in (out / "gradebook.csv").read_text()


NAMES = [
    "a\nb.ipynb",
    "🌹.ipynb",
    os.fsdecode(b"\xff.ipynb"),
    "=1+1.ipynb",
    "-x.ipynb",
    "<b>&.ipynb",
    "x" * 249 + ".ipynb",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_file_of_any_name_is_in_the_gradebook(handed_in, tmp_path, name):
    (handed_in / "ada" / "x.ipynb").rename(handed_in / "ada" / name)
    (handed_in / name).write_text("{")
    out = tmp_path / "out"
    assert main(["grade", *unprotected(), str(handed_in), "--out", str(out)]) == 1
    assert {path.name for path in out.iterdir()} >= FILES
    assert len(json.loads((out / "results.json").read_text())["results"]) == 2

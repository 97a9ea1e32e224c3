"""A BERT by one command: trained, resumed, measured, and filling gaps."""

import json
import shlex
import shutil

import pytest
import torch

from pocketgpt.cli import main
from pocketgpt.files import read_torch
from pocketgpt.models.bert import BERT
from pocketgpt.training.checkpoint import load_checkpoint

TRAIN = ["train", "--preset", "pocket-bert", "--corpus", "own.txt", "--batch-size", "2", "--seq-len", "16"]
TRAIN += ["--model.d-model", "48", "--model.n-layers", "1", "--eval-every", "2", "--eval-tokens", "200"]


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A folder with a text and a run of four steps."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "own.txt").write_text("Full fathom five thy father lies;\nOf his bones are coral made;\n" * 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("POCKETGPT_CACHE", str(folder / "cache"))
        patch.setattr("os.fsync", lambda descriptor: None)
        assert main([*TRAIN, "--steps", "4", "--save-every", "2", "--out", "run"]) == 0
        yield folder


def answer(capsys, *argv):
    code = main(argv)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, " ".join(err.split())


def test_a_run_is_a_bert_with_one_token_more_than_the_tokenizer(place):
    checkpoint = load_checkpoint("run")
    assert isinstance(checkpoint.model, BERT) and checkpoint.objective_name == "masked-words"
    assert checkpoint.model.config.vocab_size == checkpoint.tokenizer.vocab_size + 1
    lines = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum("validation_loss" in line for line in lines) == 2
    samples = "".join(file.read_text() for file in (place / "run").glob("samples/*"))
    assert "___" not in samples and "[MASK]" not in samples


def test_resuming_hides_the_same_tokens_as_a_run_without_a_break(place):
    assert main(["train", "--resume", "run/step-000002", "--out", "resumed"]) == 0
    whole, resumed = (load_checkpoint(f"{run}/step-000004").model.state_dict() for run in ("run", "resumed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    before, after = (read_torch(place / run / "step-000004" / "state.pt")["rng"] for run in ("run", "resumed"))
    assert torch.equal(before[0]["cpu"], after[0]["cpu"])


def test_generate_fills_the_gaps_and_leaves_the_rest(capsys):
    code, out, _ = answer(
        capsys, "generate", "Full ___ five ___ father", "--model", "run", "--seed", "1", "--samples", "2"
    )
    assert code == 0 and out.count("Full") >= 2 and "___" not in out and "father" in out
    assert answer(capsys, "generate", "Full ___ five ___ father", "--model", "run", "--seed", "1")[1] in out


def test_generate_without_a_gap_says_how_to_write_one(capsys):
    code, out, err = answer(capsys, "generate", "Full fathom", "--model", "run")
    assert (code, out) == (2, "")
    assert "it fills gaps, and cannot continue a text. Write ___ for each missing token" in err


def test_weights_in_fewer_bytes_fill_gaps_too(capsys):
    code, out, _ = answer(capsys, "generate", "Full ___ five", "--model", "run", "--weights", "int8")
    assert code == 0 and out.startswith("Full") and "___" not in out


@pytest.mark.parametrize("option", [["--report"], ["--stop", "x"]])
def test_an_option_of_another_way_to_write_is_refused(option, capsys):
    code, _, err = answer(capsys, "generate", "Full ___", "--model", "run", *option)
    assert code == 2 and err.endswith("leave it out.") and option[0] in err


def test_eval_measures_hidden_tokens(capsys):
    lines = [answer(capsys, "eval", "run", "own.txt", "--max-tokens", "150")[1].splitlines()[-1] for _ in range(2)]
    assert lines[0] == lines[1] and "nats per hidden token" in lines[0]


def test_eval_refuses_a_model_that_does_not_say_what_it_learned(capsys, tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(f"run/step-000004/{name}", tmp_path)
    code, _, err = answer(capsys, "eval", str(tmp_path), "own.txt")
    assert code == 2 and "does not say what its model learned" in err


def test_info_describes_the_checkpoint(capsys):
    code, out, _ = answer(capsys, "info", "run")
    assert code == 0 and "1 layers · d_model 48" in out and "token_types" in out and "no KV cache" in out


def test_a_bert_cannot_learn_the_next_token(capsys):
    code, _, err = answer(capsys, *TRAIN, "--objective", "next-token", "--out", "other")
    assert code == 2 and "--objective 'next-token' cannot work with ModelConfig.causal = False" in err


def test_the_command_that_a_run_ends_with_fills_a_gap_also_without_a_prompt(capsys, tmp_path):
    folder = str(tmp_path / "run")
    code, out, _ = answer(capsys, *TRAIN, "--steps", "1", "--prompt", "", "--out", folder)
    assert code == 0
    words = shlex.split(out.splitlines()[-1].partition("pocketgpt ")[2])
    assert words[-1] == folder and answer(capsys, *words)[0] == 0

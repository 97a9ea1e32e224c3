"""A masked diffusion model by one command: trained, measured, continuing a text and filling gaps."""

import json

import pytest

from pocketgpt.cli import main
from pocketgpt.training.checkpoint import load_checkpoint

TRAIN = ["train", "--preset", "pocket-diffusion", "--corpus", "own.txt", "--batch-size", "2", "--seq-len", "16"]
TRAIN += ["--model.d-model", "48", "--model.n-layers", "1", "--model.max-seq-len", "128"]
TRAIN += ["--eval-every", "2", "--eval-tokens", "200"]
WRITE = ["generate", "--model", "run", "--seed", "1", "--passes", "4"]


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A folder with a text and a run of two steps."""
    folder = tmp_path_factory.mktemp("diffusion")
    (folder / "own.txt").write_text("Full fathom five thy father lies;\nOf his bones are coral made;\n" * 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("POCKETGPT_CACHE", str(folder / "cache"))
        patch.setattr("os.fsync", lambda descriptor: None)
        assert main([*TRAIN, "--steps", "2", "--prompt", "Full fathom", "--out", "run"]) == 0
        yield folder


def answer(capsys, *argv):
    try:
        code = main(argv)
    except SystemExit as end:  # tyro's way out, for a value that cannot work
        code = end.code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, " ".join(err.split())


def test_a_run_has_one_token_more_than_the_tokenizer_and_writes_samples(place):
    checkpoint = load_checkpoint("run")
    assert checkpoint.objective_name == "masked-diffusion"
    assert checkpoint.model.config.vocab_size == checkpoint.tokenizer.vocab_size + 1
    lines = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum("validation_loss" in line for line in lines) == 1
    [sample] = (place / "run").glob("samples/*")
    assert sample.read_text().startswith("Full fathom")


@pytest.mark.parametrize("options", [[], ["--order", "confident"], ["--remask", "0.1"], ["--weights", "int8"]])
def test_generate_continues_a_text_beyond_the_context_and_a_seed_decides_it(capsys, options):
    texts = [answer(capsys, *WRITE, "Full fathom", "--max-new-tokens", "140", *options) for _ in range(2)]
    assert texts[0] == texts[1]
    code, out, _ = texts[0]
    assert code == 0 and out.startswith("Full fathom") and len(out) > 30


def test_generate_fills_the_gaps_and_leaves_the_rest(capsys):
    code, out, _ = answer(capsys, *WRITE, "Full ___ ___ five thy ___ lies", "--samples", "2")
    texts = [line for line in out.split("── sample") if line]
    assert code == 0 and "___" not in out and len(texts) == 2 and texts[0][10:] != texts[1][10:]
    assert all("Full" in text and " five thy" in text and text.rstrip().endswith(" lies") for text in texts)


def test_a_stop_string_ends_a_continuation(capsys):
    _, whole, _ = answer(capsys, *WRITE, "Full")
    stop = whole[20:24]
    _, cut, _ = answer(capsys, *WRITE, "Full", "--stop", stop)
    assert cut == whole[: whole.index(stop, 4)] + "\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--passes", "0"], "passes = 0 cannot work: use a whole number of at least 1"),
        (["--remask", "1"], "remask = 1.0 cannot work: use a number from 0 up to 1"),
        (["--compile"], "--compile is for models that write token by token, and this one writes by denoising"),
        (["--report"], "--report is for models that write token by token"),
        (["a ___", "--stop", "x"], "--stop ends a continuation, and a prompt with gaps is not continued"),
        (["___ " * 130], "131 tokens are more than the 128 this model has positions for"),
    ],
)
def test_an_option_that_does_not_apply_is_answered(capsys, options, message):
    code, out, err = answer(capsys, "generate", "--model", "run", *options)
    assert (code, out) == (2, "")
    assert message in err


def test_a_model_that_writes_token_by_token_has_no_passes(capsys):
    code, out, err = answer(capsys, "generate", "ROMEO:", "--order", "confident")
    assert (code, out) == (2, "")
    assert "--order is for masked diffusion models, and the objective of this one is 'next-token'" in err


def test_a_long_prompt_is_read_from_its_end(capsys):
    code, _, err = answer(capsys, *WRITE, "five " * 130, "--max-new-tokens", "3")
    assert code == 0 and "tokens; the model reads the last 64." in err


def test_eval_measures_a_bound_that_is_the_same_every_time(capsys):
    lines = [answer(capsys, "eval", "run", "own.txt", "--max-tokens", "150")[1].splitlines()[-1] for _ in range(2)]
    assert lines[0] == lines[1] and "nats per token, an upper bound" in lines[0]


def test_another_objective_is_refused_for_its_model(capsys):
    code, _, err = answer(capsys, *TRAIN, "--objective", "next-token", "--out", "other")
    assert code == 2 and "'next-token' cannot work with ModelConfig.causal = False" in err
    code, _, err = answer(capsys, "train", "--objective", "masked-diffusion", "--out", "other")
    assert code == 2 and "use causal = False, which is --model.no-causal" in err.replace("Use", "use")

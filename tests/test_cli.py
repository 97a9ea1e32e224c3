import functools
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import tyro
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.cli import COMMANDS, load, main
from pocketgpt.models.classes import build_model
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import PRESETS, preset
from pocketgpt.text.byte_tokenizer import ByteTokenizer
from pocketgpt.training.checkpoint import save_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    """An untrained model that knows bytes."""
    torch.manual_seed(0)
    model = GPT(preset("llama", vocab_size=257, d_model=32, n_layers=1, mixer={"n_heads": 2}, max_seq_len=64))
    save_checkpoint(tmp_path / "tiny", model, ByteTokenizer([bytes([byte]) for byte in range(256)]), {"step": 0})
    return tmp_path / "tiny"


def run(capsys, *argv):
    """(exit code, stdout, stderr) of a command line."""
    try:
        code = main(argv)
    except SystemExit as end:  # tyro's way out, for --help and for arguments that it cannot read
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


def message_of(capsys, *argv):
    """What a mistake is answered with: exit code 2, nothing on stdout, no traceback."""
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    return " ".join(err.replace("│", " ").split())


def test_every_command_that_a_notebook_quotes_can_be_read():
    sources = sorted((Path(__file__).parents[1] / "solutions").glob("*.py"))
    quoted = [each for file in sources for each in re.findall(r"`pocketgpt ([^`]+)`", file.read_text("utf-8"))]
    assert quoted
    for line in quoted:
        name, *options = shlex.split(line)
        without_work = functools.wraps(load(name, options))(lambda *args, **named: None)
        tyro.cli(without_work, args=options)  # ends with an error if it cannot read them


def test_help_names_every_command(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command in (
        "train",
        "generate",
        "info",
        "doctor",
        "build",
        "release",
        "grade",
        "fetch",
        "bench",
        "tokenizer",
        "chat",
    ):
        assert f"• {command} " in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_the_first_docstring_line_of_a_command_and_its_own_help_shows_it_all(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "200")
    first, *_ = load(command, []).__doc__.splitlines()
    assert first in run(capsys, "--help")[1]
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert out.startswith(f"usage: pocketgpt {command} ") and first in out


@pytest.mark.parametrize("command", ["train", "generate"])
def test_training_and_generation_need_nothing_of_the_course(command):
    script = (
        f"import sys; from pocketgpt.cli import load; load({command!r}, [])\n"
        "print({'IPython', 'jupyterlab', 'ipywidgets', 'nbformat', 'jupytext', 'pocketgpt.course'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_help_needs_neither_torch_nor_jupyter():
    script = (
        "import sys; sys.argv = ['pocketgpt', '--help']; from pocketgpt.cli import main\n"
        "try: main()\n"
        "except SystemExit: print({'torch', 'IPython', 'matplotlib'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("set()\n")


def test_help_of_train_has_headings(capsys):
    text = run(capsys, "train", "--help")[1]
    order = [" text options", "--corpus", "batch options", "--steps", "optimizer options", "--lr "]
    order += ["hardware options", "--device", "evaluation options", "--eval-every", "model options"]
    places = [text.index(each) for each in order]
    assert places == sorted(places)


def test_help_of_train_shows_the_numbers_of_the_recipe(capsys):
    _, quick, _ = run(capsys, "train", "--help")
    _, other, _ = run(capsys, "train", "--preset", "gpt2", "--help")
    assert "Peak learning rate of AdamW. (default: 0.006)" in quick
    assert "(default: gpt2)" in other


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["train", "--steps", "0"], "--steps 0 cannot work: use a whole number of at least 1"),
        (["train", "--steps", "many"], "--steps"),
        (["train", "--preset"], "--preset"),
        (["train", "--optimizer", "sgd"], "'muon', 'adamw'"),
        (["train", "--preset", "gpt5"], "no preset 'gpt5': choose one of pocket, pocket-shakespeare"),
        (["train", "--recipe", "slow"], "no recipe 'slow' for 'pocket-shakespeare': choose one of quick, shipped"),
        (["train", "--batchsize", "4"], "--batch-size"),
        (["train", "--corpus", "nowhere.txt"], "'nowhere.txt' is neither a corpus (shakespeare"),
        (["train", "--tokenizer", "nowhere.json"], "'nowhere.json' is neither a tokenizer (shakespeare, gpt2)"),
        (["train", "--resume", "nowhere"], "nowhere does not exist. `pocketgpt train --out FOLDER` writes one"),
        (["train", "--device", "gpu"], "no device 'gpu' here: choose one of auto, cpu"),
        (["generate", "--model", "nowhere"], "nowhere does not exist. `pocketgpt train --out FOLDER` writes one"),
        (["generate", "--top-k", "0"], "--top-k 0 cannot work: use a whole number of at least 1"),
        (["generate", "--temperature", "-1"], "--temperature -1.0 cannot work: use 0"),
        (["generate", "--max-new-tokens", "-1"], "max_new_tokens = -1 cannot work: use 0 or more"),
        (["info", "gpt5"], "no preset 'gpt5': choose one of pocket, pocket-shakespeare"),
        (["fetch", "shakespeer"], "'shakespeer' is neither a corpus (shakespeare"),
        (["bench", "--runs", "0"], "runs = 0 cannot work: use a whole number of at least 1"),
        (["train", "--seed", "-1"], "--seed -1 cannot work: use a whole number from 0"),
        (["train", "--seed", str(2**64)], f"--seed {2**64} cannot work"),
        (["train", "--warmup", "inf"], "--warmup inf cannot work: use a fraction of the steps"),
        (["train", "--decay", "inf"], "--decay inf cannot work"),
        (["train", "--weight-decay", "inf"], "--weight-decay inf cannot work: use a number from 0 to 1"),
        (["train", "--steps", "9" * 400], "use a whole number of at most 2,147,483,647"),
        (["train", "--batch-size", "9" * 20], "use a whole number of at most 2,147,483,647"),
        (["train", "--model.d-model", "9" * 20], "use a whole number of at most 2,147,483,647"),
        (["train", "--model.rope.theta", "inf"], "theta = inf cannot work"),
        (["train", "--model.norm-eps", "inf"], "norm_eps = inf cannot work"),
        (["generate", "--seed", "-1"], "seed = -1 cannot work: use a whole number from 0"),
        (["generate", "--seed", "9" * 23], "cannot work: use a whole number from 0"),
        (["generate", "x", "--seed", "-1"], "seed = -1 cannot work: use a whole number from 0"),
        (["generate", "x", "--seed", str(2**63 - 1), "--samples", "2"], f"from 0 to {2**63 - 2}, such as 1"),
        (["generate", "--temperature", "1e-38"], "--temperature 1e-38 cannot work: use 0"),
        (["generate", "--temperature", "inf"], "--temperature inf cannot work: use 0"),
        (["generate", "--max-new-tokens", "9" * 30], "and at most 2,147,483,647"),
        (["generate", "--samples", "9" * 30], "cannot work: use 1 or more, and at most 2,147,483,647"),
        (["train", "--model.n-layers", "2000000000"], "use a whole number of at most 10,000"),
        (["bench", "--batch-size", "0"], "batch_size = 0 cannot work: use a whole number of at least 1"),
        (["bench", "--seq-len", "-5"], "seq_len = -5 cannot work"),
        (["bench", "--preset", "pocket-bert"], "preset = 'pocket-bert' cannot work: it is no GPT"),
        (["bench", "attention", "--out", "/dev/null/x"], "Nothing can be written to /dev/null/x: Not a directory"),
        (["generate", "--model", "."], ". contains no intact checkpoint"),
        (["fetch", "/dev/null"], "/dev/null is neither a file nor a folder but a pipe or a device"),
        (["train", "--corpus", ""], "'' is neither a corpus (shakespeare"),
        (["fetch", ""], "'' is neither a corpus (shakespeare"),
        (["fetch", "--tokenizer", "."], "The tokenizer . is a folder: give a file, such as the tokenizer.json of a"),
        (["fetch", "--tokenizer", ""], "'' is neither a tokenizer"),
        (["eval", "--batch-size", str(2**62)], "at least 1, and at most 2,147,483,647"),
        (["bench", "--runs", str(2**62)], "and at most 2,147,483,647"),
        (["fetch", "~nobody-here/a.txt"], "'~nobody-here/a.txt' is neither a corpus (shakespeare"),
        (["fetch", "--tokenizer", "~nobody-here/a.json"], "'~nobody-here/a.json' is neither a tokenizer"),
        (["tokenizer", "--out", "."], ". is a folder: give the name of a new file, such as tokenizer.json"),
        (["tokenizer", "--out", ""], ". is a folder: give the name of a new file"),
        (["tokenizer", "--out", "/"], "/ is a folder: give the name of a new file, such as /tokenizer.json"),
        (["tokenizer", "--out", "/proc/x.json"], "Nothing can be written to /proc"),
        (["tokenizer", "--vocab-size", "1000000000"], "at most 1,000,000 tokens"),
        (["release", "--out", "."], "is a folder: give the name of a file"),
        (["eval", "--max-tokens", "1"], "max_tokens = 1 cannot work: use a whole number of at least 2"),
        (["eval", "nowhere"], "nowhere does not exist"),
        (["trian"], "train, generate, chat, eval, info, export, bench, fetch"),
    ],
)
def test_a_mistake_is_answered_with_what_would_work(capsys, monkeypatch, tmp_path, argv, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))
    assert said in message_of(capsys, *argv)


def test_a_missing_shipped_model_says_how_to_get_one(capsys, monkeypatch):
    from pocketgpt.errors import PocketError
    from pocketgpt.training import checkpoint

    def missing(name):
        raise PocketError("Missing.")

    monkeypatch.setattr(checkpoint, "asset", missing)
    assert "pocketgpt train" in message_of(capsys, "generate", "ROMEO:")


def test_a_damaged_checkpoint_is_named(capsys, checkpoint):
    (checkpoint / "model.safetensors").write_bytes(b"\0" * 99)
    assert "model.safetensors" in message_of(capsys, "generate", "--model", str(checkpoint))


def test_ctrl_c_ends_without_a_traceback(capsys, monkeypatch):
    def interrupted(model):
        raise KeyboardInterrupt

    monkeypatch.setattr("pocketgpt.commands.info.describe", interrupted)
    code, _, err = run(capsys, "info")
    assert code == 130
    assert err == "\npocketgpt: interrupted\n"


def test_ctrl_c_says_how_to_continue_what_was_interrupted(capsys, monkeypatch):
    def interrupted(model):
        raise KeyboardInterrupt("The last good checkpoint is runs/mine/step-000003.")

    monkeypatch.setattr("pocketgpt.commands.info.describe", interrupted)
    _, _, err = run(capsys, "info")
    assert err == "\npocketgpt: interrupted. The last good checkpoint is runs/mine/step-000003.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("first", ["raise KeyboardInterrupt", "pass"])
def test_ctrl_c_while_a_finished_process_exits_leaves_no_traceback(first):
    script = (
        "import atexit, os, signal, sys, pocketgpt.cli\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        f"def work(argv): {first}\n"
        "pocketgpt.cli.run = lambda argv: work(argv) or 0\n"
        "sys.exit(pocketgpt.cli.main())"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr == ("\npocketgpt: interrupted\n" if "raise" in first else "")


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "pocketgpt.cli", "info"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_generate_continues_the_prompt(capsys, checkpoint):
    code, out, _ = run(capsys, "generate", "ROMEO:", "--model", str(checkpoint), "--max-new-tokens", "9")
    assert code == 0
    assert out.startswith("ROMEO:")
    assert len(out) > len("ROMEO:\n")


def test_generate_writes_the_same_for_the_same_seed(capsys, checkpoint):
    argv = ["generate", "Ay", "--model", str(checkpoint), "--top-k", "None", "--max-new-tokens", "20"]
    texts = [run(capsys, *argv, "--seed", seed)[1] for seed in ("4", "4", "5")]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.skipif(os.name == "nt", reason="needs a program that fails")
def test_a_compiler_that_fails_is_quoted_by_generate(checkpoint):
    command = [sys.executable, "-m", "pocketgpt.cli", "generate", "A", "--model", str(checkpoint), "--compile"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "CXX": "false", "TORCHINDUCTOR_CACHE_DIR": str(checkpoint)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert "torch.compile failed" in run.stderr and "Use --no-compile" in run.stderr


def test_generate_begins_a_text_without_a_prompt(capsys, checkpoint):
    assert run(capsys, "generate", "--model", str(checkpoint), "--max-new-tokens", "3")[0] == 0


def test_characters_appear_whole_though_their_bytes_come_one_by_one():
    from pocketgpt.commands.generate import decode_stream

    tokenizer = ByteTokenizer([bytes([byte]) for byte in range(256)])
    pieces = list(decode_stream(tokenizer.encode("“é”🎭!"), tokenizer))
    assert [piece for piece in pieces if piece] == list("“é”🎭!")
    assert "".join(decode_stream([*tokenizer.encode("a"), 0xE2, 0x80], tokenizer)) == "a\N{REPLACEMENT CHARACTER}"


def test_text_appears_while_it_is_written(checkpoint):
    command = [sys.executable, "-u", "-m", "pocketgpt.cli", "generate", "A", "--model", str(checkpoint)]
    command += ["--max-new-tokens", "1000000", "--seed", "1"]  # which does not end its text at once
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert len(process.stdout.read(50)) == 50  # long before a million tokens are there
        process.kill()


@pytest.mark.parametrize("preset", PRESETS)
def test_info_counts_the_parameters_of_every_preset(capsys, preset):
    with torch.device("meta"):
        n_params = build_model(PRESETS[preset]).n_params()
    code, out, _ = run(capsys, "info", preset)
    assert code == 0
    parts = [line.split() for line in out.splitlines() if line.endswith("%")]
    assert sum(int(part[1].replace(",", "")) for part in parts) == n_params
    assert f"{n_params:,}" in out


def test_info_reads_a_checkpoint(capsys, checkpoint):
    code, out, _ = run(capsys, "info", str(checkpoint))
    assert code == 0
    assert "1 layers · d_model 32" in out


def test_train_writes_a_model_that_generate_uses(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.txt").write_text("Full fathom five thy father lies;\nOf his bones are coral made;\n" * 40)
    prompt = 'Full "fathom" for $5'
    small = ["--steps", "2", "--batch-size", "2", "--seq-len", "16", "--prompt", prompt]
    code, out, _ = run(capsys, "train", "--corpus", "own.txt", *small)
    assert code == 0
    assert "Done after 2 steps" in out
    command = out.partition("Generate text:")[2]  # as a shell would read it
    assert shlex.split(command) == ["pocketgpt", "generate", prompt, "--model", "runs/pocket-shakespeare"]
    code, out, _ = run(capsys, "generate", "Full", "--model", "runs/pocket-shakespeare", "--max-new-tokens", "5")
    assert code == 0
    assert out.startswith("Full")


def test_a_run_goes_on_with_its_own_settings_and_no_others(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.txt").write_text("Full fathom five thy father lies;\nOf his bones are coral made;\n" * 40)
    small = ["--steps", "1", "--batch-size", "2", "--seq-len", "16", "--out", "run"]
    run(capsys, "train", "--corpus", "own.txt", *small)
    assert "resume it with `pocketgpt train --resume run`" in run(capsys, "train", "--corpus", "own.txt", *small)[2]
    resume = ["train", "--resume", "run"]
    assert "seed = 0 and not 5" in message_of(capsys, *resume, "--seed", "5")
    assert "begun with --preset pocket-shakespeare and not gpt2" in message_of(capsys, *resume, "--preset", "gpt2")
    assert "leave out --recipe shipped" in message_of(capsys, *resume, "--recipe", "shipped")
    code, out, _ = run(capsys, *resume, "--prompt", "Of")
    assert (code, out.splitlines()[1]) == (0, "Done after 1 steps.")
    assert "has later checkpoints, up to step-000001" in message_of(capsys, "train", "--resume", "run/step-000000")
    code, out, _ = run(capsys, "train", "--resume", "run/step-000000", "--out", "other", "--lr", "0.01")
    assert code == 0 and (tmp_path / "other" / "step-000001").is_dir()
    assert run(capsys, "train", "--resume", "run/step-000001", "--steps", "2")[0] == 0
    assert (tmp_path / "run" / "step-000002").is_dir()
    (tmp_path / "run" / "step-000002" / "model.safetensors").write_bytes(b"")
    assert "step-000002 is damaged" in message_of(capsys, "train", "--resume", "run/step-000002")
    (tmp_path / "run" / "step-000001" / "state.pt").unlink()
    assert "step-000001 is damaged and was skipped: state.pt is missing" in run(capsys, *resume, "--help")[2]


def test_any_field_of_the_model_is_an_option(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.txt").write_text("Full fathom five thy father lies;\nOf his bones are coral made;\n" * 40)
    small = ["--corpus", "own.txt", "--steps", "1", "--batch-size", "2", "--seq-len", "16", "--out", "run"]
    model = ["--model.n-layers", "1", "--model.mixer.n-kv-heads", "3", "--model.rope.theta", "500"]
    assert run(capsys, "train", *small, *model)[0] == 0
    config = GPT.load(tmp_path / "run" / "step-000001").config
    assert (config.n_layers, config.mixer.n_kv_heads, config.rope.theta) == (1, 3, 500.0)
    resume = ["train", "--resume", "run"]
    assert "uses the model of run: leave out" in message_of(capsys, *resume, "--model.n-layers", "2")
    assert run(capsys, *resume, "--model.n-layers", "1")[0] == 0  # as it was


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("llama", ["--model.mixer.n-kv-heads", "--model.feedforward.activation", "--model.rope.theta"]),
        ("latent", ["--model.mixer.kv-rank"]),
        ("pocket-moe", ["--model.feedforward.n-experts"]),
        ("pocket-mamba", ["--model.mixer.d-state"]),
        ("pocket-sparse", ["--model.mixer.n-anchors"]),
        ("pocket-delta", ["--model.mixer.delta-rule"]),
        ("pocket-hybrid", ["--model.mixer.0.d-state", "--model.mixer.1.window", "--model.feedforward.1.top-k"]),
    ],
)
def test_help_shows_the_fields_of_the_preset_s_parts_with_their_docstrings(capsys, preset, options):
    code, out, _ = run(capsys, "train", "--preset", preset, "--help")
    assert code == 0
    assert all(option in out for option in options)
    assert "Width of the residual stream." in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.vocab-size", "9"], "--model.vocab-size 9 cannot be chosen: the tokenizer decides it"),
        (["--model.dropout", "0.3"], "use --dropout 0.3"),
        (["--model.mixer.n-kv-heads", "4"], "AttentionConfig.n_kv_heads = 4 cannot work: use a divisor of n_heads = 6"),
    ],
)
def test_a_field_of_the_model_that_cannot_be_chosen_is_answered_with_what_would_work(capsys, options, message):
    assert message in message_of(capsys, "train", *options)


def test_a_second_run_gets_a_folder_of_its_own(capsys, monkeypatch, tmp_path):
    (tmp_path / "runs" / "pocket-shakespeare").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr("pocketgpt.training.run.train", lambda *arguments: seen.append(arguments) or sys.exit(0))
    run(capsys, "train")
    assert str(seen[0][2]) == os.path.join("runs", "pocket-shakespeare-2")


@pytest.mark.parametrize("argv", [["fetch", "own.txt"], ["train", "--corpus", "own.txt"]])
def test_a_cache_that_cannot_be_written_is_named_with_its_variable(capsys, monkeypatch, tmp_path, argv):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "own.txt" / "cache"))
    (tmp_path / "own.txt").write_text("Full fathom five\n" * 40)
    assert "cache: Not a directory. Set POCKETGPT_CACHE to a folder" in message_of(capsys, *argv)


@pytest.mark.parametrize(
    ("out", "said"), [("own.txt", "own.txt is a file"), ("own.txt/x", "cannot be written"), (".", "is not empty")]
)
def test_a_target_of_a_run_that_cannot_be_used_is_named(capsys, monkeypatch, tmp_path, out, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.txt").write_text("Full fathom five\n" * 40)
    assert said in message_of(capsys, "train", "--corpus", "own.txt", "--out", out)


def test_a_prompt_of_bytes_that_are_no_text_stops_no_training(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.txt").write_text("Full fathom five thy father lies\n" * 80)
    small = ["--corpus", "own.txt", "--steps", "1", "--batch-size", "2", "--seq-len", "16", "--out", "run"]
    assert run(capsys, "train", *small, "--prompt", "\udcff")[0] == 0


def test_version_is_that_of_the_package(capsys):
    from pocketgpt import __version__

    assert run(capsys, "--version")[:2] == (0, f"pocketgpt {__version__}\n")


def test_help_of_train_names_every_recipe(capsys):
    from pocketgpt.training.recipes import RECIPES

    _, out, _ = run(capsys, "train", "--help")
    text = " ".join(out.replace("│", " ").split())
    recipes = text.partition("Set of defaults for the options below")[2].partition("(default")[0]
    assert all(name in recipes for names in RECIPES.values() for name in names)


def test_eval_measures_what_training_measured(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.txt").write_text("Full fathom five thy father lies;\nOf his bones are coral made;\n" * 40)
    small = ["--corpus", "own.txt", "--steps", "2", "--batch-size", "2", "--seq-len", "16", "--out", "run"]
    _, out, _ = run(capsys, "train", *small, "--model.max-seq-len", "16", "--precision", "float32")
    code, measured, _ = run(capsys, "eval", "run", "own.txt")
    assert code == 0 and "run/step-000002 on own.txt (validation): " in measured
    loss = float(measured.split("loss ")[1].split()[0])
    assert float(out.split("step 2: validation loss ")[1].split()[0]) == pytest.approx(loss, abs=1e-3)


def test_a_prompt_is_read_from_standard_input(checkpoint):
    command = [sys.executable, "-m", "pocketgpt.cli", "generate", "-", "--model", str(checkpoint)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [*command, "--max-new-tokens", "3"], input=b"Full fathom", capture_output=True, env=environment
    )
    assert done.returncode == 0 and done.stdout.startswith(b"Full fathom")


def test_a_prompt_is_read_from_a_file(capsys, checkpoint, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("Full fathom – five", encoding="utf-8")
    argv = ["generate", "--model", str(checkpoint), "--max-new-tokens", "2", "--prompt-file", str(file)]
    assert run(capsys, *argv)[1].startswith("Full fathom – five")
    assert "two prompts" in run(capsys, *argv[:1], "Ay", *argv[1:])[2]
    file.write_bytes("caf\xe9".encode("latin1"))
    assert "is not UTF-8" in run(capsys, *argv)[2]
    assert "prompt.txt" in run(capsys, *argv[:-1], str(tmp_path / "no" / "prompt.txt"))[2]


def test_a_folder_for_a_tokenizer_is_answered_with_the_file_in_it(capsys, checkpoint):
    message = message_of(capsys, "fetch", "--tokenizer", str(checkpoint))
    assert f"is a folder: give the file in it, {checkpoint / 'tokenizer.json'}." in message


def test_samples_are_those_of_consecutive_seeds(capsys, checkpoint):
    argv = ["generate", "Ay", "--model", str(checkpoint), "--top-k", "None", "--max-new-tokens", "20"]
    alone = [run(capsys, *argv, "--seed", seed)[1] for seed in ("4", "5")]
    together = run(capsys, *argv, "--seed", "4", "--samples", "2")[1]
    assert together == f"── sample 1 of 2 ──\n{alone[0]}── sample 2 of 2 ──\n{alone[1]}"
    assert "use 1 or more" in run(capsys, *argv, "--samples", "0")[2]


def test_a_stop_string_ends_the_text(capsys, checkpoint):
    argv = ["generate", "Ay", "--model", str(checkpoint), "--top-k", "None", "--max-new-tokens", "40", "--seed", "4"]
    text = run(capsys, *argv)[1]
    stop = text[12:15]
    assert run(capsys, *argv, "--stop", "never there", stop)[1] == text[: text.index(stop, 2)] + "\n"
    assert "empty stop string" in run(capsys, *argv, "--stop", "")[2]


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=3), max_size=3), st.integers(1, 5))
def test_a_stop_string_is_found_however_the_text_arrives(text, stops, step):
    from pocketgpt.commands.generate import until

    arriving = [text[i : i + step] for i in range(0, len(text), step)]
    ends = [text.index(stop) for stop in stops if stop in text]
    assert "".join(until(stops, arriving)) == text[: min(ends, default=len(text))]

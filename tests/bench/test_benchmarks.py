"""Each benchmark runs, with tiny shapes, and compares things that are equal."""

import pytest
import torch

from pocketgpt.bench import generate, theirs, train
from pocketgpt.bench.report import Report
from pocketgpt.cli import main
from pocketgpt.config import preset
from pocketgpt.gpt import GPT
from pocketgpt.layers.attention import fused_attention


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch):
    """What the machine can do is not measured anew, a second at a time."""
    monkeypatch.setattr(train, "matmul_flops", lambda device, dtype: 1e12)
    monkeypatch.setattr(generate, "memory_bandwidth", lambda device: 1e10)


@pytest.mark.parametrize("name", ["train", "generate", "attention"])
def test_quick_run_prints_a_table_and_leaves_json_and_a_picture(name, tmp_path, capsys):
    assert main(["bench", name, "--quick", "--runs", "1", "--device", "cpu", "--out", str(tmp_path)]) == 0
    report = Report.load(tmp_path / f"{name}.json")
    assert report.rows and report.rows[0]["variant"] in capsys.readouterr().out
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_without_transformers_its_rows_are_left_out_with_a_sentence(monkeypatch):
    monkeypatch.setattr(theirs, "available", lambda: False)
    report = Report("generate", {}, {})
    config = preset("smollm2-135m", **generate.TINY)
    generate.bench_generate(report, torch.device("cpu"), 1, config, [4], 3, compiled=False)
    assert {row["variant"] for row in report.rows} <= {"float32", "bf16"}
    assert theirs.MISSING in report.notes


def test_ctrl_c_leaves_the_files_of_what_was_measured(monkeypatch, tmp_path):
    interleaved, rounds = generate.interleaved, []

    def interrupted(*arguments) -> None:
        if rounds:
            raise KeyboardInterrupt
        rounds.append(interleaved(*arguments))

    monkeypatch.setattr(generate, "interleaved", interrupted)
    assert main(["bench", "generate", "--quick", "--runs", "1", "--device", "cpu", "--out", str(tmp_path)]) == 130
    assert {row["context"] for row in Report.load(tmp_path / "generate.json").rows} == {generate.TINY_CONTEXTS[0]}


def test_their_llama_with_our_weights_gives_our_logits(lively, assert_equal):
    model = lively(preset("smollm2-135m", **generate.TINY))
    tokens = torch.randint(61, (2, 20))
    with torch.no_grad():
        assert_equal(model(tokens), theirs.llama(model)(input_ids=tokens, use_cache=False).logits)


def test_both_write_the_same_tokens(lively):
    model = lively(preset("smollm2-135m", **generate.TINY))
    arrivals = {"ours": [], "theirs": []}
    generate.ours(model)([1, 2, 3], 5, lambda: arrivals["ours"].append(1))
    generate.transformers(theirs.llama(model))([1, 2, 3], 5, lambda: arrivals["theirs"].append(1))
    assert len(arrivals["ours"]) == len(arrivals["theirs"]) == 5


def test_flops_of_their_gpt2_are_those_of_the_same_model_of_ours():
    config = preset("gpt2", vocab_size=61, d_model=64, n_layers=2, n_heads=4, max_seq_len=16)
    assert theirs.gpt2_flops_per_token(config, 16) == GPT(config).flops_per_token(16)
    assert sum(p.numel() for p in theirs.gpt2(config).parameters()) == GPT(config).n_params()


def test_every_way_to_train_gives_the_same_first_loss():
    config, cpu = train.TINY.config(), torch.device("cpu")
    tokens = torch.randint(config.vocab_size, (2, 33))
    losses = {}
    for way in train.ways(cpu, compile=False, n_tokens=64):
        torch.manual_seed(0)
        run = train.contestant(way, GPT(config), (tokens[:, :-1], tokens[:, 1:]), cpu, flops=1).run
        run.args[2][0].param_groups[0]["lr"] = 0.0
        losses[way.name] = run()[0]
    assert losses == pytest.approx(dict.fromkeys(losses, losses["float32"]), rel=2e-3)


def test_step_by_step_takes_the_place_of_the_fused_operator():
    model = GPT(train.TINY.config())
    train.step_by_step(train.NextTokenLoss(model))
    assert all(block.attention.core is not fused_attention for block in model.blocks)


@pytest.mark.parametrize("runs", ["0", "-1"])
def test_no_runs_are_refused(runs, capsys):
    assert main(["bench", "train", "--runs", runs]) == 2
    assert f"runs = {runs} cannot work" in capsys.readouterr().err

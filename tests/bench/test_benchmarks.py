"""Each benchmark runs, with tiny shapes, and compares things that are equal."""

import jaxtyping
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pocketgpt.bench import attention, generate, theirs, train
from pocketgpt.bench.report import Report
from pocketgpt.cli import main
from pocketgpt.commands.bench import TINY_CONTEXTS, TINY_LLAMA, TINY_POCKET
from pocketgpt.inference.speed import bytes_per_step
from pocketgpt.layers.attention_backends import fused_attention, short_attention, step_by_step_attention
from pocketgpt.models.classes import build_model
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import PRESETS, preset
from pocketgpt.text.byte_tokenizer import ByteTokenizer

CPU = torch.device("cpu")
LLAMA = preset("smollm2-135m", **TINY_LLAMA)


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch):
    """The limits of the machine are not measured, and nothing is exported to ONNX, which takes seconds each."""
    monkeypatch.setattr(theirs, "onnx_available", lambda: False)
    monkeypatch.setattr(train, "matmul_flops", lambda device, dtype: 1e12)
    monkeypatch.setattr(generate, "memory_bandwidth", lambda device: 1e10)


@pytest.mark.parametrize("name", ["train", "generate", "attention"])
def test_quick_run_prints_a_table_and_leaves_json_and_a_picture(name, tmp_path, capsys):
    assert main(["bench", name, "--quick", "--runs", "1", "--device", "cpu", "--out", str(tmp_path)]) == 0
    report = Report.load(tmp_path / f"{name}.json")
    printed = capsys.readouterr().out
    assert report.rows and all(row["variant"] in printed for row in report.rows)
    assert report.notes and all(note in printed for note in report.notes)
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["train", "generate"])
def test_without_transformers_its_rows_are_left_out_with_a_note(name, monkeypatch, tmp_path):
    monkeypatch.setattr(theirs, "available", lambda: False)
    assert main(["bench", name, "--quick", "--runs", "1", "--device", "cpu", "--out", str(tmp_path)]) == 0
    report = Report.load(tmp_path / f"{name}.json")
    assert report.rows and not any("transformers" in row["variant"] for row in report.rows)
    assert theirs.MISSING in report.notes


def test_without_onnxruntime_its_rows_are_left_out_with_a_note(tmp_path):
    assert main(["bench", "generate", "--quick", "--runs", "1", "--device", "cpu", "--out", str(tmp_path)]) == 0
    report = Report.load(tmp_path / "generate.json")
    assert not any("onnxruntime" in row["variant"] for row in report.rows)
    assert theirs.ONNX_MISSING in report.notes


def test_onnxruntime_writes_with_our_weights_beside_ours(monkeypatch, lively, assert_equal):
    model = lively(LLAMA)
    monkeypatch.setattr(theirs, "onnx_available", lambda: True)
    monkeypatch.setattr(theirs, "available", lambda: False)
    jaxtyping.config.update("jaxtyping_disable", True)  # while PyTorch traces, a length is a symbol and no int
    try:
        found = generate.variants(model, compile=False)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    exported = {name: write for name, (write, _) in found.items() if name.startswith("onnxruntime")}
    assert list(exported) == ["onnxruntime, float32", "onnxruntime, int8", "onnxruntime, int4"]
    for write in exported.values():
        arrivals = write([1, 2, 3], 5)
        assert len(arrivals) == 5
        assert arrivals == sorted(arrivals) and arrivals[0] > 0
    tokens = torch.randint(61, (1, 12))
    with torch.no_grad():
        assert_equal(exported["onnxruntime, float32"].args[0](tokens), model(tokens))
    n_read = [found[name][1](0) for name in exported]
    assert n_read == sorted(n_read, reverse=True)
    assert n_read[0] == bytes_per_step(model, 0)


def test_ctrl_c_leaves_the_files_of_what_was_measured(monkeypatch, tmp_path):
    in_turn, rounds = generate.in_turn, []

    def interrupted(*arguments) -> None:
        if rounds:
            raise KeyboardInterrupt
        rounds.append(in_turn(*arguments))

    monkeypatch.setattr(generate, "in_turn", interrupted)
    assert main(["bench", "generate", "--quick", "--runs", "1", "--device", "cpu", "--out", str(tmp_path)]) == 130
    assert {row["context"] for row in Report.load(tmp_path / "generate.json").rows} == {TINY_CONTEXTS[0]}


def test_ctrl_c_while_training_keeps_the_variants_that_were_timed(monkeypatch, tmp_path):
    timed = []

    def interrupted(step, keep) -> float:
        if len(timed) == 3:  # both to warm up, and the first one again
            raise KeyboardInterrupt
        timed.append(step)
        return 0.5

    monkeypatch.setattr(train, "seconds_per_step", interrupted)
    command = ["bench", "train", "--quick", "--runs", "1", "--device", "cpu", "--out", str(tmp_path)]
    monkeypatch.setattr(
        train, "variants", lambda *_: {"float32": {"precision": "float32"}, "again": {"precision": "float32"}}
    )
    assert main(command) == 130
    assert [row["variant"] for row in Report.load(tmp_path / "train.json").rows] == ["float32"]


def test_ctrl_c_before_the_first_result_leaves_no_files(monkeypatch, tmp_path):
    def interrupted(*arguments) -> None:
        raise KeyboardInterrupt

    for module in (train, generate, attention):
        monkeypatch.setattr(module, "in_turn", interrupted)
    for name in ("train", "generate", "attention"):
        assert main(["bench", name, "--quick", "--device", "cpu", "--out", str(tmp_path)]) == 130
    assert not list(tmp_path.iterdir())


def test_generation_is_measured_with_the_model_that_is_named(tmp_path):
    command = ["bench", "generate", "--quick", "--runs", "1", "--device", "cpu", "--out", str(tmp_path)]
    assert main([*command, "--model", "pocket-shakespeare"]) == 0
    report = Report.load(tmp_path / "generate.json")
    assert report.settings["config"]["vocab_size"] == 4096
    assert {"float32", "transformers, float32"} <= {row["variant"] for row in report.rows}


@pytest.mark.parametrize("name", ["pocket-diffusion", "pocket-bert", "pocket-t5"])
def test_a_model_that_does_not_write_token_by_token_is_a_mistake(small, tmp_path, capsys, name):
    tokenizer = ByteTokenizer([bytes([byte]) for byte in range(256)])
    build_model(small(name, vocab_size=300)).save(tmp_path / "model")
    tokenizer.save(tmp_path / "model" / "tokenizer.json")
    assert main(["bench", "generate", "--quick", "--model", str(tmp_path / "model"), "--out", str(tmp_path)]) == 2
    assert "does not write token by token" in capsys.readouterr().err


def test_a_llama_is_known_by_its_parts():
    assert {name for name in PRESETS if theirs.is_llama(PRESETS[name])} == {
        "llama",
        "pocket-shakespeare",
        "smollm2-135m",
    }


def test_their_llama_with_our_weights_gives_our_logits(lively, assert_equal):
    model = lively(LLAMA)
    tokens = torch.randint(61, (2, 20))
    with torch.no_grad():
        assert_equal(model(tokens), theirs.llama(model)(input_ids=tokens, use_cache=False).logits)


def test_both_write_as_many_tokens_as_asked_for(lively):
    model = lively(LLAMA)
    for arrivals in (
        generate.write_ours(model, [1, 2, 3], 5),
        generate.write_theirs(theirs.llama(model), [1, 2, 3], 5),
    ):
        assert len(arrivals) == 5
        assert arrivals == sorted(arrivals) and arrivals[0] > 0


def test_a_model_to_compare_with_is_left_as_it_was(lively):
    model = lively(LLAMA)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    parts = {name: dict(vars(module)) for name, module in model.named_modules()}
    copy = theirs.llama(model)
    generate.write_ours(model, [1, 2, 3], 5)
    generate.write_theirs(copy, [1, 2, 3], 5)
    with torch.no_grad():
        for weight in copy.parameters():
            weight.zero_()
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    for name, module in model.named_modules():
        assert vars(module).keys() == parts[name].keys()
        assert all(vars(module)[key] is value for key, value in parts[name].items()), name


def test_flops_of_their_gpt2_are_those_of_the_same_model_of_ours():
    config = theirs.gpt2_like(preset("pocket", vocab_size=61, d_model=48, n_layers=2, max_seq_len=16))
    model = theirs.gpt2(config).train()
    assert sum(p.numel() for p in model.parameters()) == GPT(config).n_params()
    tokens = torch.randint(61, (2, 16))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens)
    assert counter.get_total_flops() == 2 * 16 * GPT(config).flops_per_token(16)


def test_every_way_to_train_gives_the_same_first_loss():
    config = preset("pocket", dropout=0.0, **TINY_POCKET)
    tokens = torch.randint(config.vocab_size, (2, 33))
    losses = {
        name: train.build_step(config, variant, (tokens[:, :-1], tokens[:, 1:]), CPU)()[0]
        for name, variant in train.variants(CPU, compile=False, n_tokens=64).items()
        if "transformers" not in name
    }
    assert losses == pytest.approx(dict.fromkeys(losses, losses["float32"]), rel=2e-3)


def test_each_variant_computes_attention_in_the_way_of_its_name():
    config = preset("pocket", dropout=0.0, **TINY_POCKET)
    batch = torch.randint(config.vocab_size, (2, 32)), torch.randint(config.vocab_size, (2, 32))
    backends = {}
    for name, variant in train.variants(CPU, compile=False, n_tokens=64).items():
        if "transformers" not in name:
            loss = train.build_step(config, variant, batch, CPU).args[0]
            [backends[name]] = {mixer.attend for mixer in loss.model.mixers()}
    assert backends.pop("bf16, attention step by step", step_by_step_attention) is step_by_step_attention
    assert backends.pop("bf16 + our kernels", short_attention) is short_attention
    assert set(backends.values()) == {fused_attention}


@pytest.mark.parametrize("runs", ["0", "-1"])
def test_no_runs_are_refused(runs, capsys):
    assert main(["bench", "train", "--runs", runs]) == 2
    assert f"runs = {runs} cannot work" in capsys.readouterr().err

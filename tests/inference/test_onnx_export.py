"""An exported graph computes what the model does, at any length, and needs neither PyTorch nor us.

Exports take seconds, so each is made once for the module.
"""

import errno
import json
import subprocess
import sys
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import jaxtyping
import numpy as np
import onnx
import onnxruntime
import onnxscript
import pytest
import torch

from pocketgpt.assets import asset
from pocketgpt.bench import theirs
from pocketgpt.cli import main
from pocketgpt.errors import PocketError
from pocketgpt.inference import onnx_export, onnx_folder, run_onnx
from pocketgpt.inference.fidelity import fidelity
from pocketgpt.inference.generate import generate
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.inference.onnx_export import to_onnx
from pocketgpt.inference.onnx_folder import OnnxModel, save_onnx
from pocketgpt.inference.onnx_quantization import quantizable, quantize_onnx
from pocketgpt.inference.quantization import quantize
from pocketgpt.inference.sampling import Sampler
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.latent_attention import LatentAttentionConfig
from pocketgpt.layers.linear_attention import LinearAttentionConfig
from pocketgpt.layers.mamba import MambaConfig
from pocketgpt.layers.mixture_of_experts import MixtureOfExpertsConfig
from pocketgpt.layers.rope_scaling import RopeConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset
from pocketgpt.text.byte_tokenizer import ByteTokenizer
from pocketgpt.training.checkpoint import load_shipped

EVERY_CACHE = (
    MambaConfig(d_state=4),
    AttentionConfig(n_heads=6, n_kv_heads=2, d_head=8, window=3, n_anchors=2, qk_norm=True),
    LatentAttentionConfig(n_heads=6, d_head=8),
)
MODELS = {
    "every cache": (
        "llama",
        {
            "mixer": EVERY_CACHE,
            "feedforward": (None, FeedForwardConfig(d_ff=64), MixtureOfExpertsConfig(n_experts=3, d_ff=24)),
            "n_layers": 3,
            "rope": RopeConfig(scaling="yarn", factor=4.0, original_max_seq_len=10),
        },
    ),
    "learned positions": ("gpt2", {"n_layers": 1}),
    "dynamic": (
        "pocket",
        {"n_layers": 1, "rope": RopeConfig(scaling="dynamic", original_max_seq_len=10), "norm_order": "post"},
    ),
}


@contextmanager
def unchecked():
    """Without checks of annotations: while PyTorch traces a model, a length is a symbol and no int."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


BYTES = ByteTokenizer([bytes([byte]) for byte in range(256)])
GREEDY = Sampler(temperature=0.0)


@pytest.fixture(scope="module", params=MODELS)
def exported(request, small, lively, tmp_path_factory) -> tuple[GPT, Path]:
    """A small model with a dropout and a mode that must not matter, and its graph."""
    name, changes = MODELS[request.param]
    model = lively(small(name, **changes | {"dropout": 0.5})).train()
    for parameter in model.parameters():
        parameter.data *= 0.8  # lively layers of many kinds amplify rounding to 1.1e-5
    file = tmp_path_factory.mktemp("graph") / "model.onnx"
    with unchecked():
        onnx.save(to_onnx(model, BYTES), file)
    assert model.training
    return model.eval(), file


@pytest.fixture(scope="module")
def shipped():
    return load_shipped()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The shipped model, exported by the command."""
    folder = tmp_path_factory.mktemp("exported") / "pocket"
    with unchecked():
        assert main(["export", "--to", "onnx", "--out", str(folder)]) == 0
    return folder


@torch.no_grad()
@pytest.mark.parametrize("batch, chunks", [(1, [1] * 9), (2, [1, 1, 7]), (3, [5, 4]), (1, [24]), (4, [2, 1, 3, 18])])
def test_logits_are_the_models_however_the_text_is_cut(exported, batch, chunks, assert_equal):
    model, file = exported
    tokens = torch.randint(61, (batch, sum(chunks)), generator=torch.Generator().manual_seed(batch))
    expected = model(tokens, new_cache(model, batch))  # dynamic RoPE: the angles of max_seq_len, as in generation
    assert_equal(OnnxModel(file).in_chunks([chunk.numpy() for chunk in tokens.split(chunks, dim=1)]), expected)


@torch.no_grad()
def test_rows_of_a_batch_do_not_see_each_other(exported, assert_equal):
    _, file = exported
    graph, tokens = OnnxModel(file), torch.randint(61, (3, 12))
    assert_equal(graph(tokens)[1:2], graph(tokens[1:2]))


def test_inputs_and_outputs_have_the_names_of_other_tools(exported):
    model, file = exported
    session = onnxruntime.InferenceSession(file)
    inputs, outputs = ({each.name: each.shape for each in end} for end in (session.get_inputs(), session.get_outputs()))
    assert inputs.pop("input_ids") == ["batch", "seq"]
    assert outputs.pop("logits") == ["batch", "seq", 61]
    assert [name.replace("past_key_values", "present") for name in inputs] == list(outputs)
    for (name, past), present in zip(inputs.items(), outputs.values(), strict=True):
        if name.endswith(("conv", "ssm")):
            assert past == present and past[0] == "batch"
        else:
            assert (past[2], present[2]) == ("past", "past + seq")
    if len(list(model.mixers())) == 3:
        kinds = ["0.conv", "0.ssm", "1.key", "1.value", "2.latent"]
        assert list(inputs) == [f"past_key_values.{kind}" for kind in kinds]


def test_heads_of_a_group_share_keys_without_a_copy(exported):
    graph = onnx.load(exported[1]).graph
    inputs = {name for node in graph.node if node.op_type == "Attention" for name in node.input[1:3]}
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    assert {made_by[name] for name in inputs} <= {"Concat", "Slice"}  # the cache; the latent without its rotary part


def test_the_file_says_nothing_of_the_machine_it_was_made_on(exported):
    content = exported[1].read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert b"site-packages" not in content


def test_softplus_is_exact_where_it_is_small(exported):
    x = np.linspace(-16, 16, 200, dtype=np.float32)
    ours = np.asarray(
        onnx_export.softplus(onnxscript.tensor.Tensor(x)).value
    )  # onnxscript runs it operator by operator
    np.testing.assert_allclose(ours, np.log1p(np.exp(x.astype(np.float64))), rtol=1e-6)
    assert "Softplus" not in {node.op_type for node in onnx.load(exported[1]).graph.node}


@torch.no_grad()
def test_every_linear_layer_is_rounded_but_those_that_layers_want_in_full_precision(exported, tmp_path):
    model, file = exported
    graph = quantize_onnx(onnx.load(file), "int8", quantizable(model))
    rounded = {node.name.partition("/")[0] for node in graph.graph.node if node.op_type == "MatMulNBits"}
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    exact = {name for name in linear if name.endswith(("x_proj", "dt_proj", "router", "k_up_proj", "v_up_proj"))}
    assert rounded == linear - exact
    onnx.save(graph, tmp_path / "model.onnx")
    tokens = torch.randint(61, (2, 12))
    expected = model(tokens, new_cache(model, 2))
    difference = (OnnxModel(tmp_path / "model.onnx")(tokens) - expected).abs()
    assert 0 < difference.mean() < 0.03 * expected.std()


@torch.no_grad()
def test_logits_are_those_of_transformers(shipped, folder, assert_equal):
    model = theirs.llama(shipped.model)
    tokens = torch.randint(4096, (2, 40), generator=torch.Generator().manual_seed(0))
    expected = model(input_ids=tokens, use_cache=False).logits
    chunks = [chunk.numpy() for chunk in tokens.split([30, 1, 1, 8], dim=1)]
    assert_equal(OnnxModel(folder / "model.onnx").in_chunks(chunks), expected)


def test_script_writes_our_text_without_torch_and_pocketgpt(shipped, folder, tmp_path):
    prompt, n_tokens = "HAMLET:\nTo be", 30
    tokens = shipped.tokenizer.encode(prompt)
    (ours,) = generate(shipped.model, [tokens], max_new_tokens=n_tokens, sampler=GREEDY)
    forbidden = "sys.modules.update(dict.fromkeys(('torch', 'pocketgpt', 'transformers')))"  # None: cannot be imported
    script = f"import runpy, sys; {forbidden}; runpy.run_path({str(folder / 'generate.py')!r}, run_name='__main__')"
    command = [sys.executable, "-c", script, prompt, str(n_tokens)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=tmp_path, check=True)
    assert done.stdout == f"{prompt}{shipped.tokenizer.decode(ours)}\n"


def test_script_ends_where_the_model_does(shipped, folder):
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    longest = shipped.model.config.max_seq_len
    assert len(list(run_onnx.write(session, [5] * (longest - 3), 100))) <= 4
    for prompt in ([], [5] * (longest + 1)):
        with pytest.raises(SystemExit, match=f"use 1 to {longest}"):
            list(run_onnx.write(session, prompt, 1))


def test_metadata_has_config_and_vocabulary(shipped, folder):
    found = onnxruntime.InferenceSession(folder / "model.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(found["config"]) == json.loads(json.dumps(shipped.model.config.to_dict()))
    assert found["vocabulary"] == shipped.tokenizer.hash
    assert int(found["end_of_text"]) == shipped.tokenizer.end_of_text


@pytest.mark.parametrize("weights, largest_kl, share", [("int8", 0.002, 0.40), ("int4", 0.1, 0.26)])
def test_fewer_bits_give_a_smaller_file_and_nearly_the_same_model(
    weights, largest_kl, share, shipped, folder, tmp_path
):
    graph = quantize_onnx(onnx.load(folder / "model.onnx"), weights, quantizable(shipped.model))
    onnx.save(graph, tmp_path / "model.onnx")
    before, after = ((place / "model.onnx").stat().st_size for place in (folder, tmp_path))
    assert after < share * before
    # head and embedding too: no large float32 matrix but the scales is left
    sizes = [np.prod(each.dims) for each in graph.graph.initializer if each.data_type == onnx.TensorProto.FLOAT]
    assert max(sizes) <= 192 * 4096 / 32
    tokens = np.array(shipped.tokenizer.encode(asset("held-out.txt").read_text("utf-8"))[:256])
    assert 0 < fidelity(OnnxModel(tmp_path / "model.onnx"), shipped.model, tokens).kl < largest_kl


def test_unknown_weights_are_refused(folder):
    with pytest.raises(PocketError, match="int8, int4"):
        quantize_onnx(onnx.load(folder / "model.onnx"), "int2", ())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"causal": False}, "causal = False"),
        ({"mixer": MambaConfig(), "feedforward": None, "positions": "learned"}, "positions = 'none' works"),
        ({"mixer": LinearAttentionConfig(n_heads=2)}, "kind 'linear_attention'"),
    ],
)
def test_a_model_without_such_a_graph_is_refused_with_a_reason(changes, message):
    config = preset(
        "llama", vocab_size=61, d_model=16, n_layers=1, max_seq_len=8, **{"mixer": {"n_heads": 2}} | changes
    )
    with pytest.raises(PocketError, match=message):
        to_onnx(GPT(config), BYTES)


def test_a_quantized_model_is_refused(shipped):
    with pytest.raises(PocketError, match="quantize or change it after loading"):
        to_onnx(quantize(shipped.model, "int8"), shipped.tokenizer)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None if name == "onnxscript" else name)
    assert main(["export", "--out", str(tmp_path / "new")]) == 2
    assert "needs onnxscript: pip install 'pocketgpt[export]'" in capsys.readouterr().err


def test_a_folder_with_files_is_not_replaced(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["export", "--out", str(tmp_path)]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_rounded_weights_belong_to_onnx(capsys, tmp_path):
    assert main(["export", "--to", "huggingface", "--weights", "int4", "--out", str(tmp_path / "new")]) == 2
    assert "leave it away" in capsys.readouterr().err


@pytest.fixture
def graph_at_hand(monkeypatch, folder):
    monkeypatch.setattr(onnx_folder, "to_onnx", lambda model, tokenizer: onnx.load(folder / "model.onnx"))


def test_a_full_disk_leaves_nothing_and_is_explained(graph_at_hand, monkeypatch, shipped, tmp_path):
    def full(graph, file, **options) -> None:
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(PocketError, match=r"No space left on device. It needs up to .* MB are free"):
        save_onnx(shipped.model, shipped.tokenizer, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_a_graph_that_computes_something_else_is_not_written(graph_at_hand, shipped, lively, tmp_path):
    with pytest.raises(PocketError, match="is not the model"):
        save_onnx(lively(shipped.model.config), shipped.tokenizer, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_a_model_in_training_is_compared_without_its_dropout(graph_at_hand, shipped, tmp_path):
    model = deepcopy(shipped.model).train()
    model.dropout.p = 0.5
    assert save_onnx(model, shipped.tokenizer, tmp_path / "new").difference < 1e-5
    assert model.training


def test_a_model_in_half_precision_is_exported_with_its_weights_in_float32(small, lively, tmp_path):
    model = lively(small("gpt2", n_layers=1, vocab_size=257)).to(torch.bfloat16)
    with unchecked():
        result = save_onnx(model, BYTES, tmp_path / "new")
    assert result.difference < 1e-5 and result.kl < 1e-9
    assert model.dtype == torch.bfloat16


def test_many_weights_are_written_beside_the_graph(graph_at_hand, monkeypatch, shipped, tmp_path):
    monkeypatch.setattr(onnx_folder, "LARGEST_IN_ONE_FILE", 1_000_000)
    result = save_onnx(shipped.model, shipped.tokenizer, tmp_path / "new")
    graph, weights = (tmp_path / "new" / name for name in ("model.onnx", "model.onnx.data"))
    assert result.n_bytes == graph.stat().st_size + weights.stat().st_size
    assert result.difference < 1e-5 and result.kl < 1e-9
    assert graph.stat().st_size < 1_000_000


def test_huggingface_folder_is_written_by_the_same_command(capsys, tmp_path):
    assert main(["export", "--to", "huggingface", "--out", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / "model.safetensors").is_file()

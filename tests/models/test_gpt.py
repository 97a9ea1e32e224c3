import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from pocketgpt.errors import PocketError
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.rope_scaling import RopeConfig
from pocketgpt.models.classes import build_model, load_model
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import PRESETS, preset
from pocketgpt.models.stack import ContextError, Stack

V = 50_257  # GPT-2's vocabulary
CAUSAL = [name for name, config in PRESETS.items() if config.causal]


def on_meta(config: ModelConfig) -> Stack:
    """Shapes without memory: a model of any size in no time."""
    with torch.device("meta"):
        return build_model(config)


# Counted by hand from the papers: embedding (+ head), then per layer attention, feed-forward and norms, then the rest.
PARAMETERS = {
    "pocket": 2 * V * 384 + 6 * (2 * 384 * 384 + 2 * 384 * 128 + 2 * 384 * 1536),
    "gpt2": 124_439_808,
    "llama": V * 768 + 12 * (4 * 768 * 768 + 3 * 768 * 2048 + 2 * 768) + 768,
    "brain": V * 768 + 12 * (4 * 768 * 768 + 2 * 768 * 3072 + 3072 + 768 + 4 * 768) + 2 * 768,
    "smollm2-135m": 134_515_008,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_n_params_is_the_count_by_hand(name):
    assert on_meta(preset(name)).n_params() == PARAMETERS[name]


@pytest.mark.parametrize(("batch", "seq"), [(1, 1), (2, 96)])
@pytest.mark.parametrize("name", PRESETS)
def test_flops_per_token_is_what_pytorch_counts(name, batch, seq):
    small_enough = name.startswith("pocket-")  # which tokens an expert gets is not known without data
    model = build_model(preset(name)) if small_enough else on_meta(preset(name))
    model.use_attention("step_by_step")  # PyTorch's counter sees plain products, and not all fused kernels
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(batch, seq, dtype=torch.long, device=model.device))
    assert model.flops_per_token(seq) * batch * seq == counter.get_total_flops()


def test_training_takes_three_times_the_flops(small, lively):
    model = lively(small("llama")).use_attention("step_by_step")
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 10, dtype=torch.long)).sum().backward()
    assert 3 * model.flops_per_token(10) * 20 == counter.get_total_flops()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("capacity", [1, 5, 6, 24])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("name", CAUSAL)
def test_cache_bytes_is_what_a_cache_allocates(name, window, capacity, dtype, small):
    model = build_model(small(name, window=window)).to(dtype)
    tensors = [tensor for layer in new_cache(model, 3, capacity).layers for tensor in layer.tensors]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    assert model.cache_bytes(3, capacity, dtype) == sum(storages.values())


def test_a_model_that_is_not_causal_has_no_cache(small):
    assert GPT(small("llama", causal=False)).cache_bytes(3, 20) == 0


@pytest.mark.parametrize("name", CAUSAL)
def test_a_later_token_changes_no_earlier_logits(name, small, lively):
    model = lively(small(name))
    tokens = torch.randint(61, (1, 20))
    changed = tokens.clone()
    changed[0, 12] = (tokens[0, 12] + 1) % 61
    before, after = model(tokens), model(changed)
    # An expert's product rounds differently when another number of tokens takes part in it.
    tolerance = 1e-5 if model.n_active_params() < model.n_params() else 0.0
    torch.testing.assert_close(before[:, :12], after[:, :12], rtol=tolerance, atol=tolerance)
    assert ((before[:, 12:] - after[:, 12:]).abs().amax(-1) > 100 * tolerance).all()


def test_without_the_causal_mask_a_later_token_changes_everything(small, lively):
    model = lively(small("llama", causal=False))
    tokens = torch.randint(61, (1, 20))
    changed = tokens.clone()
    changed[0, 12] = (tokens[0, 12] + 1) % 61
    assert (model(tokens) != model(changed)).any(-1).all()


def test_with_a_window_a_token_reaches_one_window_per_layer(small, lively):
    model = lively(small("llama", window=4))  # two layers: 2 · (4 − 1) positions further at most
    tokens = torch.randint(61, (1, 20))
    changed = tokens.clone()
    changed[0, 5] = (tokens[0, 5] + 1) % 61
    differs = (model(tokens) != model(changed)).any(-1)[0]
    assert differs.nonzero().flatten().tolist() == list(range(5, 12))


@pytest.mark.parametrize("positions", ["none", "rope", "learned", "sinusoidal"])
def test_order_is_seen_through_positions_only(positions, small, lively):
    model = lively(small("llama", positions=positions, causal=False))
    tokens, order = torch.randint(61, (1, 20)), torch.randperm(20)
    shuffled = torch.allclose(model(tokens[:, order]), model(tokens)[:, order], atol=1e-3)
    assert shuffled == (positions == "none")


def test_the_last_token_of_one_causal_layer_sees_a_set_without_positions(small, lively, assert_equal):
    model = lively(small("llama", positions="none", n_layers=1))
    tokens = torch.randint(61, (1, 20))
    shuffled = torch.cat((tokens[:, torch.randperm(19)], tokens[:, 19:]), dim=1)
    assert_equal(model(shuffled)[:, -1].detach(), model(tokens)[:, -1].detach())


@pytest.mark.parametrize("positions", ["none", "rope", "learned", "sinusoidal"])
def test_more_tokens_than_positions_are_an_error(positions, small):
    model = GPT(small("llama", positions=positions))
    model(torch.zeros(1, 24, dtype=torch.long))
    with pytest.raises(ContextError, match="25 tokens are more than the 24"):
        model(torch.zeros(1, 25, dtype=torch.long))


def test_features_are_what_the_head_sees(small, lively):
    model, tokens = lively(small("pocket")), torch.randint(61, (2, 7))
    assert torch.equal(F.linear(model.features(tokens), model.head.weight), model(tokens))


def test_embedding_norm_comes_before_the_first_block_and_the_final_norm_before_the_head(small, lively):
    model = lively(small("pocket"))
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    features = model.features(torch.randint(61, (2, 7)))
    for x in (seen[0], features):
        torch.testing.assert_close(x.square().mean(-1), torch.ones(2, 7), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", PRESETS)
def test_initial_weights_are_as_in_the_table(name, small):
    config = small(name, vocab_size=1000, d_model=192, n_heads=6, n_kv_heads=2, d_head=32, d_ff=512)
    model = build_model(config)
    outputs = {id(weight) for part in model.parts() for weight in part.output_weights()}
    n_outputs = sum(1 if feedforward is None else 2 for _, feedforward in model.config.layers())
    for parameter_name, parameter in model.named_parameters():
        if any(special in parameter_name for special in ("A_log", ".D", "dt_proj", "conv1d")):
            continue  # of Mamba, whose own test looks at them
        if parameter.ndim == 1:
            assert (parameter == (0.0 if parameter_name.endswith("bias") else 1.0)).all(), parameter_name
        else:
            std = 0.02 / math.sqrt(n_outputs) if id(parameter) in outputs else 0.02
            noise = 5 / math.sqrt(2 * parameter.numel())
            assert parameter.std().item() == pytest.approx(std, rel=noise), parameter_name
            assert abs(parameter.mean().item()) < 5 * std / math.sqrt(parameter.numel()), parameter_name


@pytest.mark.parametrize("name", PRESETS)
def test_first_loss_is_that_of_a_guess(name, small):
    model = build_model(small(name, vocab_size=1000)).eval()
    tokens = torch.randint(1000, (8, 25))
    loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(1000), rel=0.02)


def test_equal_seeds_make_equal_models(small):
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(GPT(small("gpt2")).embedding.weight)
    assert torch.equal(models[0], models[1]) and not torch.equal(models[0], models[2])


def test_tied_weights_are_one_tensor(small):
    model = GPT(small("llama"))
    assert model.head.weight is model.embedding.weight
    assert model.to(torch.bfloat16).head.weight is model.embedding.weight
    assert GPT(small("pocket")).head.weight is not GPT(small("pocket")).embedding.weight


@pytest.mark.parametrize("name", PRESETS)
def test_save_and_load(name, small, lively, tmp_path):
    model, tokens = lively(small(name)), torch.randint(61, (2, 20))
    model.save(tmp_path / "run" / "best")
    loaded = load_model(tmp_path / "run" / "best")
    assert type(loaded) is type(model)
    assert loaded.config == model.config and not loaded.training
    assert torch.equal(loaded(tokens), model(tokens))
    assert (loaded.head.weight is loaded.embedding.weight) == model.config.tie_embeddings
    assert sorted(file.name for file in (tmp_path / "run" / "best").iterdir()) == ["config.json", "model.safetensors"]


def test_tied_weights_are_saved_once(small, lively, tmp_path):
    lively(small("llama")).save(tmp_path)
    assert "head.weight" not in load_file(tmp_path / "model.safetensors")
    lively(small("pocket")).save(tmp_path)
    assert "head.weight" in load_file(tmp_path / "model.safetensors")


def test_saved_in_half_precision_loaded_in_float32(small, lively, tmp_path):
    model = lively(small("llama"))
    model.save(tmp_path, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.bfloat16}
    loaded = GPT.load(tmp_path)
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded.embedding.weight, model.embedding.weight.bfloat16().float())


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named_with_what_to_do(file, small, tmp_path):
    GPT(small("llama")).save(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(PocketError, match=f"{file} is missing.*pocketgpt train"):
        GPT.load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", None, "is damaged or truncated"),
        ("model.safetensors", b"", "is damaged or truncated"),
        ("config.json", None, "is damaged"),
        ("config.json", b"\xff\xfe\x00", "is damaged"),
        ("config.json", b"[1, 2]", "does not describe a model"),
        ("config.json", b"{}", "does not describe a model.*vocab_size"),
        ("config.json", b'{"vocab": 3}', "no field 'vocab'"),
    ],
)
def test_a_damaged_file_is_named(file, content, message, small, tmp_path):
    GPT(small("llama")).save(tmp_path)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(PocketError, match=message):
        GPT.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feedforward": FeedForwardConfig(d_ff=65)}, "size mismatch for blocks.0.feedforward"),
        ({"n_layers": 3}, "Missing key.*blocks.2.mixer"),
        ({"n_layers": 1}, "Unexpected key.*blocks.1.mixer"),
        ({"tie_embeddings": False}, "Missing key.*head.weight"),
    ],
)
def test_weights_of_another_config_are_named(changes, message, small, tmp_path):
    config = small("llama")
    GPT(config).save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(replace(config, **changes).to_dict()))
    with pytest.raises(PocketError, match=f"(?s)model.safetensors does not belong to config.json .*: .*{message}"):
        GPT.load(tmp_path)


def test_every_preset_takes_a_gradient_in_every_weight(small):
    for name in PRESETS:
        model = build_model(small(name))
        model(torch.randint(61, (40, 10))).logsumexp(-1).sum().backward()
        assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_dynamic_rope_needs_no_longer_table(small, lively):
    model = lively(small("brain"))
    assert model(torch.randint(61, (1, 100))).isfinite().all()
    short = lively(replace(small("brain"), rope=RopeConfig()))
    tokens = torch.randint(61, (1, 10))
    assert torch.equal(model(tokens), short(tokens))  # up to the trained length nothing is stretched

import json
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from pocketgpt.checked import ConfigError
from pocketgpt.inference.kv_cache import Slots, new_cache
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.cross_attention import CrossAttentionConfig
from pocketgpt.layers.latent_attention import LatentAttentionConfig
from pocketgpt.models.classes import load_model
from pocketgpt.models.presets import preset
from pocketgpt.models.stack import ContextError
from pocketgpt.models.t5 import T5, T5Config, shift_right

INPUT, OUTPUT = torch.randint(61, (2, 20)), torch.randint(61, (2, 11))


@pytest.fixture(scope="module")
def model(small, lively) -> T5:
    return lively(small("pocket-t5"))


def changed_at(tokens: torch.Tensor, position: int) -> torch.Tensor:
    changed = tokens.clone()
    changed[:, position] = (tokens[:, position] + 1) % 61
    return changed


@torch.no_grad()
def test_a_later_token_of_the_output_changes_no_earlier_logits(model):
    before, after = model(INPUT, OUTPUT), model(INPUT, changed_at(OUTPUT, 6))
    differs = (before != after).any(dim=-1)
    assert not differs[:, :6].any() and differs[:, 6:].all()


@torch.no_grad()
@pytest.mark.parametrize("position", [0, 19])
def test_every_token_of_the_input_changes_all_logits(model, position):
    assert (model(INPUT, OUTPUT) != model(changed_at(INPUT, position), OUTPUT)).any(dim=-1).all()


@torch.no_grad()
def test_padding_of_the_input_changes_nothing(model, assert_equal):
    lengths = torch.tensor([13, 1])
    padded = model(INPUT, OUTPUT, torch.arange(20) < lengths[:, None])
    for row, length in enumerate(lengths):
        alone = model(INPUT[row : row + 1, :length], OUTPUT[row : row + 1])
        assert_equal(padded[row : row + 1], alone)


@torch.no_grad()
def test_a_row_of_nothing_but_padding_has_finite_logits(model):
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[0] = False
    assert model(INPUT, OUTPUT, mask).isfinite().all()


@torch.no_grad()
def test_order_is_seen_through_the_bias_only(model, assert_equal):
    order = torch.randperm(20)
    expected = model(INPUT, OUTPUT)
    shuffled = model(INPUT[:, order], OUTPUT)
    assert (shuffled - expected).abs().max() > 0.1
    blind = T5(model.config).eval()
    blind.load_state_dict(model.state_dict())
    blind.encoder.relative_bias.embedding.weight.zero_()
    assert_equal(blind(INPUT[:, order], OUTPUT), blind(INPUT, OUTPUT))


@torch.no_grad()
def test_keys_and_values_of_the_input_are_computed_once(model, monkeypatch):
    crosses = [block.mixer for block in model.blocks[1::2]]
    calls = []
    for cross in crosses:
        compute = cross.keys_and_values
        monkeypatch.setattr(
            cross, "keys_and_values", lambda memory, compute=compute: calls.append(1) or compute(memory)
        )
    memory, cache = model.encode(INPUT), new_cache(model, 2)
    for position in range(5):
        model.decode(OUTPUT[:, position, None], memory, cache)
    assert len(calls) == len(crosses) == 2


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cache_bytes_is_what_a_cache_allocates(small, dtype):
    model = T5(small("pocket-t5")).to(dtype)
    cache = new_cache(model, 3, 20)
    model.decode(torch.zeros(3, 1, dtype=torch.long), model.encode(torch.zeros(3, 20, dtype=torch.long)), cache)
    stored = sum(tensor.untyped_storage().nbytes() for store in cache.layers for tensor in store.tensors)
    assert model.cache_bytes(3, 20, dtype) == stored
    assert sum(isinstance(store, Slots) for store in cache.layers) == len(cache.layers) / 2


@pytest.mark.parametrize(("n_input", "n_output"), [(1, 1), (20, 7), (3, 20), (12, 12)])
def test_flops_are_what_pytorch_counts(small, n_input, n_output):
    model = T5(small("pocket-t5")).use_attention("step_by_step")
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, n_input, dtype=torch.long), torch.zeros(2, n_output, dtype=torch.long))
    assert 2 * model.flops(n_input, n_output) == counter.get_total_flops()
    assert model.flops_per_token(n_input) * n_input == model.flops(n_input, n_input)


def test_n_params_is_the_count_by_hand():
    attention, feedforward, norm = 4 * 192 * 192, 2 * 192 * 512, 192
    encoder = 2 * (attention + feedforward + 2 * norm) + norm + 32 * 6
    decoder = 2 * (2 * attention + feedforward + 3 * norm) + norm + 32 * 6
    model = T5(preset("pocket-t5"))
    assert model.n_params() == model.n_active_params() == 4096 * 192 + encoder + decoder


def test_outputs_of_each_stack_begin_smaller_the_more_of_them_it_adds(small):
    model = T5(small("pocket-t5", d_model=192, n_layers=4))
    for stack, n_outputs in ((model.encoder, 8), (model, 12)):
        for part in stack.parts():
            [output] = part.output_weights()
            assert output.std().item() == pytest.approx(0.02 / n_outputs**0.5, rel=0.1)


def test_the_preset_begins_with_the_loss_of_guessing():
    torch.manual_seed(0)
    model = T5(preset("pocket-t5"))
    tokens = torch.randint(4096, (2, 100))
    loss = F.cross_entropy(model(tokens, tokens[:, :50]).flatten(0, 1), tokens[:, 50:].flatten())
    assert loss.item() == pytest.approx(math.log(4096), abs=0.2)


def test_as_in_the_paper_tied_logits_are_scaled_and_others_not(small, lively, assert_equal):
    tied, own = (lively(small("pocket-t5", scale_logits=None, tie_embeddings=each)) for each in (True, False))
    own.load_state_dict(tied.state_dict())
    assert tied.head.weight is tied.embedding.weight and own.head.weight is not own.embedding.weight
    assert_equal(own(INPUT, OUTPUT).detach() * 48**-0.5, tied(INPUT, OUTPUT).detach())


def test_a_changed_head_is_saved_with_the_same_logits(small, lively, tmp_path):
    model = lively(small("pocket-t5"))
    model.head.weight = torch.nn.Parameter(2 * model.head.weight.detach())
    model.save(tmp_path)
    loaded = load_model(tmp_path)
    assert not loaded.config.tie_embeddings
    assert torch.equal(loaded(INPUT, OUTPUT), model(INPUT, OUTPUT))


def test_save_and_load(model, tmp_path):
    model.save(tmp_path)
    loaded = load_model(tmp_path)
    assert type(loaded) is T5 and loaded.config == model.config
    assert json.loads((tmp_path / "config.json").read_text())["kind"] == "t5"
    assert torch.equal(loaded(INPUT, OUTPUT), model(INPUT, OUTPUT))


def test_every_weight_takes_a_gradient(small):
    model = T5(small("pocket-t5"))
    model(INPUT, OUTPUT).logsumexp(-1).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_recomputed_blocks_give_the_same_gradients(small, lively, assert_equal):
    model = lively(small("pocket-t5")).train()
    grads = []
    for model.recompute_blocks in (False, True):
        model.zero_grad()
        model(INPUT, OUTPUT).logsumexp(-1).sum().backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    assert model.encoder.recompute_blocks
    for ours, theirs in zip(*grads, strict=True):
        assert_equal(ours, theirs)


def test_more_tokens_than_max_seq_len_are_an_error(small):
    model = T5(small("pocket-t5"))
    long = torch.zeros(1, 25, dtype=torch.long)
    for tokens in ((long, OUTPUT[:1]), (INPUT[:1], long)):
        with pytest.raises(ContextError, match="25 tokens are more than the 24"):
            model(*tokens)


def test_decoder_inputs_are_the_targets_one_later():
    targets = torch.tensor([[5, 6, 7], [8, 9, -100]])
    assert shift_right(targets, 3).tolist() == [[3, 5, 6], [3, 8, 9]]
    assert shift_right(torch.tensor([[5, -100, -100]]), 3).tolist() == [[3, 5, 3]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"causal": False}, "T5Config.causal = False cannot work: use True"),
        ({"start_token": 4096}, "start_token = 4096 cannot work: use None, or a token from 0 to 4095"),
        ({"feedforward": None}, "T5Config.feedforward = None cannot work"),
        ({"mixer": (AttentionConfig(n_heads=6), AttentionConfig(n_heads=6))}, "mixer = .* cannot work: use one Att"),
        ({"mixer": AttentionConfig(n_heads=6, window=8)}, "window = 8 cannot work: use None"),
        ({"mixer": AttentionConfig(n_heads=6, window=8), "positions": "rope"}, "use None: the encoder"),
        ({"mixer": CrossAttentionConfig(n_heads=6)}, "CrossAttentionConfig.* cannot work: use AttentionConfig"),
    ],
)
def test_a_t5_that_cannot_work_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        preset("pocket-t5", **changes)


@pytest.mark.parametrize(
    "mixer", [LatentAttentionConfig(n_heads=6), (AttentionConfig(n_heads=6), AttentionConfig(n_heads=3))]
)
def test_relative_positions_need_the_same_heads_in_every_layer(mixer):
    with pytest.raises(ConfigError, match="use attention with the same n_heads in every layer"):
        preset("pocket-shakespeare", positions="relative", mixer=mixer)


def test_the_start_token_is_the_last_one_unless_given():
    config = T5Config(vocab_size=50, d_model=8, n_layers=1, max_seq_len=4, mixer=AttentionConfig(n_heads=2))
    assert config.resolved().start_token == 49
    assert replace(config, start_token=0).resolved().start_token == 0


@torch.no_grad()
def test_a_gpt_with_relative_positions_decodes_as_it_reads(small, lively, assert_equal):
    model = lively(small("llama", positions="relative"))
    expected, cache = model(INPUT), new_cache(model, 2)
    assert_equal(model(INPUT[:, :3], cache), expected[:, :3])
    for position in range(3, 20):
        assert_equal(model(INPUT[:, position, None], cache), expected[:, position, None])


def test_a_t5_learns_to_repeat_its_input(small):
    """What only an encoder can tell the decoder: the output begins before anything of it is known."""
    model = T5(small("pocket-t5", dropout=0.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        tokens = torch.randint(8, (32, 1), generator=generator).expand(-1, 3).contiguous()
        loss = F.cross_entropy(model(tokens, shift_right(tokens, 60)).flatten(0, 1), tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2  # without the input the first token alone costs ln 8 / 3 = 0.69

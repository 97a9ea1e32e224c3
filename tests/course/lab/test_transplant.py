"""A right function changes nothing in the model, a wrong one does, and afterwards the model is itself again."""

import pytest
import torch
from torch.nn import functional as F

from pocketgpt.course.lab import finished_gpt
from pocketgpt.course.lab.caching import assembled_layer, read_with_cache
from pocketgpt.course.lab.finished import yours
from pocketgpt.course.lab.recording import attention_weights, hidden_numbers
from pocketgpt.course.lab.transplanting import REPLACEABLE_PARTS, transplant
from pocketgpt.course.syllabus import all_exercises, find_exercise
from pocketgpt.errors import PocketError
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset


def model_with(activation: str = "swiglu", positions: str = "rope") -> GPT:
    torch.manual_seed(0)
    feedforward = {"d_ff": 32, "activation": activation}
    shape = dict(vocab_size=50, d_model=24, n_layers=2, max_seq_len=16, feedforward=feedforward)
    model = GPT(preset("pocket-shakespeare", positions=positions, **shape)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # far from uniform attention, so that a wrong function shows
    return model


@pytest.fixture
def model() -> GPT:
    return model_with()


def model_for(part: str) -> GPT:
    """A model that has the part which the right function of that name computes."""
    if part in ("sinusoids", "add_positions"):
        return model_with(positions="sinusoidal")
    return model_with({"activation": "gelu", "feed_forward": "relu2"}.get(part, "swiglu"))


TOKENS = torch.arange(24).view(2, 12)


def fused(q, k, v, mask):
    identity = torch.eye(k.shape[-2]).expand(*k.shape[:-2], -1, -1)
    return (F.scaled_dot_product_attention(q, k, each, attn_mask=mask) for each in (v, identity))


def complex_rotation(x, cos, sin):
    half = x.shape[-1] // 2
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.complex(cos, sin)
    return torch.cat((turned.real, turned.imag), dim=-1)


def complex_waves(positions, d_model):
    angles = torch.outer(positions.double(), 10_000.0 ** (-torch.arange(0, d_model, 2).double() / d_model))
    return torch.view_as_real(1j * torch.exp(-1j * angles)).flatten(1).float()  # sin + i cos


def last_rows(q, keys, values, query_positions, key_positions, window):
    """Full causal attention, of which the last rows are those of the queries: right for keys in order."""
    keys, values = (each.repeat_interleave(q.shape[1] // each.shape[1], dim=1) for each in (keys, values))
    every = F.pad(q, (0, 0, keys.shape[2] - q.shape[2], 0))
    return F.scaled_dot_product_attention(every, keys, values, is_causal=True)[:, :, -q.shape[2] :]


def recomputed_values(x, weights, kept, start, rope):
    """Keeps the inputs of the tokens in place of their keys and values, which are computed again at each step."""
    d_head, inputs = kept[0].shape[-1], x if start == 0 else torch.cat((kept[0].inputs, x), dim=1)
    heads = (F.linear(inputs, weights[name]).unflatten(-1, (-1, d_head)).transpose(1, 2) for name in weights)
    q, k, v = (next(heads) for _ in range(3))
    positions = torch.arange(inputs.shape[1])
    y = F.scaled_dot_product_attention(rope(q, positions), rope(k, positions), v, is_causal=True, enable_gqa=True)
    keys = k.clone()
    keys.inputs = inputs
    return F.linear(y.transpose(1, 2).flatten(2)[:, start:], weights["o_proj"]), (keys, v)


RIGHT = {
    "softmax": torch.softmax,
    "attention_scores": lambda q, k: torch.einsum("...td,...sd->...ts", q, k) / q.shape[-1] ** 0.5,
    "masked_softmax": lambda scores, mask: torch.where(mask, scores, -torch.inf).softmax(-1),
    "causal_mask": lambda queries, keys: torch.ones(len(queries), len(keys), dtype=torch.bool).tril(),
    "attention": lambda q, k, v, mask: tuple(fused(q, k, v, mask)),
    "grouped_attention": lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True),
    "expand_kv_heads": lambda x, n_heads: x[:, torch.arange(n_heads) // (n_heads // x.shape[1])],
    "tiled_attention": lambda q, k, v, rows, columns: (F.scaled_dot_product_attention(q, k, v, is_causal=True), None),
    "split_heads": lambda x, n_heads: torch.stack(x.chunk(n_heads, dim=-1), dim=1),
    "merge_heads": lambda x: torch.cat(x.unbind(1), dim=-1),
    "apply_rope": complex_rotation,
    "rope_frequencies": lambda d_head, theta: torch.logspace(0, 2 / d_head - 1, d_head // 2, base=theta),
    "rms_norm": lambda x, weight, eps: F.rms_norm(x, weight.shape, weight, eps),
    "block_order": lambda x, norm, layer: layer(norm(x)) + x,
    "swiglu": lambda x, gate, up, down: F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down),
    "feed_forward": lambda x, up, down: F.linear(F.relu(F.linear(x, up)) ** 2, down),
    "activation": lambda x: x * torch.special.ndtr(x),
    "hidden": lambda hidden: hidden.clone(),
    "sinusoids": complex_waves,
    "add_positions": lambda x, table, start: x + F.embedding(start + torch.arange(x.shape[1]), table),
    "block": finished_gpt.transformer_block,
    "whole_model": finished_gpt.gpt,
    "append_kv": lambda kept, new: F.pad(kept, (0, 0, 0, new.shape[2])).index_copy(
        2, torch.arange(new.shape[2]) + kept.shape[2], new
    ),
    "decode_attention": last_rows,
    "cached_layer": recomputed_values,
}
WRONG = {
    "softmax": lambda x, dim: x.exp(),
    "attention_scores": lambda q, k: q @ k.mT,
    "masked_softmax": lambda scores, mask: scores.softmax(-1),
    "causal_mask": lambda queries, keys: torch.ones(len(queries), len(keys), dtype=torch.bool),
    "attention": lambda q, k, v, mask: (v, None),
    "grouped_attention": lambda q, k, v, mask: q,
    "expand_kv_heads": lambda x, n_heads: x.repeat(1, n_heads // x.shape[1], 1, 1),
    "tiled_attention": lambda q, k, v, rows, columns: (F.scaled_dot_product_attention(q, k, v), None),
    "split_heads": lambda x, n_heads: x.reshape(len(x), n_heads, x.shape[1], -1),
    "merge_heads": lambda x: x.reshape(len(x), x.shape[2], -1),
    "apply_rope": lambda x, cos, sin: x,
    "rope_frequencies": lambda d_head, theta: torch.zeros(d_head // 2),
    "rms_norm": lambda x, weight, eps: x,
    "block_order": lambda x, norm, layer: norm(x + layer(x)),
    "swiglu": lambda x, gate, up, down: F.linear(F.silu(F.linear(x, up)) * F.linear(x, gate), down),
    "feed_forward": lambda x, up, down: F.linear(F.relu(F.linear(x, up)), down),
    "activation": torch.sigmoid,
    "hidden": lambda hidden: hidden.relu(),
    "sinusoids": lambda positions, d_model: torch.zeros(len(positions), d_model),
    "add_positions": lambda x, table, start: x,
    "block": lambda x, weights, rope, config: x,
    "whole_model": lambda tokens, weights, config: finished_gpt.gpt(tokens.flip(1), weights, config),
    "append_kv": lambda kept, new: torch.cat((kept, torch.zeros_like(new)), dim=2),
    "decode_attention": lambda q, keys, values, *positions: F.scaled_dot_product_attention(
        q, keys, values, is_causal=True, enable_gqa=True
    ),
    "cached_layer": lambda x, weights, kept, start, rope: assembled_layer(
        x, weights, kept, start, lambda x, positions: rope(x, positions - start)
    ),
}


def test_every_replaceable_part_has_a_right_and_a_wrong_function_here():
    assert set(RIGHT) == set(WRONG) == set(REPLACEABLE_PARTS)


def logits_of(model: GPT, part: str) -> torch.Tensor:
    """Read with a cache, some tokens alone and some together, if the part works with one."""
    decoding = REPLACEABLE_PARTS[part].decoding
    return read_with_cache(model, TOKENS, prompt=4, last=3) if decoding else model(TOKENS)


@pytest.mark.parametrize("name", REPLACEABLE_PARTS)
@torch.inference_mode()
def test_a_right_function_changes_no_logit(name):
    model = model_for(name)
    changed = transplant(model, **{name: RIGHT[name]})
    torch.testing.assert_close(changed(TOKENS), model(TOKENS), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits_of(changed, name), model(TOKENS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", REPLACEABLE_PARTS)
@torch.inference_mode()
def test_a_wrong_function_changes_the_logits_of_the_copy_only(name):
    model = model_for(name)
    own = model(TOKENS)
    changed = transplant(model, **{name: WRONG[name]})
    assert not torch.allclose(logits_of(changed, name), own, rtol=1e-2, atol=1e-2)
    assert torch.equal(model(TOKENS), own)


def test_the_copy_has_the_same_weights_so_that_training_it_trains_the_model(model):
    changed = transplant(model, attention=RIGHT["attention"])
    ours, theirs = dict(changed.named_parameters()), dict(model.named_parameters())
    assert all(ours[name] is theirs[name] for name in theirs)


REPLACING = [name for name, exercise in all_exercises().items() if exercise.replaces]


def test_exercises_that_replace_a_part_are_found():
    assert {"softmax", "attention", "scaled_attention"} <= set(REPLACING)


@pytest.mark.parametrize("name", REPLACING)
@torch.inference_mode()
def test_the_finished_answer_of_an_exercise_runs_in_the_place_that_it_declares(name):
    part = find_exercise(name).replaces
    model = model_for(part)
    changed = transplant(model, **{name: find_exercise(name).finished_answer})
    torch.testing.assert_close(logits_of(changed, part), model(TOKENS), rtol=1e-4, atol=1e-4)
    wrong = transplant(model, **{name: WRONG[part]})
    assert not torch.allclose(logits_of(wrong, part), model(TOKENS), rtol=1e-2, atol=1e-2)


def test_an_exercise_without_a_place_in_the_model_is_refused(model):
    with pytest.raises(PocketError, match="entropy cannot replace a part of the model"):
        transplant(model, entropy=len)


def test_an_unknown_name_is_answered_with_the_known_ones(model):
    with pytest.raises(PocketError, match=r"tokenizer cannot replace a part of the model.*softmax\(x, dim\)"):
        transplant(model, tokenizer=len)


def test_two_functions_for_one_place_are_refused_and_not_one_of_them_dropped(model):
    both = {name: RIGHT[name] for name in ("softmax", "causal_mask")}
    with pytest.raises(PocketError, match="softmax and causal_mask would replace the same part"):
        transplant(model, **both)


@torch.inference_mode()
def test_functions_for_different_places_go_in_together(model):
    names = ("split_heads", "merge_heads", "attention", "apply_rope", "rms_norm", "swiglu")
    together = {name: RIGHT[name] for name in names}
    torch.testing.assert_close(transplant(model, **together)(TOKENS), model(TOKENS), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_block_gets_its_own_weights_and_the_angles_of_a_model_that_rotates():
    for positions, shapes in (("rope", [(12, 2), (12, 2)]), ("learned", None)):
        model, seen = model_with(positions=positions), []

        def recording(x, weights, rope, config, seen=seen):
            seen.append((weights, rope))
            return finished_gpt.transformer_block(x, weights, rope, config)

        transplant(model, block=recording)(TOKENS)
        for block, (weights, rope) in zip(model.blocks, seen, strict=True):
            assert weights["mixer.q_proj.weight"] is block.mixer.q_proj.weight
            assert (rope and [each.shape for each in rope]) == shapes


@torch.inference_mode()
def test_a_whole_model_gets_a_tied_head_once(model):
    seen = {}
    transplant(model, whole_model=lambda tokens, weights, config: seen.update(weights) or torch.zeros(1))(TOKENS)
    assert "head.weight" not in seen and "embedding.weight" in seen


@torch.inference_mode()
def test_split_heads_is_told_how_many_heads_queries_have_and_how_many_keys_and_values(model):
    asked = []

    def recording(x, n_heads):
        asked.append(n_heads)
        return RIGHT["split_heads"](x, n_heads)

    transplant(model, split_heads=recording)(TOKENS)
    assert asked == [6, 2, 2] * model.config.n_layers


@torch.inference_mode()
def test_grouped_attention_and_expansion_get_keys_and_values_as_the_model_makes_them(model):
    shapes = []

    def attention(q, k, v, mask):
        shapes.append((q.shape[1], k.shape[1], v.shape[1]))
        return RIGHT["grouped_attention"](q, k, v, mask)

    def expand(x, n_heads):
        shapes.append((x.shape[1], n_heads))
        return RIGHT["expand_kv_heads"](x, n_heads)

    transplant(model, grouped_attention=attention)(TOKENS)
    transplant(model, expand_kv_heads=expand)(TOKENS)
    assert shapes == [(6, 2, 2)] * 2 + [(2, 6)] * 4


@torch.inference_mode()
def test_the_activation_of_a_gated_layer_is_that_of_its_gate(model):
    torch.testing.assert_close(transplant(model, activation=F.silu)(TOKENS), model(TOKENS), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_layer_without_a_gate_cannot_run_a_gated_function():
    with pytest.raises(PocketError, match="This model has no SwiGLU layer"):
        transplant(model_with("relu2"), swiglu=RIGHT["swiglu"])


@pytest.mark.parametrize("activation", ["swiglu", "relu2"])
@torch.inference_mode()
def test_hidden_numbers_are_what_enters_the_down_projections(activation):
    model, entered = model_with(activation), []
    for block in model.blocks:
        block.feedforward.down_proj.register_forward_hook(lambda _, inputs, output: entered.append(inputs[0]))
    model(TOKENS)
    assert torch.equal(hidden_numbers(model, TOKENS), torch.stack(entered[:2]))


@torch.inference_mode()
def test_an_order_of_the_block_acts_on_every_layer_of_both_kinds_of_models(model):
    shape = dict(vocab_size=50, d_model=24, n_layers=2, max_seq_len=16, feedforward={"d_ff": 32})
    post = GPT(preset("pocket-shakespeare", norm_order="post", **shape)).eval()
    right = transplant(post, block_order=lambda x, norm, layer: norm(layer(x) + x))
    torch.testing.assert_close(right(TOKENS), post(TOKENS), rtol=1e-5, atol=1e-5)
    for each in (model, post):
        called = []
        transplant(each, block_order=lambda x, norm, layer, called=called: called.append(norm) or x)(TOKENS)
        assert len(called) == len(set(map(id, called))) == 4  # two layers, each with two norms of its own


@torch.inference_mode()
def test_the_functions_of_positions_go_in_together_and_into_learned_positions():
    both = {name: RIGHT[name] for name in ("sinusoids", "add_positions")}
    sinusoidal, learned = model_with(positions="sinusoidal"), model_with(positions="learned")
    torch.testing.assert_close(transplant(sinusoidal, **both)(TOKENS), sinusoidal(TOKENS), rtol=1e-4, atol=1e-4)
    changed = transplant(learned, add_positions=RIGHT["add_positions"])
    torch.testing.assert_close(changed(TOKENS), learned(TOKENS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@torch.inference_mode()
def test_a_step_with_a_cache_tells_where_its_tokens_begin(positions):
    model, starts = model_with(positions=positions), []

    def recorded(x, table, start):
        starts.append(start)
        return RIGHT["add_positions"](x, table, start)

    changed, cache = transplant(model, add_positions=recorded), new_cache(model, 2, 16)
    logits = torch.cat([changed(TOKENS[:, :7], cache), changed(TOKENS[:, 7:], cache)], dim=1)
    assert starts == [0, 0, 7, 7]  # each text by itself
    torch.testing.assert_close(logits, model(TOKENS), rtol=1e-4, atol=1e-4)


def test_a_model_without_the_positions_to_replace_refuses_them(model):
    with pytest.raises(PocketError, match="adds no positions to its embedding: its positions are 'rope'"):
        transplant(model, add_positions=RIGHT["add_positions"])
    with pytest.raises(PocketError, match="has no sinusoids: its positions are 'learned'"):
        transplant(model_with(positions="learned"), sinusoids=RIGHT["sinusoids"])


@torch.inference_mode()
def test_frequencies_hold_for_steps_with_a_cache_too(model):
    changed, cache = transplant(model, rope_frequencies=RIGHT["rope_frequencies"]), new_cache(model, 2, 16)
    logits = torch.cat([changed(TOKENS[:, :7], cache), changed(TOKENS[:, 7:], cache)], dim=1)
    torch.testing.assert_close(logits, model(TOKENS), rtol=1e-4, atol=1e-4)


def test_a_model_that_does_not_rotate_refuses_frequencies():
    model = GPT(preset("pocket-shakespeare", positions="learned"))
    with pytest.raises(PocketError, match="does not rotate: its positions are 'learned'"):
        transplant(model, rope_frequencies=RIGHT["rope_frequencies"])


def test_attention_weights_are_those_of_pytorch_s_operator(model):
    ours = attention_weights(model, TOKENS)
    theirs = attention_weights(model, TOKENS, attention=lambda *inputs: tuple(fused(*inputs)))
    assert ours.shape == (2, 2, 6, 12, 12)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def empty(q, k):
    raise NotImplementedError


def right(q, k):
    return q @ k.mT / q.shape[-1] ** 0.5


@pytest.mark.parametrize("written", [empty, None])
def test_an_unsolved_exercise_is_stood_in_for_and_said(written, capsys, monkeypatch):
    monkeypatch.setattr("__main__.attention_scores", written, raising=False)
    stand_in = yours("attention_scores")
    assert "does not pass its check yet" in capsys.readouterr().out
    q, k = torch.randn(3, 4), torch.randn(5, 4)
    torch.testing.assert_close(stand_in(q, k), q @ k.T / 2)


def test_an_exercise_whose_cell_does_not_run_is_stood_in_for_and_said(capsys):
    assert yours("attention_scores") is all_exercises()["attention_scores"].finished_answer
    assert "does not pass its check yet" in capsys.readouterr().out


def test_a_solved_exercise_is_handed_back_without_a_word(capsys, monkeypatch):
    monkeypatch.setattr("__main__.attention_scores", right, raising=False)
    assert yours("attention_scores") is right
    assert capsys.readouterr().out == ""


@torch.inference_mode()
def test_two_texts_at_once_have_a_cache_each(model):
    changed = transplant(model, cached_layer=assembled_layer)
    one, other = new_cache(changed, 1), new_cache(changed, 1)
    changed(TOKENS[:1, :5], one)
    changed(TOKENS[1:, :3], other)
    torch.testing.assert_close(changed(TOKENS[:1, 5:], one), model(TOKENS[:1])[:, 5:], rtol=1e-4, atol=1e-4)

"""The references of chapter 09 agree with published implementations, and its experiments are the declared ones."""

import pytest
import torch

from pocketgpt.course.ch09_grouped_query_attention import experiments
from pocketgpt.course.lab.pocket import pocket_model
from pocketgpt.course.siblings.family import SIBLINGS, sibling, sibling_losses
from pocketgpt.course.syllabus import find_exercise
from pocketgpt.inference.kv_cache import new_cache


def answers(name):
    exercise = find_exercise(name)
    return [exercise.reference, exercise.finished_answer]


def test_heads_are_expanded_as_in_llama():
    repeat_kv = pytest.importorskip("transformers.models.llama.modeling_llama").repeat_kv
    x = torch.randn(2, 3, 5, 4)
    for expand in answers("expand_kv_heads"):
        torch.testing.assert_close(expand(x, 12), repeat_kv(x, 4), rtol=0, atol=0)


@torch.inference_mode()
def test_bytes_are_those_of_the_cache_that_a_llama_filled():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=24,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        vocab_size=11,
    )
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    cache = model(torch.arange(10).view(2, 5), use_cache=True).past_key_values
    allocated = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    for count in answers("cache_bytes"):
        assert count(3, 2, 4, 5, 2, 2) == allocated


@torch.inference_mode()
def test_bytes_are_those_of_our_own_cache():
    cache = new_cache(pocket_model(), batch=3, capacity=256)
    pocket_model()(torch.zeros(3, 256, dtype=torch.long), cache)
    allocated = sum(tensor.nbytes for layer in cache.layers for tensor in layer.tensors)
    for count in answers("cache_bytes"):
        assert count(4, 2, 32, 256, 3, 4) == allocated == pocket_model().cache_bytes(3, 256)


def test_equal_heads_stay_equal_when_they_are_pooled():
    head = torch.randn(4, 7)
    for pool in answers("pool_kv_heads"):
        torch.testing.assert_close(pool(head.repeat(6, 1), 2, 4), head.repeat(2, 1))


@torch.inference_mode()
def test_a_model_whose_groups_have_equal_heads_is_not_changed_by_pooling():
    model = experiments.with_fewer_kv_heads(sibling("base"), 4)
    tokens = torch.arange(20)[None]
    for mixer in model.mixers():
        for proj in (mixer.k_proj, mixer.v_proj):
            heads = proj.weight.data.unflatten(0, (2, 2, 12))
            heads[:, 1] = heads[:, 0]
    torch.testing.assert_close(experiments.with_fewer_kv_heads(model, 2)(tokens), model(tokens), rtol=1e-4, atol=1e-4)


def test_the_pools_are_the_exercise_and_its_known_mistake():
    weight, exercise = torch.randn(24, 5), find_exercise("pool_kv_heads")
    mistakes = {mistake.name: mistake.function for mistake in exercise.mistakes}
    torch.testing.assert_close(experiments.mean_of_neighbors(weight, 2, 3), exercise.finished_answer(weight, 2, 3))
    first = mistakes["first_of_each_group"]
    torch.testing.assert_close(experiments.first_of_neighbors(weight, 2, 3), first(weight, 2, 3))


def test_the_siblings_that_are_compared_have_equally_many_parameters():
    sizes = {name: sum(p.numel() for p in sibling(name).parameters()) for name in ("base", "gqa", "mqa")}
    assert set(sizes.values()) == {87_024}
    assert [SIBLINGS[name].feedforward.d_ff for name in sizes] == [192, 216, 228]
    assert all(len(sibling_losses()[name][64]) == 3 for name in sizes)


def test_every_run_of_the_experiments_is_stored():
    losses = experiments.uptraining_losses()
    assert list(losses) == experiments.RUNS
    points = experiments.STEPS // experiments.EVERY + 1
    assert all(len(run) == points for runs in losses.values() for run in runs)


def test_the_excerpt_has_a_batch_for_each_live_step():
    batches = experiments.excerpt()
    assert batches.shape == (experiments.LIVE_STEPS, experiments.BATCH, experiments.TRAINED_LENGTH + 1)

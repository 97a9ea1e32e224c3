"""Buckets and biases against transformers' T5Attention."""

import pytest
import torch
from transformers import T5Config as TheirConfig
from transformers.models.t5.modeling_t5 import T5Attention

from pocketgpt.layers.relative_bias import RelativeBias, RelativeBiasConfig, relative_bucket

BUCKETS = [(32, 128), (32, 17), (32, 1000), (8, 20), (4, 9), (6, 40), (10, 6), (64, 128)]


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(("n_buckets", "farthest"), BUCKETS)
def test_buckets_are_theirs(n_buckets, farthest, both_ways):
    distance = torch.arange(-2000, 2002).view(3, -1)  # with every border of the logarithm
    theirs = T5Attention._relative_position_bucket(distance, both_ways, n_buckets, farthest)
    assert torch.equal(relative_bucket(distance, both_ways, n_buckets, farthest), theirs)


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(("seq", "keys", "cached"), [(7, 7, 0), (1, 9, 8), (3, 40, 20)])
def test_biases_are_theirs(seq, keys, cached, both_ways):
    config = TheirConfig(
        d_model=12,
        d_kv=4,
        num_heads=3,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=20,
        is_decoder=not both_ways,
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = RelativeBias(RelativeBiasConfig(n_buckets=8, farthest=20), 3, both_ways)
    torch.nn.init.normal_(ours.embedding.weight)
    theirs.relative_attention_bias.load_state_dict(ours.embedding.state_dict())
    queries = torch.arange(cached, cached + seq)[None]
    expected = theirs.compute_bias(seq, keys, past_seen_tokens=cached)
    assert torch.equal(ours(queries, torch.arange(keys)[None]), expected)

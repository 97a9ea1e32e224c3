"""BERT: every token sees both sides, and padding and token types do what they say."""

from dataclasses import replace

import pytest
import torch

from pocketgpt.checked import ConfigError
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.latent_attention import LatentAttentionConfig
from pocketgpt.models.bert import BertConfig
from pocketgpt.models.classes import build_model
from pocketgpt.models.presets import preset
from pocketgpt.models.stack import ContextError

TOKENS = torch.arange(20)[None]


@pytest.fixture
def bert(small, lively):
    return lively(small("pocket-bert"))


def test_one_token_changes_the_scores_at_every_place(bert):
    changed = TOKENS.clone()
    changed[0, 12] = 50
    assert (bert(TOKENS) != bert(changed)).any(-1).all()


def test_padding_changes_nothing_for_the_tokens(bert, assert_equal):
    padded, mask = torch.cat((TOKENS, TOKENS[:, :4]), dim=1), torch.arange(24)[None] < 20
    assert_equal(bert(padded, mask)[:, :20].detach(), bert(TOKENS).detach())
    assert not torch.allclose(bert(padded)[:, :20], bert(TOKENS), atol=0.1)


def test_a_mask_without_padding_changes_nothing(bert, assert_equal):
    assert_equal(bert(TOKENS, torch.ones(1, 20, dtype=torch.bool)).detach(), bert(TOKENS).detach())


def test_base_has_the_size_of_the_paper():
    """110 million with the pooler (768² + 768), which the head for masked words replaces."""
    config = preset("pocket-bert", vocab_size=30_522, d_model=768, n_layers=12, max_seq_len=512, mixer={"n_heads": 12})
    with torch.device("meta"):
        model = build_model(config)
    head = 768 * 768 + 768 + 2 * 768 + 30_522
    assert model.n_params() - head + 768 * 768 + 768 == 109_482_240  # of bert-base-uncased


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"causal": True}, "BertConfig.causal = True cannot work: use False"),
        ({"n_token_types": 0}, "BertConfig.n_token_types = 0 cannot work"),
        (
            {"mixer": LatentAttentionConfig(n_heads=6)},
            r"BertConfig.mixer = LatentAttentionConfig.* cannot work: use an AttentionConfig",
        ),
        ({"mixer": (AttentionConfig(n_heads=6), LatentAttentionConfig(n_heads=6))}, "BertConfig.mixer = "),
        ({"mixer": {"window": 4}}, "AttentionConfig.window = 4 cannot work: use None"),
    ],
)
def test_a_config_that_cannot_work_says_so(changes, message):
    with pytest.raises(ConfigError, match=message):
        preset("pocket-bert", **changes)


def test_more_tokens_than_positions_are_an_error(bert):
    with pytest.raises(ContextError, match="25 tokens are more than the 24"):
        bert(torch.zeros(1, 25, dtype=torch.long))


def test_other_orders_and_positions_are_options(small, lively):
    """A config is a BERT's also where it is not that of the paper."""
    for changes in ({"norm_order": "pre"}, {"positions": "rope"}, {"norm": "rmsnorm", "norm_bias": False}):
        model = lively(small("pocket-bert", **changes))
        assert isinstance(model.config, BertConfig) and model(TOKENS).isfinite().all()
    assert isinstance(replace(preset("pocket-bert"), n_layers=2).resolved(), BertConfig)

import ast
import json
import re
from dataclasses import FrozenInstanceError, replace
from typing import get_args

import jaxtyping
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.config import (
    PRESETS,
    ConfigError,
    FeedForwardKind,
    ModelConfig,
    NormKind,
    NormOrder,
    Positions,
    RopeConfig,
    RopeScaling,
    preset,
)
from pocketgpt.errors import PocketError

SIZES = {"vocab_size": 11, "d_model": 24, "n_layers": 2, "n_heads": 6, "max_seq_len": 16}
SMALL_INTEGERS = st.integers(-1, 12)
ROPES = st.builds(
    dict,
    theta=st.floats(0.5, 1e6),
    scaling=st.sampled_from(get_args(RopeScaling)),
    factor=st.floats(0.5, 64),
    original_max_seq_len=st.none() | SMALL_INTEGERS,
    beta_fast=st.floats(0.5, 64),
    high_freq_factor=st.floats(0.5, 8),
)
MODELS = st.fixed_dictionaries(
    {name: st.integers(0, 24) for name in SIZES},
    optional={
        "n_kv_heads": st.none() | SMALL_INTEGERS,
        "d_head": st.none() | SMALL_INTEGERS,
        "d_ff": st.none() | SMALL_INTEGERS,
        "positions": st.sampled_from(get_args(Positions)),
        "norm": st.sampled_from(get_args(NormKind)),
        "norm_weight": st.booleans(),
        "norm_bias": st.booleans(),
        "norm_eps": st.floats(-1, 1),
        "norm_order": st.sampled_from(get_args(NormOrder)),
        "feedforward": st.sampled_from(get_args(FeedForwardKind)),
        "window": st.none() | SMALL_INTEGERS,
        "causal": st.booleans(),
        "dropout": st.floats(-0.5, 1.5),
        "rope": ROPES,
    },
)


@pytest.fixture(autouse=True, scope="module")
def unchecked():
    """The configs check their values themselves, also where annotations are not checked."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def error_of(values: dict) -> str | None:
    try:
        ModelConfig.from_dict(values)
    except ConfigError as error:
        return str(error)
    return None


@given(values=MODELS)
def test_json_round_trip(values):
    if error_of(values) is None:
        config = ModelConfig.from_dict(values)
        assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip_of_each_preset(name):
    assert ModelConfig.from_dict(json.loads(json.dumps(preset(name).to_dict()))) == preset(name)


def offered(message: str) -> object:
    """The value that a message offers."""
    if found := re.search(r"a number above \w+ = ([\d.]+\d)", message):
        return 2 * float(found[1])
    forms = r"such as ([\d.e-]*\d)|one of '(\w+)'|least (1)\.|= \d+: (\d+)|use (\d+) or more|use (None|False)"
    found = next(value for value in re.search(forms, message).groups() if value)
    try:
        return ast.literal_eval(found)
    except ValueError:  # a word
        return found


@given(values=MODELS)
def test_the_value_that_a_message_offers_works(values):
    """Following the advice leads to a config, and never in a circle."""
    for _ in range(20):
        message = error_of(values)
        if message is None:
            return
        kind, field = re.match(r"(\w+)\.(\w+) = ", message).groups()
        (values["rope"] if kind == "RopeConfig" else values)[field] = offered(message)
    pytest.fail(message)


WRONG = [
    ({"vocab_size": 0}, "ModelConfig.vocab_size = 0 cannot work: use a whole number of at least 1."),
    ({"d_model": 25}, "ModelConfig.d_model = 25 cannot work: use a multiple of n_heads = 6, such as 36"),
    ({"n_kv_heads": 4}, "ModelConfig.n_kv_heads = 4 cannot work: use a divisor of n_heads = 6: 1, 2, 3, 6."),
    ({"d_head": 5}, "ModelConfig.d_head = 5 cannot work: use an even number, such as 6"),
    ({"positions": "absolute"}, "ModelConfig.positions = 'absolute' cannot work: use one of 'rope', 'learned', "),
    ({"positions": "sinusoidal", "d_model": 21, "n_heads": 3}, "ModelConfig.d_model = 21 cannot work: use an even"),
    ({"norm": "batchnorm"}, "ModelConfig.norm = 'batchnorm' cannot work: use one of 'rmsnorm', 'layernorm'."),
    ({"norm_bias": True}, "ModelConfig.norm_bias = True cannot work: use False"),
    ({"norm_eps": 0.0}, "ModelConfig.norm_eps = 0.0 cannot work: use a small positive number, such as 1e-5."),
    ({"norm_order": "sandwich"}, "ModelConfig.norm_order = 'sandwich' cannot work: use one of 'pre', 'post'."),
    ({"feedforward": "relu"}, "ModelConfig.feedforward = 'relu' cannot work: use one of 'swiglu', 'gelu', "),
    ({"dropout": 1.0}, "ModelConfig.dropout = 1.0 cannot work: use a number from 0 up to 1, such as 0.1."),
    ({"window": 0}, "ModelConfig.window = 0 cannot work: use a whole number of at least 1."),
    ({"window": 4, "causal": False}, "ModelConfig.window = 4 cannot work: use None, or causal = True"),
    ({"rope": {"theta": 0.5}}, "RopeConfig.theta = 0.5 cannot work: use a number above 1, such as 10000.0."),
    ({"rope": {"scaling": "ntk-aware"}}, "RopeConfig.scaling = 'ntk-aware' cannot work: use one of 'none', 'linear', "),
    ({"rope": {"factor": 0.5}}, "RopeConfig.factor = 0.5 cannot work: use a number of at least 1.0, such as 4.0"),
    ({"rope": {"scaling": "yarn"}}, "RopeConfig.original_max_seq_len = None cannot work: use a whole number"),
    ({"rope": {"beta_fast": 0.5}}, "RopeConfig.beta_fast = 0.5 cannot work: use a number above beta_slow = 1.0."),
    ({"rope": {"scaling": "ntk"}, "d_head": 2}, "ModelConfig.d_head = 2 cannot work: use 4 or more"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=str)
def test_an_error_names_field_value_and_a_value_that_works(changes, message):
    with pytest.raises(ConfigError) as error:
        ModelConfig.from_dict(SIZES | changes)
    assert str(error.value).startswith(message)


def test_an_error_is_one_that_the_command_line_prints():
    assert issubclass(ConfigError, PocketError) and issubclass(ConfigError, ValueError)


def test_an_unknown_field_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"ModelConfig has no field 'd_modell': its fields are .*d_model"):
        ModelConfig.from_dict(SIZES | {"d_modell": 3})


def test_an_unknown_preset_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match="no preset 'gpt3': choose one of pocket, pocket-shakespeare, gpt2"):
        preset("gpt3")


@pytest.mark.parametrize(
    ("d_model", "kind", "expected"),
    [(384, "relu2", 1536), (768, "swiglu", 2048), (256, "swiglu", 704), (100, "gelu", 448)],
)
def test_feedforward_width_is_rounded_up_to_a_multiple_of_64(d_model, kind, expected):
    assert ModelConfig(**SIZES | {"d_model": d_model, "n_heads": 1}, feedforward=kind).d_ff == expected


def test_widths_left_open_follow_from_the_others():
    config = ModelConfig(**SIZES)
    assert (config.n_kv_heads, config.d_head, config.d_ff) == (6, 4, 64)


def test_a_changed_preset_derives_its_widths_anew():
    config = preset("gpt2", d_model=384, n_heads=6)
    assert (config.n_kv_heads, config.d_head, config.d_ff) == (6, 64, 1536)


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        preset("gpt2").d_model = 3
    assert replace(preset("gpt2"), dropout=0.0).dropout == 0.0


def test_pocket_is_the_pocket_configuration():
    config = preset("pocket")
    assert (config.vocab_size, config.max_seq_len, config.d_model, config.n_layers) == (50_257, 256, 384, 6)
    assert (config.n_heads, config.n_kv_heads, config.d_ff, config.feedforward) == (6, 2, 1536, "relu2")
    assert not (config.tie_embeddings or config.norm_weight or config.feedforward_bias or config.attention_bias)
    assert config.norm == "rmsnorm" and config.embedding_norm and config.dropout == 0


def test_brain_is_brain_gpt():
    config = preset("brain")
    assert (config.d_model, config.n_layers, config.n_heads, config.max_seq_len) == (768, 12, 12, 2048)
    assert (config.norm, config.norm_order, config.feedforward, config.d_ff) == ("layernorm", "pre", "gelu", 4 * 768)
    assert not config.attention_bias and not config.output_bias and config.tie_embeddings


def test_rope_config_is_read_from_a_dictionary():
    assert ModelConfig.from_dict(SIZES | {"rope": {"theta": 500.0}}).rope == RopeConfig(theta=500.0)

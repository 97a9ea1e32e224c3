import ast
import json
import re
from dataclasses import FrozenInstanceError, replace
from typing import get_args

import jaxtyping
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.checked import ConfigError
from pocketgpt.errors import PocketError
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import Activation, FeedForwardConfig
from pocketgpt.layers.rope_scaling import RopeConfig, RopeScaling
from pocketgpt.models.config import KINDS, ModelConfig, NormKind, NormOrder, Positions
from pocketgpt.models.presets import PRESETS, preset

SIZES = {"vocab_size": 11, "d_model": 24, "n_layers": 2, "max_seq_len": 16}
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
MIXERS = st.fixed_dictionaries(
    {"kind": st.just("attention"), "n_heads": st.integers(0, 24)},
    optional={
        "n_kv_heads": st.none() | SMALL_INTEGERS,
        "d_head": st.none() | SMALL_INTEGERS,
        "window": st.none() | SMALL_INTEGERS,
    },
)
FEEDFORWARDS = st.fixed_dictionaries(
    {"kind": st.just("feedforward")},
    optional={
        "d_ff": st.none() | SMALL_INTEGERS,
        "activation": st.sampled_from(get_args(Activation)),
    },
)
MODELS = st.fixed_dictionaries(
    {name: st.integers(0, 24) for name in SIZES} | {"mixer": MIXERS},
    optional={
        "feedforward": FEEDFORWARDS,
        "positions": st.sampled_from(get_args(Positions)),
        "norm": st.sampled_from(get_args(NormKind)),
        "norm_weight": st.booleans(),
        "norm_bias": st.booleans(),
        "norm_eps": st.floats(-1, 1),
        "norm_order": st.sampled_from(get_args(NormOrder)),
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


@pytest.mark.parametrize("field", ["mixer", "feedforward", "rope"])
def test_a_part_that_is_a_dictionary_is_answered_with_the_function_that_takes_one(field):
    config = preset("pocket").resolved()
    parts = {name: getattr(config, name) for name in ("mixer", "feedforward", "rope") if name != field}
    with pytest.raises(ConfigError, match=rf"ModelConfig\.{field} is a dictionary: ModelConfig.from_dict\(values\)"):
        ModelConfig(**config.to_dict() | parts)


def test_another_rope_than_a_config_is_refused():
    with pytest.raises(ConfigError, match=r"ModelConfig.rope = 10000.0 cannot work: use a RopeConfig"):
        preset("pocket", rope=10_000.0)


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip_of_each_preset(name):
    config = preset(name)
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


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
        place = {"RopeConfig": "rope", "AttentionConfig": "mixer", "FeedForwardConfig": "feedforward"}.get(kind)
        (values[place] if place else values)[field] = offered(message)
    pytest.fail(message)


ATTENTION = {"kind": "attention", "n_heads": 6}


def model(mixer: dict | None = None, **changes) -> dict:
    """The dictionary of a small model with some fields changed; another kind of mixer replaces the attention."""
    mixer = mixer or {}
    return {**SIZES, "mixer": mixer if "kind" in mixer else ATTENTION | mixer, **changes}


LATENT = {"kind": "latent_attention", "n_heads": 6, "kv_rank": 8}
MOE = {"kind": "mixture_of_experts"}


WRONG = [
    (model(vocab_size=0), "ModelConfig.vocab_size = 0 cannot work: use a whole number of at least 1."),
    (model(d_model=25), "ModelConfig.d_model = 25 cannot work: use a multiple of n_heads = 6, such as 36"),
    (model({"n_kv_heads": 4}), "AttentionConfig.n_kv_heads = 4 cannot work: use a divisor of n_heads = 6: 1, 2, 3, 6."),
    (model({"n_heads": 0}), "AttentionConfig.n_heads = 0 cannot work: use a whole number of at least 1."),
    (model({"d_head": 5}), "AttentionConfig.d_head = 5 cannot work: use an even number, such as 6"),
    (model(positions="absolute"), "ModelConfig.positions = 'absolute' cannot work: use one of 'rope', 'learned', "),
    (model({"n_heads": 3}, positions="sinusoidal", d_model=21), "ModelConfig.d_model = 21 cannot work: use an even"),
    (model(norm="batchnorm"), "ModelConfig.norm = 'batchnorm' cannot work: use one of 'rmsnorm', 'layernorm'."),
    (model(norm_bias=True), "ModelConfig.norm_bias = True cannot work: use False"),
    (model(norm_eps=0.0), "ModelConfig.norm_eps = 0.0 cannot work: use a small positive number, such as 1e-5."),
    (model(norm_order="sandwich"), "ModelConfig.norm_order = 'sandwich' cannot work: use one of 'pre', 'post'."),
    (model(norm_order="post", feedforward=None), "ModelConfig.norm_order = 'post' cannot work: use pre for blocks"),
    (
        model(feedforward={"kind": "feedforward", "activation": "tanh"}),
        "FeedForwardConfig.activation = 'tanh' cannot work: use one of 'swiglu', 'geglu', ",
    ),
    (model(feedforward={"kind": "feedforward", "d_ff": -1}), "FeedForwardConfig.d_ff = -1 cannot work: use a whole"),
    (model(dropout=1.0), "ModelConfig.dropout = 1.0 cannot work: use a number from 0 up to 1, such as 0.1."),
    (model({"window": 0}), "AttentionConfig.window = 0 cannot work: use a whole number of at least 1."),
    (model({"window": 4}, causal=False), "AttentionConfig.window = 4 cannot work: use None, or causal = True"),
    (
        model(LATENT | {"kv_rank": 0}),
        "LatentAttentionConfig.kv_rank = 0 cannot work: use a whole number of",
    ),
    (model(LATENT | {"d_rope": 3}), "LatentAttentionConfig.d_rope = 3 cannot work: use an even number, such as 4"),
    (model(LATENT, d_model=25), "ModelConfig.d_model = 25 cannot work: use a multiple of n_heads = 6, such as 30"),
    (model(LATENT | {"d_rope": -1}), "LatentAttentionConfig.d_rope = -1 cannot work: use 0 for none, or an even"),
    (model({"kind": "mamba", "d_conv": 0}), "MambaConfig.d_conv = 0 cannot work: use a whole number of at least 1."),
    (model({"kind": "mamba"}, causal=False), "ModelConfig.causal = False cannot work: use True with Mamba"),
    (model(feedforward=MOE | {"top_k": 9}), "MixtureOfExpertsConfig.top_k = 9 cannot work: use at most n_experts = 8"),
    (model(feedforward=MOE | {"n_shared": -1}), "MixtureOfExpertsConfig.n_shared = -1 cannot work: use 0 or more"),
    (
        model(feedforward=MOE | {"balance": "hope"}),
        "MixtureOfExpertsConfig.balance = 'hope' cannot work: use one of 'loss', 'bias', 'none'",
    ),
    (model(mixer={"kind": "convolution"}), "There is no layer of kind 'convolution': use one of 'attention', "),
    (
        {**SIZES, "mixer": None},
        "ModelConfig.mixer = None cannot work: use one of AttentionConfig, LatentAttentionConfig, ",
    ),
    (model(rope={"theta": 0.5}), "RopeConfig.theta = 0.5 cannot work: use a number above 1, such as 10000.0."),
    (model(rope={"scaling": "ntk-aware"}), "RopeConfig.scaling = 'ntk-aware' cannot work: use one of 'none', 'linear'"),
    (model(rope={"factor": 0.5}), "RopeConfig.factor = 0.5 cannot work: use a number of at least 1.0, such as 4.0"),
    (model(rope={"scaling": "yarn"}), "RopeConfig.original_max_seq_len = None cannot work: use a whole number"),
    (model(rope={"beta_fast": 0.5}), "RopeConfig.beta_fast = 0.5 cannot work: use a number above beta_slow = 1.0."),
    (model(rope={"beta_slow": 0.0}), "RopeConfig.beta_slow = 0.0 cannot work: use a number above 0, such as 1.0."),
    (model({"d_head": 2}, rope={"scaling": "ntk"}), "AttentionConfig.d_head = 2 cannot work: use 4 or more"),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=[message for _, message in WRONG])
def test_an_error_names_field_value_and_a_value_that_works(values, message):
    with pytest.raises(ConfigError) as error:
        ModelConfig.from_dict(values)
    assert str(error.value).startswith(message)


def test_an_error_is_one_that_the_command_line_prints():
    assert issubclass(ConfigError, PocketError) and issubclass(ConfigError, ValueError)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (model(d_modell=3), r"ModelConfig has no field 'd_modell': its fields are .*d_model"),
        (model({"n_headz": 3}), r"AttentionConfig has no field 'n_headz': its fields are .*n_heads"),
    ],
)
def test_an_unknown_field_is_named_with_the_known_ones(values, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(values)


def test_an_unknown_preset_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match="no preset 'gpt3': choose one of pocket, pocket-shakespeare, gpt2"):
        preset("gpt3")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("pocket-mamba", {"feedforward": {"d_ff": 64}}, "cannot change None, which has no fields: a part of another"),
        ("pocket", {"n_layers": {"d_ff": 64}}, "{'d_ff': 64} cannot change 6, which has no fields"),
        ("pocket", {"mixr": {"n_heads": 6}}, "unexpected keyword argument 'mixr': the fields are vocab_size, "),
        ("pocket", {"mixer": {"kind": "linear_attention"}}, "LinearAttentionConfig needs a value for n_heads."),
    ],
)
def test_a_change_of_a_preset_that_cannot_work_is_named(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        preset(name, **changes)


def test_a_config_of_the_older_version_is_refused_with_how_to_convert_it():
    with pytest.raises(ConfigError, match=r"older version.*python -m pocketgpt\.models\.convert FOLDER"):
        ModelConfig.from_dict(SIZES | {"n_heads": 6})


@pytest.mark.parametrize(
    ("d_model", "activation", "expected"),
    [(384, "relu2", 1536), (768, "swiglu", 2048), (256, "swiglu", 704), (100, "gelu", 448)],
)
def test_feedforward_width_is_rounded_up_to_a_multiple_of_64(d_model, activation, expected):
    feedforward = FeedForwardConfig(activation=activation)
    config = ModelConfig(**SIZES | {"d_model": d_model}, mixer=AttentionConfig(n_heads=1), feedforward=feedforward)
    assert config.resolved().feedforward.d_ff == expected


def test_widths_left_open_follow_from_the_others():
    config = ModelConfig(**SIZES, mixer=AttentionConfig(n_heads=6))
    assert (config.mixer.n_kv_heads, config.mixer.d_head, config.feedforward.d_ff) == (None, None, None)
    config = config.resolved()
    assert (config.mixer.n_kv_heads, config.mixer.d_head, config.feedforward.d_ff) == (6, 4, 64)
    assert config.resolved() == config


def test_a_changed_preset_derives_its_widths_anew():
    config = preset("gpt2", d_model=384, mixer={"n_heads": 6}).resolved()
    assert (config.mixer.n_kv_heads, config.mixer.d_head, config.feedforward.d_ff) == (6, 64, 1536)


def test_a_preset_changes_any_field_of_any_part():
    parts = {"mixer": {"n_kv_heads": 2}, "feedforward": {"activation": "relu2"}, "rope": {"theta": 5e5}}
    config = preset("llama", n_layers=6, **parts)
    assert (config.n_layers, config.mixer.n_heads, config.mixer.n_kv_heads) == (6, 12, 2)
    assert (config.feedforward.activation, config.rope.theta) == ("relu2", 5e5)
    assert PRESETS["llama"].mixer.n_kv_heads is None
    with pytest.raises(ConfigError, match="AttentionConfig has no field 'n_headz'"):
        preset("llama", mixer={"n_headz": 2})
    with pytest.raises(ConfigError, match=r"'n_layer'.*n_layers"):
        preset("llama", n_layer=2)


def test_parts_in_a_tuple_repeat_down_the_layers():
    local, full = AttentionConfig(n_heads=6, window=4), AttentionConfig(n_heads=6)
    config = ModelConfig(**SIZES | {"n_layers": 5}, mixer=(local, local, full))
    assert [mixer.window for mixer, _ in config.layers()] == [4, 4, None, 4, 4]
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_change_of_a_part_reaches_each_of_a_tuple():
    local, full = AttentionConfig(n_heads=6, window=4), AttentionConfig(n_heads=6)
    changed = preset("llama", mixer=(local, full)).mixer
    assert [part.window for part in changed] == [4, None]


def test_each_kind_of_layer_has_a_name_of_its_own():
    assert all(kind == config.kind for kind, config in KINDS.items())


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        preset("gpt2").d_model = 3
    assert replace(preset("gpt2"), dropout=0.0).dropout == 0.0


def test_pocket_is_the_pocket_configuration():
    config = preset("pocket").resolved()
    attention, feedforward = config.mixer, config.feedforward
    assert (config.vocab_size, config.max_seq_len, config.d_model, config.n_layers) == (50_257, 256, 384, 6)
    assert (attention.n_heads, attention.n_kv_heads, feedforward.d_ff, feedforward.activation) == (6, 2, 1536, "relu2")
    assert not (config.tie_embeddings or config.norm_weight or feedforward.bias or attention.bias)
    assert config.norm == "rmsnorm" and config.embedding_norm and config.dropout == 0


def test_brain_is_brain_gpt():
    config = preset("brain").resolved()
    assert (config.d_model, config.n_layers, config.mixer.n_heads, config.max_seq_len) == (768, 12, 12, 2048)
    assert (config.norm, config.norm_order) == ("layernorm", "pre")
    assert (config.feedforward.activation, config.feedforward.d_ff) == ("gelu", 4 * 768)
    assert not config.mixer.bias and not config.mixer.output_bias and config.tie_embeddings


def test_latent_is_the_latent_configuration():
    config = preset("latent").resolved()
    assert (config.d_model, config.n_layers, config.max_seq_len, config.positions) == (768, 12, 512, "learned")
    assert config.mixer.kind == "latent_attention" and config.vocab_size == 32_000


def test_rope_config_is_read_from_a_dictionary():
    assert ModelConfig.from_dict(model(rope={"theta": 500.0})).rope == RopeConfig(theta=500.0)


@pytest.mark.parametrize(("field", "value"), [("causal", None), ("causal", []), ("tie_embeddings", "no")])
def test_a_field_that_is_neither_true_nor_false_is_named(field, value):
    with pytest.raises(ConfigError, match=rf"ModelConfig\.{field} = .* cannot work: use True or False"):
        ModelConfig.from_dict({**preset("pocket").to_dict(), field: value})

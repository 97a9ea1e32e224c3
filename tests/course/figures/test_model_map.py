"""The map shows the model that the config describes, and where each chapter is."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

from pocketgpt.course.building import ROOT
from pocketgpt.course.figures.model_map import HERE, NUMBERS, TOPICS, model_map
from pocketgpt.errors import PocketError
from pocketgpt.models.presets import preset


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def words() -> list[str]:
    return [text.get_text() for text in plt.gca().texts]


def highlighted() -> int:
    return sum(to_hex(patch.get_facecolor()).upper() == HERE for patch in plt.gca().patches)


def test_without_a_topic_nothing_is_highlighted():
    model_map(preset("pocket-shakespeare"))
    assert highlighted() == 0


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_has_a_part_in_color(topic):
    model_map(preset("pocket-shakespeare"), highlight=topic)
    edges = [to_hex(patch.get_edgecolor()).upper() for patch in plt.gca().patches]
    assert highlighted() or HERE in edges


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_added_positions_have_their_own_part(positions):
    model_map(preset("gpt2", positions=positions), highlight="positions")
    assert highlighted() and any(positions in word for word in words())


def test_an_unknown_topic_is_an_error_that_lists_the_topics():
    with pytest.raises(PocketError, match=r"no 'atention' on the map.*attention"):
        model_map(preset("gpt2"), highlight="atention")


def test_the_numbers_are_those_of_the_chapters():
    for source in (ROOT / "solutions").glob("[0-9]*.py"):
        number, topic = source.stem.split("_", 1)
        if topic in TOPICS:
            assert NUMBERS[topic] == int(number)


def test_what_the_config_says_is_on_the_map():
    model_map(preset("llama", n_layers=7, feedforward={"activation": "relu2"}))
    assert {"block, 7 times", "RMSNorm", "feed-forward\nReLU²", "RoPE: positions"} <= set(words())


def test_a_post_norm_model_has_no_norm_before_its_head():
    model_map(preset("gpt2"))
    before = words().count("LayerNorm")
    model_map(preset("gpt2", norm_order="post"))
    assert (before, words().count("LayerNorm")) == (3, 2)

"""The numbers of the cheat sheet: parts add up to the totals of the library, and Llama's are the published ones."""

import pytest

from pocketgpt.course.reference.costs import COST_ROWS, MODELS, cost_table, costs, with_bytes, with_unit

every_model = pytest.mark.parametrize("name", MODELS)


@every_model
def test_the_formulas_for_parameters_add_up_to_what_the_library_counts(name):
    count, layers = costs(MODELS[name]), MODELS[name].n_layers
    blocks = layers * (count.attention + count.feed_forward)
    assert count.embedding + count.head + blocks + count.norms == count.parameters


@every_model
def test_the_formula_for_flops_is_that_of_the_library(name):
    count, config = costs(MODELS[name]), MODELS[name]
    multiplied = config.n_layers * (count.attention + count.feed_forward) + config.vocab_size * config.d_model
    assert 2 * multiplied + count.attention_flops == count.flops


@every_model
def test_the_formula_for_the_cache_is_that_of_the_library(name):
    config = MODELS[name].resolved()
    assert costs(config).cache_bytes == 2 * config.n_layers * config.mixer.n_kv_heads * config.mixer.d_head * 2


def test_llama_has_its_published_size_and_cache():
    count = costs(MODELS["Llama-3-8B"])
    assert f"{count.parameters / 1e9:.2f}" == "8.03"
    assert count.cache_bytes == 128 * 1024


def test_the_pocket_model_has_the_size_that_chapter_10_counts():
    assert costs(MODELS["pocket model"]).parameters == 2_361_024


@pytest.mark.parametrize(("number", "written"), [(0, "0"), (786_432, "786 K"), (8_030_261_248, "8.03 B")])
def test_counts_have_three_digits(number, written):
    assert with_unit(number) == written


@pytest.mark.parametrize(("number", "written"), [(1024, "1 KiB"), (131_072, "128 KiB"), (4_722_048, "4.50 MiB")])
def test_bytes_have_three_digits(number, written):
    assert with_bytes(number) == written


def test_each_row_of_the_table_has_a_number_for_each_model():
    assert [row[:2] for row in cost_table()] == list(COST_ROWS)
    assert {len(row) for row in cost_table()} == {2 + len(MODELS)}

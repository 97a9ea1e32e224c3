"""What a benchmark leaves behind."""

import pytest
import torch

from pocketgpt.bench.attention import exponents
from pocketgpt.bench.generate import growth_with_context
from pocketgpt.bench.generate import row as generate_row
from pocketgpt.bench.report import Report, describe_machine, shown
from pocketgpt.bench.timing import Variant
from pocketgpt.bench.train import row as train_row


def test_json_round_trip(tmp_path):
    report = Report("train", {"runs": 2}, {"device": "cpu"}, [{"variant": "a", "seconds": [0.5, 0.25]}], ["a note"])
    assert Report.load(report.save(tmp_path)) == report


def test_the_machine_is_named_with_its_versions():
    machine = describe_machine(torch.device("cpu"))
    assert machine["versions"]["torch"] == torch.__version__
    assert machine["processor"] and machine["threads"] == torch.get_num_threads()


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("peak_bytes", 3 * 2**20, "3 MiB"),
        ("mfu", 0.4567, "45.7%"),
        ("limit_share", 0.5, "50.0%"),
        ("tokens_per_second", 1234.5, "1,234"),
        ("ratio", 1.23456, "1.23"),
        ("tokens", 4096, "4,096"),
        ("middle_half", [1.0, 2.0], "1 … 2"),
        ("peak_bytes", None, ""),
    ],
)
def test_values_are_shown_in_their_units(name, value, text):
    assert shown(name, value) == text


def test_a_column_without_values_is_left_out():
    text = Report("train", {}, {}, [{"variant": "a", "peak_bytes": None, "ratio": 1.0}]).text()
    assert text.splitlines()[0].split() == ["variant", "ratio"]


def test_mfu_and_ratio_by_hand():
    # 600 floating-point operations in 2 s are 300 a second, of a peak of 1,000 seen once and 500 in the long run.
    first = Variant("float32", print, seconds=[8.0])
    ours = Variant("ours", print, seconds=[3.0, 1.0, 2.0], facts={"flops": 600, "peak_bytes": 7})
    products = Variant("products", print, seconds=[4.0], facts={"flops": 2000})
    row = train_row(ours, first, products, n_tokens=10, peak=1000.0)
    assert row["tokens_per_second"] == 5.0
    assert row["middle_half"] == [4.0, pytest.approx(10 / 1.5)]
    assert row["ratio"] == 4.0
    assert row["mfu"] == pytest.approx(0.3)
    assert row["sustained_mfu"] == pytest.approx(0.6)


def test_time_per_token_leaves_out_the_first():
    # Two runs: the first token after 1 s or 3 s, then one every 0.1 s or 0.3 s.
    row = generate_row("ours", 8, [[1.0, 1.1, 1.2], [3.0, 3.3, 3.6]], limit=10.0)
    assert row["first_token_ms"] == pytest.approx(2000)
    assert row["ms_per_token"] == pytest.approx(200)
    assert row["tokens_per_second"] == pytest.approx(5)
    assert row["limit_share"] == pytest.approx(0.5)


def test_growth_with_context_compares_the_longest_with_the_shortest():
    rows = [
        {"variant": "a", "context": context, "ms_per_token": ms} for context, ms in ((1, 10.0), (2, 99.0), (4, 13.0))
    ]
    assert growth_with_context(rows) == ["a: from context 1 to 4 a token takes +30% time."]


def test_exponents_are_those_of_the_longer_half_of_the_lengths():
    # Flat at first, then as T²; memory as T.
    costs = {16: 5.0, 32: 5.0, 64: 64.0**2, 128: 128.0**2}
    rows = [
        {
            "variant": "a",
            "pass": "forward",
            "tokens": t,
            "milliseconds": c,
            "seconds": [c, 2 * c],
            "peak_bytes": 1000 * t,
        }
        for t, c in costs.items()
    ]
    assert exponents(rows) == [
        "a, forward: time grows as T^2.00 (single runs 2.00 … 2.00), memory as T^1.00, over T = 64 … 128."
    ]

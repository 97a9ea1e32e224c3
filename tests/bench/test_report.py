"""The table, the JSON file, the picture and the notes of a benchmark."""

import pytest

from pocketgpt.bench.generate import row as generate_row
from pocketgpt.bench.report import Report, best, draw, growth_notes, shown
from pocketgpt.bench.train import summarize


def test_json_round_trip(tmp_path):
    report = Report("train", {"runs": 2}, {"device": "cpu"}, [{"variant": "a", "seconds": [0.5, 0.25]}], ["a note"])
    assert Report.load(report.save(tmp_path)) == report


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("peak_bytes", 3 * 2**20, "3 MiB"),
        ("mfu", 0.4567, "45.7%"),
        ("limit_share", 0.5, "50.0%"),
        ("tokens_per_second", 1234.5, "1,234"),
        ("ratio", 1.23456, "1.23"),
        ("sequence", 4096, "4,096"),
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
    report = Report("train", {}, {})
    seconds = {"float32": [8.0], "ours": [3.0, 1.0, 2.0], "products": [4.0]}
    steps = {name: {"flops": 600, "peak_bytes": peak} for name, peak in (("float32", 9), ("ours", 7))}
    summarize(report, seconds, steps | {"products": {"flops": 2000}}, n_tokens=10, fastest=1000.0)
    assert [row["variant"] for row in report.rows] == ["float32", "ours"]
    first, row = report.rows
    assert first["ratio"] == 1.0
    assert row["tokens_per_second"] == 5.0
    assert row["middle_half"] == [1500.0, 2500.0]
    assert row["ratio"] == 4.0
    assert row["mfu"] == pytest.approx(0.3)
    assert row["sustained_mfu"] == pytest.approx(0.6)
    assert row["peak_bytes"] == 7
    assert report.machine == {"matmul_flops": 1000.0, "sustained_matmul_flops": 500.0}


def test_steps_without_products_have_no_sustained_mfu():
    report = Report("train", {}, {})
    facts = {"float32": {"flops": 600, "peak_bytes": None}, "products": {"flops": 2000}}
    summarize(report, {"float32": [2.0]}, facts, n_tokens=10, fastest=1000.0)
    assert (report.rows[0]["mfu"], report.rows[0]["sustained_mfu"]) == (pytest.approx(0.3), None)


def test_time_per_token_leaves_out_the_first():
    # Two runs: the first token after 1 s or 3 s, then one every 0.1 s or 0.3 s.
    row = generate_row("ours", 8, [[1.0, 1.1, 1.2], [3.0, 3.3, 3.6]], limit=10.0)
    assert row["first_token_ms"] == pytest.approx(2000)
    assert row["milliseconds"] == pytest.approx(200)
    assert row["tokens_per_second"] == pytest.approx(5)
    assert row["limit_share"] == pytest.approx(0.5)


def grown(costs):
    return [
        {"variant": "a", "sequence": t, "milliseconds": c, "middle_half": [c, c], "seconds": [c, 2 * c],
         "peak_bytes": 1000 * t}
        for t, c in costs.items()
    ]  # fmt: skip


def test_exponents_are_those_of_the_longer_half_of_the_lengths():
    # Flat at first, then as T²; memory as T.
    rows = grown({16: 5.0, 32: 5.0, 64: 64.0**2, 128: 128.0**2})
    assert growth_notes(Report("attention", {}, {}, rows), "sequence") == [
        "a: time grows as T^2.00 (single runs 2.00 … 2.00), memory as T^1.00, over T = 64 … 128."
    ]


def test_growth_without_memory_or_with_one_length():
    rows = [row | {"peak_bytes": None} for row in grown({64: 64.0, 128: 128.0})]
    assert growth_notes(Report("attention", {}, {}, rows), "sequence") == [
        "a: time grows as T^1.00 (single runs 1.00 … 1.00), over T = 64 … 128."
    ]
    assert growth_notes(Report("attention", {}, {}, rows[:1]), "sequence") == []


@pytest.mark.parametrize("x", ["sequence", "variant"])
def test_a_picture_is_drawn_from_the_rows_alone_even_where_memory_is_unknown(tmp_path, x):
    rows = grown({64: 4.0, 128: 9.0}) + [row | {"variant": "transformers"} for row in grown({64: 1.0})]
    rows[0]["peak_bytes"] = None
    file = draw(Report("any", {}, {}, rows), {"milliseconds": "ms", "peak_bytes": "MiB"}, x, tmp_path / "new")
    assert file == tmp_path / "new" / "any.png"
    assert file.read_bytes().startswith(b"\x89PNG")


def test_the_title_names_the_best_of_the_longest():
    points = [("a", 1, 1.0), ("a", 2, 9.0), ("b", 2, 8.0)]
    rows = [{"variant": variant, "sequence": t, "milliseconds": c, "peak_bytes": None} for variant, t, c in points]
    assert best(rows, "milliseconds", "sequence") == "Best: b, 8"
    assert best(rows, "milliseconds", "variant") == "Best: a, 1"
    assert best(rows, "peak_bytes", "sequence") == ""
    speeds = [{"variant": name, "tokens_per_second": speed} for name, speed in (("a", 1.0), ("b", 3.0), ("c", 2.0))]
    assert best(speeds, "tokens_per_second", "variant") == "Best: b, 3"

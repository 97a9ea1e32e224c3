"""How the benchmark measures; what it measures decides no test."""

from pocketgpt.bench import Timing, interleaved


def test_variants_run_in_turn_and_the_first_round_is_not_counted():
    ran = []
    variants = {"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}
    timings = interleaved(variants, tokens=10, runs=3)
    assert "".join(ran) == "ab" * 4
    assert [(timing.name, len(timing.seconds)) for timing in timings] == [("a", 3), ("b", 3)]


def test_speed_is_the_work_of_a_run_over_the_median_time():
    assert Timing("a", [1.0, 100.0, 2.0], tokens=10).tokens_per_second == 5.0

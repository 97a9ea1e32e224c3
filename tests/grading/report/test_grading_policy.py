"""Points and deadlines: what the instructor's file says holds, and what it cannot mean is refused with a way out."""

from datetime import UTC, datetime, timedelta

import pytest

from pocketgpt.course.syllabus import all_exercises as exercises
from pocketgpt.errors import PocketError
from pocketgpt.grading.report.grading_policy import GradingPolicy, amount, duration, exercises_of
from pocketgpt.grading.results import Result, Verdict

CHAPTERS = ("01_tokens", "02_attention")
DEADLINE = datetime(2026, 12, 1, 22, 59, tzinfo=UTC)


@pytest.fixture
def load(tmp_path):
    def from_text(text: str) -> GradingPolicy:
        path = tmp_path / "policy.toml"
        path.write_text(text, encoding="utf-8")
        return GradingPolicy.load(path, CHAPTERS)

    return from_text


def result(*right: str, seconds_late: float = 0.0, chapter: str = "02_attention") -> Result:
    verdicts = tuple(Verdict(name, name in right, "") for name in exercises_of(chapter))
    submitted = DEADLINE.timestamp() + seconds_late
    return Result("Ann", "ann.ipynb", chapter=chapter, verdicts=verdicts, submitted=submitted)


def test_without_a_file_the_course_has_its_own_points_and_no_deadlines():
    policy = GradingPolicy()
    assert {name: policy.points(name) for name in exercises()} == {n: each.points for n, each in exercises().items()}
    assert policy.deadline("02_attention") is None
    assert policy.late(result(seconds_late=1e9)) is None


def test_an_exercise_belongs_to_the_chapter_of_its_number():
    assert exercises_of("02_attention") == ("attention_scores", "masked_softmax", "causal_mask", "attention")


def test_points_that_are_not_named_stay_the_courses_own(load):
    policy = load("[02_attention]\npoints = { attention = 5, causal_mask = 0 }")
    own = exercises()
    assert [policy.points(name) for name in exercises_of("02_attention")] == [
        own["attention_scores"].points,
        own["masked_softmax"].points,
        0,
        5,
    ]
    assert policy.possible("02_attention") == own["attention_scores"].points + own["masked_softmax"].points + 5


def test_only_right_answers_earn_points(load):
    policy = load("[02_attention]\npoints = { attention = 5, causal_mask = 2.5, attention_scores = 7 }")
    assert policy.earned(result("attention", "causal_mask")) == {
        "attention_scores": 0,
        "masked_softmax": 0,
        "causal_mask": 2.5,
        "attention": 5,
    }
    assert policy.total(result("attention", "causal_mask")) == 7.5


def test_tenths_of_points_add_up_to_what_a_person_expects(load):
    policy = load("[02_attention]\npoints = { attention = 0.1, causal_mask = 0.2 }")
    assert policy.total(result("attention", "causal_mask")) == 0.3


@pytest.mark.parametrize("text", ["2026-12-01T23:59:00+01:00", "2026-12-01T22:59:00Z", "2026-12-01 17:59:00-05:00"])
def test_a_deadline_with_an_offset_is_that_moment(load, text):
    assert load(f"[02_attention]\ndeadline = {text}").deadline("02_attention") == DEADLINE


def test_a_deadline_without_an_offset_is_in_the_time_zone_of_the_machine(load):
    deadline = load("[02_attention]\ndeadline = 2026-12-01T23:59:00").deadline("02_attention")
    assert deadline.tzinfo is not None
    assert deadline == datetime(2026, 12, 1, 23, 59).astimezone()


@pytest.mark.parametrize("seconds", [-1e6, -1.0, 0.0])
def test_a_file_that_was_last_changed_by_the_deadline_is_not_late(seconds):
    assert GradingPolicy(deadlines={"02_attention": DEADLINE}).late(result(seconds_late=seconds)) is None


def test_lateness_is_the_time_from_the_deadline_to_the_last_change():
    assert GradingPolicy(deadlines={"02_attention": DEADLINE}).late(result(seconds_late=97_200.0)) == timedelta(
        days=1, hours=3
    )


def test_lateness_costs_no_points():
    policy = GradingPolicy(deadlines={"02_attention": DEADLINE})
    late, in_time = result("attention", seconds_late=1e6), result("attention", seconds_late=-1e6)
    assert policy.late(late)
    assert policy.total(late) == policy.total(in_time) > 0


def test_the_deadline_of_another_chapter_makes_nothing_late():
    assert GradingPolicy(deadlines={"01_tokens": DEADLINE}).late(result(seconds_late=1e6)) is None


def test_a_file_from_the_end_of_time_is_late_and_nothing_breaks():
    assert GradingPolicy(deadlines={"02_attention": DEADLINE}).late(result(seconds_late=9e18)) > timedelta(days=36_000)


def test_what_was_not_handed_in_or_not_graded_is_not_late():
    policy = GradingPolicy(deadlines={"02_attention": DEADLINE})
    assert policy.late(Result("Ann", "", chapter="02_attention", submitted=1e12)) is None
    assert policy.late(Result("Ann", "a.ipynb", submitted=1e12)) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[02_attention\n", ["not a TOML", "line 1"]),
        ("[02_attention]\npoints = { attention = 5,\n", ["not a TOML", "line 2"]),
        ("[03_scalling]\n", ["03_scalling", "01_tokens, 02_attention"]),
        ("deadline = 2026-12-01T23:59:00\n", ["'deadline'", "[02_attention]"]),
        ("[02_attention]\npoint = { attention = 5 }\n", ["'point'", "deadline, points"]),
        ("[02_attention]\npoints = { atention = 5 }\n", ["'atention'", "attention_scores, masked_softmax"]),
        ("[02_attention]\npoints = { embed = 5 }\n", ["'embed'", "attention_scores"]),  # of another chapter
        ("[02_attention]\npoints = 5\n", ["points = 5", "{ attention_scores = 5 }"]),
        ("[02_attention]\npoints = { attention = -1 }\n", ["attention = -1", "from 0"]),
        ("[02_attention]\npoints = { attention = '5' }\n", ["attention = '5'", "a number"]),
        ("[02_attention]\npoints = { attention = true }\n", ["attention = True", "a number"]),
        ("[02_attention]\npoints = { attention = nan }\n", ["attention = nan", "a number"]),
        ("[02_attention]\npoints = { attention = inf }\n", ["attention = inf", "a number"]),
        ("[02_attention]\ndeadline = 2026-12-01\n", ["2026-12-01 has no time", "2026-12-01T23:59:59"]),
        ("[02_attention]\ndeadline = '2026-12-01T23:59'\n", ["'2026-12-01T23:59'", "Without quotes"]),
        ("[02_attention]\ndeadline = 23:59:00\n", ["23, 59", "2026-12-01T23:59:59"]),
        ("[02_attention]\ndeadline = 12\n", ["12", "2026-12-01T23:59:59"]),
        (f"a = {'[' * 5000}{']' * 5000}", ["too deeply"]),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_value_and_a_way_out(load, text, words):
    with pytest.raises(PocketError) as error:
        load(text)
    assert [word for word in ["policy.toml", *words] if word not in str(error.value)] == []


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PocketError, match=r"no file .*none\.toml"):
        GradingPolicy.load(tmp_path / "none.toml", CHAPTERS)


def test_a_folder_is_no_file_of_terms(tmp_path):
    with pytest.raises(PocketError, match="cannot be read"):
        GradingPolicy.load(tmp_path, CHAPTERS)


def test_a_file_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_bytes("# Prüfung\n".encode("latin-1"))
    with pytest.raises(PocketError, match="UTF-8"):
        GradingPolicy.load(path, CHAPTERS)


def test_a_byte_order_mark_is_no_error(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text("[02_attention]\npoints = { attention = 5 }\n", encoding="utf-8-sig")
    assert GradingPolicy.load(path, CHAPTERS).points("attention") == 5


@pytest.mark.parametrize(
    ("time", "written"),
    [
        (timedelta(days=1, hours=3, minutes=59), "1 d 3 h"),
        (timedelta(hours=3, minutes=5, seconds=59), "3 h 5 min"),
        (timedelta(minutes=5), "5 min"),
        (timedelta(seconds=59), "less than 1 min"),
    ],
)
def test_a_duration_is_written_in_its_two_largest_units(time, written):
    assert duration(time) == written


@pytest.mark.parametrize(("points", "written"), [(3, "3"), (3.0, "3"), (2.5, "2.5"), (0, "0"), (1_000_000, "1000000")])
def test_points_are_written_without_needless_zeros(points, written):
    assert amount(points) == written


def test_points_given_by_hand_count_whatever_the_check_said(load):
    policy = load('[02_attention.by_hand]\n"Ann" = { attention = 4, causal_mask = 0 }\n"Bob" = { attention = 1.5 }')
    earned = policy.earned(result("causal_mask", "attention_scores"))
    assert (earned["attention"], earned["causal_mask"], earned["masked_softmax"]) == (4, 0, 0)
    assert earned["attention_scores"] == policy.points("attention_scores")
    assert policy.notes(result()) == (
        "causal_mask: 0 points given by hand.",
        "attention: 4 points given by hand.",
    )
    assert policy.to_json()["by_hand"]["Bob"] == {"attention": 1.5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("by_hand = 3", "does not name students"),
        ("[02_attention.by_hand]\nAnn = 4", "does not name an exercise"),
        ("[02_attention.by_hand]\nAnn = { embed = 4 }", "no exercise 'embed'"),
        ("[02_attention.by_hand]\nAnn = { attention = -1 }", "not a valid number of points"),
    ],
)
def test_points_by_hand_that_cannot_be_meant_are_refused(load, text, said):
    with pytest.raises(PocketError, match=said):
        load(text if text.startswith("[") else f"[02_attention]\n{text}")

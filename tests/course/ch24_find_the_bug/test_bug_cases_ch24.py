"""Cases of chapter 24 follow from a seed, their evidence tells all causes apart, and wrong names are answered by it."""

import itertools
import json

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from pocketgpt.assets import asset
from pocketgpt.course.building import ROOT
from pocketgpt.course.building.release import _needed_rooms
from pocketgpt.course.checking.check import CheckFailed, diagnose
from pocketgpt.course.lab import bug_cases, check
from pocketgpt.course.lab.bug_cases import CASES, TRIES, draw_cases, right_names, verdict, worked_case
from pocketgpt.course.lab.bug_causes import CAUSES, NEVER_PLANTED, PARTS, PLANTS, RIGHT
from pocketgpt.course.lab.bug_evidence import FILE, RUNS, evidence
from pocketgpt.course.lab.bug_plants import mistake, planted, windows
from pocketgpt.course.lab.transplanting import transplant
from pocketgpt.course.syllabus import chapter_of, find_exercise
from pocketgpt.errors import PocketError

SEEDS = range(200)

every_part = pytest.mark.parametrize("part", PARTS)
every_draw = pytest.mark.parametrize("part", [*PARTS, "all"])


def truth(part: str, seed: int, count: int = CASES) -> list[str]:
    return [case._cause for case in draw_cases(part, seed, count)]


@pytest.fixture(autouse=True)
def no_tries_yet(monkeypatch):
    monkeypatch.setattr(bug_cases, "_tries", {})


@pytest.fixture
def no_evidence(monkeypatch):
    """Reasons without a model: a test of the rest is fast."""
    monkeypatch.setattr(bug_cases, "contradiction", lambda case, name: f"Case {case.number} is not `{name}`.")


@every_draw
def test_a_seed_always_gives_the_same_cases_and_others_give_others(part):
    assert draw_cases(part, 7) == draw_cases(part, 7)
    assert len({tuple(truth(part, seed)) for seed in SEEDS}) > 150


def test_the_cases_of_a_seed_are_those_of_the_stored_notebook():
    """A change of the list of causes or of the draw would change what every seed gives."""
    assert truth("model", 1)[:2] == ["no_causal_mask", "final_norm_forgotten"]
    assert truth("running", 1)[:2] == ["last_of_the_prompt_alone", "cache_drops_the_oldest"]
    assert truth("training", 1)[:2] == ["long_gradients_dropped", "decay_without_the_rate"]


@every_draw
def test_five_cases_have_five_causes_and_some_causes_never_come(part):
    drawn = [truth(part, seed) for seed in SEEDS]
    assert all(len(set(each)) == CASES for each in drawn)
    possible = {key for each in PARTS for key in CAUSES[each] if part in (each, "all")}
    assert set(itertools.chain(*drawn)) == possible - NEVER_PLANTED


def test_all_parts_come_in_cases_of_all():
    assert all({case.part for case in draw_cases("all", seed)} == set(PARTS) for seed in SEEDS)


def test_every_key_belongs_to_one_part_and_every_cause_is_a_mistake_of_a_catalogue():
    keys = [key for part in PARTS for key in CAUSES[part]]
    assert len(keys) == len(set(keys)) and set(keys) >= NEVER_PLANTED
    for part in PARTS:
        assert CAUSES[part].keys() == PLANTS[part].keys()
        for exercise, name in PLANTS[part].values():
            assert callable(mistake(exercise, name))


def test_a_hand_out_of_the_chapter_contains_the_exercises_whose_mistakes_it_plants():
    rooms = {room.name for room in _needed_rooms(ROOT, [ROOT / "chapters" / "24_find_the_bug.ipynb"])}
    planted_from = {exercise for part in PARTS for exercise, _ in PLANTS[part].values()}
    assert rooms >= {chapter_of(exercise).room for exercise in planted_from | {"keep_top_k", "temper", "draw"}}


def test_a_case_does_not_print_its_cause():
    case = draw_cases("model", 1)[0]
    assert case._cause not in repr(case)


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(PocketError, match="no part 'models'"):
        draw_cases("models", 1)
    with pytest.raises(PocketError, match="too few for 10"):
        draw_cases("model", 1, 10)
    with pytest.raises(PocketError, match="no cause 'x'"):
        worked_case("model", "x")


@every_draw
def test_the_right_names_pass_with_every_seed_and_fail_with_the_next(part, no_evidence):
    for seed in SEEDS:
        names = truth(part, seed)
        assert verdict(part, seed, names) is None and verdict(part, seed, tuple(names)) is None
        assert all(right_names(part, seed, names))
        if truth(part, seed + 1) != names:
            assert verdict(part, seed + 1, names) is not None


@every_part
def test_an_exercise_passes_for_every_seed_and_fails_with_the_names_of_another(part, no_evidence):
    exercise = find_exercise(f"{part}_bugs")
    for seed in SEEDS:
        names = truth(part, seed)
        assert diagnose(exercise, lambda seed=seed, names=names: (seed, names)) is None
    assert diagnose(exercise, lambda: (2, truth(part, 1))) is not None


MALFORMED = {
    "a dictionary": ({"a": 1}, "should be a list of 5 texts"),
    "one text": ("no_scale", "should be a list of 5 texts"),
    "nothing": (None, "should be a list of 5 texts"),
    "numbers": ([1, 2, 3, 4, 5], "Name 1 should be a text"),
    "None among them": (["no_scale", None, "no_scale", "no_scale", "no_scale"], "Name 2 should be a text"),
    "four": (["no_scale"] * 4, "There should be 5 names, one for each case, in their order; yours are 4."),
    "none": ([], "yours are 0"),
    "six": (["no_scale"] * 6, "yours are 6"),
    "a typing error": (["no_scales"] * 5, "There is no cause 'no_scales' in the list. The closest is `no_scale`."),
    "an invention": (["qqqq"] * 5, r"causes\('model'\) prints it"),
    "another part": (["uphill"] * 5, "Case 1 belongs to the part 'model', and `uphill` is a cause of 'training'."),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_names_that_cannot_be_right_get_their_own_sentence(name):
    names, said = MALFORMED[name]
    with pytest.raises(CheckFailed, match=said):
        check.check(find_exercise("model_bugs"), lambda: (1, names))
    assert right_names("model", 1, names) == [False] * CASES


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: ("1", truth("model", 1)), "The seed should be the whole number"),
        (lambda: (True, truth("model", 1)), "The seed should be the whole number"),
        (lambda: (1.0, truth("model", 1)), "The seed should be the whole number"),
        (lambda: (truth("model", 1), 1), "The seed comes first"),
        (lambda: truth("model", 1), "The names alone say nothing"),
        (lambda: 1, "should return two things, seed and names; yours returns a int|yours returns an int"),
        (lambda: {}, "should return two things"),
        (lambda: (1, truth("model", 1), 3), "should return two things"),
    ],
)
def test_an_answer_of_another_form_gets_its_own_sentence(answer, said):
    with pytest.raises(CheckFailed, match=said):
        check.check(find_exercise("model_bugs"), answer)


@every_part
def test_a_wrong_name_is_answered_by_what_the_evidence_would_have_been(part):
    names = truth(part, 1)
    wrong = next(key for key in CAUSES[part] if key not in names)
    for place in (0, 4):
        answer = [*names[:place], wrong, *names[place + 1 :]]
        with pytest.raises(CheckFailed) as failure:
            check.check(find_exercise(f"{part}_bugs"), lambda answer=answer: (1, answer))
        said = str(failure.value)
        assert f"Some of the 5 names are not right for seed 1. Case {place + 1} is not `{wrong}`: " in said
        assert "with it, " in said or "compare the sample" in said
        assert names[place] not in said and "expected" not in said


def test_a_place_is_named_in_words():
    said = bug_cases.contradiction(worked_case("running", "temperature_multiplied"), "positions_restart")
    assert said.endswith("the logits would first be wrong at position 16, and here they are first wrong nowhere.")


def test_only_the_first_wrong_case_is_spoken_of(no_evidence):
    names = truth("model", 1)
    said = verdict("model", 1, [names[0], *names[2:], names[1]])
    assert "Case 2" in said and not any(f"Case {n}" in said for n in (1, 3, 4, 5))


def test_nobody_walks_through_by_trial(no_evidence):
    names, said = truth("model", 1), []
    others = [key for key in CAUSES["model"] if key != names[0]]
    for key in others:
        said.append(verdict("model", 1, [key, *names[1:]]))
    assert all("Case 1" in each for each in said[:TRIES])
    assert all("Case" not in each and "draw fresh ones" in each for each in said[TRIES:])
    assert verdict("model", 1, [others[0], *names[1:]]) == said[0], "the same answer gets the same sentence"
    assert verdict("model", 1, names) is None
    assert "Case" in verdict("model", 2, [*truth("model", 2)[:4], "residual_forgotten"])


def test_without_hints_no_case_is_spoken_of():
    said = verdict("all", 3, [case_of_another(case) for case in draw_cases("all", 3)], hints=False)
    assert said == "Some of the 5 names are not right for seed 3."


def case_of_another(case) -> str:
    return next(key for key in CAUSES[case.part] if key != case._cause)


def test_partial_scores_count_each_case():
    names = truth("all", 3)
    names[2] = case_of_another(draw_cases("all", 3)[2])
    assert right_names("all", 3, names) == [True, True, False, True, True]


def test_every_training_is_stored():
    stored = json.loads(asset(FILE).read_text(encoding="utf-8"))
    assert set(stored) == {f"{name} {run}" for name in (RIGHT, *CAUSES["training"]) for run in range(RUNS)}


@pytest.mark.parametrize(
    ("part", "number"), [("training", 0), ("training", 1), ("training", 2), ("model", 111), ("running", 500)]
)
def test_no_two_causes_look_alike(part, number):
    seen = {cause: evidence(part, cause, number) for cause in (RIGHT, *CAUSES[part])}
    alike = [pair for pair in itertools.combinations(seen, 2) if not seen[pair[0]].differences(seen[pair[1]])]
    assert not alike


def test_the_planted_final_norm_is_the_mistake_of_the_catalogue():
    plant, tokens = PLANTS["model"]["final_norm_forgotten"], windows(3)[:1, :20]
    by_hand = planted(plant)
    by_function = transplant(planted(None), gpt=mistake(*plant))
    with torch.inference_mode():
        torch.testing.assert_close(by_hand(tokens), by_function(tokens), rtol=1e-4, atol=1e-4)


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a case drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


@every_part
def test_the_figure_of_a_case_names_what_it_shows_and_not_the_cause(part, drawn):
    case = draw_cases(part, 1)[2]
    case.show()
    figure = drawn()
    assert figure.get_suptitle().startswith("Case 3:")
    written = " ".join(text.get_text() for axes in figure.axes for text in [*axes.texts, axes.title, axes.xaxis.label])
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert all(titles) and case._cause not in written
    assert "see the last token" in written + " ".join(titles)


def test_mistakes_that_lower_the_loss_let_the_model_see_what_it_should_predict():
    stored = json.loads(asset("symptoms.json").read_text(encoding="utf-8"))
    lower = {
        (exercise, name): leaks
        for exercise, rows in stored.items()
        for name, (loss, leaks) in rows.items()
        if loss is not None and loss < rows["right"][0] - 0.05
    }
    assert lower and all(lower.values())

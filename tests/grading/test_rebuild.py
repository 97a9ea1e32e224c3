"""What is run is our chapter with the student's answers in it, whatever was done to the notebook around them."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbval.plugin import find_comment_markers

from pocketgpt.grading.master import masters
from pocketgpt.grading.rebuild import chapter_of, defined, rebuild
from pocketgpt.grading.submissions import Cell

CHAPTER = masters()["02_attention"]
SCORES, SOFTMAX, MASK, ATTENTION = CHAPTER.exercises
EXTRA = Cell(0, "code", ("new",), "helper = 1")


def handed_in(master=CHAPTER, *, solved=True):
    """The cells of our notebook, with our answers, as a student hands them in."""
    kinds = {"text": "markdown"}
    return [
        Cell(0, kinds.get(cell.role, "code"), (cell.id,), master.solutions[cell.exercise])
        if solved and cell.role == "answer"
        else Cell(0, kinds.get(cell.role, "code"), (cell.id,), cell.source)
        for cell in master.cells
    ]


def at(cells, name):
    """The index of the cell with an id."""
    return next(index for index, cell in enumerate(cells) if name in cell.ids)


def change(cells, name, **parts):
    index = at(cells, name)
    cells[index] = replace(cells[index], **parts)


def built(cells, master=CHAPTER):
    return rebuild([replace(cell, number=number) for number, cell in enumerate(cells, 1)], master)


def outline(result):
    return [(piece.role, piece.exercise, piece.source) for piece in result.pieces]


def of(result, *roles):
    return [piece for piece in result.pieces if piece.role in roles]


def answers(result):
    return {piece.exercise: piece.source for piece in of(result, "answer")}


def extras(result):
    return [piece.source for piece in of(result, "extra")]


def before(result, source):
    """What stands right before and right after an extra cell: the exercises or the sources of the pieces."""
    index = [piece.source for piece in result.pieces].index(source)
    around = result.pieces[index - 1], result.pieces[index + 1]
    return tuple(f"{piece.role} {piece.exercise}".strip() for piece in around)


def without_ids(cells):
    return [replace(cell, ids=()) for cell in cells]


@pytest.fixture
def cells():
    return handed_in()


@pytest.fixture
def expected(cells):
    return outline(built(cells))


@pytest.mark.parametrize("master", masters().values(), ids=masters())
def test_a_solved_chapter_is_rebuilt_up_to_its_last_check(master):
    result = built(handed_in(master), master)
    code = [cell for cell in master.cells if cell.role != "text"]
    last = max(index for index, cell in enumerate(code) if cell.role == "check")
    assert [(piece.role, piece.exercise) for piece in result.pieces] == [(c.role, c.exercise) for c in code[: last + 1]]
    assert answers(result) == master.solutions and not result.notes and not result.untouched


@pytest.mark.parametrize("master", masters().values(), ids=masters())
def test_an_untouched_chapter_is_untouched_and_ours(master):
    result = built(handed_in(master, solved=False), master)
    assert result.untouched and not result.notes and not any(piece.origin for piece in result.pieces)


@pytest.mark.parametrize("master", masters().values(), ids=masters())
def test_one_answer_or_one_more_cell_is_not_untouched(master):
    cells = handed_in(master, solved=False)
    assert not built([*cells, EXTRA], master).untouched
    name = master.exercises[0]
    change(cells, name, source=master.solutions[name])
    assert not built(cells, master).untouched


def test_white_space_at_ends_of_lines_is_no_change(cells):
    spaced = [
        replace(cell, source="\n" + cell.source.replace("\n", "  \n") + "\n\n") for cell in handed_in(solved=False)
    ]
    assert built(spaced).untouched


CHECK_CHANGES = {
    "deleted": [],
    "edited": [("check-causal_mask", "print('✓ 2.3 causal_mask · 2 points')")],
    "emptied": [("check-causal_mask", "")],
    "doubled": [("check-causal_mask", "check.causal_mask(causal_mask)")] * 2,
    "commented out": [("check-causal_mask", "# check.causal_mask(causal_mask)")],
    "of another exercise": [("check-causal_mask", "check.attention_scores(attention_scores)")],
    "with the id of another": [("check-attention", "check.causal_mask(causal_mask)")],
    "without an id": [("", "check.causal_mask(causal_mask)")],
    "with the id of the answer": [("causal_mask", "check.causal_mask(causal_mask)")],
    "that skips itself": [("check-causal_mask", "# NBVAL_SKIP\ncheck.causal_mask(causal_mask)")],
}


@pytest.mark.parametrize("changed", CHECK_CHANGES.values(), ids=CHECK_CHANGES)
def test_a_check_is_ours_whatever_became_of_it(cells, expected, changed):
    index = at(cells, "check-causal_mask")
    cells[index : index + 1] = [Cell(0, "code", (name,), source) for name, source in changed]
    result = built(cells)
    assert [each for each in outline(result) if each[0] != "extra"] == expected
    assert all(piece.origin == 0 for piece in of(result, "check"))


@pytest.mark.parametrize("place", [0, 5, 15, -1])
def test_a_check_that_was_moved_is_back(cells, expected, place):
    check = cells.pop(at(cells, "check-causal_mask"))
    cells.insert(place, check)
    assert outline(built(cells)) == expected


@pytest.mark.parametrize("kind", ["markdown", "raw"])
def test_a_check_or_given_cell_that_is_no_code_any_more_is_back(cells, expected, kind):
    changed = [cell if cell.ids[0] in CHAPTER.exercises else replace(cell, kind=kind) for cell in cells]
    assert outline(built(changed)) == expected


def test_all_cells_in_reverse_order_are_put_in_ours(cells, expected):
    assert outline(built(cells[::-1])) == expected


@given(order=st.permutations(range(len(CHAPTER.cells))))
def test_any_order_of_cells_is_put_in_ours(order):
    cells = handed_in()
    assert outline(built([cells[index] for index in order])) == outline(built(cells))


def test_given_cells_that_were_deleted_are_back(cells, expected):
    assert outline(built([cell for cell in cells if cell.ids[0] in CHAPTER.exercises])) == expected


def test_a_given_cell_that_was_edited_runs_after_ours(cells):
    change(cells, "02-001", source="import numpy as np")
    result = built(cells)
    assert [piece.source for piece in result.pieces[:2]] == [CHAPTER.cells[1].source, "import numpy as np"]
    assert result.pieces[1].role == "extra" and result.pieces[1].origin == 2


def test_an_edited_copy_of_a_given_cell_runs_where_it_stands(cells):
    cells.insert(at(cells, MASK), replace(cells[at(cells, "02-001")], source="import numpy as np"))
    assert before(built(cells), "import numpy as np") == (f"check {SOFTMAX}", f"answer {MASK}")


@pytest.mark.parametrize(
    ("neighbor", "place", "around"),
    [
        ("causal_mask", 0, ("check masked_softmax", "answer causal_mask")),
        ("check-causal_mask", 0, ("answer causal_mask", "check causal_mask")),
        ("check-causal_mask", 1, ("check causal_mask", "given")),
        ("02-020", 1, ("given", "answer attention")),
    ],
)
def test_an_additional_cell_runs_where_it_stood(cells, neighbor, place, around):
    cells.insert(at(cells, neighbor) + place, EXTRA)
    assert before(built(cells), "helper = 1") == around


def test_a_cell_before_the_first_runs_first(cells):
    assert built([EXTRA, *cells]).pieces[0].source == "helper = 1"


def test_cells_after_the_last_check_are_not_run(cells):
    assert extras(built([*cells, EXTRA])) == []
    cells.insert(at(cells, "check-attention") + 1, EXTRA)
    assert extras(built(cells)) == []


def test_additional_cells_keep_their_order(cells):
    place = at(cells, "causal_mask")
    cells[place:place] = [replace(EXTRA, source=f"step_{number}") for number in range(5)]
    assert extras(built(cells)) == [f"step_{number}" for number in range(5)]


def test_text_and_empty_cells_are_not_run(cells, expected):
    more = [replace(EXTRA, kind="markdown"), replace(EXTRA, kind="raw"), replace(EXTRA, source=" \n")]
    assert outline(built([*more, *cells])) == expected


def test_markdown_of_ours_that_became_code_is_an_additional_cell(cells):
    change(cells, "02-016", kind="code", source="helper = 1")
    result = built(cells)
    assert extras(result) == ["helper = 1"] and before(result, "helper = 1") == (
        "check masked_softmax",
        "answer causal_mask",
    )


@pytest.mark.parametrize("place", [0, 12, -1])
def test_an_answer_cell_that_was_moved_is_found_by_its_id(cells, expected, place):
    answer = cells.pop(at(cells, MASK))
    cells.insert(place, answer)
    assert outline(built(cells)) == expected


@pytest.mark.parametrize("place", [0, 12, -1])
@pytest.mark.parametrize("left", ["nothing", "empty", "text"])
def test_an_answer_in_a_cell_of_its_own_counts_if_the_answer_cell_is_gone(cells, expected, place, left):
    answer = cells[at(cells, MASK)].source
    if left == "nothing":
        cells.pop(at(cells, MASK))
    else:
        change(cells, MASK, **({"source": ""} if left == "empty" else {"kind": "markdown"}))
    cells.insert(place, replace(EXTRA, source=answer))
    result = built(cells)
    assert outline(result) == expected
    assert ["markdown, not code" in note for note in result.notes] == [True] * (left == "text")


def test_an_answer_below_the_empty_cell_runs_after_it(cells):
    answer = cells[at(cells, MASK)].source
    change(cells, MASK, source=CHAPTER.cells[17].source)
    cells.insert(at(cells, MASK) + 1, replace(EXTRA, source=answer))
    result = built(cells)
    assert before(result, answer) == (f"answer {MASK}", f"check {MASK}") and not result.notes


def test_two_answers_in_one_cell_both_count(cells):
    both = f"{CHAPTER.solutions[SCORES]}\n\n\n{CHAPTER.solutions[SOFTMAX]}"
    change(cells, SCORES, source=both)
    cells.pop(at(cells, SOFTMAX))
    result = built(cells)
    assert answers(result)[SCORES] == answers(result)[SOFTMAX] == both and not result.notes


def test_all_answers_in_one_cell_without_ids_count(cells):
    everything = "\n\n\n".join(CHAPTER.solutions.values())
    cells = [cell for cell in cells if cell.ids[0] not in CHAPTER.exercises]
    result = built(without_ids([*cells, replace(EXTRA, source=everything)]))
    assert answers(result) == dict.fromkeys(CHAPTER.exercises, everything) and extras(result) == []


def test_ids_of_two_answers_that_were_swapped_do_not_matter(cells, expected):
    first, second = at(cells, SCORES), at(cells, MASK)
    cells[first], cells[second] = (
        replace(cells[first], ids=cells[second].ids),
        replace(cells[second], ids=cells[first].ids),
    )
    assert [each for each in outline(built(cells)) if each[0] != "extra"] == expected


WRONG = "def causal_mask(q, k): ..."


def test_of_two_answers_the_last_counts_with_a_note(cells, expected):
    cells.insert(at(cells, MASK), replace(cells[at(cells, MASK)], source=WRONG))
    result = built(cells)
    assert outline(result) == expected
    assert len(result.notes) == 1 and "the last one counts" in result.notes[0]


def test_an_answer_below_its_check_does_not_beat_the_one_above(cells, expected):
    cells.insert(at(cells, "check-causal_mask") + 1, replace(cells[at(cells, MASK)], source=WRONG))
    assert outline(built(cells)) == expected


@pytest.mark.parametrize(
    "first",
    [WRONG, "causal_mask = mask > 0", "causal_mask = lambda q, k: ..."],
    ids=["a try", "a variable", "a lambda"],
)
def test_without_ids_the_definition_in_force_at_the_check_is_the_answer(cells, expected, first):
    right = cells.pop(at(cells, MASK)).source
    index = at(cells, "check-causal_mask")
    cells[index:index] = [replace(EXTRA, source=first), replace(EXTRA, source=right)]
    result = built(cells)
    assert answers(result) == {exercise: source for role, exercise, source in expected if role == "answer"}
    assert extras(result) == [first]


def test_without_ids_a_variable_below_does_not_beat_the_function(cells, expected):
    right = cells.pop(at(cells, MASK)).source
    index = at(cells, "check-causal_mask")
    cells[index:index] = [replace(EXTRA, source=right)]
    cells.insert(index + 2, replace(EXTRA, source="causal_mask = mask > 0"))
    assert answers(built(cells))[MASK] == right


def test_an_answer_merged_into_the_cell_of_its_check_counts(cells, expected):
    answer = cells.pop(at(cells, MASK)).source
    merged = f"{answer}\n\ncheck.causal_mask(causal_mask)"
    change(cells, "check-causal_mask", source=merged)
    result = built(cells)
    assert answers(result)[MASK] == merged and not extras(result)


def test_swapped_ids_of_answer_and_check_swap_nothing(cells, expected):
    one, two = at(cells, MASK), at(cells, "check-causal_mask")
    cells[one], cells[two] = replace(cells[one], ids=cells[two].ids), replace(cells[two], ids=cells[one].ids)
    result = built(cells)
    assert answers(result) == {exercise: source for role, exercise, source in expected if role == "answer"}


def test_the_same_answer_twice_is_not_worth_a_note(cells, expected):
    cells.append(cells[at(cells, MASK)])
    result = built(cells)
    assert outline(result) == expected and not result.notes


def test_an_empty_cell_beside_the_answer_does_not_count(cells, expected):
    empty = replace(cells[at(cells, MASK)], source=CHAPTER.cells[17].source)
    for place in (0, len(cells)):
        assert outline(built([*cells[:place], empty, *cells[place:]])) == expected


def test_a_cell_that_was_split_gives_a_helper_and_the_answer(cells):
    change(cells, MASK, source="def no_later(a, b): return a <= b")
    answer = "def causal_mask(q, k): return no_later(k[None], q[:, None])"
    cells.insert(at(cells, MASK) + 1, replace(cells[at(cells, MASK)], source=answer))
    result = built(cells)
    assert answers(result)[MASK] == answer
    assert before(result, "def no_later(a, b): return a <= b") == (f"check {SOFTMAX}", f"answer {MASK}")


def test_a_deleted_answer_is_said_and_ours_is_empty(cells):
    cells.pop(at(cells, MASK))
    result = built(cells)
    assert answers(result)[MASK] == CHAPTER.cells[17].source
    assert result.notes == ["The answer cell of causal_mask is missing or empty."]


def test_a_given_cell_that_rebinds_a_name_is_not_taken_for_its_answer(cells):
    cells.pop(at(cells, MASK))
    change(cells, "02-020", source=CHAPTER.cells[20].source + "\nprint('edited')")
    assert answers(built(cells))[MASK] == CHAPTER.cells[17].source


def test_an_answer_cell_that_defines_something_else_is_run_all_the_same(cells):
    change(cells, MASK, source="def my_mask(q, k): ...")
    assert answers(built(cells))[MASK] == "def my_mask(q, k): ..."


@pytest.mark.parametrize(
    "source",
    [
        "def causal_mask(:",
        "%%time\ndef causal_mask(q, k): ...",
        "globals()['causal_mask'] = 1",
        "class causal_mask: ...",
        "causal_mask = lambda q, k: k[None] <= q[:, None]",
        "causal_mask: object = print",
        "a, causal_mask = 1, 2",
    ],
)
def test_an_answer_may_be_written_in_any_way(cells, source):
    change(cells, MASK, source=source)
    result = built(cells)
    assert answers(result)[MASK] == source and not extras(result) and not result.notes


def lost_all(cell):
    return ()


def kept_by_nbgrader(cell):
    return ("a1b2c3d4", *(cell.ids if not re.match(r"\d\d-", cell.ids[0]) else ()))


def kept_by_colab(cell):
    return (cell.ids[0],)


def made_new(cell):
    return (f"{hash(cell.ids) & 0xFFFFFFFF:08x}",)


@pytest.mark.parametrize("ids", [lost_all, kept_by_nbgrader, kept_by_colab, made_new])
def test_answers_are_found_with_the_ids_that_are_left(cells, expected, ids):
    changed = [replace(cell, ids=ids(cell)) for cell in cells]
    assert chapter_of(changed, masters()) == ("02_attention", "")
    assert outline(built(changed)) == expected


def test_without_ids_an_additional_cell_runs_where_it_stood(cells):
    cells.insert(at(cells, "causal_mask"), EXTRA)
    assert before(built(without_ids(cells)), "helper = 1") == ("check masked_softmax", "answer causal_mask")


def test_without_ids_an_untouched_chapter_is_untouched():
    assert built(without_ids(handed_in(solved=False))).untouched


@pytest.mark.parametrize("name", masters())
def test_a_chapter_is_known_by_its_cells(name):
    for solved in (True, False):
        assert chapter_of(handed_in(masters()[name], solved=solved), masters()) == (name, "")


@pytest.mark.parametrize("name", masters())
def test_one_answer_is_enough_to_know_the_chapter(name):
    exercise = masters()[name].exercises[-1]
    assert chapter_of([Cell(1, "code", (exercise,), "...")], masters())[0] == name


def test_a_notebook_of_no_chapter_is_said():
    for cells in ([], [EXTRA], [Cell(1, "code", ("02-001",), "import torch")]):
        chapter, note = chapter_of(cells, masters())
        assert chapter is None and "no cell of any chapter" in note


def test_the_chapter_with_most_cells_counts_with_a_note():
    other = handed_in(masters()["00_start_here"])
    chapter, note = chapter_of(other + handed_in(), masters())
    assert chapter == "02_attention" and "00_start_here" in note


def test_as_many_cells_of_two_chapters_is_no_chapter():
    chapter, note = chapter_of([*handed_in(), *handed_in(masters()["03_scaling"])], masters())
    assert chapter is None and "02_attention" in note and "03_scaling" in note


def test_cells_of_another_chapter_do_not_come_between(cells, expected):
    other = handed_in(masters()["00_start_here"])
    result = built([*other, *cells])
    assert [each for each in outline(result) if each[0] != "extra"] == expected


MARKERS = ["NBVAL_SKIP", "NBVAL_RAISES_EXCEPTION", "NBVAL_CHECK_OUTPUT", "PYTEST_VALIDATE_IGNORE_OUTPUT"]


@pytest.mark.parametrize("marker", MARKERS)
@pytest.mark.parametrize("line", ["# {}", "#{}", "  #\t {}  ", "### {}", "x = 1\n\n# {}\n\n\ny = 2", "#\xa0{}"])
def test_an_order_to_nbval_is_an_ordinary_comment(marker, line):
    cells = handed_in(solved=False)
    source = line.format(marker)
    change(cells, MASK, source=source)
    cells.insert(0, replace(EXTRA, source=source))
    assert list(find_comment_markers(source))
    changed = [piece.source for piece in built(cells).pieces if piece.origin]
    assert len(changed) == 2
    for each in changed:
        assert not list(find_comment_markers(each)) and each.count("\n") == source.count("\n")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(): g = 1", {"f"}),
        ("async def f(): ...", {"f"}),
        ("@d\nclass A:\n    b = 1", {"A"}),
        ("a = b = c", {"a", "b"}),
        ("(a, [b, *c]), d.e, f[0] = x", {"a", "b", "c"}),
        ("a: int = 1\nb: str", {"a", "b"}),
        ("if x:\n    def f(): ...\nelse:\n    g = 1", {"f", "g"}),
        ("try:\n    f = 1\nexcept E as g: pass", {"f", "g"}),
        ("print(a := 1)", {"a"}),
        ("import f\nfrom a import g", set()),
        ("[a for a in b]", set()),
        ("x == y", set()),
        ("def f(:\n  x\nclass A", {"f", "A"}),
        ("%time x = 1\ndef f(): ...", {"f"}),
        ("  def f(: ...", set()),
        ("(" * 5000, set()),
        ("x\x00 = 1", set()),
        ("größe = 1", {"größe"}),
    ],
)
def test_names_that_a_cell_defines(source, names):
    assert defined(source) == names


def test_equal_answers_have_one_fingerprint_and_short_ones_none(cells):
    first = built(cells).fingerprint
    change(cells, ATTENTION, source=cells[at(cells, ATTENTION)].source + "  \n")
    assert built([*cells, EXTRA]).fingerprint == first != ""
    change(cells, ATTENTION, source=cells[at(cells, ATTENTION)].source + "# mine")
    assert built(cells).fingerprint not in ("", first)
    short = handed_in(solved=False)
    change(short, MASK, source=cells[at(cells, MASK)].source)
    assert built(short).fingerprint == ""

"""The T5 among the siblings writes the words of a line in reverse order."""

import pytest
import torch

from pocketgpt.assets import asset
from pocketgpt.course.siblings.family import CHARACTERS, SEQUENCE_SIBLINGS, SIBLINGS, character_tokenizer, sibling
from pocketgpt.course.siblings.reversed_lines import (
    LONGEST_LINE,
    OutputLoss,
    batch_of,
    card,
    exact_match,
    held_out_lines,
    lines_of,
    read_matches,
    reverse_words,
    write_reversed,
)
from pocketgpt.models.gpt import GPT
from pocketgpt.models.t5 import T5
from pocketgpt.training.loss import IGNORE


@pytest.fixture(scope="module")
def held_out() -> list[str]:
    return held_out_lines()


def test_the_rule_by_hand():
    assert reverse_words("what's in a name") == "name a in what's"


def test_held_out_lines_are_short_and_not_in_the_training_plays(held_out):
    assert len(held_out) == len(set(held_out)) == 500
    assert not set(held_out) & set(lines_of("train"))
    assert all(len(line.split()) > 1 and len(line) <= LONGEST_LINE for line in held_out)
    assert {character for line in held_out for character in line} <= set("abcdefghijklmnopqrstuvwxyz' ")


def test_batches_end_inputs_and_outputs_and_pad_both():
    start = len(CHARACTERS)
    inputs, targets = batch_of(["to be", "o ye gods"], padding=start)
    decode = character_tokenizer().decode
    assert decode(inputs[0, :6].tolist()) == "to be\n" and set(inputs[0, 6:].tolist()) == {start}
    assert decode(targets[0, :6].tolist()) == "be to\n" and set(targets[0, 6:].tolist()) == {IGNORE}
    assert decode(inputs[1].tolist()) == "o ye gods\n" and decode(targets[1].tolist()) == "gods ye o\n"


def test_padding_does_not_change_the_loss():
    torch.manual_seed(0)
    loss = OutputLoss(T5(SEQUENCE_SIBLINGS["t5"]).eval())
    start = len(CHARACTERS)
    both = loss(*batch_of(["to be", "o ye gods"], start), n_targets=1)
    alone = [loss(*batch_of([line], start), n_targets=1) for line in ("to be", "o ye gods")]
    torch.testing.assert_close(both, sum(alone))


def test_it_has_about_as_many_parameters_as_the_others():
    base = GPT(SIBLINGS["base"]).n_params()
    assert T5(SEQUENCE_SIBLINGS["t5"]).n_params() == pytest.approx(base, rel=0.02)


def test_the_shipped_one_reverses_lines_that_it_has_never_seen(held_out):
    model = sibling("t5")
    assert isinstance(model, T5) and model.config == SEQUENCE_SIBLINGS["t5"].resolved()
    matches = read_matches(asset("siblings"))
    assert list(matches) == ["0", "1", "2"]
    # A third of the lines; the machine that measured rounds a little differently.
    assert exact_match(model, held_out[::3]) == pytest.approx(matches["0"], abs=0.06)


def test_it_knows_the_line_through_cross_attention_alone(held_out):
    model = T5(SEQUENCE_SIBLINGS["t5"]).eval()
    model.load_state_dict(sibling("t5").state_dict())
    for block in model.blocks[1::2]:
        torch.nn.init.zeros_(block.mixer.o_proj.weight)
    assert exact_match(model, held_out[:50]) == 0
    assert len(set(write_reversed(model, held_out[:5]))) == 1  # the same for every line


def test_the_card_shows_every_seed():
    folder = asset("siblings")
    shares = " · ".join(f"{share:.1%}" for share in read_matches(folder).values())
    assert shares.count("%") == 3 and shares in card(folder)
    assert (folder / "README.md").read_text(encoding="utf-8").endswith(card(folder))


def test_the_card_says_nothing_of_what_is_not_trained(tmp_path):
    assert card(tmp_path) == ""

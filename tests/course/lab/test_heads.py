"""The heads of the shipped model do what their names say."""

import torch

from pocketgpt.assets import asset
from pocketgpt.course.lab.heads import BEHAVIORS, HEADS, share
from pocketgpt.course.lab.pocket import pocket_model, pocket_tokenizer
from pocketgpt.course.lab.recording import attention_weights


def test_a_share_is_the_mean_weight_on_the_marked_tokens():
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.1, 0.2, 0.7]])[None, None]
    words = ["a", "b", "a"]
    expected = {"previous token": (0.5 + 0.2) / 2, "same token": 0.1}
    for name, wanted in expected.items():
        torch.testing.assert_close(share(weights, BEHAVIORS[name](words)), torch.tensor([[wanted]]))


def test_the_start_of_line_is_the_latest_line_break():
    where = BEHAVIORS["start of line"](["a", "\n", "b", "c\n", "d"])
    assert where.nonzero().tolist() == [[2, 1], [3, 1], [4, 3]]


def test_an_induction_head_looks_at_what_followed_the_same_token():
    where = BEHAVIORS["induction"](["a", "b", "a", "a", "b"])
    # What followed the a before the fourth token is the fourth token itself, which does not count.
    assert where.nonzero().tolist() == [[2, 1], [3, 1], [4, 2]]


@torch.inference_mode()
def test_every_named_head_looks_there_three_times_as_much_as_an_even_spread():
    model, tokenizer = pocket_model(), pocket_tokenizer()
    tokens = torch.tensor(tokenizer.encode(asset("held-out.txt").read_text(encoding="utf-8"))[: 5 * 256]).view(5, 256)
    even = (torch.ones(256, 256).tril() / torch.arange(1, 257)[:, None])[None, None]
    for (layer, head), name in HEADS.items():
        looked, by_chance = 0.0, 0.0
        for window in tokens:
            where = BEHAVIORS[name]([tokenizer.decode([token]) for token in window.tolist()])
            looked += share(attention_weights(model, window[None])[:, 0], where)[layer, head].item()
            by_chance += share(even, where).item()
        assert looked > 3 * by_chance, f"{layer}.{head} is not a head of {name!r}: {looked / 5:.2f}"


@torch.inference_mode()
def test_in_a_random_sequence_written_twice_an_induction_head_finds_what_came_next():
    text = torch.tensor(pocket_tokenizer().encode(asset("held-out.txt").read_text(encoding="utf-8")))
    once = text[torch.randperm(len(text), generator=torch.Generator().manual_seed(0))[: 8 * 64]].view(8, 64)
    weights = attention_weights(pocket_model(), torch.cat([once, once], dim=1))
    found = torch.stack([weights[:, :, :, 64 + t, t + 1] for t in range(64)]).mean(dim=(0, 2))  # (layers, heads)
    assert found[3, 0] > 0.5
    assert found.max() == found[3, 0]

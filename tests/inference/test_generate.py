import pytest
import torch

from pocketgpt.errors import PocketError
from pocketgpt.inference.generate import generate, prefill, stream
from pocketgpt.inference.sampling import Sampler
from pocketgpt.models.gpt import GPT

GREEDY = Sampler(temperature=0.0)
WILD = Sampler(temperature=1.5, top_k=None)
PROMPTS = [[5, 17, 3], [9], list(range(10))]


@pytest.fixture(scope="module")
def model(small, lively) -> GPT:
    return lively(small("llama", max_seq_len=32))


@torch.no_grad()
def greedy_without_cache(model: GPT, prompt: list[int], n: int) -> list[int]:
    """The definition: the best token after all so far; once the context is full, go on from its last half."""
    written, longest = [], model.config.max_seq_len
    read = list(prompt)[-longest:]
    for _ in range(n):
        token = model(torch.tensor([read]))[0, -1].argmax().item()
        written.append(token)
        read.append(token)
        if len(read) > longest:
            read = read[-(longest // 2) :]
    return written


def test_greedy_text_is_the_best_token_again_and_again(model):
    for prompt in PROMPTS:
        assert generate(model, [prompt], max_new_tokens=20, sampler=GREEDY)[0] == greedy_without_cache(
            model, prompt, 20
        )


def test_rows_of_a_batch_do_not_see_each_other(model):
    # 70 tokens: every row fills its context of 32 twice, each at a time of its own
    together = generate(model, PROMPTS, max_new_tokens=70, sampler=GREEDY)
    alone = [generate(model, [prompt], max_new_tokens=70, sampler=GREEDY)[0] for prompt in PROMPTS]
    assert together == alone


@pytest.mark.parametrize("prompt", [[5, 17, 3], list(range(32)), list(range(50))], ids=len)
def test_text_goes_on_when_the_context_is_full(model, prompt):
    ours = generate(model, [prompt], max_new_tokens=70, sampler=GREEDY)[0]
    assert ours == greedy_without_cache(model, prompt, 70)


def test_text_goes_on_with_a_context_of_one_token(small, lively):
    model = lively(small("llama", max_seq_len=1))
    following = model(torch.arange(61)[:, None]).argmax(-1)[:, 0].tolist()
    expected, token = [], 7
    for _ in range(5):
        token = following[token]
        expected.append(token)
    assert generate(model, [[3, 7]], max_new_tokens=5, sampler=GREEDY) == [expected]


def test_stream_gives_what_generate_gives(model):
    for sampler in (GREEDY, WILD):
        options = {"max_new_tokens": 50, "sampler": sampler, "seed": 3}
        assert list(stream(model, [5, 17], **options)) == generate(model, [[5, 17]], **options)[0]


def test_stream_gives_each_token_before_it_computes_the_next(model):
    tokens = stream(model, [5], max_new_tokens=10**9, sampler=GREEDY)
    assert [next(tokens) for _ in range(5)] == generate(model, [[5]], max_new_tokens=5, sampler=GREEDY)[0]


def test_equal_seeds_write_equal_text(model):
    texts = [generate(model, PROMPTS, max_new_tokens=20, sampler=WILD, seed=seed) for seed in (1, 1, 2, None)]
    assert texts[0] == texts[1] and texts[0] != texts[2] and texts[0] != texts[3]


def test_generation_leaves_the_global_seed_alone(model):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    generate(model, [[5]], max_new_tokens=5, sampler=WILD)
    assert torch.equal(torch.rand(1), expected)


def test_a_stop_token_ends_its_row_only_and_is_not_given_out(model):
    free = generate(model, PROMPTS, max_new_tokens=20, sampler=GREEDY)
    stop = free[0][5]
    stopped = generate(model, PROMPTS, max_new_tokens=20, sampler=GREEDY, stop_tokens=(stop,))
    assert len({len(row) for row in stopped}) > 1
    assert stopped == [row[: row.index(stop)] if stop in row else row for row in free]
    assert list(stream(model, PROMPTS[0], max_new_tokens=20, sampler=GREEDY, stop_tokens={stop})) == stopped[0]


def test_no_step_is_made_after_the_last_row_has_stopped(model):
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    generate(model, [[5]], max_new_tokens=20, sampler=GREEDY, stop_tokens=range(61))
    handle.remove()
    assert not calls  # the prompt was read (features), and its first token was a stop token


def test_zero_new_tokens(model):
    assert generate(model, PROMPTS, max_new_tokens=0) == [[], [], []]
    assert list(stream(model, [5], max_new_tokens=0)) == []


def test_prefill_of_a_batch_gives_the_logits_after_each_last_token(model, assert_equal):
    cache, logits = prefill(model, PROMPTS)
    assert cache.lengths.tolist() == [3, 1, 10]
    for row, prompt in zip(logits, PROMPTS, strict=True):
        assert_equal(row, model(torch.tensor([prompt]))[0, -1].detach())


def test_generation_does_not_change_the_model(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generate(model, PROMPTS, max_new_tokens=3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.training


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[5], []], "Prompt 1 is empty"),
        ([], "There is no prompt"),
        ([[5, 61]], "Prompt 0 contains token 61, and the vocabulary has ids 0 to 60"),
        ([[5], [60, -1]], "Prompt 1 contains token -1"),
    ],
)
def test_a_bad_prompt_is_named(model, prompts, message):
    with pytest.raises(PocketError, match=message):
        generate(model, prompts, max_new_tokens=1)


@pytest.mark.parametrize("mode", [True, False])
def test_dropout_is_off_while_a_model_generates_and_as_before_after(small, lively, mode):
    model = lively(small("llama", max_seq_len=32, dropout=0.5)).train(mode)
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    texts = [generate(model, [[5, 17]], max_new_tokens=20, sampler=GREEDY)[0] for _ in range(2)]
    assert texts[0] == texts[1] == list(stream(model, [5, 17], max_new_tokens=20, sampler=GREEDY))
    next(stream(model, [5, 17], max_new_tokens=20))  # left in the middle
    assert [module.training for module in model.modules()] == modes
    assert texts[0] == greedy_without_cache(model.eval(), [5, 17], 20)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_end_in_a_sentence(small, value):
    model = GPT(small("llama", tie_embeddings=False)).eval()
    model.head.weight.data[7] = value
    for write in (generate, lambda model, prompts, **options: list(stream(model, prompts[0], **options))):
        with pytest.raises(PocketError, match=r"logits are NaN or infinite.*earlier checkpoint"):
            write(model, [[5, 17]], max_new_tokens=5, sampler=WILD)

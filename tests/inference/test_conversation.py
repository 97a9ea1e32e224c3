"""A conversation that keeps its cache answers as a model that reads everything anew, and reads only what is new."""

from dataclasses import replace

import pytest
import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from pocketgpt.errors import PocketError
from pocketgpt.inference.conversation import Conversation
from pocketgpt.inference.prepare import prepare_for_decoding
from pocketgpt.inference.sampling import Sampler
from pocketgpt.models.gpt import GPT
from pocketgpt.pretrained.huggingface import from_huggingface
from pocketgpt.text.chat_template import encode_chat
from pocketgpt.text.published_tokenizer import PublishedTokenizer

TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SPECIAL = ["<end>", "<system>", "<user>", "<assistant>"]
GREEDY = Sampler(temperature=0.0)
SHAPE = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
SHAPE |= dict(vocab_size=260, max_position_embeddings=96, tie_word_embeddings=True)


@pytest.fixture(scope="module")
def tokenizer() -> PublishedTokenizer:
    """A token for each byte, and those of the template."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = tokenizers.Tokenizer(models.BPE({letter: token for token, letter in enumerate(letters)}, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    return PublishedTokenizer(library, "<end>", TEMPLATE)


def random_weights(theirs):
    torch.manual_seed(0)
    for name, parameter in theirs.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.35)
    return theirs.eval()


@pytest.fixture(scope="module")
def theirs() -> LlamaForCausalLM:
    return random_weights(LlamaForCausalLM(LlamaConfig(**SHAPE)))


@pytest.fixture(scope="module")
def model(theirs):
    return from_huggingface(theirs.config.to_dict(), theirs.state_dict())


def expected_answer(theirs, tokenizer, messages, n_tokens: int) -> str:
    """What transformers writes after the conversation so far, read at once."""
    prompt = torch.tensor([encode_chat(tokenizer, messages)])
    ends = {"eos_token_id": tokenizer.end_of_text, "pad_token_id": tokenizer.end_of_text}
    written = theirs.generate(prompt, max_new_tokens=n_tokens, do_sample=False, **ends)[0, prompt.shape[1] :]
    return tokenizer.decode(token for token in written.tolist() if token != tokenizer.end_of_text)


def say(talk: Conversation, message: str) -> str:
    return talk.tokenizer.decode(talk.answer(message))


def test_every_answer_is_that_of_transformers_reading_the_whole_conversation(model, theirs, tokenizer):
    talk, messages = Conversation(model, tokenizer, sampler=GREEDY, system="Hm", max_new_tokens=6), []
    messages.append({"role": "system", "content": "Hm"})
    for question in ("What?", "And?", "é🙂"):
        messages.append({"role": "user", "content": question})
        expected = expected_answer(theirs, tokenizer, messages, 6)
        assert say(talk, question) == expected
        messages.append({"role": "assistant", "content": expected})
    assert talk.messages == messages


class Scripted:
    """A sampler that writes given tokens, whatever the model thinks."""

    def __init__(self, *tokens: int) -> None:
        self.tokens = list(tokens)

    def __call__(self, logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.tensor([self.tokens.pop(0)])


def scripted(model, tokenizer, *tokens: int, **options) -> Conversation:
    talk = Conversation(model, tokenizer, sampler=GREEDY, **options)
    talk.sampler = Scripted(*tokens)
    return talk


def test_only_new_tokens_are_read(model, tokenizer):
    end = tokenizer.end_of_text
    answers = [*tokenizer.encode("No."), end, *tokenizer.encode("Yes!"), end]
    talk = scripted(model, tokenizer, *answers)
    assert say(talk, "What?") == "No."
    assert talk.n_read == len("What?") + 3  # <user>, <end>, <assistant>
    assert say(talk, "Sure?") == "Yes!"
    assert talk.n_read == len("Sure?") + 4  # and the <end> of the answer, which was never read
    assert talk.cached == encode_chat(tokenizer, talk.messages[:3]) + tokenizer.encode("Yes!")
    assert talk.cache.longest == len(talk.cached) == talk.cache.lengths.item()


def test_tokens_that_no_text_encodes_to_are_read_again(model, theirs, tokenizer):
    """Half a character is U+FFFD in the conversation: from there on, the cache is another text."""
    half, end = tokenizer.encode("é")[0], tokenizer.end_of_text
    talk = scripted(model, tokenizer, *tokenizer.encode("ab"), half, end, max_new_tokens=6)
    assert say(talk, "What?") == "ab\ufffd"
    talk.sampler = GREEDY
    expected = expected_answer(theirs, tokenizer, [*talk.messages, {"role": "user", "content": "x"}], 6)
    assert say(talk, "x") == expected
    assert talk.n_read == len("\ufffd".encode()) + len("x") + 4


def test_a_template_that_changes_earlier_turns_is_obeyed(model, theirs, tokenizer):
    """As of models that think: only the last answer's thoughts stay in the conversation."""
    short = TEMPLATE.replace("m['content']", "(m['content'] if loop.last else m['content'][:1])")
    changing = PublishedTokenizer(tokenizer._library, "<end>", short)
    talk = Conversation(model, changing, sampler=GREEDY, max_new_tokens=5)
    for question in ("What?", "And?", "So?"):
        expected = expected_answer(theirs, changing, [*talk.messages, {"role": "user", "content": question}], 5)
        assert say(talk, question) == expected


@pytest.mark.parametrize("stop_after", [1, 3])
def test_an_answer_that_is_stopped_stays_as_far_as_it_was_written(model, theirs, tokenizer, stop_after):
    talk = Conversation(model, tokenizer, sampler=GREEDY, max_new_tokens=6)
    tokens = talk.answer("What?")
    written = tokenizer.decode([next(tokens) for _ in range(stop_after)])
    tokens.close()
    assert talk.messages[-1] == {"role": "assistant", "content": written}
    expected = expected_answer(theirs, tokenizer, [*talk.messages, {"role": "user", "content": "And?"}], 6)
    assert say(talk, "And?") == expected


@pytest.mark.parametrize("call", [0, 1, 3])
def test_an_interrupt_inside_the_model_leaves_a_conversation_that_continues(
    model, theirs, tokenizer, monkeypatch, call
):
    """Ctrl-C may come between two layers: some have cached the token, others have not."""
    talk, calls = Conversation(model, tokenizer, sampler=GREEDY, max_new_tokens=6), []
    say(talk, "First.")
    before = list(talk.messages)
    second_block = type(model.blocks[1]).forward

    def interrupted(*inputs):
        calls.append(1)
        if len(calls) == call + 1:
            raise KeyboardInterrupt
        return second_block(model.blocks[1], *inputs)

    with monkeypatch.context() as patch:
        patch.setattr(model.blocks[1], "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            say(talk, "What?")
    assert len(talk.messages) == len(before) + 2 * (call > 0)
    expected = expected_answer(theirs, tokenizer, [*talk.messages, {"role": "user", "content": "And?"}], 6)
    assert say(talk, "And?") == expected
    assert talk.cache.longest == len(talk.cached) == talk.cache.lengths.item()


def test_an_interrupt_while_another_text_replaces_the_cached_one_leaves_no_trace_of_it(
    model, theirs, tokenizer, monkeypatch
):
    talk = Conversation(model, tokenizer, sampler=GREEDY, max_new_tokens=6)
    say(talk, "First.")
    said = talk.messages[-1]
    talk.messages[-1] = {"role": "assistant", "content": "No, no, no."}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(model.blocks[1], "forward", lambda *inputs: (_ for _ in ()).throw(KeyboardInterrupt))
        say(talk, "What?")
    talk.messages[-1] = said
    expected = expected_answer(theirs, tokenizer, [*talk.messages, {"role": "user", "content": "And?"}], 6)
    assert say(talk, "And?") == expected


def test_a_full_context_forgets_the_oldest_exchanges_and_keeps_the_instruction(model, theirs, tokenizer):
    talk = Conversation(model, tokenizer, sampler=GREEDY, system="Hm", max_new_tokens=10)
    for number in range(9):
        question = f"Question {number}?"
        say(talk, question)
        kept = talk.messages
        assert kept[0] == {"role": "system", "content": "Hm"} and kept[-2]["content"] == question
        assert len(encode_chat(tokenizer, kept[:-1])) + 10 <= 96
        assert kept[-1]["content"] == expected_answer(theirs, tokenizer, kept[:-1], 10)
    assert talk.forgotten == 9 - (len(talk.messages) - 1) // 2 > 3


def test_an_answer_that_fills_the_context_ends(model, tokenizer):
    talk = scripted(model, tokenizer, *tokenizer.encode("A" * 200), max_new_tokens=200)
    prompt = len(encode_chat(tokenizer, [{"role": "user", "content": "What?"}]))
    assert say(talk, "What?") == "A" * (96 - prompt + 1)  # the last one needs no place in the cache
    assert not talk.finished
    talk.sampler = Scripted(*tokenizer.encode("A"), tokenizer.end_of_text)
    assert say(talk, "And?") == "A" and talk.finished and talk.forgotten == 1


def test_a_message_beyond_the_context_is_refused_and_nothing_is_forgotten(model, tokenizer):
    talk = Conversation(model, tokenizer, sampler=GREEDY, max_new_tokens=4)
    say(talk, "What?")
    before = list(talk.messages)
    with pytest.raises(PocketError, match=r"Your message has 103 tokens .* at most 96"):
        say(talk, "x" * 100)
    assert talk.messages == before and talk.forgotten == 0


def test_rings_that_cannot_forget_are_filled_anew(tokenizer, assert_equal):
    """A window of 16 has overwritten what came before an answer that is read again."""
    theirs = random_weights(MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=16)))
    model = from_huggingface(theirs.config.to_dict(), theirs.state_dict())
    talk = Conversation(model, tokenizer, sampler=GREEDY, max_new_tokens=30)
    say(talk, "What?")
    talk.messages[-1] = {"role": "assistant", "content": "No."}  # not what is in the cache
    tokens = encode_chat(tokenizer, [*talk.messages, {"role": "user", "content": "So?"}])
    with torch.no_grad():
        assert_equal(talk.read(tokens), theirs(torch.tensor([tokens])).logits[:, -1])
    assert talk.n_read == len(tokens)
    end = tokenizer.end_of_text
    talk = scripted(model, tokenizer, *tokenizer.encode("ab"), end, *tokenizer.encode("c"), end)
    for question in ("What?", "Sure?"):
        say(talk, question)
    assert talk.n_read == len("Sure?") + 4  # what only adds to the ring is not read again


def test_a_prepared_model_answers_alike(model, tokenizer):
    plain = Conversation(model, tokenizer, sampler=GREEDY, max_new_tokens=6)
    prepared = Conversation(prepare_for_decoding(model, "float32"), tokenizer, sampler=GREEDY, max_new_tokens=6)
    for question in ("What?", "And?"):
        assert say(plain, question) == say(prepared, question)


def test_the_same_seed_gives_the_same_conversation(model, tokenizer):
    def talk(seed: int) -> list[str]:
        options = dict(sampler=Sampler(temperature=1.5, top_k=None), max_new_tokens=8, seed=seed)
        conversation = Conversation(model, tokenizer, **options)
        return [say(conversation, question) for question in ("What?", "And?")]

    assert talk(1) == talk(1) != talk(2)


def test_logits_that_are_no_numbers_end_in_a_sentence(model, tokenizer):
    talk = Conversation(model, tokenizer, sampler=GREEDY)
    with pytest.raises(PocketError, match="logits are NaN"), torch.no_grad():
        talk.read = lambda tokens: torch.full((1, 260), torch.nan)
        say(talk, "What?")


def test_a_token_without_text_ends_the_answer_and_the_conversation_continues(model, tokenizer):
    """Published models may have more rows than their tokenizer has tokens."""
    wide = with_more_rows(model, 261)
    talk, read = Conversation(wide, tokenizer, sampler=GREEDY, max_new_tokens=3), Conversation.read
    with pytest.raises(PocketError, match="There is no token 260"):
        talk.read = lambda tokens: read(talk, tokens).index_fill(1, torch.tensor([260]), 1e9)
        say(talk, "What?")
    assert talk.messages == []
    del talk.read
    assert say(talk, "And?") and [message["role"] for message in talk.messages] == ["user", "assistant"]


def with_more_rows(model, n_rows: int) -> GPT:
    """The same model with rows of zeros after those of its tokens."""
    wide = GPT(replace(model.config, vocab_size=n_rows)).eval()
    more = torch.zeros(n_rows - model.config.vocab_size, model.config.d_model)
    weights = model.state_dict()
    rows = {name: torch.cat((weights[name], more)) for name in ("embedding.weight", "head.weight")}
    wide.load_state_dict(weights | rows)
    return wide

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.errors import PocketError
from pocketgpt.text import local_files
from pocketgpt.text.chunks import split_point
from pocketgpt.text.corpora import load_corpus
from pocketgpt.text.tokenizer import load_tokenizer

TOKENIZER = load_tokenizer("shakespeare")
TEXTS = [f"Document {i}.\n" for i in range(25)]
HELD_OUT = [TEXTS[i] for i in (1, 11, 21)]
TRAINED_ON = [text for text in TEXTS if text not in HELD_OUT]


def _both(corpus):
    return list(load_corpus(corpus, "train")), list(load_corpus(corpus, "validation"))


def test_one_text_file_is_cut_at_a_line_break(tmp_path):
    lines = [f"line {i}\n" for i in range(100)]
    (tmp_path / "story.txt").write_text("".join(lines))
    [train], [validation] = _both(tmp_path / "story.txt")
    assert train + validation == "".join(lines)
    assert validation.startswith("line ")
    assert 0.1 <= len(validation) / len(train + validation) < 0.12


def test_one_line_is_cut_all_the_same(tmp_path):
    (tmp_path / "line.txt").write_text("\n" + "x" * 999)
    [train], [validation] = _both(tmp_path / "line.txt")
    assert (len(train), len(validation)) == (900, 100)


def test_no_character_is_cut_in_two(tmp_path):
    for n in range(20, 30):
        (tmp_path / "line.txt").write_text("世" * n)
        [train], [validation] = _both(tmp_path / "line.txt")
        assert train + validation == "世" * n


def test_every_tenth_document_of_a_folder_is_held_out(tmp_path):
    for i, text in enumerate(TEXTS):
        (tmp_path / f"{i:02}.txt").write_text(text)
    (tmp_path / "notes.md").write_text("not a part of it")
    assert _both(tmp_path) == (TRAINED_ON, HELD_OUT)


def test_every_tenth_document_of_a_jsonl_is_held_out(tmp_path):
    lines = [json.dumps({"text": text, "id": 1}) for text in ["", *TEXTS]]
    (tmp_path / "data.jsonl").write_text("\n".join([*lines, "", ""]))
    assert _both(str(tmp_path / "data.jsonl")) == (TRAINED_ON, HELD_OUT)


def test_every_tenth_document_of_a_parquet_is_held_out(tmp_path):
    table = pyarrow.table({"text": [None, *TEXTS], "id": range(26)})
    pyarrow.parquet.write_table(table, tmp_path / "data.parquet", row_group_size=4)
    assert _both(tmp_path / "data.parquet") == (TRAINED_ON, HELD_OUT)


def test_a_line_of_end_of_text_ends_a_document_of_a_text_file(tmp_path):
    (tmp_path / "many.txt").write_text("<|endoftext|>\n".join(TEXTS))
    assert _both(tmp_path / "many.txt") == (TRAINED_ON, HELD_OUT)


@pytest.mark.parametrize("end", ["\n<|endoftext|>", "\n<|endoftext|>\n", "\r\n<|endoftext|>\r\n", "\n"])
def test_how_the_last_document_ends_makes_no_difference(tmp_path, end):
    (tmp_path / "two.txt").write_bytes(b"one\n<|endoftext|>\ntwo" + end.encode())
    assert _both(tmp_path / "two.txt") == (["one\n"], ["two\n"])


def test_end_of_text_within_a_line_is_text(tmp_path):
    (tmp_path / "story.txt").write_text("a <|endoftext|>\n<|endoftext|> b\n" * 20)
    [train], [validation] = _both(tmp_path / "story.txt")
    assert train + validation == "a <|endoftext|>\n<|endoftext|> b\n" * 20


def test_two_documents_are_one_for_each_split(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"text": "a"}\n{"text": "b"}')
    assert _both(tmp_path / "data.jsonl") == (["a"], ["b"])


def test_windows_line_ends_and_byte_order_mark_are_dropped(tmp_path):
    (tmp_path / "story.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n" + b"three\r\n" * 20)
    assert next(iter(load_corpus(tmp_path / "story.txt"))).startswith("one\ntwo\nthree\n")


PARTS = ["Ay, ", "é ", "世界\n", " ", "\n", "\n\n", " <|endoftext|>\n", "<|endoftext|> ", "\n<|endoftext|>\n", "'ll "]
LINES = st.lists(st.sampled_from(PARTS))


@given(text=LINES.map(lambda parts: "".join(parts * 5)), block=st.integers(14, 30))
def test_text_read_in_small_blocks_is_the_same_text(tmp_path_factory, text, block):
    path = tmp_path_factory.getbasetemp() / "blocks.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_files, "CHUNK_CHARS", block)
        found = list(local_files._txt(path))
        separated = local_files._is_separated(path)
    documents = [[]]
    for chunk in found:
        documents[-1].append(chunk.text)
        if chunk.ends:
            documents.append([])
    expected = [[]]
    for line in text.splitlines(keepends=True):
        if line.rstrip("\n") == "<|endoftext|>":
            expected.append([])
        else:
            expected[-1].append(line)
    assert ["".join(document) for document in documents[:-1]] == ["".join(document) for document in expected]
    assert separated == (len(expected) > 1)


WORDS = st.lists(
    st.one_of(
        st.sampled_from(["the", " the", " ", "\n", "\r", "\t", "'ll", "\u00a0", "\x1c", "12", "é"]), st.text(max_size=3)
    )
)


@given(WORDS.map("".join))
def test_parts_of_a_text_encode_as_the_whole(text):
    place = split_point(text)
    assert TOKENIZER.encode(text[:place]) + TOKENIZER.encode(text[place:]) == TOKENIZER.encode(text)


def test_a_text_is_cut_at_its_last_place():
    assert split_point("a bc\nd  ") == 4
    assert split_point("abc  ") == 5


def test_a_long_text_comes_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(local_files, "CHUNK_CHARS", 1000)
    (tmp_path / "story.txt").write_text("Once upon a time.\n" * 1000)
    found = list(local_files.read(tmp_path / "story.txt", "train"))
    assert [chunk.ends for chunk in found] == [False] * (len(found) - 1) + [True]
    assert max(len(chunk.text) for chunk in found) < 4000
    assert "".join(chunk.text for chunk in found) == "Once upon a time.\n" * 900


def test_the_share_that_is_read_grows_to_one(tmp_path):
    for i, text in enumerate(TEXTS):
        (tmp_path / f"{i:02}.txt").write_text(text)
    shares = [chunk.done for chunk in local_files.read(tmp_path, "train")]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_skipping_goes_on_after_the_pieces_that_are_skipped(tmp_path):
    (tmp_path / "many.txt").write_text("<|endoftext|>\n".join(TEXTS))
    assert [chunk.text for chunk in load_corpus(tmp_path / "many.txt").read(20)] == TRAINED_ON[20:]


def _write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "too little text to split"),
        ("latin.txt", b"caf\xe9", "is not UTF-8: byte 0xe9 at 3.*iconv"),
        ("later.txt", b"a\n" * 700_000 + b"caf\xe9.\n" + b"a\n" * 700_000, "is not UTF-8: byte 0xe9 at 1400003.*iconv"),
        ("marked.txt", "café\n".encode("utf-16"), "marked.txt is not UTF-8 but UTF-16.*iconv -f utf-16"),
        ("unmarked.txt", "cafe\n".encode("utf-16-le"), "unmarked.txt is not UTF-8 but UTF-16"),
        ("unmarked.jsonl", '{"text": "a"}\n'.encode("utf-16-le"), "unmarked.jsonl is not UTF-8 but UTF-16"),
        ("packed.txt", b"\x1f\x8b\x08\x00abc", "packed.txt is compressed.*end in .gz"),
        ("packed.jsonl", b"\x1f\x8b\x08\x00abc", "packed.jsonl is compressed.*end in .gz"),
        ("latin.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}', "is not UTF-8: byte 0xe9 at 27"),
        ("data.csv", b"a,b", r"data\.csv is a \.csv; text is read from \.txt, \.txt\.gz, \.jsonl"),
        ("torn.jsonl", b'{"text": "a"}\n{"text": ', "line 2, is not an object like.*mend or delete this one"),
        ("other.jsonl", b'{"body": "a"}', 'line 1, is not an object like {"text".*--text-field'),
        ("number.jsonl", b'{"text": 3}', "line 1, is not an object like.*--text-field"),
        ("list.jsonl", b"[1]", "line 1, is not an object like.*mend or delete this one"),
        ("text.parquet", b"PAR1 no", "cannot be read as parquet"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, name, content, message):
    with pytest.raises(PocketError, match=message):
        _both(_write(tmp_path / name, content))


def test_one_document_cannot_be_split(tmp_path):
    (tmp_path / "one.jsonl").write_text('{"text": "a"}')
    with pytest.raises(PocketError, match=r"too little text to split.*give two documents"):
        list(load_corpus(tmp_path / "one.jsonl", "validation"))


def test_a_parquet_without_text_names_its_columns(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"body": TEXTS}), tmp_path / "data.parquet")
    with pytest.raises(PocketError, match='no column "text", only body'):
        list(load_corpus(tmp_path / "data.parquet"))


def test_a_folder_without_text_is_refused(tmp_path):
    with pytest.raises(PocketError, match=r"contains no text \(\.txt"):
        list(load_corpus(tmp_path))


def test_the_ending_of_a_file_in_a_folder_may_be_in_capitals(tmp_path):
    for name in ("a.txt", "B.TXT", "c.Txt"):
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "folder.txt").mkdir()
    texts = [*load_corpus(tmp_path, "train"), *load_corpus(tmp_path, "validation")]
    assert sorted(texts) == ["B.TXT\n", "a.txt\n", "c.Txt\n"]


def test_half_a_surrogate_pair_in_json_becomes_the_replacement_character(tmp_path):
    (tmp_path / "own.jsonl").write_text('{"text": "a\\ud83d"}\n{"text": "b\\ud83d\\ude00"}\n')
    assert [*load_corpus(tmp_path / "own.jsonl"), *load_corpus(tmp_path / "own.jsonl", "validation")] == [
        "a\ufffd",
        "b😀",
    ]


@pytest.mark.parametrize("values", [[b"a", b"b"], [1, 2], [["a"], ["b"]]], ids=["bytes", "numbers", "lists"])
def test_a_parquet_column_that_is_no_text_names_its_type(tmp_path, values):
    table = pyarrow.table({"text": values})
    pyarrow.parquet.write_table(table, tmp_path / "own.parquet")
    with pytest.raises(PocketError) as error:
        list(load_corpus(tmp_path / "own.parquet"))
    kind = str(table.schema.field("text").type).partition("<")[0]
    assert f'the column "text" contains {kind}' in str(error.value) and "and not string" in str(error.value)


def test_packed_files_are_the_same_text(tmp_path):
    lines = "\n".join(json.dumps({"text": text}) for text in TEXTS)
    (tmp_path / "data.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "story.TXT.GZ").write_bytes(gzip.compress("<|endoftext|>\n".join(TEXTS).encode()))
    assert _both(tmp_path / "data.jsonl.gz") == _both(tmp_path / "story.TXT.GZ") == (TRAINED_ON, HELD_OUT)
    chunks = list(load_corpus(tmp_path / "data.jsonl.gz").read(0))
    assert chunks[-1].done == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("damage", [lambda packed: packed[:-9], lambda packed: b"text", lambda packed: packed[:30] * 2])
def test_a_damaged_packed_file_is_named(tmp_path, damage):
    packed = gzip.compress("\n".join(json.dumps({"text": text}) for text in TEXTS).encode())
    (tmp_path / "data.jsonl.gz").write_bytes(damage(packed))
    with pytest.raises(PocketError, match=r"data\.jsonl\.gz"):
        _both(tmp_path / "data.jsonl.gz")


def test_a_folder_may_have_files_of_all_kinds(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.jsonl").write_text('{"text": "b"}\n{"text": "c"}')
    pyarrow.parquet.write_table(pyarrow.table({"text": ["d", "e"]}), tmp_path / "d.parquet")
    (tmp_path / "f.jsonl.gz").write_bytes(gzip.compress(b'{"text": "f"}'))
    train, validation = _both(tmp_path)
    assert sorted(train + validation) == list("abcdef") and validation == ["b"]


def test_validation_files_of_a_folder_are_the_validation_text(tmp_path):
    (tmp_path / "train.txt").write_text("long text to train on\n" * 9)
    (tmp_path / "validation-1.txt").write_text("held out")
    (tmp_path / "validation-2.jsonl").write_text('{"text": "too"}')
    assert _both(tmp_path) == (["long text to train on\n" * 9], ["held out", "too"])


def test_the_text_may_be_in_another_field(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"body": "a", "text": "x"}\n{"body": "b", "text": "y"}')
    pyarrow.parquet.write_table(pyarrow.table({"body": ["a", "b"]}), tmp_path / "data.parquet")
    for name in ("data.jsonl", "data.parquet"):
        splits = [list(load_corpus(tmp_path / name, split, "body")) for split in ("train", "validation")]
        assert splits == [["a"], ["b"]]
        with pytest.raises(PocketError, match="--text-field"):
            list(load_corpus(tmp_path / name, "train", "content"))
    hashes = {load_corpus(tmp_path / "data.jsonl", text_field=field).hash for field in ("text", "body")}
    assert len(hashes) == 2  # cached tokens of one field are not those of another


def test_json_that_is_nested_without_end_is_named_with_its_line(tmp_path):
    (tmp_path / "deep.jsonl").write_text('{"text": "fine"}\n' + "[" * 50_000 + "\n")
    with pytest.raises(PocketError, match=r"deep\.jsonl, line 2, is not an object like"):
        _both(tmp_path / "deep.jsonl")


def test_two_columns_of_one_name_are_refused(tmp_path):
    table = pyarrow.table([["a"] * 9, ["b"] * 9], names=["text", "text"])
    pyarrow.parquet.write_table(table, tmp_path / "two.parquet")
    with pytest.raises(PocketError, match='several columns "text"'):
        _both(tmp_path / "two.parquet")

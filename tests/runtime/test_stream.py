"""Streamed text, compared with decoding all tokens at once with a real SentencePiece model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilevlm.runtime.text_stream import TextStream

MODEL = Path(__file__).parents[1] / "golden" / "_common" / "tokenizer_small" / "tokenizer.model"
SP = sentencepiece.SentencePieceProcessor(model_file=str(MODEL))
BYTE = [SP.piece_to_id(f"<0x{value:02X}>") for value in range(256)]
SPACE = SP.piece_to_id("▁")
BOS, EOS = SP.bos_id(), SP.eos_id()
STOPS = ["###", "</s>", "\n\n", "\ufffd#", "a b", "b", " a", "##"]

seeded = settings(derandomize=True, database=None, deadline=None, max_examples=300)


def decode(ids: Sequence[int]) -> str:
    """The reference: special tokens removed first, so that bytes around one join."""
    return SP.decode([i for i in ids if not SP.is_control(i)])


def decode_with_control(ids: Sequence[int]) -> str:
    """SentencePiece alone: a control token is invisible, but parts the bytes around it."""
    return SP.decode(list(ids))


def stream(ids: Sequence[int], stops: Sequence[str] = (), decode: Callable = decode) -> tuple[list[str], TextStream]:
    text_stream = TextStream(decode, stops)
    return [*(text_stream.push(i) for i in ids), text_stream.flush()], text_stream


def reference(text: str, stops: Sequence[str] = ()) -> str:
    """The answer in `text`: read it character by character until it ends with a stop string."""
    text = text.lstrip()
    for end in range(len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return text[: end - len(stop)].strip()
    return text.strip()


def hex_ids(data: str) -> list[int]:
    return [BYTE[value] for value in bytes.fromhex(data)]


def pieces_of(text: str) -> list[int]:
    """One token per character where there is one, else its bytes; no space added in front."""
    pieces = [(SP.piece_to_id(c if c != " " else "▁"), c) for c in text]
    return [i for piece, c in pieces for i in ([piece] if piece else [BYTE[b] for b in c.encode()])]


# Bytes that begin, continue and break characters, U+FFFD itself (EF BF BD), white space in all its spellings.
NASTY = [
    BYTE[value]
    for value in b"\xe4\xbd\xa0\xf0\x9f\x98\x80\xef\xbf\xbd\xc3\xa9\xff\xc0\xed\x20\n\r\t#a\xe3\x80\x80\xc2\x85"
]
NASTY += [SPACE, SP.piece_to_id("▁▁"), SP.piece_to_id("▁a"), SP.piece_to_id("a"), SP.unk_id(), BOS, EOS]
# The bytes of one character and few other tokens, so that the same ones meet again in every order.
nasty_ids = st.builds(
    lambda character, others: [*hex_ids(character), *others],
    st.sampled_from(["C3A9", "E4BDA0", "EFBFBD", "F09F9880"]),
    st.lists(st.sampled_from(NASTY) | st.sampled_from([BOS, EOS, SPACE]), min_size=1, max_size=4),
).flatmap(lambda few: st.lists(st.sampled_from(few), max_size=30))
random_ids = st.lists(st.integers(0, SP.vocab_size() - 1), max_size=40)
texts = st.text(
    alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \n#</s>ab\ufffd😀👩‍🚀你é")), max_size=40
)
stop_lists = st.lists(st.sampled_from(STOPS), max_size=3)
decoders = st.sampled_from([decode, decode_with_control])


@seeded
@given(ids=nasty_ids | random_ids, stops=stop_lists, decode=decoders)
def test_joined_pieces_are_the_full_decode(ids, stops, decode):
    pieces, text_stream = stream(ids, stops, decode)
    full = decode(ids)
    assert "".join(pieces) == reference(full, stops)
    assert text_stream.stopped == any(stop in full.lstrip() for stop in stops)


@seeded
@given(ids=nasty_ids | random_ids, decode=decoders)
def test_nothing_is_shown_too_early_and_nothing_is_held_too_long(ids, decode):
    """After every token: all of the text so far but trailing space and the three bytes that may wait for a fourth."""
    text_stream = TextStream(decode)
    shown = longest = ""
    for count, token_id in enumerate(ids, 1):
        shown += text_stream.push(token_id)
        text = decode(ids[:count])
        undecoded = min(3, len(text) - len(text.rstrip("\ufffd")))
        certain = text[: len(text) - undecoded].strip()
        longest = max(longest, certain, key=len)
        assert shown == longest
        assert text.strip().startswith(shown), "a piece that was shown is not in the text so far"
    assert decode(ids).strip().startswith(shown)


@seeded
@given(text=texts, stops=stop_lists)
def test_any_text_comes_back(text, stops):
    ids = SP.encode(text)
    assert "".join(stream(ids, stops)[0]) == reference(decode(ids), stops)
    assert "".join(stream(pieces_of(text))[0]) == text.strip()


@seeded
@given(text=texts, stops=stop_lists.filter(bool))
def test_stop_strings_do_not_depend_on_the_tokens(text, stops):
    """Every prefix that was shown is part of the answer, whether the stop string comes in one token or in ten."""
    answer = reference(text, stops)
    shown = ""
    text_stream = TextStream(decode, stops)
    for token_id in pieces_of(text):
        shown += text_stream.push(token_id)
        assert answer.startswith(shown)
    assert shown + text_stream.flush() == answer


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (hex_ids("E4BDA0"), ["", "", "你", ""]),
        (hex_ids("F09F9880"), ["", "", "", "😀", ""]),
        (hex_ids("E4BD") + pieces_of("a"), ["", "", "\ufffd\ufffda", ""]),  # broken off: certain with the next token
        (hex_ids("E4BD"), ["", "", "\ufffd\ufffd"]),  # broken off by the end
        (hex_ids("E4E4BDA0"), ["", "", "", "\ufffd你", ""]),
        (hex_ids("EFBFBD") + pieces_of("a"), ["", "", "", "\ufffda", ""]),  # U+FFFD as a character
        (hex_ids("FFFFFFFFFF"), ["", "", "", "\ufffd", "\ufffd", "\ufffd\ufffd\ufffd"]),
        (hex_ids("EFBFBDEFBFBDEFBFBD"), ["", "", "", "", "", "", "", "\ufffd", "", "\ufffd\ufffd"]),
        (hex_ids("F09F") + [EOS] + hex_ids("9880"), ["", "", "", "", "😀", ""]),
        (pieces_of("  a  b \n"), ["", "", "a", "", "", "  b", "", "", ""]),
        ([], [""]),
        (pieces_of(" \n "), ["", "", "", ""]),
    ],
)
def test_pieces_come_when_they_are_certain(ids, expected):
    assert stream(ids)[0] == expected


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("Hi #x ##y ###z", ["###"], ["H", "i", "", "", " #x", "", "", "", " ##y", "", "", "", "", "", ""]),
        ("ab</s>", ["</s>"], ["a", "b", "", "", "", "", ""]),
        ("ab</s", ["</s>"], ["a", "b", "", "", "", "</s"]),  # a stop string that never comes
        ("aab", ["ab"], ["", "a", "", ""]),
        ("xabc", ["bcd", "c", "abcd"], ["x", "", "", "a" + "b", ""]),
        ("xabc", ["bc", "abc"], ["x", "", "", "", ""]),  # both end here: the longest goes
        ("\n\na\n\nb", ["\n\n"], ["", "", "a", "", "", "", ""]),  # at the beginning it is no text at all
        ("###", ["###"], ["", "", "", ""]),
    ],
)
def test_stop_strings_split_over_tokens(text, stops, expected):
    pieces, text_stream = stream(pieces_of(text), stops)
    assert pieces == expected
    assert text_stream.stopped == (text != "ab</s")


@pytest.mark.parametrize("stops", [["gum"], ["arguments", "gum"], ["gum", "argumen"], ["um", "gum"]])
def test_stop_string_inside_one_token(stops):
    """What the token says after it is not shown. The one complete first counts, as if characters came one by one."""
    pieces, text_stream = stream([*pieces_of("xn"), SP.piece_to_id("▁arguments"), *pieces_of("x")], stops)
    assert (pieces, text_stream.stopped) == (["x", "n", " ar", "", ""], True)


@pytest.mark.parametrize(
    "cycle",
    [
        [SP.piece_to_id("▁the")],
        [SPACE],
        [SP.piece_to_id("▁▁"), SPACE],
        hex_ids("FF"),
        hex_ids("EFBFBD"),
        hex_ids("F09F98"),
        hex_ids("E4BDA0"),
        [*hex_ids("E4"), EOS, BOS],
        [BOS, EOS],
        [SP.unk_id()],
        [*hex_ids("0A"), SPACE, EOS],
    ],
    ids=lambda cycle: " ".join(SP.id_to_piece(i) for i in cycle),
)
@pytest.mark.parametrize("decode", [decode, decode_with_control])
def test_long_answers_decode_a_short_window(cycle, decode):
    """Even where no character ever ends, the work per token does not grow."""
    lengths = []

    def counting(ids: Sequence[int]) -> str:
        lengths.append(len(ids))
        return decode(ids)

    prefix = pieces_of("a") if cycle[0] != BOS else []
    ids = prefix + cycle * (6000 // len(cycle))
    pieces, _ = stream(ids, ["###"], counting)
    assert "".join(pieces) == decode(ids).strip()
    assert max(lengths) <= 15  # three bytes of a character, each with invisible tokens after it, and some context
    assert len(lengths) <= 4 * len(ids)


def test_control_tokens_part_bytes_each_time():
    """Regression: a control token that the window held already was dropped, and the bytes around it became one 你."""
    ids = [*hex_ids("E4"), BOS, *hex_ids("E4"), BOS, *hex_ids("BDA0")]
    assert "".join(stream(ids, decode=decode_with_control)[0]) == "\ufffd" * 4
    assert "".join(stream(ids, decode=decode)[0]) == "\ufffd你"


def test_flush_twice_gives_the_rest_once():
    text_stream = TextStream(decode, ["###"])
    assert [text_stream.push(i) for i in pieces_of("a#")] == ["a", ""]
    assert [text_stream.flush(), text_stream.flush()] == ["#", ""]


@pytest.mark.parametrize("stops", ["###", [""], ["###", ""]])
def test_stop_strings_that_cannot_be_meant_are_refused(stops):
    with pytest.raises(ValueError, match=r"non-empty strings, such as \['###'\]"):
        TextStream(decode, stops)

"""Kept prefixes: the answers of a session that never saw another conversation, and no more memory than allowed."""

from __future__ import annotations

import numpy as np
import pytest

from mobilevlm.errors import UserError
from mobilevlm.runtime.pieces import LEAST_TURN, MOST_TEXT, TEXT_BEFORE_IMAGE, Piece, cut
from mobilevlm.runtime.prefix_cache import PrefixCache
from tests.conftest import HOST_DEFAULT, demo_host
from tests.runtime.prefix_talk import about, compare, opened, said, talk


@pytest.mark.parametrize("precision", ("fp32", "int8", HOST_DEFAULT))
def test_interleaved_conversations_say_what_each_says_alone(precision, tmp_path_factory):
    """Other lowerings in test_qnn.py, test_trt_demo.py and export/test_snapdragon_cpu.py."""
    compare(demo_host(tmp_path_factory, precision))


def test_little_memory_changes_no_answer(demo_fp32):
    """Room for the picture's piece alone: what does not fit is run again."""
    with opened(demo_fp32) as session:
        session.keep_prefix(*about(session, 0))
        size = session.decoder.prefixes.size
    with opened(demo_fp32, size) as session, opened(demo_fp32) as fresh:
        talk(session, fresh)
        assert 0 < session.decoder.prefixes.size <= size
    with opened(demo_fp32, 1000) as session, opened(demo_fp32) as fresh:
        talk(session, fresh)
        assert session.decoder.prefixes.size == 0


def test_a_kept_prefix_needs_no_image_embeddings(demo_fp32, monkeypatch):
    with opened(demo_fp32) as session:
        assert session.keep_prefix(*about(session, 0)) > 144
        session.keep_prefix(*about(session, 1))
        session.decoder._images.clear()
        monkeypatch.setattr(session.decoder.runner, "encode_image", lambda pixel_values: pytest.fail("it was encoded"))
        for shown in (0, 1):
            reply = said(session, *about(session, shown))
            assert reply.statistics.image_encode_ms == 0 and reply.statistics.reused_tokens > 144


def test_an_image_in_the_kv_cache_needs_no_embeddings(demo_fp32, monkeypatch):
    """Without a prefix cache, too."""
    with opened(demo_fp32, 0) as session:
        first = said(session, *about(session, 0))
        session.decoder._images.clear()
        monkeypatch.setattr(session.decoder.runner, "encode_image", lambda pixel_values: pytest.fail("it was encoded"))
        again = said(session, *about(session, 0))
        assert again.tokens == first.tokens and again.statistics.reused_tokens > 144


def test_an_answer_is_kept_before_the_next_question(demo_fp32):
    with opened(demo_fp32) as session, opened(demo_fp32) as fresh:
        conversation, images = about(session, 0)
        conversation.answer(said(session, conversation, images).text + " It is a long answer." * 4)
        kept = session.keep_prefix(conversation, images)
        conversation.ask("And the colour?")
        reply, cold = said(session, conversation, images), said(fresh, conversation, images)
        assert reply.statistics.reused_tokens == kept > cold.statistics.reused_tokens == 0
        assert reply.logprobs == cold.logprobs


def test_an_interrupted_prompt_leaves_no_wrong_piece(demo_fp32, monkeypatch):
    with opened(demo_fp32) as session, opened(demo_fp32) as fresh:
        said(session, *about(session, 1))
        runner, write = session.decoder.runner, session.decoder.runner.write_cache
        said(session, *about(session, 0))

        def half(start, rows):
            write(start, rows[:, :, : rows.shape[2] // 2])
            raise KeyboardInterrupt

        monkeypatch.setattr(runner, "write_cache", half)
        with pytest.raises(KeyboardInterrupt):
            said(session, *about(session, 1))
        monkeypatch.setattr(runner, "write_cache", write)
        for shown in (0, 1):
            assert said(session, *about(session, shown)).logprobs == said(fresh, *about(fresh, shown)).logprobs


def test_without_a_prefix_cache_there_is_nothing_to_keep(demo_fp32):
    with opened(demo_fp32, 0) as session, pytest.raises(UserError, match="prefix_cache_bytes"):
        session.keep_prefix(*about(session, 0))
    with pytest.raises(UserError, match="prefix_cache_bytes is -1"):
        opened(demo_fp32, -1)


def test_a_prompt_is_cut_where_its_beginning_says():
    """Whatever follows: the pieces of a beginning are the first ones of the whole."""
    rng, image, eos = np.random.default_rng(0), -200, 2
    for _ in range(200):
        ids = [
            int(one)
            for one in rng.choice([5, 6, 7, eos, image], int(rng.integers(1, 900)), p=[0.4, 0.3, 0.28, 0.01, 0.01])
        ]
        keys = [
            key
            for n, token in enumerate(ids)
            for key in ([("a" * 8, i) for i in range(16)] if token == image else [token])
        ]
        pieces = cut(ids, keys, 16, eos)
        assert all(one.stop == other.start for one, other in zip(pieces, pieces[1:], strict=False))
        assert all(0 < one.stop - one.start <= MOST_TEXT + 16 for one in pieces)
        part = ids[: int(rng.integers(0, len(ids)))]
        assert cut(part, keys, 16, eos) == pieces[: len(cut(part, keys, 16, eos))]


def test_where_a_prompt_is_cut():
    def stops(*ids):
        keys = [key for token in ids for key in ([("p", n) for n in range(4)] if token == -200 else [token])]
        return [piece.stop for piece in cut(ids, keys, 4, 2)]

    assert stops(*[5] * 10, -200, 5, 5) == [14]
    assert stops(*[5] * TEXT_BEFORE_IMAGE, -200, 5) == [TEXT_BEFORE_IMAGE, TEXT_BEFORE_IMAGE + 4]
    assert stops(-200, 5, -200, *[5] * 3, 2) == [4, 9]
    assert stops(*[5] * (LEAST_TURN - 1), 2, *[5] * 10, 2) == [LEAST_TURN]
    assert stops(*[5] * (MOST_TEXT + 1)) == [MOST_TEXT]


class Rows:
    """A kv cache that holds what was written."""

    def __init__(self):
        self.cache = np.zeros((2, 1, 100, 4), np.int8)

    def read_cache(self, start, stop):
        return self.cache[:, :, start:stop].copy()

    def write_cache(self, start, rows):
        self.cache[:, :, start : start + rows.shape[2]] = rows


def test_the_piece_used_longest_ago_goes_first_and_never_before_those_behind_it():
    cache, runner = PrefixCache(10 * 8 * 3), Rows()  # three pieces of ten tokens

    def run(*names):
        """Runs a prompt of pieces; returns how many were restored."""
        pieces = [Piece(name, 10 * n, 10 * n + 10) for n, name in enumerate(names)]
        reused = cache.restore(pieces, runner) // 10
        for piece in pieces[:reused]:
            assert (runner.read_cache(piece.start, piece.stop) == ord(piece.name[-1])).all()
        for piece in pieces[reused:]:
            runner.cache[:, :, piece.start : piece.stop] = ord(piece.name[-1])
            cache.ran(piece, runner)
        cache.forget_held()
        return reused

    assert run("a", "ab") == 0 and run("a", "ac") == 1 and cache.size == 240
    assert run("a", "ab") == 2 and run("a", "ad") == 1  # instead of ac, which was used before ab
    assert run("a", "ab") == 2 and run("a", "ac") == 1 and cache.size == 240
    assert run("x", "xy", "xyz") == 0 and run("x", "xy", "xyz") == 3 and run("a", "ab") == 0

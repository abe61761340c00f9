"""A stream read from Python: its items, its ends, and what it tells."""

from __future__ import annotations

import gc
import time
import weakref
from typing import TYPE_CHECKING

import pytest

from mullama import Context, StreamConfig, StreamTimeoutError, Timings, Token, TokenStream, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

POEM = "Write a poem:"
GREEDY = StreamConfig(temperature=0, max_tokens=40, deterministic=True)
# Waits an hour before the second token.
STUCK = StreamConfig(stream_delay_ms=3_600_000, timeout_ms=None)


@pytest.mark.parametrize("buffer_size", [1, 2, 64])
def test_joined_pieces_are_the_text_of_generate_and_of_the_ids(steady: Context, buffer_size: int) -> None:
    whole = steady.generate(POEM, config=GREEDY)
    stream = steady.generate_stream(POEM, config=GREEDY, buffer_size=buffer_size)
    tokens = list(stream)
    assert "".join(token.text for token in tokens) == stream.text == whole.text == str(whole)
    assert steady.model.detokenize([token.id for token in tokens if token.id is not None]) == whole.text
    assert b"".join(token.bytes for token in tokens).decode() == whole.text


def test_a_token_tells_what_it_is(context: Context) -> None:
    first, second = context.generate_stream(POEM, 2, temperature=0, logprobs=3)
    assert (first.index, second.index) == (0, 1)
    assert str(first) == first.text == first.bytes.decode()
    assert context.model.detokenize([first.id or -1]) == first.text
    assert first.logprob is not None
    assert first.logprob <= 0
    assert first.top_logprobs[0] == (first.id, first.logprob)
    assert [chance for _, chance in first.top_logprobs] == sorted((c for _, c in first.top_logprobs), reverse=True)
    assert len(first.top_logprobs) == 3
    assert repr(first) == f"Token({first.text!r}, id={first.id}, index=0)"


def test_tokens_are_values(context: Context) -> None:
    (one,) = context.generate(POEM, 1, temperature=0).tokens
    (same,) = context.generate(POEM, 1, temperature=0).tokens
    assert one == same
    assert one != context.generate(POEM, 2, temperature=0).tokens[1]
    assert one.logprob is None
    assert one.top_logprobs == []
    with pytest.raises(AttributeError):
        one.text = "other"  # type: ignore[misc]


def test_a_prompt_is_text_or_its_token_ids(steady: Context) -> None:
    by_text = steady.generate(POEM, config=GREEDY)
    assert steady.generate(steady.model.tokenize(POEM), config=GREEDY).text == by_text.text


def test_after_the_end_it_is_over_again_and_again(context: Context) -> None:
    stream = context.generate_stream(POEM, 3)
    assert iter(stream) is stream
    assert len(list(stream)) == 3
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(stream)
    assert list(stream) == []


def test_zero_tokens_are_an_empty_stream(context: Context) -> None:
    stream = context.generate_stream(POEM, 0)
    assert list(stream) == []
    assert (stream.finish_reason, stream.text) == ("length", "")


def test_it_tells_how_it_ended_and_what_it_cost(context: Context) -> None:
    stream = context.generate_stream(POEM, 5, seed=7)
    assert repr(stream) == "<TokenStream open, 0 tokens read>"
    tokens = list(stream)
    assert (stream.finish_reason, stream.stop_sequence, stream.seed) == ("length", None, 7)
    assert stream.tokens_generated == len(tokens) == 5
    assert stream.tokens_per_second() > 0
    prompt_tokens = len(context.model.tokenize(POEM))
    assert stream.usage == Usage(prompt_tokens, stream.usage.cached_tokens, 5)
    assert 0 <= stream.usage.cached_tokens < prompt_tokens
    assert isinstance(stream.timings, Timings)
    assert 0 < stream.timings.prefill <= stream.timings.first_token
    assert repr(stream) == "<TokenStream length, 5 tokens read>"


def test_a_completion_tells_what_its_stream_told(context: Context) -> None:
    answer = context.generate("Count: 1, 2, 3,", 20, temperature=0, stop_sequences=["6"])
    assert (answer.text, answer.finish_reason, answer.stop_sequence) == (" 4, 5, ", "stop", "6")
    assert answer.usage.completion_tokens >= len(answer.tokens) > 0
    assert answer.tokens[0] == next(context.generate_stream("Count: 1, 2, 3,", 20, temperature=0))


def test_the_same_seed_gives_the_same_text(context: Context) -> None:
    first = context.generate(POEM, 40, deterministic=True)
    assert context.generate(POEM, 40, seed=first.seed, deterministic=True).text == first.text


def test_other_seeds_give_other_texts(steady: Context) -> None:
    # Two seeds may well write the same poem, which the model knows by heart; eight do not.
    assert len({steady.generate(POEM, 40, seed=seed).text for seed in range(8)}) > 1


def test_cancel_keeps_what_was_produced(context: Context, eventually: Callable[[Callable[[], bool]], bool]) -> None:
    stream = context.generate_stream(POEM, config=STUCK, stream_delay_ms=0, buffer_size=3)
    first = next(stream)
    assert eventually(lambda: stream.timings.decode > 0)
    stream.cancel()
    rest = list(stream)
    assert 0 < len(rest) <= 4
    assert stream.finish_reason == "cancelled"
    assert stream.text == "".join(token.text for token in (first, *rest))


@pytest.mark.parametrize("leave", ["close", "with", "del"])
def test_leaving_frees_the_place_at_once(
    context: Context, eventually: Callable[[Callable[[], bool]], bool], leave: str
) -> None:
    stream = context.generate_stream(POEM, config=STUCK)
    next(stream)
    assert context.unfinished == 1
    if leave == "close":
        stream.close()
        assert list(stream) == []
        assert stream.finish_reason == "cancelled"
    elif leave == "with":
        with stream as same:
            assert same is stream
    else:
        gone = weakref.ref(stream)
        del stream
        gc.collect()
        assert gone() is None
    assert eventually(lambda: context.unfinished == 0)


def test_breaking_out_of_a_loop_frees_the_place(
    context: Context, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    def first() -> Token | None:
        for token in context.generate_stream(POEM, config=STUCK):
            return token
        return None

    assert first() is not None
    assert eventually(lambda: context.unfinished == 0)


def test_a_slow_reader_never_has_more_than_its_buffer_ahead_of_it(context: Context) -> None:
    stream = context.generate_stream(POEM, 200, ignore_eos=True, buffer_size=4)
    for token in stream:
        time.sleep(0.002)
        assert stream.usage.completion_tokens - token.index - 1 <= 4


def test_a_deadline_is_told_after_what_was_produced(context: Context) -> None:
    stream = context.generate_stream(POEM, config=STUCK, timeout_ms=1_000)
    text = next(stream).text
    with pytest.raises(StreamTimeoutError):
        next(stream)
    assert list(stream) == []
    assert (stream.finish_reason, stream.text) == ("timeout", text)


def test_a_stream_that_never_ran_has_no_speed(context: Context) -> None:
    stream: TokenStream = context.generate_stream(POEM, 1)
    assert stream.tokens_per_second() == 0.0
    assert stream.tokens_generated == 0


def test_characters_split_over_tokens_arrive_whole(context: Context) -> None:
    tokens = list(context.generate_stream("Emoji:", 60, temperature=0, ignore_eos=True))
    assert any(is_split(token.bytes) for token in tokens)
    text = "".join(token.text for token in tokens)
    assert text == b"".join(token.bytes for token in tokens).decode()
    assert "\ufffd" not in text


def is_split(piece: bytes) -> bool:
    """Whether the bytes alone are not text."""
    try:
        piece.decode()
    except UnicodeDecodeError:
        return True
    return False

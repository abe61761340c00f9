"""Models whose memory is no plain KV cache write the same beside others, after others and after a preemption."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest
from architectures import WINDOW, write

from mullama import Context, ContextParams, Model, StreamConfig, Token

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow

HEAD = list(range(300, 420))
PROMPTS = [HEAD, HEAD, [*HEAD, 500, 501], [*HEAD[:60], *range(600, 660)], [*HEAD, *range(700, 740)], HEAD[:60]]
"""Prompts that begin alike; the head is longer than a sliding window."""

GREEDY = StreamConfig(max_tokens=40, temperature=0.0, ignore_eos=True, logprobs=2)

TIE = 0.05
"""Two tokens whose log-probabilities are closer may change places: other rows in a step move the last bits."""


@pytest.fixture(scope="module", params=["mamba", "jamba", "gemma3"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A recurrent model, a hybrid one, and one with sliding windows."""
    path: Path = tmp_path_factory.mktemp("models") / f"{request.param}.gguf"
    return Model.load(write(path, request.param))


@pytest.fixture(scope="module")
def alone(other: Model) -> list[list[Token]]:
    """What each prompt is continued with in an engine that computes nothing else."""
    lengths = itertools.count(400)
    contexts = (Context(other, ContextParams(n_ctx=next(lengths))) for _ in PROMPTS)
    return [
        list(context.generate(prompt, config=GREEDY).tokens) for context, prompt in zip(contexts, PROMPTS, strict=True)
    ]


def equal_but_for_ties(written: Sequence[Token], expected: Sequence[Token]) -> bool:
    """Whether the tokens are the same, up to one where the two likeliest were as good as equal."""
    for ours, theirs in zip(written, expected, strict=True):
        if ours.id != theirs.id:
            first, second = (logprob for _, logprob in theirs.top_logprobs)
            return first - second < TIE
    return True


def test_a_prompt_that_begins_like_an_earlier_one_is_continued_as_if_it_were_alone(
    other: Model, alone: list[list[Token]]
) -> None:
    assert len(HEAD) > WINDOW
    context = Context(other, ContextParams(n_ctx=500))
    for prompt, expected in zip(PROMPTS, alone, strict=True):
        assert equal_but_for_ties(context.generate(prompt, config=GREEDY).tokens, expected)


def test_streams_that_lose_their_place_and_their_cells_go_on_as_if_they_were_alone(
    other: Model, alone: list[list[Token]]
) -> None:
    context = Context(other, ContextParams(n_ctx=300, kv_cells=512, n_parallel=4))
    streams = [context.generate_stream(prompt, config=GREEDY, buffer_size=4) for prompt in PROMPTS * 3]
    written: list[list[Token]] = [[] for _ in streams]
    turns = random.Random(1)  # noqa: S311  # readers by chance, the same each time
    reading = list(range(len(streams)))
    while reading:
        reader = turns.choice(reading)
        tokens = list(itertools.islice(streams[reader], turns.randint(1, 6)))
        written[reader] += tokens
        if not tokens:
            reading.remove(reader)
    assert all(map(equal_but_for_ties, written, alone * 3))
    assert context.stats().preemptions > 0

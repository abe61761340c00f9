"""What an engine tells of itself."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from mullama import Context, ContextParams, Model, Stats, Steps

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_prompt_that_comes_again_is_counted_as_saved(
    model: Model, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    with Context(model, ContextParams(n_ctx=256, n_parallel=3)) as context:
        prompt = "Once upon a time there was a quiet duck named Elsa."
        first = context.generate(prompt, 4, temperature=0)
        again = context.generate(prompt, 4, temperature=0)
        assert again.text == first.text
        assert (first.usage.cached_tokens, again.usage.cached_tokens) == (0, again.usage.prompt_tokens - 1)
        # The last token is there before the step is over, and what it cost is written down.
        assert eventually(lambda: context.stats().running == 0)
        stats = context.stats()
        assert (stats.prefix_hits, stats.tokens_saved) == (1, again.usage.cached_tokens)
        assert stats.tokens_generated == first.usage.completion_tokens + again.usage.completion_tokens
        assert (stats.queued, stats.preemptions, stats.cells) == (0, 0, 256)
        assert 0 < stats.decode_steps.longest <= stats.decode_steps.total


def test_a_parked_stream_is_seen_with_its_cells(
    context: Context, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    with context.generate_stream("Once upon a time", buffer_size=2, ignore_eos=True):
        assert eventually(lambda: context.stats().paused == 1)
        assert context.stats().cells_used > 0
    assert eventually(lambda: context.stats().paused == 0)


def test_every_number_crosses_the_border_by_its_name(
    context: Context, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    counts, steps = context._native.stats()
    named = [field.name for field in fields(Stats) if not field.name.endswith("_steps")]
    assert list(counts) == named
    assert len(steps) == 2
    context.generate("Write a poem:", 5, ignore_eos=True)
    assert eventually(lambda: context.stats().running == 0)
    stats = context.stats()
    for kind in (stats.decode_steps, stats.prefill_steps):
        assert isinstance(kind, Steps)
        assert isinstance(kind.count, int)
        assert 0 < kind.longest <= kind.total < 60
    assert (stats.cells, stats.threads > 0) == (context.context_len, True)

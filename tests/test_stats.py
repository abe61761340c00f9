"""What an engine tells of itself."""

from __future__ import annotations

from mullama import Context, ContextParams, Model


def test_a_prompt_that_comes_again_is_counted_as_saved() -> None:
    with Model.load("demo") as model, Context(model, ContextParams(n_ctx=256)) as context:
        prompt = "Once upon a time there was a quiet duck named Elsa."
        first = context.generate(prompt, 4, temperature=0)
        again = context.generate(prompt, 4, temperature=0)
        assert again.text == first.text
        assert (first.usage.cached_tokens, again.usage.cached_tokens) == (0, again.usage.prompt_tokens - 1)
        stats = context.stats()
        assert (stats.prefix_hits, stats.tokens_saved) == (1, again.usage.cached_tokens)
        assert stats.tokens_generated == first.usage.completion_tokens + again.usage.completion_tokens
        assert (stats.queued, stats.running, stats.parked, stats.preemptions) == (0, 0, 0, 0)
        assert stats.cells == 256
        assert stats.decode_steps.count > 0
        assert stats.decode_steps.longest <= stats.decode_steps.total


def test_a_parked_stream_is_seen_with_its_cells() -> None:
    with Model.load("demo") as model, Context(model) as context:
        stream = context.generate_stream("Once upon a time", buffer_size=2, ignore_eos=True)
        next(stream)
        next(stream)
        # It is parked once the two tokens after those are there, which the next read can only wait for.
        seen = [context.stats() for _ in range(10_000) if context.stats().parked or next(stream)]
        assert any(stats.parked == 1 and stats.cells_used > 0 for stats in seen)

"""Deterministic streams from Python, and the page of the guide about them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from guide import ROOT, blocks

from mullama import Context, ContextParams, Model, StreamConfig

PAGE = ROOT / "docs" / "reproducible.md"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_deterministic_texts_are_the_same_beside_others_as_alone(temperature: float) -> None:
    with Model.load("demo") as model:
        context = Context(model, ContextParams(n_threads=1))

        def text(seed: int) -> str:
            config = StreamConfig(seed=seed, temperature=temperature, deterministic=True, timeout_ms=None)
            return context.generate("Write a story:", 30, config=config).text

        alone = [text(seed) for seed in range(8)]
        others = [context.generate_stream("Write a story:", 400, ignore_eos=True, buffer_size=500) for _ in range(4)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(text, range(8))) == alone
        for other in others:
            other.close()


def test_the_block_of_the_page_runs() -> None:
    (block,) = blocks("python", PAGE)
    exec(compile(block.code, str(PAGE), "exec"), {})  # noqa: S102  # the guide's own program

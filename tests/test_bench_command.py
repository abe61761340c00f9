"""The command `mullama bench`: what it measures, and how it says so."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from mullama import _measure
from mullama._bench import Figure

if TYPE_CHECKING:
    from collections.abc import Callable

    from mullama import Context

pytestmark = pytest.mark.slow

BENCH = [sys.executable, "-m", "mullama", "bench", "demo", "--seconds", "0.05"]


def bench(*arguments: str) -> str:
    """What the command writes."""
    done = subprocess.run([*BENCH, *arguments], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def test_in_json_every_figure_is_there_with_its_unit_in_its_name() -> None:
    figures = json.loads(bench("--json"))
    assert figures["model"].endswith("demo.gguf")
    assert (figures["name"], figures["quantization"], figures["parameters"]) == ("mullama demo", "Q8_0", 2_164_800)
    assert figures["llama_cpp"]
    speeds = [f"tokens_per_second{which}" for which in ("", "_async", "_8_streams")]
    costs = ["python_us_per_token", "python_us_per_token_async", "prefill_tokens_per_second", "resident_mib", "load_ms"]
    assert min(figures[name] for name in [*speeds, *costs, "first_token_cold_ms", "first_token_warm_ms"]) > 0
    # On a machine that is busy elsewhere, noise is larger than these.
    lags = ["loop_lag_p50_ms", "loop_lag_p99_ms", "idle_loop_lag_p50_ms", "idle_loop_lag_p99_ms"]
    assert all(isinstance(figures[name], float) for name in [*lags, "import_ms"])


def test_the_table_has_a_line_for_each_figure_and_no_markup() -> None:
    shown = bench()
    for words in ("one stream, async for", "8 async streams", "lag beside them, p99", "first token", "RSS"):
        assert words in shown
    assert "\x1b" not in shown
    assert shown.startswith("mullama demo: llama, 2.16M parameters, Q8_0, 2.2 MiB")


def test_ctrl_c_ends_a_measurement_without_a_traceback(
    script: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    done = script("""
import asyncio, os, signal, sys
import _mullama_command
from mullama import _measure

async def interrupt(seconds):
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(60)

_measure._lag = interrupt
sys.argv = ["mullama", "bench", "demo", "--seconds", "0.05"]
sys.exit(_mullama_command.main())
""")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_warm_prompt_is_measured_on_what_the_engine_has_seen(
    context: Context, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    first = _measure.first_tokens(context, 0.05, 512)
    assert first.prompt_tokens == 512
    # The engine writes its books after the step that handed the token out.
    assert eventually(lambda: context.stats().tokens_saved >= 511 - 64)


def test_what_waits_is_computed_before_its_reading_is_measured(context: Context) -> None:
    for stream in _measure._computed(context, 0.01, 50):
        assert context.unfinished == 0
        assert stream.usage.completion_tokens == 50
        assert stream.tokens_generated == 0


def test_a_measurement_takes_about_as_long_as_it_is_told(context: Context) -> None:
    began = time.monotonic()
    assert _measure.one_stream(context, 0.2) > 0
    assert 0.2 <= time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "unknown"), (1234.5, "1,234"), (99.94, "99.9"), (0.30049, "0.3"), (3.14159, "3.14")]
)
def test_a_figure_is_shown_with_the_digits_that_mean_something(value: float | None, shown: str) -> None:
    assert Figure("name", "words", value, "ms").shown() == shown

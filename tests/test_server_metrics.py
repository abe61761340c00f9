"""`/metrics`: what it counts, and that its text is what collectors read."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from http_server import serving
from prometheus_client.openmetrics.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 20.0
CHAT = {"messages": [{"role": "user", "content": "Write a poem:"}]}
ENDLESS = CHAT | {"stream": True, "ignore_eos": True, "max_tokens": -1}


@pytest.fixture
def url() -> Iterator[str]:
    """A server of the demo model."""
    with serving() as server:
        yield server.url


def samples(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples by name and labels, read by the parser of Prometheus' own client."""
    answer = httpx.get(f"{url}/metrics", timeout=LIMIT)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def value(url: str, name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels, among others."""
    return sum(
        number for (one, own), number in samples(url).items() if one == name and labels.items() <= dict(own).items()
    )


def wait(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not met():
        assert time.monotonic() < deadline


@contextlib.contextmanager
def streaming(url: str) -> Iterator[Iterator[str]]:
    """An answer that does not end, whose first token has arrived."""
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=ENDLESS, timeout=LIMIT) as response:
        lines = response.iter_lines()
        next(line for line in lines if '"content":"' in line and '"content":""' not in line)
        yield lines


def test_a_scrape_loads_no_model(url: str) -> None:
    assert value(url, "mullama_model_loaded", model="demo") == 0
    assert not any(name.startswith("mullama_kv_cells") for name, _ in samples(url))
    assert httpx.get(f"{url}/status", timeout=LIMIT).json()["models"][0]["is_loaded"] is False


def test_requests_and_tokens_are_counted(url: str) -> None:
    usage = httpx.post(f"{url}/v1/chat/completions", json=CHAT | {"max_tokens": 20}, timeout=LIMIT).json()["usage"]
    httpx.post(f"{url}/v1/chat/completions", content=b"{", timeout=LIMIT)
    httpx.get(f"{url}/no/such/path", timeout=LIMIT)
    counted = {"endpoint": "/v1/chat/completions", "method": "POST"}
    assert value(url, "mullama_requests_total", **counted, status="200") == 1
    assert value(url, "mullama_requests_total", **counted, status="400") == 1
    assert value(url, "mullama_requests_total", endpoint="other", status="404") == 1
    assert value(url, "mullama_generated_tokens_total", model="demo") == usage["completion_tokens"]
    assert value(url, "mullama_prompt_tokens_total", model="demo") == usage["prompt_tokens"]
    assert value(url, "mullama_streams_total", model="demo") == 1
    assert value(url, "mullama_first_token_seconds_count", model="demo") == 1
    assert value(url, "mullama_queue_seconds_count", model="demo") == 1
    assert value(url, "mullama_token_compute_seconds_count", model="demo") == usage["completion_tokens"] - 1
    assert value(url, "mullama_kv_cells", model="demo") > 0
    assert value(url, "mullama_connections_open") >= 1


def test_a_repeated_prompt_is_a_prefix_hit(url: str) -> None:
    for _ in range(2):
        httpx.post(f"{url}/v1/chat/completions", json=CHAT | {"max_tokens": 20}, timeout=LIMIT)
    assert value(url, "mullama_prefix_hits_total", model="demo") == 1
    assert value(url, "mullama_prompt_tokens_cached_total", model="demo") > 0
    assert value(url, "mullama_kv_cells_cached", model="demo") > 0


def test_a_client_that_leaves_is_counted_with_its_phase_and_time(url: str) -> None:
    with streaming(url):
        assert (
            value(url, "mullama_streams_running", model="demo") + value(url, "mullama_streams_paused", model="demo")
            == 1
        )
    wait(lambda: value(url, "mullama_cancel_seconds_count", model="demo") == 1)
    assert value(url, "mullama_streams_total", model="demo", reason="cancelled") == 1
    assert value(url, "mullama_streams_running", model="demo") == 0


def test_a_client_that_does_not_read_is_shown_as_paused_and_its_wait_is_told_apart(url: str) -> None:
    with streaming(url) as lines:
        paused = 0
        # The sockets on the way take some answers first, so it is paused for good only after a while.
        for _ in range(1000):
            paused = paused + 1 if value(url, "mullama_streams_paused", model="demo") == 1 else 0
            if paused == 100:
                break
        assert paused == 100
        for _ in range(1200):
            next(lines)
        assert value(url, "mullama_token_reader_wait_seconds_sum", model="demo") > 0.05
    wait(lambda: value(url, "mullama_cancel_seconds_count", model="demo") == 1)


def test_metrics_can_be_turned_off() -> None:
    with serving("--no-metrics") as server:
        assert httpx.get(f"{server.url}/metrics", timeout=LIMIT).status_code == 404

"""`/metrics`: what it counts, and that its text is what collectors read."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from http_server import serving
from patience import eventually
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from raw_http import Address, chat_request

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

LIMIT = 20.0
CHAT = {"messages": [{"role": "user", "content": "Write a poem:"}]}
ENDLESS = CHAT | {"stream": True, "ignore_eos": True, "max_tokens": -1}

NOW = {"mullama_streams_queued", "mullama_streams_running", "mullama_streams_paused"}
"""The gauges of streams that have not ended."""


@pytest.fixture
def url() -> Iterator[str]:
    """A server of the demo model, whose context is so long that an answer without an end lasts for seconds."""
    with serving("--ctx-size", "16384") as server:
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
        now = {name: count for (name, _), count in samples(url).items() if name in NOW}
        assert sorted(now.values()) == [0, 0, 1], now
    assert eventually(lambda: value(url, "mullama_cancel_seconds_count", model="demo") == 1, LIMIT)
    assert value(url, "mullama_streams_total", model="demo", reason="cancelled") == 1
    assert value(url, "mullama_streams_running", model="demo") == 0


def test_a_client_that_does_not_read_is_shown_as_paused_and_its_wait_is_told_apart(url: str) -> None:
    request = chat_request(max_tokens=-1, ignore_eos=True, stream=True, buffer_size=4)
    with contextlib.closing(Address(url).open(request, receive_buffer=4096)) as peer:
        assert eventually(lambda: is_at_rest(url), LIMIT)
        began = time.monotonic()
        while (paused := time.monotonic() - began) < 0.5:
            assert value(url, "mullama_streams_paused", model="demo") == 1
        assert value(url, "mullama_generated_tokens_total", model="demo") <= 4 + 400
        computed_before = value(url, "mullama_token_compute_seconds_sum", model="demo")
        received = 0
        while received < 200_000:
            piece = peer.recv(65_536)
            assert piece, "the answer ended early"
            received += len(piece)
        waited = value(url, "mullama_token_reader_wait_seconds_sum", model="demo")
        computed = value(url, "mullama_token_compute_seconds_sum", model="demo") - computed_before
        total = time.monotonic() - began
        assert paused <= waited, "the wait for the reader is not measured"
        assert computed <= total - paused + 0.1, "the wait for the reader counts as computing"
    assert eventually(lambda: value(url, "mullama_cancel_seconds_count", model="demo") == 1, LIMIT)


def is_at_rest(url: str) -> bool:
    """Whether the only stream is paused, and no token is generated between two looks."""
    looks = [samples(url) for _ in range(2)]
    tokens = [look.get(("mullama_generated_tokens_total", frozenset({("model", "demo")})), 0) for look in looks]
    paused = [look.get(("mullama_streams_paused", frozenset({("model", "demo")})), 0) for look in looks]
    return paused == [1, 1] and tokens[0] == tokens[1] > 0


def test_metrics_can_be_turned_off() -> None:
    with serving("--no-metrics") as server:
        assert httpx.get(f"{server.url}/metrics", timeout=LIMIT).status_code == 404

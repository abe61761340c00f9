"""llm-comply's cases for OpenAI's chat completions and for Open Responses."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from http_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from http_server import Serving

pytestmark = pytest.mark.slow

EXPECTED = {
    "openai-chat": {"chat-tool-calling", "chat-image-input", "chat-error-handling"},
    "open-responses": {"tool-calling", "image-input", "error-handling"},
}
"""What needs tools or images, and what wants a request without a model to be refused: it means the first model."""


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server of the demo model."""
    with serving() as server:
        yield server


@pytest.mark.parametrize("format_name", EXPECTED)
def test_only_the_expected_cases_fail(server: Serving, format_name: str) -> None:
    command = [sys.executable, "-m", "llm_comply.cli", "--json", "--format", format_name, "-m", "demo"]
    done = subprocess.run(
        [*command, "-k", "none", "-u", f"{server.url}/v1"], capture_output=True, text=True, timeout=100, check=False
    )
    results = json.loads(done.stdout)["results"]
    failed = {result["id"] for result in results if result["status"] == "failed"}
    assert len(results) > len(failed)
    assert failed == EXPECTED[format_name], results

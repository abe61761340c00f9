"""What the tests of the integrations share."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The loop of the tests that are coroutines. Streams are read on asyncio's loops."""
    return "asyncio"

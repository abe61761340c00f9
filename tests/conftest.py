"""What the tests share: the model of the package, and waits that end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import patience
import pytest
from hub import UNSET, HubServer

from mullama import Context, ContextParams, Model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A shell has its background jobs ignore Ctrl-C, and so would the programs that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test asks the network for a model, whatever its name; those of the hub have a server on this machine.
os.environ["MULLAMA_OFFLINE"] = "1"

BEYOND_TRAINING = "n_ctx is 65536, but the model was trained for "


@pytest.fixture(scope="session")
def model() -> Model:
    """The model inside the package."""
    return Model.load("demo")


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    """A context of the default params."""
    with Context(model) as context:
        yield context


@pytest.fixture
def steady(model: Model) -> Iterator[Context]:
    """A context that writes the same again: where cells are many, another number of threads moves the last bits."""
    with Context(model, ContextParams(n_ctx=256, n_threads=1)) as context:
        context.generate("Write a poem:", 1)  # which so is a whole batch of its own once, and never again
        yield context


@pytest.fixture
def endless(model: Model) -> Iterator[Context]:
    """A context with one place and room for streams that run for a minute."""
    params = ContextParams(n_ctx=65_536, n_parallel=1, n_threads=1)
    with pytest.warns(UserWarning, match=BEYOND_TRAINING):
        context = Context(model, params)
    with context:
        yield context


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], bool]:
    """Waits until something holds, for ten seconds at most."""
    return patience.eventually


@pytest.fixture
def script() -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a Python program in a process of its own, for half a minute at most."""

    def run(program: str) -> subprocess.CompletedProcess[str]:
        strictly = ["-X", "faulthandler", "-W", "error", "-W", f"ignore:{BEYOND_TRAINING}"]
        command = [sys.executable, *strictly, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    return run


@pytest.fixture(scope="session")
def hub_server() -> Iterator[HubServer]:
    """A server of models on this machine."""
    with HubServer() as server:
        yield server


@pytest.fixture
def hub(hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The server without faults, in the environment of this process and its children, whose stores are empty."""
    hub_server.reset()
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    for name, value in hub_server.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return hub_server

"""A loopback server of models, and the environment of programs that use it instead of the network."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "target" / "release" / "mullama-hub-server"
DEMO = ROOT / "python" / "mullama" / "models" / "demo.gguf"

UNSET = ("HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "MULLAMA_OFFLINE", "HUGGING_FACE_HUB_TOKEN", "http_proxy")
"""What would change what a program does here."""

LARGE = 33_558_753
"""Bytes of the models called large."""


class HubServer:
    """The server, until the block ends. Its faults and its log are those of one test."""

    def __init__(self) -> None:
        """Starts it."""
        assert PROGRAM.is_file(), f"{PROGRAM} is missing: make target/release/mullama-hub-server builds it"
        self._process = subprocess.Popen([PROGRAM, DEMO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self.url: str = told["url"]
        self.cdn_url: str = told["cdn_url"]
        self.hf_token: str = told["hf_token"]
        self._control: str = told["control"]

    def fault(self, path: str, fault: str | Mapping[str, Any], **more: Any) -> None:  # noqa: ANN401  # as the server has it
        """Has the server misbehave for requests of this path."""
        self._ask("POST", "faults", {"path": path, "fault": fault, **more})

    def reset(self) -> None:
        """Removes all faults, and empties the log."""
        self._ask("DELETE", "faults")
        self._ask("DELETE", "requests")

    def requests(self) -> list[dict[str, Any]]:
        """What the server was asked."""
        asked: list[dict[str, Any]] = self._ask("GET", "requests")
        return asked

    def bodies(self) -> list[dict[str, Any]]:
        """The requests for bytes of models."""
        return [each for each in self.requests() if each["path"].startswith("/cdn/")]

    def _ask(self, method: str, what: str, body: object = None) -> Any:  # noqa: ANN401  # JSON
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._control}/{what}", data, method=method)  # noqa: S310  # loopback
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # the same
            return json.loads(answer.read())

    def environment(self, home: Path) -> dict[str, str]:
        """The variables of a program whose models are all in this folder or on this server."""
        return {
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "HF_HOME": str(home / "huggingface"),
            "HF_HUB_CACHE": str(home / "huggingface" / "hub"),
            "MULLAMA_MODELS": str(home / "models"),
            "OLLAMA_MODELS": str(home / "ollama"),
            "MULLAMA_OLLAMA_REGISTRY": self.url,
            "HF_ENDPOINT": self.url,
        }

    def __enter__(self) -> Self:
        """The server; the end of the block ends it."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Ends it."""
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.stdout.close()  # type: ignore[union-attr]
        self._process.wait(timeout=20)


def fresh(server: HubServer, home: Path) -> dict[str, str]:
    """The environment of a program of its own."""
    return {name: value for name, value in os.environ.items() if name not in UNSET} | server.environment(home)

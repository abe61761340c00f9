"""A Jupyter kernel of its own, driven as a front end does: cells, Stop, and what is displayed."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    from typing_extensions import Self

LIMIT = 30
"""Seconds that a cell may take."""


@dataclass
class Output:
    """What a cell showed."""

    stdout: str = ""
    stderr: str = ""
    error: str | None = None
    result: dict[str, str] = field(default_factory=dict)
    seconds_after_stop: float | None = None


class Kernel:
    """A kernel that runs until the end of its `with` block."""

    def __enter__(self) -> Self:
        """Starts it."""
        self._manager = KernelManager()
        self._manager.start_kernel()
        self._client: Any = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def run(self, code: str, *, stop_at: str | None = None) -> Output:
        """Runs a cell; presses Stop once it has printed `stop_at`."""
        asked = self._client.execute(code)
        output, until, stopped = Output(), time.monotonic() + LIMIT, None
        while time.monotonic() < until:
            try:
                message = self._client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != asked:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                output.seconds_after_stop = None if stopped is None else time.monotonic() - stopped
                return output
            _add(output, message["msg_type"], message["content"])
            if stop_at is not None and stopped is None and stop_at in output.stdout:
                self._manager.interrupt_kernel()
                stopped = time.monotonic()
        raise TimeoutError(code)

    def complete(self, code: str) -> list[str]:
        """What Tab offers at the end of the code."""
        asked = self._client.complete(code)
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            reply = self._client.get_shell_msg(timeout=LIMIT)
            if reply["parent_header"].get("msg_id") == asked:
                return [match.rpartition(".")[2] for match in reply["content"]["matches"]]
        raise TimeoutError(code)


def _add(output: Output, kind: str, content: dict[str, Any]) -> None:
    if kind == "stream" and content["name"] == "stdout":
        output.stdout += content["text"]
    elif kind == "stream":
        output.stderr += content["text"]
    elif kind == "error":
        output.error = content["ename"]
    elif kind in {"execute_result", "display_data"}:
        output.result = content["data"]

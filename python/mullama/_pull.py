"""The command `mullama pull`, and downloads before other commands: how their progress is shown."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Protocol

from mullama import _hub
from mullama._output import plain, say, write_event
from mullama._sizes import size, span
from mullama._terminal import is_capable

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress, TaskID

    from mullama._local_models import LocalModel, PullProgress

SECONDS_BETWEEN_LINES = 3.0
"""How often a download says how far it is where it cannot draw a bar."""

WORDS = {
    "resolving": "looking for {}",
    "waiting": "waiting for another process that is downloading {}",
    "downloading": "downloading {}",
    "verifying": "checking {}",
    "done": "{} is complete",
}


class Display(Protocol):
    """Shows how far a download is."""

    def show(self, progress: PullProgress) -> None:
        """Shows this progress."""

    def end(self) -> None:
        """Leaves the terminal as it was."""


class Bar:
    """A bar on stderr, with bytes, rate and time left."""

    def __init__(self, name: str) -> None:
        """Draws nothing yet: a model that is already there needs no bar."""
        self._name = name
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def show(self, progress: PullProgress) -> None:
        """Moves the bar."""
        words = WORDS[progress.phase].format(plain(self._name))
        if self._bar is None or self._task is None:
            if progress.phase not in {"waiting", "downloading"}:
                return
            self._bar = bar()
            # What an earlier attempt has left counts as done, but not for the rate.
            self._task = self._bar.add_task(words, total=progress.total, completed=progress.done)
            self._bar.start()
        self._bar.update(self._task, description=words, total=progress.total, completed=progress.done)
        self._bar.refresh()

    def end(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.stop()


def bar() -> Progress:
    """The bar of a download. It is drawn when there is progress, without a thread of its own."""
    from rich.console import Console  # noqa: PLC0415  # slow to import, and only downloads need it
    from rich.progress import (  # noqa: PLC0415  # the same
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(file=sys.stderr, markup=False, emoji=False, highlight=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    return Progress(*columns, console=console, auto_refresh=False)


class Lines:
    """A line on stderr every few seconds."""

    def __init__(self, name: str) -> None:
        """Writes nothing yet: a model that is already there needs no line."""
        self._name = name
        self._last = 0.0
        self._phase = ""
        self._began: tuple[float, int] | None = None

    def show(self, progress: PullProgress) -> None:
        """Writes a line if the last was some seconds ago, or if another phase begins."""
        now = time.monotonic()
        is_known = progress.phase in {"resolving", "done"} or (progress.phase == "verifying" and self._began is None)
        if is_known or (progress.phase == self._phase and now - self._last < SECONDS_BETWEEN_LINES):
            return
        if progress.phase == "downloading" and self._began is None:
            self._began = now, progress.done
        self._phase, self._last = progress.phase, now
        words = WORDS[progress.phase].format(plain(self._name))
        say(f"mullama: {words}{self._figures(progress, now) if progress.phase == 'downloading' else ''}")

    def _figures(self, progress: PullProgress, now: float) -> str:
        shown = f": {size(progress.done)}"
        if progress.total:
            shown += f" of {size(progress.total)} ({progress.done / progress.total:.0%})"
        began, before = self._began or (now, progress.done)
        if now - began >= 1:
            rate = (progress.done - before) / (now - began)
            shown += f", {size(rate)}/s"
            if progress.total and rate > 0:
                shown += f", {span((progress.total - progress.done) / rate)} left"
        return shown

    def end(self) -> None:
        """There is nothing to leave."""


class Events:
    """An event on stdout for each progress."""

    def show(self, progress: PullProgress) -> None:
        """Writes the event."""
        write_event(type="progress", **progress.to_dict())

    def end(self) -> None:
        """There is nothing to leave."""


def display(name: str) -> Display:
    """How people see a download, depending on where stderr goes."""
    name = _hub.without_query(name)
    return Bar(name) if is_capable(sys.stderr) else Lines(name)


def watched(shown: Display, get: Callable[[Callable[[PullProgress], None]], LocalModel]) -> LocalModel:
    """Gets a model and shows the progress. Says how to go on with a download that Ctrl-C ends."""
    has_bytes = False

    def show(progress: PullProgress) -> None:
        nonlocal has_bytes
        has_bytes = progress.phase in {"downloading", "verifying"} and progress.done > 0
        shown.show(progress)

    try:
        return get(show)
    except KeyboardInterrupt:
        shown.end()
        if has_bytes:
            say("mullama: interrupted; the same command continues the download")
        raise
    finally:
        shown.end()


def pull(name: str, *, json: bool) -> None:
    """Downloads a model, and says where it is and whether its name is an alias."""
    shown: Display = Events() if json else display(name)
    local = watched(shown, lambda progress: _hub.pull(name, progress=progress))
    if json:
        write_event(type="done", **local.to_dict())
    else:
        if local.alias is not None:
            say(
                plain(f"mullama: {local.alias} is an alias of {local.name}; mullama rm {local.alias} removes the alias")
            )
        say(plain(f"mullama: {local.name} is ready ({size(local.size)}): {local.path}"))


def fetched(model: str, *, pull: bool) -> str | LocalModel:
    """A model that a command names: a path and "demo" as they are, a name as the model that it stands for.

    Raises:
        ModelNotFoundError: No model has this name.
        DownloadError: It is not on this machine, and could not be downloaded.
    """
    if model in {"", "demo"} or os.path.isfile(os.path.expanduser(model)):  # noqa: PTH111, PTH113  # pathlib is slow to import
        return model
    if not pull:
        return _hub.find(model)
    return watched(display(model), lambda progress: _hub.find_or_pull(model, progress=progress))

"""The file that `Model.load` loads: a path as it stands, or what a name stands for."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from mullama import _hub
from mullama._exceptions import ModelLoadError, MullamaError
from mullama._model import DEMO
from mullama._model_defaults import ModelDefaults

if TYPE_CHECKING:
    from mullama._local_models import LocalModel, PullProgress

LOGGER = logging.getLogger("mullama")

SECONDS_BETWEEN_LINES = 5.0
"""How often a download before a load says in the log how far it is."""


class Source(NamedTuple):
    """A file to load.

    Attributes:
        file: Its path.
        name: The model's name; for a plain file, its path.
        defaults: Settings that the model's publisher recommends.
    """

    file: str | os.PathLike[str]
    name: str
    defaults: ModelDefaults


def find(model: str | os.PathLike[str], file: str, *, pull: bool) -> Source:
    """Finds a model, or downloads it if `pull` allows that. `file` is the path that it would be."""
    known = _without_search(model, file)
    if known is not None:
        return known
    return _of(_hub.find_or_pull(file, progress=_logging(file)) if pull else _hub.find(file))


async def find_async(model: str | os.PathLike[str], file: str, *, pull: bool) -> Source:
    """As `find`, and leaves the event loop running."""
    known = _without_search(model, file)
    if known is not None:
        return known
    return _of(await (_hub.find_or_pull_async(file, progress=_logging(file)) if pull else _hub.find_async(file)))


def explain(source: Source) -> None:
    """After a failed load: raises the error that says how to repair the file, if it is damaged and was downloaded."""
    if not _is_download(source):
        return
    file = os.fspath(source.file)
    try:
        _hub.show_model(source.name)
    except ModelLoadError as damaged:
        if str(damaged.path) == file:
            raise damaged from None
    except MullamaError:
        return


async def explain_async(source: Source) -> None:
    """As `explain`, and leaves the event loop running."""
    if not _is_download(source):
        return
    import asyncio  # noqa: PLC0415  # slow to import

    with suppress(RuntimeError):  # no thread can be started: the load's own error is raised
        await asyncio.to_thread(explain, source)


def _is_download(source: Source) -> bool:
    return source.name not in {"demo", os.fspath(source.file)}


def _without_search(model: str | os.PathLike[str], file: str) -> Source | None:
    """The source of what cannot be a name; None if it may be one."""
    if model == "demo":
        return Source(DEMO, "demo", ModelDefaults())
    if isinstance(model, os.PathLike):
        from mullama._local_models import LocalModel  # noqa: PLC0415  # few programs need it

        if isinstance(model, LocalModel):
            return Source(file, model.name, model.defaults)
    if not isinstance(model, str) or not file or file.startswith((".", os.sep)) or "\0" in file or not _is_utf8(file):
        return Source(file, file, ModelDefaults())
    # An existing file needs no search, and none of the settings for one.
    return Source(file, file, ModelDefaults()) if os.path.isfile(file) else None  # noqa: PTH113  # pathlib is slow to import


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of(found: LocalModel) -> Source:
    return Source(found.path, found.name, found.defaults)


def _logging(name: str) -> Callable[[PullProgress], None]:
    """A progress function that writes a line to the log now and then."""
    name = _hub.without_query(name)
    last = time.monotonic() - SECONDS_BETWEEN_LINES

    def tell(progress: PullProgress) -> None:
        nonlocal last
        now = time.monotonic()
        if progress.phase == "downloading" and now - last >= SECONDS_BETWEEN_LINES:
            last = now
            of = "" if progress.total is None else f" of {progress.total:,}"
            LOGGER.info("downloading %s: %s%s bytes", name, f"{progress.done:,}", of)

    return tell

"""Models by name: finds them on this machine, and downloads those that are missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from mullama import _mullama
from mullama._arguments import expect, expect_callable
from mullama._exact import as_int
from mullama._exceptions import ModelNotFoundError, invalid_config
from mullama._keywords import hinted
from mullama._late_imports import late_import
from mullama._model import DEMO
from mullama._pending import awaited
from mullama._typing import local_models

MOST_TOKENS = 2**32 - 1
"""No context is longer."""

CO_COROUTINE = 0x80
"""The flag of the code of an `async def`: `inspect.CO_COROUTINE`, without that slow import."""


def hub() -> _mullama.Hub:
    """The hub as the environment describes it now."""
    with late_import():
        import pathlib  # noqa: F401, PLC0415  # the native module makes paths, also those of its errors
    return _mullama.Hub(DEMO)


@hinted("pull")
def pull(
    name: str, *, progress: Callable[[local_models.PullProgress], bool | None] | None = None
) -> local_models.LocalModel:
    """Downloads a model, unless this machine has it. Blocks, without the GIL; Ctrl-C ends it.

    When a download ends early, what has arrived is kept, and the next pull continues there. For a model that is already
    here, the server is asked whether there is a newer one of that name.

    Args:
        name: A name such as "llama3.2:1b", "hf.co/user/repo:Q4_K_M" or "https://host/file.gguf".
        progress: Called in this thread, at most about ten times a second. The download ends if it returns False or
            raises.

    Raises:
        ModelNotFoundError: No model has this name; the error lists where it was looked for.
        DownloadError: The download failed, or `progress` returned False.
        InvalidConfigError: This cannot be a name.

    Example:
        >>> mullama.pull("demo").name
        'demo'
    """
    expect("name", name, str)
    expect_progress(progress)
    with late_import():
        from mullama._local_models import local_model  # noqa: PLC0415  # few programs need it
    return local_model(**hub().pull(name, True, reporting(progress)))  # noqa: FBT003  # the native module has no keywords


@awaited("pull_async")
async def pull_async(
    name: str, *, progress: Callable[[local_models.PullProgress], bool | None] | None = None
) -> local_models.LocalModel:
    """Downloads a model as `pull` does, and leaves the event loop running. Cancelling the call ends the download.

    Args:
        name: As for `pull`.
        progress: As for `pull`; called on the event loop.

    Raises:
        ModelNotFoundError: No model has this name; the error lists where it was looked for.
        DownloadError: The download failed, or `progress` returned False.
        InvalidConfigError: This cannot be a name.
        RuntimeError: The running event loop is not asyncio's.
    """
    expect("name", name, str)
    expect_progress(progress)
    return await _pulled(name, renew=True, progress=progress)


async def _pulled(
    name: str, *, renew: bool, progress: Callable[[local_models.PullProgress], bool | None] | None = None
) -> local_models.LocalModel:
    with late_import():
        from mullama._event_loop import native_loop  # noqa: PLC0415  # asyncio is slow to import
        from mullama._local_models import local_model  # noqa: PLC0415  # few programs need it
    has_left = False

    def report(at: local_models.PullProgress) -> bool | None:
        # The loop may call it once more after the caller was cancelled.
        return None if has_left or progress is None else progress(at)

    try:
        found = await hub().pull_async(native_loop(), name, renew, None if progress is None else reporting(report))
    finally:
        has_left = True
    return local_model(**found)


def list_models() -> list[local_models.ListedModel]:
    """Lists the models on this machine: mullama's own, and those that other programs have downloaded.

    The logger `mullama` warns of files and folders that cannot be read, because models may be missing in the list.

    Example:
        >>> for model in mullama.list_models():
        ...     print(model.name, model.size)
    """
    found, unreadable = hub().list()
    if unreadable:
        import logging  # noqa: PLC0415  # slow to import

        for path, reason in unreadable:
            logging.getLogger("mullama").warning("%s cannot be read: %s", path, reason)
    from mullama._local_models import ListedModel  # noqa: PLC0415  # few programs need it

    return [ListedModel(**each) for each in found]


@hinted("show_model")
def show_model(model: str | os.PathLike[str], *, n_ctx: int | None = None) -> local_models.ModelDetails:
    """Reads what is known about a model on this machine, without loading it.

    Args:
        model: A name, or the path of a GGUF file.
        n_ctx: The context length to estimate the memory for, in tokens; by default the one that an engine would have.

    Raises:
        ModelNotFoundError: There is no such model on this machine.
        ModelLoadError: The file is not a GGUF file.
        InvalidConfigError: `n_ctx` is out of range.

    Example:
        >>> mullama.show_model("demo").architecture
        'llama'
    """
    if n_ctx is not None:
        n_ctx = as_int("n_ctx", n_ctx)
        if not 1 <= n_ctx <= MOST_TOKENS:
            wrong = invalid_config("n_ctx", str(n_ctx), f"1 to {MOST_TOKENS}")
            raise wrong
    found = hub().show(os.fspath(model), n_ctx)
    from mullama._local_models import model_details  # noqa: PLC0415  # few programs need it

    return model_details(**found)


def remove_model(name: str) -> local_models.RemovedModel:
    """Removes a model that mullama downloaded, with its aliases; or, if `name` is an alias, the alias alone.

    Files that another model uses stay.

    Args:
        name: A name or an alias, as `list_models` has it.

    Raises:
        ModelNotFoundError: There is no such model on this machine.
        InvalidConfigError: The model belongs to another program, which has to remove it.
    """
    expect("name", name, str)
    removed = hub().remove(name)
    from mullama._local_models import RemovedModel  # noqa: PLC0415  # few programs need it

    return RemovedModel(*removed)


def alias_model(name: str, alias: str) -> None:
    """Gives a model on this machine another name, its alias. Nothing is copied.

    If `alias` already stands for this model, nothing changes.

    Args:
        name: The name, as `list_models` has it, or the path of a GGUF file.
        alias: The other name, such as "small" or "me/small:1b".

    Raises:
        ModelNotFoundError: There is no such model on this machine.
        ModelLoadError: `name` is a file, but not a GGUF file.
        InvalidConfigError: `alias` cannot be a name, is the name of a model, or is an alias of another model, which
            `remove_model` removes.
        DownloadError: The store cannot be written to.
    """
    expect("name", name, str)
    expect("alias", alias, str)
    hub().alias(name, alias)


def without_query(name: str) -> str:
    """The name for people. The query of an address may hold a secret, such as a signature."""
    return name.partition("?")[0].partition("#")[0] if "://" in name else name


def expect_progress(progress: object) -> None:
    """Raises `TypeError` for what cannot be called, or whose answer would have to be awaited."""
    if progress is None:
        return
    expect_callable("progress", progress)
    code = getattr(progress, "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE:
        message = "progress must be a plain function; the call of an async one would not be awaited"
        raise TypeError(message)


def reporting(
    progress: Callable[[local_models.PullProgress], bool | None] | None,
) -> Callable[[str, str, int, int | None], bool | None] | None:
    """The progress function as the native module calls it."""
    if progress is None:
        return None
    from mullama._local_models import PullProgress  # noqa: PLC0415  # few programs need it

    return lambda *facts: progress(PullProgress(*facts))


def find(name: str) -> local_models.LocalModel:
    """Finds a model on this machine.

    Raises:
        ModelNotFoundError: It is not there.
    """
    from mullama._local_models import local_model  # noqa: PLC0415  # few programs need it

    return local_model(**hub().find(name))


def find_or_pull(
    name: str, *, progress: Callable[[local_models.PullProgress], bool | None] | None = None
) -> local_models.LocalModel:
    """Finds a model on this machine, and downloads it if it is missing. Takes and raises the same as `pull`."""
    from mullama._local_models import local_model  # noqa: PLC0415  # few programs need it

    with suppress(ModelNotFoundError):
        # What is here needs neither the network nor the threads for it.
        return local_model(**hub().find(name))
    return local_model(**hub().pull(name, False, reporting(progress)))  # noqa: FBT003  # the native module has no keywords


async def find_async(name: str) -> local_models.LocalModel:
    """Finds a model on this machine, and leaves the event loop running. Raises the same as `find`."""
    from mullama._event_loop import native_loop  # noqa: PLC0415  # asyncio is slow to import
    from mullama._local_models import local_model  # noqa: PLC0415  # few programs need it

    return local_model(**await hub().find_async(native_loop(), name))


async def find_or_pull_async(
    name: str, *, progress: Callable[[local_models.PullProgress], bool | None] | None = None
) -> local_models.LocalModel:
    """Finds a model, or downloads it, and leaves the event loop running. Takes and raises the same as `pull`."""
    return await _pulled(name, renew=False, progress=progress)

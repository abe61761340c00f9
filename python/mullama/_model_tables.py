"""What `mullama list`, `show`, `rm` and `cp` write.

The columns are plain text: importing Rich would take longer than reading the stores.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mullama import _hub
from mullama._display import shortened
from mullama._exceptions import ModelNotFoundError, MullamaError
from mullama._failure import ReportedError
from mullama._output import plain, say, write_event, write_line
from mullama._sizes import ago, parameters, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mullama._local_models import ModelDetails, RemovedModel

HEAD = ("NAME", "SIZE", "QUANTIZATION", "PARAMETERS", "CONTEXT", "LOCATION", "LAST USED")
NUMBERS = frozenset({"SIZE", "PARAMETERS", "CONTEXT"})
"""Columns that are aligned to the right."""

PLACES = {
    "file": "file",
    "mullama": "mullama",
    "hugging_face": "Hugging Face",
    "ollama": "Ollama",
    "lm_studio": "LM Studio",
}
LICENCE_LINES = 3
"""Lines of a licence that `show` writes; `--json` has all of it."""

VALUES = 10
"""Stop sequences that `show` writes."""


def write_list(*, json: bool) -> None:
    """Writes the models on this machine, and to stderr which files and folders cannot be read."""
    # As they are in `list_models`, but without its classes, which take longer to make than the stores to read.
    models, unreadable = _hub.hub().list()
    if json:
        write_event(
            models=[{**each, "path": str(each["path"])} for each in models],
            unreadable=[{"path": str(path), "reason": reason} for path, reason in unreadable],
        )
        return
    for path, reason in unreadable:
        say(plain(f"mullama: {path} cannot be read: {reason}"))
    if models:
        now = time.time()
        for line in columns([HEAD, *(row(each, now) for each in models)]):
            write_line(line)
    elif not unreadable:
        say("mullama: there are no models on this machine; mullama pull llama3.2:1b downloads one")


def row(model: Mapping[str, Any], now: float) -> tuple[str, ...]:
    """The cells of a model."""
    name = plain(model["name"])
    if model["aliases"]:
        name += f" (alias {', '.join(map(plain, model['aliases']))})"
    if model["missing"]:
        return (name, "missing", *[""] * (len(HEAD) - 2))
    return (
        name,
        size(model["size"]),
        plain(model["quantization"] or "?"),
        parameters(model["parameters"]) if model["parameters"] else "?",
        "?" if model["context_length"] is None else str(model["context_length"]),
        PLACES[model["location"]],
        "never" if model["last_used"] is None else ago(now - model["last_used"]),
    )


def columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The rows with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for each in rows:
        cells = [
            cell.rjust(width) if head in NUMBERS else cell.ljust(width)
            for head, cell, width in zip(HEAD, each, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def write_model(model: str, *, n_ctx: int | None, only_template: bool, json: bool) -> None:
    """Writes what is known about a model."""
    shown = _hub.show_model(model, n_ctx=n_ctx)
    if json:
        write_event(**shown.to_dict())
    elif only_template:
        write_line(shown.template or "")
    else:
        for head, words in facts(shown):
            write_line(f"{head:<18}{plain(words)}")


def facts(model: ModelDetails) -> Iterator[tuple[str, str]]:
    """The rows of `show`."""
    yield "name", model.name
    yield "path", str(model.path)
    yield "location", PLACES[model.location]
    yield "size", size(model.size)
    yield "architecture", model.architecture or "unknown"
    yield "parameters", parameters(model.parameters)
    yield "quantization", model.quantization or "unknown"
    yield "tensors", ", ".join(f"{number} {kind}" for kind, number in model.tensors.items())
    yield "tokenizer", f"{model.tokenizer or 'unknown'}, {model.vocabulary or 0} tokens"
    yield "context length", "unknown" if model.context_length is None else f"{model.context_length} tokens"
    memory = "unknown" if model.memory is None else f"about {size(model.memory)}"
    yield "memory", f"{memory} for a context of {model.n_ctx} tokens"
    for name, value in model.defaults.settings.items():
        yield "recommended", f"{name} {setting(value)}"
    if model.defaults.n_ctx is not None:
        yield "recommended", f"n_ctx {model.defaults.n_ctx}"
    if model.defaults.system is not None:
        yield "system message", model.defaults.system
    yield "chat template", "yes (--template writes it)" if model.template else "none"
    for number, line in enumerate((model.license or "none").strip().splitlines()):
        if number == LICENCE_LINES:
            yield "", "… (--json writes all of it)"
            break
        yield "licence" if number == 0 else "", line


def setting(value: object) -> str:
    """The value of a recommended setting. Of many stop sequences only the first are there."""
    if not isinstance(value, tuple):
        return shortened(repr(value))
    more = f", … (--json writes all {len(value)})" if len(value) > VALUES else ""
    return ", ".join(shortened(repr(each)) for each in value[:VALUES]) + more


def remove(names: Sequence[str], *, json: bool) -> None:
    """Removes models. A name that cannot be removed does not keep the others from being removed.

    Raises:
        ReportedError: Something was not removed; the exit code is that of the first such name.
    """
    gone: dict[str, RemovedModel] = {}
    exit_code = 0
    for name in names:
        try:
            removed = removed_once(name, gone)
        except MullamaError as error:
            exit_code = exit_code or error.exit_code
            message = plain(str(error))
            say(f"mullama: {message}")
            if json:
                write_event(type="error", name=_hub.without_query(name), code=error.code, message=message)
            continue
        if json:
            write_event(type="removed", **removed.to_dict())
        elif removed.size or removed.aliases:  # it was not gone already
            tell_removed(removed)
    if exit_code:
        raise ReportedError(exit_code)


def removed_once(name: str, gone: dict[str, RemovedModel]) -> RemovedModel:
    """Removes a model, unless it is among those that are gone, as an alias is after its model."""
    try:
        removed = _hub.remove_model(name)
    except ModelNotFoundError as error:
        if error.name is None or error.name not in gone:
            raise
        return gone[error.name]
    for each in (removed.name, *removed.aliases):
        gone[each] = replace(removed, name=each, aliases=(), size=0, kept=None)
    return removed


def tell_removed(removed: RemovedModel) -> None:
    """Says what was removed, and why files stay."""
    if removed.aliases == (removed.name,):
        say(plain(f"mullama: the alias {removed.name} is removed"))
        return
    others = ", ".join(removed.aliases)
    with_aliases = f", and so {'is its alias' if len(removed.aliases) == 1 else 'are its aliases'} {others}"
    freed = f"; {size(removed.size)} became free" if removed.size else ""
    say(plain(f"mullama: {removed.name} is removed{with_aliases if others else ''}{freed}"))
    if removed.kept is not None:
        path, reason = removed.kept
        say(plain(f"mullama: files of {removed.name} stay, because {path} {reason}"))


def alias(source: str, name: str, *, json: bool) -> None:
    """Gives a model another name."""
    _hub.alias_model(source, name)
    source = _hub.without_query(source)
    if json:
        write_event(type="aliased", name=source, alias=name)
    else:
        say(plain(f"mullama: {name} is now an alias of {source}"))

"""The settings of streams on the command line: their defaults there, and their values as text."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace

from mullama._config import ContextParams, StreamConfig
from mullama._exceptions import InvalidConfigError, MullamaError
from mullama._keywords import ELSEWHERE
from mullama._values import MAX_SHOWN, NUMBER, UNLIMITED, quoted, read_number, read_value, refused

DEFAULTS = StreamConfig(max_tokens=UNLIMITED, timeout_ms=None)
"""The settings until they are changed: whoever waits at a terminal can press Ctrl-C."""

NAMES = tuple(field.name for field in fields(StreamConfig))

NAMES_OF_OPTIONS = {"--timeout": "timeout_ms", "--stop": "stop_sequences"}
"""The settings of options that have other names."""

MOST_LAYERS = 2_147_483_647
MIN_SECONDS, MAX_SECONDS = 0.05, 3600.0
"""Bounds of `--seconds`: less measures nothing, and nobody waits longer."""

OPTIONS = {"n_ctx": "--ctx-size", "n_threads": "--threads", "n_gpu_layers": "--gpu-layers", "system": "--system"}
"""Options that are no settings of streams, by the names that they have elsewhere."""


def changed(config: StreamConfig, name: str, text: str, called: str = "") -> StreamConfig:
    """Returns the config with a setting changed to the value that the text stands for.

    Args:
        config: The settings before.
        name: The setting.
        text: Its value.
        called: What errors call the setting, if not by its name.

    Raises:
        InvalidConfigError: There is no such setting, or the value has the wrong type or is out of range.
    """
    if name not in NAMES:
        raise InvalidConfigError(unknown(name))
    value = read_value(name, text, called or name)
    try:
        # StreamConfig checks the value, which a type checker cannot.
        return replace(config, **{name: value})  # type: ignore[arg-type]
    except MullamaError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidConfigError(str(error)) from None


def unknown(name: str) -> str:
    """What to say of a name that is not a setting."""
    import difflib  # noqa: PLC0415  # slow to import, and only typos need it

    name = name if len(name) <= MAX_SHOWN else name[: MAX_SHOWN - 1] + "…"
    close = difflib.get_close_matches(name, [*NAMES, "system"], n=1, cutoff=0.75)
    ours = ELSEWHERE.get(name.lower(), name)
    meant = ours if ours in NAMES else OPTIONS.get(ours) or (close[0] if close else None)
    return f"unknown setting {name}; " + (f"did you mean {meant}?" if meant else f"the settings are {', '.join(NAMES)}")


def shown(config: StreamConfig, name: str) -> str:
    """A setting and its value, as `/set` takes them."""
    value = getattr(config, name)
    if value is None or (name, value) == ("max_tokens", UNLIMITED):
        return f"{name} none"
    return f"{name} {json.dumps(value, ensure_ascii=False)}"


def differing(config: StreamConfig) -> list[str]:
    """The names of the settings that do not have their defaults."""
    return [name for name in NAMES if getattr(config, name) != getattr(DEFAULTS, name)]


def configured(
    options: dict[str, str], stop: list[str] | None, settings: list[str]
) -> tuple[StreamConfig, frozenset[str]]:
    """The settings that the options and `--set` make, and the names of those that they give.

    Raises:
        InvalidConfigError: A setting is unknown, out of range, or given twice.
    """
    config = DEFAULTS
    sources: dict[str, str] = {}
    for option, text in options.items():
        name = NAMES_OF_OPTIONS.get(option, option.removeprefix("--").replace("-", "_"))
        config = changed(config, name, text, option)
        sources[name] = f"{option} {quoted(text)}"
    if stop:
        config = _stopped(config, stop)
        sources["stop_sequences"] = f"--stop {quoted(stop[0])}"
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if name not in NAMES and name:
            raise InvalidConfigError(unknown(name))
        if not name or not equals:
            lacks = "value" if name else "name"
            message = f"--set {quoted(setting)} has no {lacks}; write --set {name or 'NAME'}=VALUE"
            raise InvalidConfigError(message)
        if name in sources:
            message = f"{name} is given twice: with {sources[name]}, and with --set {quoted(setting)}"
            raise InvalidConfigError(message)
        sources[name] = f"--set {quoted(setting)}"
        config = changed(config, name, text)
    return config, frozenset(sources)


def _stopped(config: StreamConfig, stop: list[str]) -> StreamConfig:
    if not all(stop):
        wrong = refused("--stop", "", "a text of one character or more")
        raise wrong
    return replace(config, stop_sequences=stop)


def params(
    ctx_size: str | None, threads: str | None, parallel: str | None = None, max_queue: str | None = None
) -> ContextParams:
    """The layout of an engine by its options.

    Raises:
        InvalidConfigError: An option is not a number, or out of range.
    """
    options = {"n_ctx": ("--ctx-size", ctx_size), "n_threads": ("--threads", threads)}
    options |= {"n_parallel": ("--parallel", parallel), "max_queue": ("--max-queue", max_queue)}
    given = {
        name: read_number(lambda value, name=name: ContextParams(**{name: value}), text, option)  # type: ignore[misc]
        for name, (option, text) in options.items()
        if text is not None
    }
    return ContextParams(**given)  # type: ignore[arg-type]


def layers(text: str) -> int:
    """The number of layers to put on a GPU.

    Raises:
        InvalidConfigError: It is not a number, or out of range.
    """
    allowed = f"-1 (all layers) or 0 to {MOST_LAYERS}"
    if not re.fullmatch(r"-1|\+?[0-9]{1,40}", text.strip()) or int(text) > MOST_LAYERS:
        wrong = refused("--gpu-layers", text, allowed)
        raise wrong
    return int(text)


def duration(text: str) -> float:
    """The seconds that each measurement takes.

    Raises:
        InvalidConfigError: It is not a number, or out of range.
    """
    seconds = float(text) if NUMBER.fullmatch(text.strip()) else float("nan")
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:  # NaN is refused too
        wrong = refused("--seconds", text, f"a number of seconds: {MIN_SECONDS} to {MAX_SECONDS:.0f}")
        raise wrong
    return seconds

"""The HTTP server: the dialects of OpenAI, Anthropic, Ollama and llama-server over one engine."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mullama import _mullama
from mullama._arguments import expect
from mullama._config import ContextParams
from mullama._exact import as_bool, as_int, as_number
from mullama._exceptions import invalid_config
from mullama._keywords import refuse_unknown
from mullama._late_imports import late_import
from mullama._model import DEMO
from mullama._typing import TypedDict, Unpack
from mullama._values import quoted

if TYPE_CHECKING:
    from asyncio import Future

    from mullama._event_loop import NativeLoop

Models = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]]


QUEUE = 2048
"""How many streams may wait for a slot: a server has more clients than a program has readers."""

PAUSED = 4096
"""How many streams may run, wait or be paused. A paused one takes some twenty kilobytes.

Beyond the limit the stream that has been paused longest ends, so that clients that do not read shut nobody out.
"""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Where a server listens, and its bounds. The defaults are safe on a machine that others can reach.

    Attributes:
        host: Address or name to listen on.
        port: TCP port; 0 lets the system choose one.
        unix: Path of a Unix socket, in place of host and port.
        socket_mode: Permissions of the Unix socket.
        systemd: Listen on the socket that systemd passed, in place of all of these.
        context_params: Layout of each model's engine. Without it, 2048 streams may wait and 4096 be paused; a
            `ContextParams` of your own has its own defaults, which are smaller.
        n_gpu_layers: Number of layers to put on a GPU, if there is one; negative means all.
        use_mmap: Map the file into memory instead of reading it.
        use_mlock: Keep the weights in RAM, as far as the system allows it.
        max_loaded: Maximum number of models in memory at once; 0 is no limit.
        idle_unload: Seconds without a request after which a model is unloaded; None is never.
        api_keys: Clients must send one of these keys; without any, no key is needed on the loopback interface.
        allow_no_keys: Serve other interfaces without a key as well: everyone who reaches them can use the server.
        allowed_origins: Web pages of these origins may call the server; "*" means all.
        allowed_hosts: Names by which clients may call the server, besides addresses and localhost; "*" means all.
        websocket: Serve `/ws`.
        metrics: Serve `/metrics`.
        allow_pull: Let clients download models and remove them. Without API keys, only clients on this machine may.
        tls_cert: Certificate chain as a PEM file.
        tls_key: Private key as a PEM file.
        max_connections: Maximum number of open connections.
        max_body_bytes: Maximum bytes of a request's body.
        header_timeout: Seconds until the headers of a request are complete; also ends idle connections.
        body_timeout: Seconds until the body of a request is complete.
        write_timeout: Seconds that an answer may wait for a client that takes no byte of it. It also limits how long a
            stream of a WebSocket waits for credits, and how long a WebSocket's client may be silent.
        drain_timeout: Seconds that running requests have when the server stops.
        request_timeout: Maximum seconds of one generation; None is no limit.
        keep_alive: Longest silence of a streamed answer in seconds, before a comment keeps the connection alive.
        threads: Threads for connections; 0 chooses by the number of cores.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    unix: str | os.PathLike[str] | None = None
    socket_mode: int = 0o600
    systemd: bool = False
    context_params: ContextParams = field(default_factory=lambda: ContextParams(max_queue=QUEUE, max_paused=PAUSED))
    n_gpu_layers: int = -1
    use_mmap: bool = True
    use_mlock: bool = False
    max_loaded: int = 0
    idle_unload: float | None = None
    api_keys: Sequence[str] = ()
    allow_no_keys: bool = False
    allowed_origins: Sequence[str] = ()
    allowed_hosts: Sequence[str] = ()
    websocket: bool = False
    metrics: bool = True
    allow_pull: bool = True
    tls_cert: str | os.PathLike[str] | None = None
    tls_key: str | os.PathLike[str] | None = None
    max_connections: int = 4096
    max_body_bytes: int = 8 << 20
    header_timeout: float = 60.0
    body_timeout: float = 60.0
    write_timeout: float = 600.0
    drain_timeout: float = 30.0
    request_timeout: float | None = None
    keep_alive: float = 10.0
    threads: int = 0

    def settings(self) -> dict[str, Any]:
        """The options as the native module takes them.

        Raises:
            TypeError: An option has the wrong type.
            InvalidConfigError: An option is out of range.
        """
        if (self.tls_cert is None) != (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_cert"
            raise invalid_config(missing, "None", "given, because a certificate and its key belong together")
        return {name: self._read(name) for name in self.__dataclass_fields__}

    def _read(self, name: str) -> Any:  # noqa: ANN401  # of many types
        value = getattr(self, name)
        if name in COUNTS:
            least, most = COUNTS[name]
            return _within(name, as_int(name, value), least, most)
        if name in SECONDS:
            if value is None and name in {"idle_unload", "request_timeout"}:
                return None
            return _within(name, float(as_number(name, value)), *SECONDS[name])
        if name in {"api_keys", "allowed_origins", "allowed_hosts"}:
            return _texts(name, value)
        if name in {"unix", "tls_cert", "tls_key"}:
            return None if value is None else os.fspath(value)
        if name == "context_params":
            expect(name, value, ContextParams)
        elif name == "host":
            expect(name, value, str)
        else:
            value = as_bool(name, value)
        return value


class ServerKeywords(TypedDict, total=False):
    """The fields of `ServerOptions` as keywords of a call."""

    host: str
    port: int
    unix: str | os.PathLike[str] | None
    socket_mode: int
    systemd: bool
    context_params: ContextParams
    n_gpu_layers: int
    use_mmap: bool
    use_mlock: bool
    max_loaded: int
    idle_unload: float | None
    api_keys: Sequence[str]
    allow_no_keys: bool
    allowed_origins: Sequence[str]
    allowed_hosts: Sequence[str]
    websocket: bool
    metrics: bool
    allow_pull: bool
    tls_cert: str | os.PathLike[str] | None
    tls_key: str | os.PathLike[str] | None
    max_connections: int
    max_body_bytes: int
    header_timeout: float
    body_timeout: float
    write_timeout: float
    drain_timeout: float
    request_timeout: float | None
    keep_alive: float
    threads: int


COUNTS = {
    "port": (0, 65535),
    "socket_mode": (0, 0o777),
    "n_gpu_layers": (-(2**31), 2**31 - 1),
    "max_loaded": (0, 1024),
    "max_connections": (1, 65536),
    "max_body_bytes": (1024, 1 << 30),
    "threads": (0, 64),
}
"""The least and the largest number of each option that counts."""

DAY = 86400.0
SECONDS = {
    "idle_unload": (0.1, 365 * DAY),
    "request_timeout": (0.001, 365 * DAY),
    "header_timeout": (0.1, DAY),
    "body_timeout": (0.1, DAY),
    "write_timeout": (0.1, 365 * DAY),
    "drain_timeout": (0.0, DAY),
    "keep_alive": (0.1, DAY),
}
"""The least and the largest number of each option in seconds."""


def _within(name: str, value: Any, least: Any, most: Any) -> Any:  # noqa: ANN401  # an int or a float
    if least <= value <= most:  # NaN is refused too
        return value
    allowed = f"{least:.15g} to {most:.15g}" if isinstance(least, float) else f"{least} to {most}"
    raise invalid_config(name, value, allowed)


def _texts(name: str, value: Sequence[str]) -> list[str]:
    if isinstance(value, str):
        expect(name, value, list, f"a list of texts, such as [{value!r}]")
    texts = list(value)
    for index, text in enumerate(texts):
        expect(f"{name}[{index}]", text, str)
    return texts


def model_sources(models: object) -> list[tuple[str, str]]:
    """The name of each model for clients, and what it is loaded from.

    A mapping gives the names; otherwise the name of a model is its own, and a file is named after itself.

    Raises:
        TypeError: The models, or one of them, have the wrong type.
        InvalidConfigError: There is no model, two have one name, or a name or a model is empty.
    """
    found: dict[str, str] = {}
    for given, source, called in _given(models):
        name, text = _source(given, source, called)
        if name in found:
            raise invalid_config(called, quoted(text), f"named otherwise: {quoted(name)} is taken; pass a mapping")
        found[name] = text
    if not found:
        wrong = invalid_config("models", "empty", "one model or more")
        raise wrong
    return list(found.items())


def _given(models: object) -> list[tuple[object, object, str]]:
    """The models one by one: the name, if it is given, the source, and what errors call it."""
    if isinstance(models, Mapping):
        return [(name, source, f"models[{quoted(str(name))}]") for name, source in models.items()]
    if isinstance(models, str | os.PathLike):
        return [(None, models, "models")]
    if isinstance(models, bytes | bytearray) or not isinstance(models, Collection):
        expect("models", models, str, "pass a name, a path, a list of them, or a mapping of names to them")
        return []
    return [(None, source, f"models[{index}]") for index, source in enumerate(models)]


def _source(given: object, source: object, called: str) -> tuple[str, str]:
    """The name of a model and what it is loaded from."""
    text: object = os.fspath(source) if isinstance(source, os.PathLike) else source
    expect(called, text, str, "pass a name or a path")
    name: object = name_of(str(text)) if given is None else given
    expect("a name in models", name, str)
    if not text or not name:
        raise invalid_config(called, quoted(str(text)), "a model with a name, and neither may be empty")
    return str(name), str(text)


def name_of(source: str) -> str:
    """The name of a source: a file without folder and suffix, and a name as it is."""
    is_file = source.endswith(".gguf") and "://" not in source
    return os.path.split(source)[1].removesuffix(".gguf") if is_file else source


def started(models: Models, options: ServerOptions) -> _mullama.Server:
    """A server that runs on threads of its own."""
    with late_import():
        import pathlib  # noqa: F401, PLC0415  # the native module makes paths, also those of its errors

        from mullama import _plugins  # noqa: PLC0415  # only a server or a model needs it
    settings = options.settings()
    settings["models"] = model_sources(models)
    settings["demo"] = DEMO
    settings["threads"] = settings["threads"] or max(1, min(4, _mullama.usable_cores() // 4))
    _plugins.load_if_possible()
    return _mullama.Server(settings)


async def _started_beside(loop: NativeLoop, models: Models, options: ServerOptions) -> _mullama.Server:
    """A server that starts on another thread: its address may have to be looked up, which the loop does not wait for.

    The thread cannot be cancelled. When the call is, the server ends as soon as it has started, and the address is free
    when the call ends. Another cancellation does not wait for that.
    """
    import asyncio  # noqa: PLC0415  # slow to import

    # A task would be cancelled with all others at the end of `asyncio.run`.
    starting = asyncio.get_running_loop().run_in_executor(None, started, models, options)
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_abort)
        await asyncio.wait([starting])
        if starting.exception() is None:
            await starting.result().wait_async(loop)
        raise


def _abort(starting: Future[_mullama.Server]) -> None:
    """Ends a server that has started."""
    if starting.exception() is None:
        starting.result().abort()


async def serve(models: Models, options: ServerOptions | None = None, **keywords: Unpack[ServerKeywords]) -> None:
    """Serves models over HTTP until the call is cancelled. Connections have threads of their own, and the loop is free.

    When the call is cancelled, the server accepts nothing more and waits for running requests, at most for
    `drain_timeout`; when it is cancelled once more, it closes everything at once.

    Args:
        models: A name or a path, or several; a mapping gives the names by which clients ask for them. A model is loaded
            when it is first asked for, and downloaded if it is missing.
        options: Where to listen, and the bounds.
        **keywords: Single options, which replace those of `options`.

    Raises:
        OSError: The address cannot be listened on, or a file of TLS cannot be used.
        ModelNotFoundError: There is no file at a path among the models.
        TypeError: The models or an option have the wrong type.
        InvalidConfigError: An option is out of range, there is no model, or two models have one name.
        RuntimeError: The running event loop is not asyncio's.

    Example:
        task = asyncio.create_task(mullama.serve("demo", port=8080))
    """
    with late_import():
        import asyncio  # noqa: PLC0415  # slow to import

        from mullama._event_loop import native_loop  # noqa: PLC0415  # imports asyncio
    refuse_unknown("serve", keywords, ServerOptions.__dataclass_fields__)
    options = ServerOptions() if options is None else options
    expect("options", options, ServerOptions)
    loop = native_loop()
    server = await _started_beside(loop, models, replace(options, **keywords) if keywords else options)
    try:
        await server.wait_async(loop)
    except asyncio.CancelledError:
        server.drain()
        try:
            await server.wait_async(loop)
        except asyncio.CancelledError:
            server.abort()
            raise
        raise

"""Refuses unknown keywords, and says which is meant: a typo, a name of another library, an option of another call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

from mullama._display import shortened

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=type)

ELSEWHERE = {
    # settings of streams
    "frequency": "frequency_penalty",
    "max_completion_tokens": "max_tokens",
    "max_length": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "max_tokens_to_sample": "max_tokens",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "presence": "presence_penalty",
    "repetition_penalty": "repeat_penalty",
    "stop": "stop_sequences",
    "stop_strings": "stop_sequences",
    "stop_token_ids": "stop_tokens",
    "temp": "temperature",
    "timeout": "timeout_ms",
    "top_logprobs": "logprobs",
    "typical": "typical_p",
    # arguments of chats
    "template": "chat_template",
    "template_kwargs": "chat_template_kwargs",
    # params of contexts
    "cache_type_k": "type_k",
    "cache_type_v": "type_v",
    "context_length": "n_ctx",
    "ctx_size": "n_ctx",
    "max_model_len": "n_ctx",
    "max_seq_len": "n_ctx",
    "n_seq_max": "n_parallel",
    "num_batch": "n_batch",
    "num_ctx": "n_ctx",
    "num_thread": "n_threads",
    "threads": "n_threads",
    # options of loads
    "gpu_layers": "n_gpu_layers",
    "mlock": "use_mlock",
    "mmap": "use_mmap",
    "model_path": "path",
    "n_gpu": "n_gpu_layers",
    "ngl": "n_gpu_layers",
    "num_gpu": "n_gpu_layers",
    "params": "context_params",
}
"""What other libraries call our keywords."""

_INSTEAD = {
    "context_params": "The layout of an engine is given as Context(model, ContextParams(...))",
    "params": "The layout of an engine is given as Context(model, ContextParams(...))",
    "path": "A model is loaded by Model.load(path)",
    "stream": "generate_stream() and chat_stream() return a stream; generate() and chat() return a Completion",
    "system": 'A system prompt is the first message of a chat: {"role": "system", "content": "..."}',
    "verbose": "The log goes to the logger 'mullama' of the logging module",
}
"""What serves for keywords that have no counterpart in the call."""
_INSTEAD["system_prompt"] = _INSTEAD["system_message"] = _INSTEAD["system"]

_known: dict[str, frozenset[str]] = {
    "chat": frozenset({"chat_template", "chat_template_kwargs", "messages", "tools"}),
    "generate": frozenset({"config", "prompt"}),
}
"""The keywords of the calls that others are told of. Those that are `hinted` add their own."""

_OWNERS = ("StreamConfig", "ContextParams", "Model.load", "generate", "chat")
"""The calls whose keywords others are told of."""


def refuse_unknown(call: str, keywords: Iterable[str], accepted: Collection[str]) -> None:
    """Raises `TypeError` for the first keyword that the call does not accept."""
    for name in keywords:
        if name not in accepted:
            hint = _hint(call, name, accepted)
            known = f"{call}() got an unexpected keyword argument '{shortened(name)}'"
            raise TypeError(f"{known}. {hint}" if hint else known)


def _hint(call: str, name: str, accepted: Collection[str]) -> str:
    ours = ELSEWHERE.get(name.lower(), name)
    if ours in accepted:
        return f"Did you mean '{ours}'?"
    if name in _INSTEAD or ours in _INSTEAD:
        return _INSTEAD.get(name) or _INSTEAD[ours]
    owners = {known: owner for owner in reversed(_OWNERS) for known in _known.get(owner, ())}
    if ours in owners:
        return f"'{ours}' belongs to {owners[ours]}: {_advice(call, owners[ours], ours)}"
    try:
        import difflib  # noqa: PLC0415  # slow to import, and only mistakes need it
    except (ImportError, OSError):  # no descriptor is left to read it, or the interpreter ends
        return ""
    close = difflib.get_close_matches(shortened(name), accepted, n=1, cutoff=0.75)
    return f"Did you mean '{close[0]}'?" if close else ""


def _advice(call: str, owner: str, name: str) -> str:
    """How the keyword of another call is given by someone who called this one."""
    is_async = call.startswith("AsyncModel.")
    if owner == "ContextParams":
        params = f"ContextParams({name}=...)"
        if is_async:
            return f"await AsyncModel.load(path, context_params={params})"
        return f"AsyncModel(model, {params})" if call == "AsyncModel" else f"Context(model, {params})"
    if owner == "Model.load":
        loads = is_async and name in _known["AsyncModel.load"] and call != "AsyncModel.load"
        return f"await AsyncModel.load(path, {name}=...)" if loads else f"Model.load(path, {name}=...)"
    handle = "await model" if call.startswith("AsyncModel") else "context"
    if owner == "StreamConfig":
        return f"{handle}.generate(prompt, {name}=...) or StreamConfig({name}=...)"
    given = {"prompt": "generate(prompt)", "messages": "chat(messages)"}.get(name)
    return f"{handle}.{given or f'{owner}({_FIRST[owner]}, {name}=...)'}"


_FIRST = {"generate": "prompt", "chat": "messages"}
"""The first argument of the calls that are methods."""


def note_keywords(call: str, function: Callable[..., object]) -> frozenset[str]:
    """Returns the names of a function's parameters, without `self` and `cls`. Other calls tell of them from then on."""
    code = function.__code__
    _known[call] = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) - {"self", "cls"}
    return _known[call]


def hinted(call: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Has a function say what an unknown keyword is likely to mean."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        accepted = note_keywords(call, function)

        @wraps(function)
        def checked(*args: P.args, **keywords: P.kwargs) -> T:
            refuse_unknown(call, keywords, accepted)
            return function(*args, **keywords)

        return checked

    return decorate


def hinting(values: C) -> C:
    """Has a class whose fields are keywords say what an unknown one is likely to mean."""
    made = values.__init__  # type: ignore[misc]

    def initialize(self: object, *args: object, **fields: object) -> None:
        if args:
            message = f"{values.__name__}() takes keywords only, such as {values.__name__}({next(iter(accepted))}=...)"
            raise TypeError(message)
        checked(self, **fields)

    checked = hinted(values.__name__)(made)
    accepted = [name for name in values.__dataclass_fields__ if name in _known[values.__name__]]  # type: ignore[attr-defined]
    values.__init__ = wraps(made)(initialize)  # type: ignore[misc]
    return values

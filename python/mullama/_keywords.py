"""Refuses unknown keywords, and says which is meant: a typo, a name of another library, an option of another call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

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
    "stream": "generate_stream() and chat_stream() return a stream; generate() and chat() return a Completion",
    "verbose": "The log goes to the logger 'mullama' of the logging module",
}
"""What serves for keywords that have no counterpart."""

_OWNERS: dict[str, Callable[[str], str]] = {
    "StreamConfig": lambda name: f"generate(prompt, {name}=...) or StreamConfig({name}=...)",
    "ContextParams": lambda name: f"Context(model, ContextParams({name}=...))",
    "Model.load": lambda name: f"Model.load(path, {name}=...)",
}
"""How a keyword of each of these calls is given."""

_known: dict[str, frozenset[str]] = {}
"""The keywords of the calls in `_OWNERS`."""


def refuse_unknown(call: str, keywords: Iterable[str], accepted: Collection[str]) -> None:
    """Raises `TypeError` for the first keyword that the call does not accept."""
    for name in keywords:
        if name not in accepted:
            hint = _hint(call, name, accepted)
            raise TypeError(f"{call}() got an unexpected keyword argument '{name}'" + (f". {hint}" if hint else ""))


def _hint(call: str, name: str, accepted: Collection[str]) -> str:
    ours = ELSEWHERE.get(name.lower(), name)
    if ours in accepted:
        return f"Did you mean '{ours}'?"
    for owner, show in _OWNERS.items():
        if ours in _known.get(owner, ()):
            # An AsyncModel has a context of its own.
            shown = (
                f"{call}(path, context_params=ContextParams({ours}=...))"
                if "context_params" in accepted
                else show(ours)
            )
            return f"'{ours}' belongs to {owner}: {shown}"
    if name in _INSTEAD:
        return _INSTEAD[name]
    try:
        import difflib  # noqa: PLC0415  # slow to import, and only mistakes need it
    except (ImportError, OSError):  # no descriptor is left to read it, or the interpreter ends
        return ""
    close = difflib.get_close_matches(name, accepted, n=1, cutoff=0.75)
    return f"Did you mean '{close[0]}'?" if close else ""


def keywords_of(function: Callable[..., object]) -> frozenset[str]:
    """The names of a function's parameters, without `self` and `cls`."""
    code = function.__code__
    return frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) - {"self", "cls"}


def hinted(call: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Has a function say what an unknown keyword is likely to mean."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        accepted = _known[call] = keywords_of(function)

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

"""A LangChain chat model that runs in your own process.

>>> from mullama.integrations.langchain import ChatMullama
>>> llm = ChatMullama("demo", temperature=0.7, max_tokens=200)
>>> for chunk in llm.stream("Write a poem."):
...     print(chunk.text, end="", flush=True)
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel, agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, PrivateAttr, create_model

from mullama._arguments import FIELDS, merge
from mullama._closing import AsyncClosing
from mullama._config import ContextParams, StreamConfig
from mullama._context import Context
from mullama._exceptions import OverloadedError
from mullama._model import Model
from mullama._mullama import Token
from mullama._stream import TokenStream
from mullama._stream_options import StreamOptions
from mullama._typing import Self, Unpack
from mullama.integrations._messages import to_mappings
from mullama.integrations._tool_calls import ToolCall, ToolCallReader, forced, template_for_tools

__all__ = ["ChatMullama"]

_FOR_SERVICES = frozenset({"api_key", "base_url", "max_retries"})
"""Standard arguments of LangChain's models that have no meaning without a remote service."""

_SETTINGS = FIELDS | {"stop", "timeout"}
"""The fields of `StreamConfig`, and LangChain's own names for two of them."""

_TURN_SECONDS = 0.005
"""How often the first call in line asks an engine that is full for a place."""


class ChatOptions(StreamOptions, total=False):
    """The keywords of `ChatMullama` besides the fields of `StreamConfig`."""

    max_tokens: int
    stop: str | Sequence[str] | None
    timeout: float | None
    streaming: bool
    api_key: object
    base_url: object
    max_retries: object
    # The fields that every LangChain model has.
    name: str | None
    cache: Any
    verbose: bool
    callbacks: Any
    tags: list[str] | None
    metadata: dict[str, Any] | None
    custom_get_token_ids: Callable[[str], list[int]] | None
    rate_limiter: Any
    disable_streaming: Any
    output_version: str | None
    profile: Any


if TYPE_CHECKING:

    class _SettingFields(BaseModel):
        """The settings as LangChain's users know them. All others are fields too."""

        temperature: float | None = None
        max_tokens: int | None = None
        top_p: float | None = None
        top_k: int | None = None
        seed: int | None = None
        stop: str | Sequence[str] | None = None
        timeout: float | None = None

else:
    # Made from the table of settings; the values are checked where they are merged.
    _SettingFields = create_model("_SettingFields", **dict.fromkeys(sorted(_SETTINGS), (Any, None)))


class ChatMullama(BaseChatModel, _SettingFields, AsyncClosing):
    """A LangChain chat model in your own process: `invoke`, `stream`, `batch`, their async counterparts, tools.

    Each call is a stream of mullama and runs beside the others in one engine. It stops using compute within one step
    when its task is cancelled or its iterator is left, closed or collected. `response_metadata` has `finish_reason`,
    `stop_sequence`, `seed` and `model_name`; `usage_metadata` has the token counts, including cached ones.

    Every setting of the constructor is also a field, such as `llm.temperature`, which is None unless it was given, and
    a keyword of each call: `llm.invoke(…, temperature=0)`. None always means "not given".

    An async call waits for its turn when the engine has too many unfinished streams; its deadlines count from then. A
    blocking call raises `OverloadedError`.

    Raises:
        ValueError: A message contains something other than text, or has a type for which templates have no role.
        MullamaError: As `Context.chat_stream` and reading its stream do.

    Example:
        >>> llm = ChatMullama("demo", temperature=0.7, max_tokens=200)
        >>> llm.invoke("Hello!").text
        >>> llm.close()
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: InstanceOf[Model] = Field(exclude=True)
    params: InstanceOf[ContextParams]
    config: InstanceOf[StreamConfig]
    streaming: bool = False
    _context: Context = PrivateAttr()
    _owns_model: bool = PrivateAttr()
    _lines: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = PrivateAttr(default_factory=WeakKeyDictionary)

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        params: ContextParams | None = None,
        *,
        config: StreamConfig | None = None,
        **options: Unpack[ChatOptions],
    ) -> None:
        """Loads the model, if it is a path, and joins or starts an engine. Blocks until both are ready.

        In an async program, load with `AsyncModel.load` and pass its `model`.

        Args:
            model: A name such as "llama3.2:1b", a GGUF file, "demo" for the small model that comes with the package, or
                a loaded `Model` to share. A model that is missing is downloaded.
            params: Layout of the engine.
            config: All settings of the streams; by default those that the model's publisher recommends.
            **options: Any field of `StreamConfig`, which overrides `config`; LangChain's own names `stop` (one or
                several stop sequences) and `timeout` (seconds; 0 is no limit); `streaming`, whether `invoke` reports
                each token to callbacks; the fields of every LangChain model. `api_key`, `base_url` and `max_retries`
                are accepted and have no effect. None means "not given".

        Raises:
            ModelNotFoundError: There is no file at the path, or no model of this name.
            DownloadError: The model is not on this machine, and could not be downloaded.
            ModelLoadError: The file cannot be loaded as a model.
            InvalidConfigError: A setting is out of range.
            TypeError: There is no argument of that name.
        """
        given = {name: value for name, value in options.items() if name not in _FOR_SERVICES}
        fields = {name: given.pop(name) for name in type(self).model_fields.keys() - _SETTINGS if name in given}
        merge("ChatMullama", config, None, _to_our_names(given))
        params = ContextParams() if params is None else params
        loaded = model if isinstance(model, Model) else Model.load(model)
        config = loaded.defaults.config() if config is None else config
        # As one mapping: the type checker knows only the fields of the class above.
        values: dict[str, Any] = {"model": loaded, "params": params, "config": config, **given, **fields}
        super().__init__(**values)
        self._context = Context(loaded, params)
        self._owns_model = loaded is not model

    @property
    def model_name(self) -> str:
        """The file's name, without its extension."""
        return self.model.path.stem

    @property
    def context(self) -> Context:
        """The context that the calls use."""
        return self._context

    def close(self) -> None:
        """Releases the engine, and the model if it was loaded here. Later calls raise `EngineClosedError`.

        Open streams continue if the model was passed in; otherwise they raise `EngineClosedError` too.
        """
        self._context.close()
        if self._owns_model:
            self.model.close()

    def __copy__(self) -> Self:
        """A chat model with the same settings on the same loaded model, which can be closed on its own."""
        copied = super().__copy__()
        copied._context = Context(self.model, self.params)  # noqa: SLF001  # another of this class
        copied._owns_model = False  # noqa: SLF001  # the same
        return copied

    def __deepcopy__(self, _memo: dict[int, Any] | None = None) -> Self:
        """The same as a copy: the loaded model is shared, and settings do not change."""
        return self.__copy__()

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | None = None,
        **kwargs: Any,  # noqa: ANN401  # LangChain's signature
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Returns this model with tools that it may call: the template lists them, and calls arrive as `tool_calls`.

        The arguments of a call are whatever JSON the model writes. Everything that is not a call stays text.

        Args:
            tools: Functions, pydantic classes, LangChain's tools or JSON schemas.
            tool_choice: "any" (or "required", True) makes the reply start as a call, and a tool's name as a call of
                that tool; "none" is the same as no tools; "auto" (or None, False) lets the model decide.
            **kwargs: Settings, as a call takes them.

        Raises:
            ValueError: The model's template does not support tool calls in a known form, or there is no such tool.

        Example:
            >>> def get_weather(city: str) -> str:
            ...     '''The weather in a city.'''
            >>> llm.bind_tools([get_weather]).invoke("What is the weather in Berlin?").tool_calls
        """
        template_for_tools(self.model.metadata)
        schemas = [convert_to_openai_tool(tool) for tool in tools]
        names = [schema["function"]["name"] for schema in schemas]
        choice = {None: "auto", False: "auto", True: "any", "required": "any"}.get(tool_choice, tool_choice)
        if choice not in {"auto", "any", "none", *names}:
            message = f"tool_choice must be 'auto', 'any', 'none' or one of {names}, not {tool_choice!r}"
            raise ValueError(message)
        return self.bind(tools=schemas, tool_choice=choice, **kwargs)

    def get_token_ids(self, text: str) -> list[int]:
        """Returns the model's own tokens of a text, without those at its beginning and end."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self.model.tokenize(text, add_special=False, parse_special=False)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401  # LangChain's signature
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401  # LangChain's signature
    ) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401  # LangChain's signature
    ) -> Iterator[ChatGenerationChunk]:
        del run_manager  # the caller reports the chunks
        open_stream, answer = self._request(messages, stop, kwargs)
        with open_stream() as stream:
            for token in stream:
                if chunk := answer.chunk(token):
                    yield chunk
            yield answer.last(stream)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401  # LangChain's signature
    ) -> AsyncIterator[ChatGenerationChunk]:
        del run_manager  # the caller reports the chunks
        open_stream, answer = self._request(messages, stop, kwargs)
        async with await self._take_turn(open_stream) as stream:
            async for token in stream:
                if chunk := answer.chunk(token):
                    yield chunk
            yield answer.last(stream)

    async def _take_turn(self, open_stream: Callable[[], TokenStream]) -> TokenStream:
        """Opens the stream, after all calls that came before, when the engine has room for it."""
        # A lock belongs to the loop that first waits for it.
        line = self._lines.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with line:
            while True:
                try:
                    return open_stream()
                except OverloadedError:  # noqa: PERF203  # it has to be asked again
                    await asyncio.sleep(_TURN_SECONDS)

    def _request(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> tuple[Callable[[], TokenStream], _Reply]:
        tools, choice = options.pop("tools", None), options.pop("tool_choice", "auto")
        config = self._settings(stop, options)
        template: str | None = None
        variables: dict[str, str] = {}
        begin = ""
        if not tools or choice == "none":
            tools = None
        elif choice != "auto":
            names = [tool["function"]["name"] for tool in tools]
            template, variables, begin = forced(template_for_tools(self.model.metadata), names, choice)
        open_stream = partial(
            self._context.chat_stream,
            to_mappings(messages),
            tools=tools,
            chat_template=template,
            chat_template_kwargs=variables,
            config=config,
        )
        return open_stream, _Reply(self.model_name, begin, with_tools=bool(tools))

    def _settings(self, stop: str | Sequence[str] | None, options: Mapping[str, Any]) -> StreamConfig:
        """The settings of a call: `config`, then the fields, then the options of the call."""
        options = {name: value for name, value in options.items() if name != "stream"}
        if (options.pop("model", None) or self.model_name) != self.model_name:
            message = f"this ChatMullama runs {self.model_name!r}; create another ChatMullama for another model"
            raise ValueError(message)
        fields = {name: getattr(self, name) for name in _SETTINGS}
        overrides = _to_our_names(fields) | _to_our_names({"stop": stop, **options})
        return merge("ChatMullama", self.config, None, overrides)

    @property
    def _llm_type(self) -> str:
        return "mullama"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model": str(self.model.path),
            "params": self.params.to_dict(),
            "config": self._settings(None, {}).to_dict(),
        }

    def _get_ls_params(
        self,
        stop: list[str] | None = None,
        **kwargs: Any,  # noqa: ANN401  # LangChain's signature
    ) -> LangSmithParams:
        config = self._settings(stop, {name: value for name, value in kwargs.items() if name in _SETTINGS})
        params: LangSmithParams = {
            **super()._get_ls_params(stop, **kwargs),
            "ls_temperature": config.temperature,
            "ls_max_tokens": config.max_tokens,
        }
        if config.stop_sequences:
            params["ls_stop"] = list(config.stop_sequences)
        return params


class _Reply:
    """Turns the tokens of one stream into LangChain's chunks."""

    def __init__(self, model_name: str, begin: str, *, with_tools: bool) -> None:
        self._model_name = model_name
        self._reader = ToolCallReader() if with_tools else None
        self._calls = 0
        if self._reader is not None:
            self._reader.feed(begin)

    def chunk(self, token: Token) -> ChatGenerationChunk | None:
        """The chunk for what became certain with the token, if anything did."""
        text, calls = (token.text, []) if self._reader is None else self._reader.feed(token.text)
        told = None if token.logprob is None else {"logprobs": {"content": [_logprob(token)]}}
        if not (text or calls or told):
            return None
        return ChatGenerationChunk(message=self._message(text, calls), generation_info=told)

    def last(self, stream: TokenStream) -> ChatGenerationChunk:
        """The chunk with the rest of the text, and with how the stream ended."""
        message = self._message(*(("", []) if self._reader is None else self._reader.end()))
        message.chunk_position = "last"
        usage = stream.usage
        message.usage_metadata = UsageMetadata(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
            input_token_details=InputTokenDetails(cache_read=usage.cached_tokens),
        )
        told = {"finish_reason": stream.finish_reason, "stop_sequence": stream.stop_sequence, "seed": stream.seed}
        told |= {"model_name": self._model_name, "model_provider": "mullama"}
        return ChatGenerationChunk(message=message, generation_info=told)

    def _message(self, text: str, calls: list[ToolCall]) -> AIMessageChunk:
        chunks = []
        for call in calls:
            arguments = json.dumps(call.arguments, ensure_ascii=False)
            call_id = f"call_{uuid.uuid4().hex}"
            chunks.append(tool_call_chunk(name=call.name, args=arguments, id=call_id, index=self._calls))
            self._calls += 1
        return AIMessageChunk(content=text, tool_call_chunks=chunks)


def _logprob(token: Token) -> dict[str, Any]:
    likeliest = [{"id": other, "logprob": logprob} for other, logprob in token.top_logprobs]
    return {"token": token.text, "bytes": list(token.bytes), "logprob": token.logprob, "top_logprobs": likeliest}


def _to_our_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, with LangChain's own names replaced by ours."""
    ours = {name: value for name, value in options.items() if value is not None}
    stop, timeout = ours.pop("stop", None), ours.pop("timeout", None)
    if stop is not None:
        ours["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if timeout is not None:
        if isinstance(timeout, str) or not math.isfinite(timeout):
            message = f"timeout must be a finite number of seconds, not {timeout!r}"
            raise ValueError(message)
        ours["timeout_ms"] = math.ceil(timeout * 1000)
    return ours

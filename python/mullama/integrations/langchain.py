"""A LangChain chat model that runs in your own process.

>>> from mullama.integrations.langchain import ChatMullama
>>> llm = ChatMullama("demo", temperature=0.7, max_tokens=200)
>>> for chunk in llm.stream("Write a poem."):
...     print(chunk.text, end="", flush=True)
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from langchain_core.language_models.chat_models import BaseChatModel, agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, InstanceOf, PrivateAttr

from mullama._arguments import merge
from mullama._closing import AsyncClosing
from mullama._config import ContextParams, StreamConfig
from mullama._context import Context
from mullama._model import Model
from mullama._stream_options import StreamOptions
from mullama.integrations._messages import to_mappings
from mullama.integrations._tool_calls import ToolCallReader, forced, template_for_tools

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool
    from typing_extensions import Unpack

    from mullama._mullama import Token
    from mullama._stream import TokenStream
    from mullama.integrations._tool_calls import ToolCall

__all__ = ["ChatMullama"]

_FOR_SERVICES = frozenset({"api_key", "base_url", "max_retries"})
"""Standard arguments of LangChain's models that mean nothing without a service to call."""


class ChatOptions(StreamOptions, total=False):
    """What `ChatMullama` takes as keywords besides the fields of `StreamConfig`."""

    max_tokens: int
    stop: Sequence[str] | None
    timeout: float | None
    streaming: bool
    api_key: object
    base_url: object
    max_retries: object
    # Fields of every LangChain model.
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


class ChatMullama(BaseChatModel, AsyncClosing):
    """A chat model in your own process, with LangChain's ways: `invoke`, `stream`, `batch`, their async twins, tools.

    Each call is a stream of mullama. It runs beside the others in one engine; its compute is free within one step when
    its task is cancelled or its iterator is left, closed or collected. `response_metadata` has `finish_reason`,
    `stop_sequence`, `seed` and `model_name`; `usage_metadata` counts tokens, those from the cache too.

    A call takes as keywords what the constructor takes as settings, for itself alone: `llm.invoke(…, temperature=0)`.

    Raises:
        ValueError: A message holds something that is no text, or is of a kind that templates have no role for.
        MullamaError: As `Context.chat_stream` and the reading of its stream.

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

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        params: ContextParams | None = None,
        *,
        config: StreamConfig | None = None,
        **options: Unpack[ChatOptions],
    ) -> None:
        """Loads the model, if it is a path, and joins or starts an engine. Blocks until both are there.

        An async program loads with `AsyncModel.load` and gives its `model`.

        Args:
            model: A GGUF file, "demo" for the small model inside the package, or a model that `Model.load` loaded, with
                its options, to share.
            params: How the engine is laid out.
            config: All settings of the streams.
            **options: Any field of `StreamConfig`, instead of what `config` says; its LangChain names `stop`
                (`stop_sequences`) and `timeout` (seconds; None or 0 is no limit); `streaming`, whether `invoke` reports
                each token to callbacks; the fields of every LangChain model. `api_key`, `base_url` and `max_retries`
                are for services and change nothing.

        Raises:
            ModelNotFoundError: Nothing is at the path.
            ModelLoadError: The file is no model that can run.
            InvalidConfigError: A setting is out of its range.
            TypeError: An argument has a name that nobody knows.
        """
        known = {name: value for name, value in options.items() if name not in _FOR_SERVICES}
        of_langchain = {name: known.pop(name) for name in type(self).model_fields if name in known}
        settings = merge("ChatMullama", config, None, _with_our_names(known))
        params = ContextParams() if params is None else params
        loaded = model if isinstance(model, Model) else Model.load(model)
        # As one mapping: the type checker knows the fields of the class above alone.
        fields: dict[str, Any] = {"model": loaded, "params": params, "config": settings, **of_langchain}
        super().__init__(**fields)
        self._context = Context(loaded, params)
        self._owns_model = loaded is not model

    @property
    def model_name(self) -> str:
        """The file's name, without its ending."""
        return self.model.path.stem

    @property
    def context(self) -> Context:
        """The context that the calls run on."""
        return self._context

    def close(self) -> None:
        """Lets go of the engine, and of the model if it was loaded here. Later calls raise `EngineClosedError`.

        Open streams go on if the model was given as one; otherwise they raise `EngineClosedError` too.
        """
        self._context.close()
        if self._owns_model:
            self.model.close()

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | None = None,
        **kwargs: Any,  # noqa: ANN401  # LangChain's signature
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """This model with tools that it may call: the template shows them, and calls come as `tool_calls`.

        How well it calls is the model's affair: arguments are whatever JSON it writes. What is no call stays text.

        Args:
            tools: Functions, pydantic classes, LangChain's tools or JSON schemas.
            tool_choice: "any" (or "required", True) makes the answer begin as a call, a tool's name as a call of that
                one; "none" is as without tools; "auto" (or None, False) leaves it to the model.
            **kwargs: Settings, as a call takes them.

        Raises:
            ValueError: The model's template has no tool calls in the form that we find, or `tool_choice` names no tool.

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
        """The model's own tokens of a text, without those that begin and end it."""
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
        del run_manager  # who calls reports the chunks
        stream, answer = self._open(messages, stop, kwargs)
        with stream:
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
        del run_manager  # who calls reports the chunks
        stream, answer = self._open(messages, stop, kwargs)
        async with stream:
            async for token in stream:
                if chunk := answer.chunk(token):
                    yield chunk
            yield answer.last(stream)

    def _open(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> tuple[TokenStream, _Answer]:
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
        stream = self._context.chat_stream(
            to_mappings(messages), tools=tools, chat_template=template, chat_template_kwargs=variables, config=config
        )
        return stream, _Answer(self.model_name, begin, with_tools=bool(tools))

    def _settings(self, stop: Sequence[str] | None, options: Mapping[str, Any]) -> StreamConfig:
        """The settings of a call."""
        options = {name: value for name, value in options.items() if name != "stream"}
        if options.pop("model", self.model_name) != self.model_name:
            message = f"this ChatMullama runs {self.model_name!r}; another model is another ChatMullama"
            raise ValueError(message)
        return merge("ChatMullama", self.config, None, _with_our_names({"stop": stop, **options}))

    @property
    def _llm_type(self) -> str:
        return "mullama"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": str(self.model.path), "params": asdict(self.params), "config": asdict(self.config)}

    def _get_ls_params(
        self,
        stop: list[str] | None = None,
        **kwargs: Any,  # noqa: ANN401  # LangChain's signature
    ) -> LangSmithParams:
        told: LangSmithParams = {
            "ls_temperature": self.config.temperature,
            "ls_max_tokens": self.config.max_tokens,
            **super()._get_ls_params(stop, **kwargs),
        }
        if self.config.stop_sequences and stop is None:
            told["ls_stop"] = list(self.config.stop_sequences)
        return told


class _Answer:
    """Turns the tokens of one stream into LangChain's chunks."""

    def __init__(self, model_name: str, begin: str, *, with_tools: bool) -> None:
        self._model_name = model_name
        self._reader = ToolCallReader() if with_tools else None
        self._calls = 0
        if self._reader is not None:
            self._reader.feed(begin)

    def chunk(self, token: Token) -> ChatGenerationChunk | None:
        """What became certain with the token, if that is anything."""
        text, calls = (token.text, []) if self._reader is None else self._reader.feed(token.text)
        told = None if token.logprob is None else {"logprobs": {"content": [_logprob(token)]}}
        if not (text or calls or told):
            return None
        return ChatGenerationChunk(message=self._message(text, calls), generation_info=told)

    def last(self, stream: TokenStream) -> ChatGenerationChunk:
        """The rest of the text, and how the stream ended."""
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


def _with_our_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with LangChain's own names for two of them replaced by ours."""
    ours = dict(options)
    stop, timeout = ours.pop("stop", None), ours.pop("timeout", ...)
    if stop is not None:
        ours["stop_sequences"] = stop
    if timeout is not ...:
        ours["timeout_ms"] = None if timeout is None else round(timeout * 1000)
    return ours

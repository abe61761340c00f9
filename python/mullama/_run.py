"""The command `mullama run` with a prompt: writes one stream as it arrives."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from mullama import Context, Model
from mullama._chat import chat_of
from mullama._exceptions import ChatTemplateError, ContextOverflowError, InvalidPromptError, MullamaError
from mullama._failure import Ended
from mullama._output import counted, say, write_event
from mullama._pull import fetched
from mullama._terminal import Spinner
from mullama._writer import Writer, write_pieces

if TYPE_CHECKING:
    from collections.abc import Callable

    from mullama import ContextParams, StreamConfig, TokenStream

MAX_COUNTED = 16_000_000
"""Characters that are tokenized within seconds, only to say how many tokens they have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to run, and how to write its output.

    Attributes:
        model: A GGUF file, a name, or "demo".
        pull: Whether a model that is missing is downloaded.
        given: The settings that the command line gives; the model's publisher may recommend others.
        prompt: The prompt, or the user's message; None is a conversation.
        system: The system message.
        config: Settings of the streams.
        params: Layout of the engine.
        gpu_layers: Number of layers to put on a GPU.
        raw: Whether the prompt is continued as it stands, even if the model has a chat template.
        chat_template: The text of a template to use instead of the model's.
        history: Whether what is typed is kept for the next conversation.
        stream: Whether each piece is written as it arrives.
        wrap: Whether lines break between words on a terminal.
        render: Whether Markdown is formatted on a terminal.
        json: Whether events are written instead of text.
        verbose: Whether a summary of each stream is printed to stderr.
    """

    model: str
    pull: bool = True
    given: frozenset[str] = frozenset()
    prompt: str | None
    system: str | None = None
    config: StreamConfig
    params: ContextParams
    gpu_layers: int = -1
    raw: bool = False
    chat_template: str | None = None
    history: bool = True
    stream: bool = True
    wrap: bool = True
    render: bool = False
    json: bool = False
    verbose: bool = False

    def load(self) -> Context:
        """Loads the model, after a download if it is missing, and starts an engine."""
        source = fetched(self.model, pull=self.pull)
        with Spinner("loading the model") as spinner:
            progress = {"progress": spinner.tell} if spinner.is_shown else {}
            model = Model.load(source, n_gpu_layers=self.gpu_layers, pull=False, **progress)  # type: ignore[arg-type]
        # It may warn, which needs a line of its own.
        return Context(model, self.params)

    def recommended(self, model: Model) -> Job:
        """The job with what the model's publisher recommends, where the command line says nothing else."""
        defaults = model.defaults
        settings = {name: value for name, value in defaults.settings.items() if name not in self.given}
        system = defaults.system if self.system is None and not self.raw else self.system
        return replace(self, config=replace(self.config, **settings), system=system)

    def writer(self) -> Writer:
        """A writer for one text."""
        return Writer(stream=self.stream, wrap=self.wrap, render=self.render)

    def is_chat(self, model: Model) -> bool:
        """Whether the prompt is a chat message."""
        has_template = self.chat_template is not None or "tokenizer.chat_template" in model.metadata
        return not self.raw and (has_template or self.system is not None)


def run(job: Job, prompt: str) -> None:
    """Loads the model and writes what it generates from the prompt."""
    if not prompt:
        # A template would make a message of it.
        message = "the prompt is empty"
        raise InvalidPromptError(message)
    context = job.load()
    job = job.recommended(context.model)
    if job.verbose:
        say(mode(job, context.model))
    try:
        with open_stream(context, job, prompt) as stream:
            if job.json:
                write_events(stream, tokens=job.stream)
            else:
                write_text(stream, job.writer())
                if stream.finish_reason == "length":
                    say(f"mullama: {cut(stream, context, job.config)}")
            if job.verbose:
                say(summary(stream))
    except ChatTemplateError as error:
        raise with_way_out(error, job, context.model) from None
    except ContextOverflowError as error:
        raise with_size(error, context, lambda: prompt_tokens(context, job, prompt), len(prompt)) from None


def mode(job: Job, model: Model) -> str:
    """How the prompt is sent."""
    if job.is_chat(model):
        return f"prompt: a chat message, with {'--chat-template' if job.chat_template else 'the template of the model'}"
    return f"prompt: raw text, because {'of --raw' if job.raw else 'the model has no chat template'}"


def open_stream(context: Context, job: Job, prompt: str) -> TokenStream:
    """Opens a stream of the reply to the prompt, or of its continuation."""
    if not job.is_chat(context.model):
        return context.generate_stream(prompt, config=job.config)
    return context.chat_stream(messages_of(job, prompt), chat_template=job.chat_template, config=job.config)


def messages_of(job: Job, prompt: str) -> list[dict[str, str]]:
    """The prompt as a chat."""
    system = [] if job.system is None else [{"role": "system", "content": job.system}]
    return [*system, {"role": "user", "content": prompt}]


def prompt_tokens(context: Context, job: Job, prompt: str) -> int:
    """Number of tokens of the whole prompt."""
    if not job.is_chat(context.model):
        return len(context.model.tokenize(prompt))
    return chat_tokens(context, messages_of(job, prompt), job.chat_template)


def with_way_out(error: ChatTemplateError, job: Job, model: Model) -> ChatTemplateError:
    """The error, with what to do about it on the command line."""
    lacks = job.chat_template is None and "tokenizer.chat_template" not in model.metadata
    what = "the model has no chat template" if lacks else str(error)
    message = f"{what} (--raw sends a prompt without a template, --chat-template FILE uses another one)"
    told = ChatTemplateError(message)
    told.reason, told.line = error.reason, error.line
    return told


def with_size(
    error: ContextOverflowError, context: Context, count: Callable[[], int], characters: int
) -> ContextOverflowError:
    """The error, with the context size that the prompt needs; `count` tokenizes its characters to the end."""
    tokens, is_lower_bound = error.prompt_tokens, error.is_lower_bound
    if is_lower_bound and characters <= MAX_COUNTED:
        with suppress(MullamaError):
            tokens, is_lower_bound = count(), False
    trained = context.model.n_ctx_train
    beyond = f" (the model was trained for {trained})" if tokens >= trained else ""
    needs = f"a --ctx-size of more than {tokens}" if is_lower_bound else f"--ctx-size {tokens + 1} or more"
    has = f"the prompt has {'at least ' if is_lower_bound else ''}{counted(tokens, 'token')}"
    message = (
        f"{has}, but the context holds {error.context_len}; it needs {needs}, plus the length of the answer{beyond}"
    )
    told = ContextOverflowError(message)
    told.prompt_tokens, told.context_len, told.is_lower_bound = tokens, error.context_len, is_lower_bound
    return told


def chat_tokens(context: Context, messages: list[dict[str, str]], chat_template: str | None) -> int:
    """Number of tokens of messages with the template around them."""
    chat = chat_of(messages, None, chat_template, None)
    return len(context.model._native.tokenize_chat(chat))  # noqa: SLF001  # two halves of one package


def cut(stream: TokenStream, context: Context, config: StreamConfig) -> str:
    """Why a stream ended by length."""
    if stream.usage.completion_tokens >= config.max_tokens:
        return f"the text was cut off after {counted(config.max_tokens, 'token')} (max_tokens)"
    return f"the text was cut off because the context of {context.context_len} tokens is full (see --ctx-size)"


def write_text(stream: TokenStream, writer: Writer) -> None:
    """Writes the text, in pieces or as a whole, and ends the last line however the stream ends."""
    try:
        write_pieces(stream, writer)
    finally:
        writer.end(stream.text)


def write_events(stream: TokenStream, *, tokens: bool) -> None:
    """Writes one JSON object per line: a `token` event per token if they are wanted, then `done`.

    A `token` event has the logarithms of probabilities if the setting `logprobs` asks for them. The caller reports
    errors.
    """
    try:
        for token in stream:
            if not tokens:
                continue
            likely = {} if token.logprob is None else {"logprob": token.logprob, "top_logprobs": token.top_logprobs}
            write_event(type="token", text=token.text, id=token.id, index=token.index, **likely)
    except KeyboardInterrupt:
        stream.close()
        write_end(stream)
        raise Ended from None
    write_end(stream)


def write_end(stream: TokenStream) -> None:
    """Writes the event `done`."""
    write_event(
        type="done",
        text=stream.text,
        finish_reason=stream.finish_reason,
        stop_sequence=stream.stop_sequence,
        usage=asdict(stream.usage),
        timings=asdict(stream.timings),
        seed=stream.seed,
    )


def summary(stream: TokenStream) -> str:
    """Token counts, speed and times of the stream, in one line."""
    usage, timings = stream.usage, stream.timings
    return (
        f"{counted(usage.completion_tokens, 'token')}, {stream.tokens_per_second():.1f} tokens/s; "
        f"first token after {timings.first_token * 1000:.0f} ms; "
        f"prompt: {counted(usage.prompt_tokens, 'token')}, {usage.cached_tokens} cached; "
        f"finish reason: {stream.finish_reason}; seed: {stream.seed}"
    )

"""The LangChain chat model beyond the standard suites: places are freed, settings arrive, errors keep their type."""

from __future__ import annotations

import asyncio
import copy
import functools
import operator
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.runnables import ConfigurableField
from langchain_core.utils.function_calling import convert_to_openai_tool

from mullama import (
    ContextOverflowError,
    ContextParams,
    EngineClosedError,
    InvalidConfigError,
    Model,
    ModelNotFoundError,
    StreamConfig,
    StreamTimeoutError,
)
from mullama.integrations._messages import to_mappings
from mullama.integrations.langchain import ChatMullama

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    Eventually = Callable[[Callable[[], bool]], bool]

# Waits an hour before the second token.
STUCK = StreamConfig(stream_delay_ms=3_600_000, timeout_ms=None)

CERTAIN = "Who are you?"
"""Its answer leaves no doubt at any token, so that it is the same beside whatever the engine keeps."""


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"Sunny in {city}"


@pytest.fixture
def llm(model: Model) -> ChatMullama:
    """A chat model that always takes the likeliest token."""
    return ChatMullama(model, temperature=0)


@pytest.fixture
def stuck(model: Model) -> ChatMullama:
    """A chat model with one place, on which every answer waits an hour before its second token."""
    return ChatMullama(model, ContextParams(n_parallel=1, max_queue=4, max_paused=5), config=STUCK)


async def eventually_async(holds: Callable[[], bool]) -> None:
    """Waits until something holds, for ten seconds at most."""
    with anyio.fail_after(10):
        while not holds():  # noqa: ASYNC110  # no event tells of it
            await anyio.sleep(0.001)


def test_leaving_a_stream_frees_its_place(stuck: ChatMullama, eventually: Eventually) -> None:
    for chunk in stuck.stream("Hello"):
        assert chunk.content
        assert stuck.context.unfinished == 1
        break
    assert eventually(lambda: stuck.context.unfinished == 0)


def test_closing_a_stream_frees_its_place(stuck: ChatMullama, eventually: Eventually) -> None:
    chunks = stuck.stream("Hello")
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]  # it is a generator
    assert eventually(lambda: stuck.context.unfinished == 0)


@pytest.mark.anyio
async def test_leaving_an_async_stream_frees_its_place(stuck: ChatMullama) -> None:
    async for chunk in stuck.astream("Hello"):
        assert chunk.content
        assert stuck.context.unfinished == 1
        break
    await eventually_async(lambda: stuck.context.unfinished == 0)


@pytest.mark.anyio
@pytest.mark.parametrize("phase", ["queue", "decode"])
@pytest.mark.parametrize("call", ["ainvoke", "astream", "astream_events"])
async def test_cancelling_a_task_frees_its_place(stuck: ChatMullama, call: str, phase: str) -> None:
    async def read() -> None:
        if call == "ainvoke":
            await stuck.ainvoke("Hello")
        elif call == "astream":
            async for _ in stuck.astream("Hello"):
                pass
        else:
            async for _ in stuck.astream_events("Hello", version="v2"):
                pass

    before = stuck.context.stats().tokens_generated
    holder = stuck.stream("Hello")
    if phase == "queue":
        await asyncio.to_thread(next, holder)
    held = stuck.context.unfinished
    task = asyncio.create_task(read())
    await eventually_async(lambda: stuck.context.unfinished == held + 1)
    if phase == "decode":
        await eventually_async(lambda: stuck.context.stats().tokens_generated > before)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually_async(lambda: stuck.context.unfinished == held)
    holder.close()  # type: ignore[attr-defined]  # it is a generator
    await eventually_async(lambda: stuck.context.unfinished == 0)


@pytest.mark.filterwarnings("ignore:.* is in beta")
@pytest.mark.anyio
async def test_closing_a_stream_of_protocol_events_frees_its_place(stuck: ChatMullama) -> None:
    stream = await stuck.astream_events("Hello", version="v3")
    events = aiter(stream)
    assert (await anext(events))["event"] == "message-start"
    assert stuck.context.unfinished == 1
    await stream.aclose()
    await eventually_async(lambda: stuck.context.unfinished == 0)


def test_chunks_joined_are_the_answer(llm: ChatMullama) -> None:
    chunks = list(llm.stream(CERTAIN))
    assert len(chunks) > 5
    assert functools.reduce(operator.add, chunks).text == llm.invoke(CERTAIN).text


@pytest.mark.anyio
async def test_both_faces_give_the_same_answer(llm: ChatMullama) -> None:
    chunks = [chunk async for chunk in llm.astream(CERTAIN)]
    assert functools.reduce(operator.add, chunks).text == (await llm.ainvoke(CERTAIN)).text


@pytest.mark.anyio
async def test_more_answers_than_places_are_all_written(model: Model) -> None:
    llm = ChatMullama(model, ContextParams(n_parallel=2), max_tokens=8)
    answers = await llm.abatch([f"Count to {upto}" for upto in range(8)])
    assert [answer.response_metadata["finish_reason"] in {"length", "stop"} for answer in answers] == [True] * 8


@pytest.mark.parametrize("way", ["call", "bind", "constructor"])
def test_a_stop_sequence_ends_the_answer_before_it(model: Model, llm: ChatMullama, way: str) -> None:
    words = llm.invoke("Hello").text
    stop = words[5:9]
    if way == "call":
        answer = llm.invoke("Hello", stop=[stop])
    elif way == "bind":
        answer = llm.bind(stop=[stop]).invoke("Hello")
    else:
        answer = ChatMullama(model, temperature=0, stop=[stop]).invoke("Hello")
    assert answer.text == words[: words.index(stop)]
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.response_metadata["stop_sequence"] == stop


def test_an_answer_tells_what_it_cost_and_how_it_ended(llm: ChatMullama) -> None:
    answer = llm.invoke("Hello", max_tokens=3, seed=7)
    usage = answer.usage_metadata
    assert usage is not None
    assert usage["output_tokens"] == 3
    assert usage["total_tokens"] == usage["input_tokens"] + 3
    prompt = llm.model.apply_chat_template([{"role": "user", "content": "Hello"}])
    assert usage["input_tokens"] == len(llm.model.tokenize(prompt))
    told = {"finish_reason": "length", "seed": 7, "model_name": "demo", "stop_sequence": None}
    assert answer.response_metadata.items() >= told.items()


def test_log_probabilities_arrive(llm: ChatMullama) -> None:
    content = llm.invoke("Hello", max_tokens=3, logprobs=2).response_metadata["logprobs"]["content"]
    assert len(content) == 3
    assert all(each["logprob"] <= 0 and len(each["top_logprobs"]) == 2 for each in content)


@pytest.mark.parametrize("choice", [None, "any", "get_weather"])
def test_a_call_of_a_tool_is_taken_out_of_the_text(llm: ChatMullama, choice: str | None) -> None:
    bound = llm.bind_tools([get_weather], tool_choice=choice)
    for answer in (
        bound.invoke("What is the weather in Berlin?"),
        functools.reduce(operator.add, bound.stream("What is the weather in Berlin?")),
    ):
        assert answer.text == ""
        (call,) = answer.tool_calls
        assert call["name"] == "get_weather"
        assert call["args"].keys() == {"city"}


def test_structured_output_is_a_forced_call(llm: ChatMullama) -> None:
    answer = llm.with_structured_output(convert_to_openai_tool(get_weather)).invoke("Hello")
    assert isinstance(answer, dict)
    assert answer.keys() == {"city"}


def test_the_result_of_a_call_goes_back_to_the_model(llm: ChatMullama) -> None:
    bound = llm.bind_tools([get_weather])
    question = HumanMessage("What is the weather in Berlin?")
    call = bound.invoke([question])
    result = ToolMessage(get_weather(**call.tool_calls[0]["args"]), tool_call_id=call.tool_calls[0]["id"])
    assert bound.invoke([question, call, result]).usage_metadata


def test_a_choice_of_no_tool_is_as_without_tools(llm: ChatMullama) -> None:
    bound = llm.bind_tools([get_weather], tool_choice="none")
    assert bound.invoke(CERTAIN).text == llm.invoke(CERTAIN).text
    with pytest.raises(ValueError, match="tool_choice must be"):
        llm.bind_tools([get_weather], tool_choice="get_time")


def test_messages_become_roles_and_text() -> None:
    call = {"name": "get_weather", "args": {"city": "Berlin"}, "id": "1", "type": "tool_call"}
    messages: list[BaseMessage] = [
        SystemMessage("Be brief."),
        HumanMessage(["Hel", {"type": "text", "text": "lo"}], name="ada"),
        AIMessage([{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "I look."}], tool_calls=[call]),
        ToolMessage("Sunny", tool_call_id="1"),
        ChatMessage(content="Noted.", role="critic"),
    ]
    function = {"name": "get_weather", "arguments": {"city": "Berlin"}}
    assert to_mappings(messages) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello", "name": "ada"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [{"type": "function", "id": "1", "function": function}],
        },
        {"role": "tool", "content": "Sunny", "tool_call_id": "1"},
        {"role": "critic", "content": "Noted."},
    ]


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        (
            HumanMessage([{"type": "image", "url": "https://example.org/a.png"}]),
            r"messages\[0\]\.content\[0\] .* type 'image'",
        ),
        (HumanMessage([{"type": "tool_use"}]), r"messages\[0\]\.content\[0\] .* type 'tool_use'"),
        (HumanMessage([{"type": "text"}]), r"messages\[0\]\.content\[0\] must have a 'text' that is a str"),
        (AIMessage(["A", {"type": "text", "text": None}]), r"messages\[0\]\.content\[1\] must have a 'text'"),
        (HumanMessage([{"text": "no type"}]), r"messages\[0\]\.content\[0\] .* type None"),
        (FunctionMessage(content="1", name="f"), r"messages\[0\] is a FunctionMessage"),
    ],
)
def test_what_is_no_text_is_refused_by_name(llm: ChatMullama, message: BaseMessage, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        llm.invoke([message])
    assert llm.context.unfinished == 0


def test_a_wrong_name_or_value_is_refused_wherever_it_stands(model: Model, llm: ChatMullama) -> None:
    wrong: dict[str, Any] = {"temprature": 1}
    with pytest.raises(TypeError, match="Did you mean 'temperature'"):
        ChatMullama(model, **wrong)
    with pytest.raises(TypeError, match="Did you mean 'temperature'"):
        llm.invoke("Hello", **wrong)
    with pytest.raises(InvalidConfigError, match="temperature"):
        ChatMullama(model, temperature=-1)
    with pytest.raises(InvalidConfigError, match="temperature"):
        llm.invoke("Hello", temperature=-1)
    with pytest.raises(ValueError, match="another model"):
        llm.invoke("Hello", model="other")
    with pytest.raises(ModelNotFoundError):
        ChatMullama("no-such-file.gguf")


def test_errors_of_a_stream_keep_their_type(llm: ChatMullama, stuck: ChatMullama) -> None:
    with pytest.raises(ContextOverflowError):
        llm.invoke("word " * 5000)
    with pytest.raises(StreamTimeoutError):
        stuck.invoke("Hello", timeout=0.2)


def test_settings_can_be_chosen_when_it_runs(llm: ChatMullama) -> None:
    chosen = llm.configurable_fields(config=ConfigurableField(id="config"))
    answer = chosen.with_config(configurable={"config": StreamConfig(max_tokens=2)}).invoke("Hello")
    assert answer.usage_metadata
    assert answer.usage_metadata["output_tokens"] == 2


def test_tokens_are_counted_by_the_model(llm: ChatMullama) -> None:
    assert llm.get_num_tokens("Hello") == len(llm.model.tokenize("Hello", add_special=False))


def test_what_identifies_it_says_model_and_settings(llm: ChatMullama) -> None:
    told = llm._identifying_params
    assert told["model"].endswith("demo.gguf")
    assert told["config"]["temperature"] == 0
    assert llm._llm_type == "mullama"


def engines() -> set[str]:
    """Ids of the threads of engines in this process; llama.cpp's have the name of the one that started them."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        # It may end while we look.
        with suppress(FileNotFoundError, ProcessLookupError):
            if (task / "comm").read_text(encoding="ascii") == "mullama-engine\n":
                found.add(task.name)
    return found


@pytest.mark.anyio
async def test_closing_frees_the_engine() -> None:
    before = engines()
    async with ChatMullama("demo", ContextParams(n_threads=1), max_tokens=2) as llm:
        await llm.ainvoke("Hello")
        ours = engines() - before
        assert ours
    with pytest.raises(EngineClosedError):
        await llm.ainvoke("Hello")
    await eventually_async(lambda: not ours & engines())


def test_a_model_that_was_given_stays_open(model: Model) -> None:
    ChatMullama(model).close()
    assert ChatMullama(model).invoke("Hello", max_tokens=2).usage_metadata


def test_importing_mullama_imports_no_library_of_an_integration(
    script: Callable[[str], CompletedProcess[str]],
) -> None:
    heavy = "{'langchain_core', 'pydantic', 'starlette', 'fastapi', 'anyio', 'asyncio'}"
    done = script(f"import sys, mullama, mullama.integrations; print({heavy} & sys.modules.keys())")
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.anyio
@pytest.mark.parametrize("waiting", [0, 2])
async def test_async_calls_wait_for_their_turn_and_are_all_answered(model: Model, waiting: int) -> None:
    llm = ChatMullama(model, ContextParams(n_parallel=2, max_queue=waiting), max_tokens=4)
    with anyio.fail_after(60):
        answers = await llm.abatch([f"Count to {upto}" for upto in range(60)])
    assert len(answers) == 60
    assert llm.context.unfinished == 0


@pytest.mark.anyio
async def test_a_call_that_waits_for_its_turn_can_be_cancelled(stuck: ChatMullama) -> None:
    running = [asyncio.create_task(stuck.ainvoke("Hello")) for _ in range(5)]
    await eventually_async(lambda: stuck.context.unfinished == 5)
    waiting = [asyncio.create_task(stuck.ainvoke("Hello")) for _ in range(3)]
    await asyncio.sleep(0.05)
    for task in (*waiting, *running):
        task.cancel()
    await asyncio.gather(*waiting, *running, return_exceptions=True)
    assert all(task.cancelled() for task in (*waiting, *running))
    await eventually_async(lambda: stuck.context.unfinished == 0)


def test_calls_on_two_loops_wait_for_their_turns(model: Model) -> None:
    llm = ChatMullama(model, ContextParams(n_parallel=1, max_queue=1), max_tokens=2)
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda _: asyncio.run(llm.abatch(["Hello"] * 10)), range(2), timeout=60))
    assert [len(answers) for answers in both] == [10, 10]


def test_none_is_not_given(model: Model) -> None:
    config = StreamConfig(temperature=0.3, max_tokens=2, timeout_ms=None)
    nothing: Any = dict.fromkeys(["temperature", "max_tokens", "stop", "timeout"])
    llm = ChatMullama(model, config=config, **nothing)
    assert llm._settings(None, {"temperature": None, "seed": None}) == config
    assert llm.invoke("Hello", max_tokens=None, stop=None).usage_metadata


def test_settings_are_fields(model: Model) -> None:
    llm = ChatMullama(model, temperature=0.5, stop="!", timeout=0.0015, dry_base=2.0)
    assert (llm.temperature, llm.stop, llm.timeout, llm.max_tokens) == (0.5, "!", 0.0015, None)
    settings = llm._settings(None, {})
    assert (settings.temperature, settings.stop_sequences, settings.timeout_ms, settings.dry_base) == (
        0.5,
        ("!",),
        2,
        2,
    )
    llm.temperature = 0
    assert llm._settings(None, {}).temperature == 0
    assert llm._settings(["?"], {"temperature": 1}).stop_sequences == ("?",)


def test_a_setting_can_be_chosen_when_it_runs(llm: ChatMullama) -> None:
    chosen = llm.configurable_fields(max_tokens=ConfigurableField(id="most"))
    answer = chosen.with_config(configurable={"most": 2}).invoke("Hello")
    assert answer.usage_metadata
    assert answer.usage_metadata["output_tokens"] == 2


@pytest.mark.parametrize("seconds", [float("inf"), float("nan")])
def test_a_timeout_must_be_a_number_of_seconds(model: Model, seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout must be a finite number"):
        ChatMullama(model, timeout=seconds)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda llm: llm.model_copy()])
def test_a_copy_shares_the_model_and_is_closed_on_its_own(
    llm: ChatMullama, way: Callable[[ChatMullama], ChatMullama]
) -> None:
    copied = way(llm)
    assert copied.model is llm.model
    assert copied.temperature == 0
    copied.close()
    assert llm.invoke("Hello", max_tokens=2).usage_metadata
    with pytest.raises(TypeError, match="cannot pickle or copy a ChatMullama"):
        pickle.dumps(llm)

"""OpenAI's dialect with the clients that people use, unmodified."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from http_server import serving
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from langchain_openai import OpenAI as LangChainOpenAI
from pydantic import SecretStr

from mullama._model import DEMO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from http_server import Serving

    from mullama import Model

pytestmark = pytest.mark.slow

PROMPT = "Tell me a story."
MESSAGES: Any = [{"role": "user", "content": PROMPT}]


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server of the demo model."""
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Serving) -> Iterator[openai.OpenAI]:
    """The official client."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def chat(client: openai.OpenAI, **fields: Any) -> Any:  # noqa: ANN401 - the client's types depend on the fields
    """A chat completion of the demo model, the same each time."""
    fields = {"model": "demo", "messages": MESSAGES, "max_tokens": 16, "temperature": 0} | fields
    return client.chat.completions.create(**fields)


def test_a_chat_is_the_same_streamed_and_whole(client: openai.OpenAI) -> None:
    whole = chat(client)
    assert whole.id.startswith("chatcmpl-")
    assert (whole.object, whole.model, whole.choices[0].finish_reason) == ("chat.completion", "demo", "length")
    assert whole.usage.completion_tokens == 16
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 16

    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 16
    choices = [chunk.choices[0] for chunk in chunks[:-1]]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]
    assert choices[-1].finish_reason == "length"
    assert "".join(choice.delta.content or "" for choice in choices) == whole.choices[0].message.content


def test_several_answers_have_seeds_of_their_own(client: openai.OpenAI) -> None:
    fields = {"n": 3, "seed": 7, "temperature": 1.5, "top_p": 1, "extra_body": {"deterministic": True}}
    whole = chat(client, **fields)
    texts = [choice.message.content for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert whole.usage.completion_tokens == 48

    streamed = ["", "", ""]
    for chunk in chat(client, stream=True, **fields):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts
    second = chat(client, **fields | {"n": 1, "seed": 8})
    assert second.choices[0].message.content == texts[1]


def test_both_names_of_the_limit_of_tokens_are_honoured_and_may_not_differ(client: openai.OpenAI) -> None:
    assert chat(client, max_completion_tokens=3, max_tokens=None).usage.completion_tokens == 3
    assert chat(client, max_tokens=4).usage.completion_tokens == 4
    with pytest.raises(openai.BadRequestError, match="max_tokens and max_completion_tokens differ") as raised:
        chat(client, max_tokens=4, max_completion_tokens=3)
    assert raised.value.param == "max_tokens"


def test_a_stop_sequence_is_not_part_of_the_text(client: openai.OpenAI) -> None:
    text = chat(client).choices[0].message.content
    stop = text.strip()[3:8]
    stopped = chat(client, stop=[stop, "never in any text"])
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].message.content == text[: text.index(stop)]


def test_a_biased_token_is_all_that_is_said(client: openai.OpenAI, model: Model) -> None:
    token = model.tokenize("king")[-1]
    biased = client.completions.create(
        model="demo", prompt="Once", max_tokens=4, temperature=1, logit_bias={str(token): 1000}, logprobs=0
    )
    logprobs = biased.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert len(logprobs.tokens) == 4
    assert len(set(logprobs.tokens)) == 1


def test_log_probabilities_are_the_same_streamed_and_whole(client: openai.OpenAI) -> None:
    fields = {"logprobs": True, "top_logprobs": 3, "extra_body": {"deterministic": True}}
    whole = chat(client, **fields).choices[0].logprobs.content
    assert len(whole) == 16
    for item in whole:
        assert len(item.top_logprobs) == 3
        assert item.token == item.top_logprobs[0].token
        assert item.logprob == item.top_logprobs[0].logprob <= 0
        assert bytes(item.bytes).decode(errors="replace") == item.token
    streamed = [
        item
        for chunk in chat(client, stream=True, **fields)
        if chunk.choices[0].logprobs
        for item in chunk.choices[0].logprobs.content
    ]
    assert streamed == whole


def test_a_developer_is_a_system(client: openai.OpenAI) -> None:
    answers = [
        chat(client, messages=[{"role": role, "content": "You are brief."}, *MESSAGES]).choices[0].message.content
        for role in ("system", "developer")
    ]
    assert answers[0] == answers[1]


def test_extensions_are_honoured(client: openai.OpenAI) -> None:
    body = {"timings_per_token": True, "return_progress": True, "top_k": 1, "min_p": 0.1, "repeat_penalty": 1.1}
    chunks = list(chat(client, temperature=1, stream=True, extra_body=body))
    progress = [chunk.prompt_progress for chunk in chunks if hasattr(chunk, "prompt_progress")]
    assert progress[-1]["processed"] == progress[-1]["total"] > 0
    assert set(progress[-1]) == {"total", "cache", "processed", "time_ms"}
    texts = [chunk for chunk in chunks if chunk.choices[0].delta.content]
    assert all(chunk.timings["predicted_n"] > 0 for chunk in texts)


def test_a_long_prompt_is_told_before_its_first_token(client: openai.OpenAI) -> None:
    words = "The quick brown fox jumps over the lazy dog. " * 38
    stream = chat(
        client,
        messages=[{"role": "user", "content": words}],
        max_tokens=1,
        stream=True,
        extra_body={"return_progress": True, "cache_prompt": False},
    )
    first, *chunks = list(stream)
    assert first.choices[0].delta.role == "assistant"
    told = [hasattr(chunk, "prompt_progress") for chunk in chunks]
    # How often it is told depends on the machine; that it was computed to its end is told before anything else.
    assert told[0]
    assert told == sorted(told, reverse=True)
    progress = [chunk.prompt_progress for chunk in chunks[: told.count(True)]]
    processed = [report["processed"] for report in progress]
    assert processed == sorted(set(processed))
    assert progress[-1]["processed"] == progress[-1]["total"] > 500


def test_completions_take_texts_and_tokens(client: openai.OpenAI) -> None:
    fields: Any = {"model": "demo", "max_tokens": 8, "temperature": 0}
    two = client.completions.create(prompt=["Once upon a time", "A cat"], **fields)
    assert [choice.index for choice in two.choices] == [0, 1]
    assert two.id.startswith("cmpl-")
    assert two.object == "text_completion"
    assert two.usage is not None
    assert two.usage.completion_tokens == 16
    echoed = client.completions.create(prompt="A cat", echo=True, **fields)
    assert echoed.choices[0].text == "A cat" + two.choices[1].text
    tokens = client.completions.create(prompt=[[72, 101], [72]], echo=True, max_tokens=0, model="demo")
    assert len(tokens.choices) == 2
    streamed = ["", ""]
    for chunk in client.completions.create(prompt=["Once upon a time", "A cat"], stream=True, **fields):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == [choice.text for choice in two.choices]


def test_completions_have_log_probabilities_as_lists(client: openai.OpenAI) -> None:
    choice = client.completions.create(model="demo", prompt="Once", max_tokens=8, temperature=0, logprobs=2).choices[0]
    logprobs = choice.logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.text_offset is not None
    assert logprobs.top_logprobs is not None
    assert "".join(logprobs.tokens).startswith(choice.text)
    assert logprobs.text_offset[1] == len(logprobs.tokens[0])
    assert all(2 <= len(top) <= 3 for top in logprobs.top_logprobs)


def test_a_response_is_the_same_streamed_and_whole(client: openai.OpenAI) -> None:
    fields: Any = {
        "model": "demo",
        "input": PROMPT,
        "instructions": "You are brief.",
        "max_output_tokens": 16,
        "temperature": 0,
        "metadata": {"kind": "test"},
    }
    whole = client.responses.create(**fields)
    assert whole.id.startswith("resp_")
    assert (whole.object, whole.status, whole.store) == ("response", "incomplete", False)
    assert whole.incomplete_details is not None
    assert whole.incomplete_details.reason == "max_output_tokens"
    assert (whole.instructions, whole.metadata) == ("You are brief.", {"kind": "test"})
    assert whole.usage is not None
    assert whole.usage.output_tokens == 16
    assert whole.output_text

    with client.responses.stream(**fields) as stream:
        events = list(stream)
    final: Any = events[-1]
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(len(events)))
    assert final.response.output_text == whole.output_text
    names = [event.type for event in events if event.type != "response.output_text.delta"]
    assert names == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]


def test_the_output_of_a_response_is_input_of_the_next(client: openai.OpenAI) -> None:
    first = client.responses.create(model="demo", input=PROMPT, max_output_tokens=8)
    items: Any = [{"role": "user", "content": PROMPT}]
    items += [item.model_dump() for item in first.output]
    items += [{"role": "user", "content": [{"type": "input_text", "text": "Go on."}]}]
    second = client.responses.create(
        model="demo", input=items, max_output_tokens=8, include=["message.output_text.logprobs"], top_logprobs=2
    )
    part: Any = second.output[0]
    assert part.content[0].logprobs[0].top_logprobs[1].token is not None


def test_errors_are_the_client_s_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no model named other; it has demo") as unknown:
        chat(client, model="other")
    assert (unknown.value.code, unknown.value.type) == ("model_not_found", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as long:
        chat(client, messages=[{"role": "user", "content": "word " * 5000}])
    assert (long.value.code, long.value.type) == ("context_length_exceeded", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="n is 129, but must be"):
        chat(client, n=129)
    with pytest.raises(openai.BadRequestError, match="not supported") as raised:
        client.responses.create(model="demo", input="Hi", previous_response_id="resp_1")
    assert raised.value.param == "previous_response_id"
    assert raised.value.request_id is not None
    with pytest.raises(openai.BadRequestError, match="embeddings are not supported yet"):
        client.embeddings.create(model="demo", input="Hi")


def test_an_error_midway_is_raised_by_the_client(client: openai.OpenAI) -> None:
    # The second token comes in time and the third does not, however fast the machine is.
    slow = {"timeout_ms": 3000, "ignore_eos": True, "stream_delay_ms": 1800}
    stream = chat(client, stream=True, max_tokens=100, extra_body=slow)
    texts: list[str | None] = []

    def read() -> None:
        texts.extend(chunk.choices[0].delta.content for chunk in stream)

    with pytest.raises(openai.APIError, match="timed out after 3000 ms") as raised:
        read()
    assert not isinstance(raised.value, openai.APIStatusError)
    assert any(texts)
    with pytest.raises(openai.InternalServerError, match="timed out after 300 ms"):
        chat(client, max_tokens=100, extra_body=slow | {"timeout_ms": 300})


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    model = client.models.retrieve("demo")
    assert (model.id, model.created) == ("demo", int(Path(DEMO).stat().st_mtime))


def test_the_asynchronous_client_streams_several_answers_at_once(server: Serving) -> None:
    async def one(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(
            model="demo", messages=MESSAGES, max_tokens=16, temperature=0, stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=60) as client:
            return await asyncio.gather(*(one(client) for _ in range(4)))

    texts = asyncio.run(all_of_them())
    assert len(set(texts)) == 1
    assert texts[0]


def test_langchain_streams_and_continues(server: Serving) -> None:
    options: Any = {"base_url": f"{server.url}/v1", "api_key": "none", "model": "demo", "temperature": 0}
    model = ChatOpenAI(max_completion_tokens=12, stream_usage=True, **options)
    whole = model.invoke(PROMPT)
    chunks = list(model.stream(PROMPT))
    assert "".join(str(chunk.content) for chunk in chunks) == whole.content
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 12
    responses = ChatOpenAI(max_completion_tokens=12, use_responses_api=True, **options)
    assert responses.invoke(PROMPT).text == whole.content
    assert "".join(chunk.text for chunk in responses.stream(PROMPT)) == whole.content
    assert LangChainOpenAI(max_tokens=8, **options).invoke("Once upon a time")


def test_what_clients_make_of_an_answer_can_be_sent_back(client: openai.OpenAI, server: Serving) -> None:
    more = {"role": "user", "content": "Go on."}
    answer = chat(client).choices[0].message
    for message in (answer, answer.model_dump(), answer.model_dump(exclude_none=True)):
        assert chat(client, messages=[*MESSAGES, message, more]).usage.completion_tokens == 16
    model = ChatOpenAI(base_url=f"{server.url}/v1", api_key=SecretStr("none"), model="demo", max_completion_tokens=8)
    call: Any = {"name": "f", "args": {"a": 1}, "id": "call_1"}
    tools = [AIMessage(content="", tool_calls=[call]), ToolMessage("5", tool_call_id="call_1", name="f")]
    for turns in ([model.invoke(PROMPT)], tools):
        assert model.invoke([HumanMessage(PROMPT), *turns, HumanMessage("Go on.")]).content


LITELLM = """
import json, sys
import litellm
litellm.telemetry = False
options = dict(api_base=sys.argv[1] + "/v1", api_key="none", max_tokens=12, temperature=0)
messages = [{"role": "user", "content": "Tell me a story."}]
earlier = litellm.completion("openai/demo", messages, **options).choices[0].message
assert litellm.completion("openai/demo", [*messages, earlier, *messages], **options).choices
whole = litellm.completion("openai/demo", messages, **options)
streamed = litellm.completion("openai/demo", messages, stream=True, **options)
text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
continued = litellm.text_completion("Once", "text-completion-openai/demo", **options)
print(json.dumps([whole.choices[0].message.content, text, continued.choices[0].text]))
"""


def test_litellm_streams_and_continues(server: Serving) -> None:
    # A process of its own: the package warns a lot, and asks the network for prices unless it is told not to.
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", LITELLM, server.url],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    whole, streamed, continued = json.loads(done.stdout.splitlines()[-1])
    assert whole == streamed
    assert whole
    assert continued

"""Anthropic's dialect with the official client, unmodified, and with llm-comply."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import pytest
from http_server import serving

import mullama
from mullama import ContextParams
from mullama._model import DEMO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from http_server import Serving

    Eventually = Callable[[Callable[[], bool]], bool]

pytestmark = pytest.mark.slow

MESSAGES: Any = [{"role": "user", "content": "Tell me a story."}]
GREEDY = {"temperature": 0, "deterministic": True}
"""What the client has no names for; the text is the same each time."""
EXPECTED = {"anth-tool-calling", "anth-image-input"}
"""Cases of llm-comply that need tools or images."""


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server of the demo model."""
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Serving) -> Iterator[anthropic.Anthropic]:
    """The official client."""
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def create(client: anthropic.Anthropic, **fields: Any) -> Any:  # noqa: ANN401 - the client's types depend on the fields
    """A message of the demo model, the same each time."""
    fields = {"model": "demo", "messages": MESSAGES, "max_tokens": 16, "extra_body": GREEDY} | fields
    return client.messages.create(**fields)


def refused(client: anthropic.Anthropic, **fields: Any) -> str:  # noqa: ANN401 - the client's types depend on the fields
    """The message of the error of a request with a wrong field."""
    with pytest.raises(anthropic.BadRequestError) as caught:
        create(client, **fields)
    body: Any = caught.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    assert body["request_id"] == caught.value.request_id
    message: str = body["error"]["message"]
    return message


def test_a_message_is_the_same_streamed_and_whole(client: anthropic.Anthropic) -> None:
    whole = create(client)
    assert whole.id.startswith("msg_")
    assert whole._request_id.startswith("req_")
    assert (whole.type, whole.role, whole.model, whole.stop_reason) == ("message", "assistant", "demo", "max_tokens")
    assert whole.usage.output_tokens == 16
    with client.messages.stream(model="demo", messages=MESSAGES, max_tokens=16, extra_body=GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert [text] == [block.text for block in whole.content] == [block.text for block in final.content]  # type: ignore[union-attr]
    assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 16)


def test_an_async_stream_has_the_events_in_order(server: Serving) -> None:
    async def kinds() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none", timeout=60) as client:
            stream = await client.messages.create(model="demo", messages=MESSAGES, max_tokens=3, stream=True)
            return [event.type async for event in stream]

    found = asyncio.run(kinds())
    deltas = found.count("content_block_delta")
    assert 1 <= deltas <= 3
    middle = ["content_block_delta"] * deltas
    end = ["content_block_stop", "message_delta", "message_stop"]
    assert found == ["message_start", "content_block_start", *middle, *end]


def test_the_first_event_has_the_input_tokens_that_are_counted_without_an_answer(
    client: anthropic.Anthropic, server: Serving
) -> None:
    counted = client.messages.count_tokens(model="demo", messages=MESSAGES, system="Be brief.").input_tokens
    body = {"model": "demo", "messages": MESSAGES, "system": "Be brief.", "max_tokens": 1, "stream": True}
    answer = httpx.post(f"{server.url}/v1/messages", json=body, timeout=60)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    for usage in events[0]["message"]["usage"], events[-2]["usage"]:
        assert usage["input_tokens"] + usage["cache_read_input_tokens"] == counted
    assert events[2] == {"type": "ping"}
    assert [line[7:] for line in answer.text.splitlines() if line.startswith("event: ")] == [e["type"] for e in events]


def test_a_stop_sequence_is_named_and_not_part_of_the_text(client: anthropic.Anthropic) -> None:
    text = create(client).content[0].text
    stop = text.strip()[3:8]
    stopped = create(client, stop_sequences=["never in any text", stop])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", stop)
    assert stopped.content[0].text == text[: text.index(stop)]


def test_an_answer_continues_the_last_message_of_the_assistant(client: anthropic.Anthropic) -> None:
    text = create(client, max_tokens=24).content[0].text
    begun = text[: text.index(" ", 12)]
    continued = create(client, messages=[*MESSAGES, {"role": "assistant", "content": begun}], max_tokens=24)
    rest = continued.content[0].text
    # The same tokens may not be found again, but the sentence goes on.
    assert rest.startswith(text[len(begun) :][:8]), (begun, rest, text)
    alone = refused(client, messages=[{"role": "assistant", "content": "Once"}])
    assert alone == "messages must have a message with the role user before the assistant's last one"
    system = refused(client, messages=[{"role": "system", "content": "Be brief."}])
    assert system == "messages must have a message with the role user"


def test_blocks_of_text_and_turns_of_one_role_are_joined(client: anthropic.Anthropic) -> None:
    blocks: Any = [
        {"type": "text", "text": "Tell me", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "a story."},
    ]

    def count(*contents: object) -> int:
        messages: Any = [{"role": "user", "content": content} for content in contents]
        return client.messages.count_tokens(model="demo", messages=messages).input_tokens

    assert count(blocks) == count("Tell me", "a story.") == count("Tell me\na story.")


def test_errors_name_the_path_of_the_field(client: anthropic.Anthropic) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    content = [{"type": "text", "text": "Hi"}, image]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"messages": [{"role": "user", "content": content}]}, "messages[0].content[1] is an image, but"),
        ({"messages": []}, "messages has 0 messages, but must have 1 to 100000"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role must be user, assistant or system"),
        ({"max_tokens": 0}, "max_tokens is 0, but must be 1 to"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.type must be disabled: "),
        ({"tools": [{"name": "f", "input_schema": {"type": "object"}}]}, "tools is not supported yet"),
        ({"tool_choice": {"type": "any"}}, "tool_choice.type must be none or auto: "),
        ({"output_config": {"format": {}}}, "output_config.format is not supported yet"),
        ({"extra_body": {"top_p": 7}}, "top_p is 7"),
        ({"extra_body": {"context_management": {"edits": [{}]}}}, "context_management must be"),
        ({"extra_body": {"stop_sequences": [""]}}, "stop_sequences is empty at index 0"),
    ]
    for fields, message in wrong:
        assert refused(client, **fields).startswith(message)
    long = refused(client, messages=[{"role": "user", "content": "word " * 5000}])
    assert re.fullmatch(r"prompt is too long: \d+ tokens > \d+ maximum", long)
    create(client, thinking={"type": "disabled"}, tools=[], tool_choice={"type": "auto"}, metadata={"user_id": "me"})


def test_an_unknown_model_and_a_wrong_method_have_anthropics_errors(
    client: anthropic.Anthropic, server: Serving
) -> None:
    with pytest.raises(anthropic.NotFoundError, match="no model named gpt; it has demo") as caught:
        create(client, model="gpt")
    assert caught.value.response.json()["error"]["type"] == "not_found_error"
    answer = httpx.get(f"{server.url}/v1/messages", timeout=60)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["request_id"] == answer.headers["request-id"]


async def until_queued(client: httpx.AsyncClient, count: int) -> None:
    """Waits until so many streams of the first model wait for a slot."""
    while (await client.get("http://localhost/status")).json()["models"][0]["queued"] < count:
        pass


def test_a_stream_that_waits_for_its_slot_is_kept_alive_by_pings(tmp_path: Path, eventually: Eventually) -> None:
    async def names() -> list[str]:
        socket = tmp_path / "socket"
        one_slot = ContextParams(n_parallel=1)
        server = asyncio.create_task(mullama.serve("demo", unix=socket, keep_alive=0.1, context_params=one_slot))
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(socket)), timeout=60) as client:
            assert await asyncio.to_thread(eventually, socket.exists)
            found: list[str] = []
            has_waited = asyncio.Event()

            async def keep_busy() -> None:
                # At least one of them always holds the slot, and others are queued before the message.
                long = {"prompt": "Once", "max_tokens": 900, "ignore_eos": True}
                while not has_waited.is_set():
                    assert (await client.post("http://localhost/v1/completions", json=long)).status_code == 200

            before = [asyncio.create_task(keep_busy()) for _ in range(12)]
            await asyncio.wait_for(until_queued(client, 8), 60)
            body = {"model": "demo", "messages": MESSAGES, "max_tokens": 1, "stream": True}
            async with client.stream("POST", "http://localhost/v1/messages", json=body) as answer:
                async for line in answer.aiter_lines():
                    found += [line[7:]] if line.startswith("event: ") else []
                    if found.count("ping") >= 3:
                        has_waited.set()
            has_waited.set()
            await asyncio.gather(*before)
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server
        return found

    found = asyncio.run(names())
    assert found[:3] == ["message_start", "content_block_start", "ping"]
    assert found.count("ping") >= 3, found
    assert found[-1] == "message_stop"


def test_only_the_expected_cases_of_llm_comply_fail(server: Serving) -> None:
    command = [sys.executable, "-m", "llm_comply.cli", "--json", "--format", "anthropic", "-m", "demo"]
    done = subprocess.run(
        [*command, "-k", "none", "-u", f"{server.url}/v1"], capture_output=True, text=True, timeout=100, check=False
    )
    results = json.loads(done.stdout)["results"]
    failed = {result["id"] for result in results if result["status"] == "failed"}
    assert len(results) > len(failed)
    assert failed == EXPECTED, results


def test_models_are_listed_in_the_shape_of_the_client(client: anthropic.Anthropic) -> None:
    models = client.models.list()
    assert [(model.id, model.type, model.display_name) for model in models] == [("demo", "model", "demo")]
    assert (models.first_id, models.last_id, models.has_more) == ("demo", "demo", False)
    model = client.models.retrieve("demo")
    assert (model.id, int(model.created_at.timestamp())) == ("demo", int(Path(DEMO).stat().st_mtime))
    with pytest.raises(anthropic.NotFoundError, match="no model named demon"):
        client.models.retrieve("demon")

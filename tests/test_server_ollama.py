"""Ollama's dialect with the official client, unmodified."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import httpx
import ollama
import pytest
from http_server import serving

from mullama._model import DEMO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from http_server import Serving
    from hub import HubServer

pytestmark = pytest.mark.slow

GREEDY = {"temperature": 0, "num_predict": 16}
MESSAGES = [{"role": "user", "content": "Tell me a story."}]


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server of the demo model."""
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Serving) -> Iterator[ollama.Client]:
    """The official client."""
    with ollama.Client(server.url, timeout=60) as client:
        yield client


def refused(ask: Callable[[], Any]) -> str:
    """The status and the message of an error."""
    with pytest.raises(ollama.ResponseError) as caught:
        ask()
    assert caught.value.status_code == 400
    return caught.value.error


def test_a_prompt_is_answered_the_same_streamed_and_whole(client: ollama.Client) -> None:
    whole = client.generate("demo", "Tell me a story.", options=GREEDY)
    assert (whole.done, whole.done_reason, whole.eval_count) == (True, "length", 16)
    assert whole.model == "demo"
    parts = list(client.generate("demo", "Tell me a story.", options=GREEDY, stream=True))
    assert "".join(part.response or "" for part in parts) == whole.response
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].prompt_eval_count == whole.prompt_eval_count
    assert datetime.fromisoformat((whole.created_at or "")[:19]).year >= 2026


def test_durations_are_nanoseconds_that_add_up(client: ollama.Client) -> None:
    end = client.chat("demo", MESSAGES, options=GREEDY)
    total, load, evaluated = end.total_duration, end.load_duration, end.eval_duration
    assert total is not None
    assert load is not None
    assert evaluated is not None
    assert end.prompt_eval_duration is not None
    assert total >= load + evaluated + end.prompt_eval_duration
    assert 10_000 < evaluated < 60e9


def test_a_chat_is_a_prompt_with_the_template(client: ollama.Client) -> None:
    chat = client.chat("demo", MESSAGES, options=GREEDY)
    assert chat.message.role == "assistant"
    assert chat.message.content == client.generate("demo", "Tell me a story.", options=GREEDY).response
    with_system = client.chat("demo", [{"role": "system", "content": "Be brief."}, *MESSAGES], options=GREEDY)
    alike = client.generate("demo", "Tell me a story.", system="Be brief.", options=GREEDY)
    assert (with_system.message.content, with_system.prompt_eval_count) == (alike.response, alike.prompt_eval_count)
    raw = client.generate("demo", "Tell me a story.", raw=True, options=GREEDY)
    assert (raw.prompt_eval_count or 0) < (alike.prompt_eval_count or 0)


def test_a_chat_continues_the_last_message_of_the_assistant(client: ollama.Client) -> None:
    whole = client.chat("demo", MESSAGES, options=GREEDY).message.content or ""
    begun = whole[: whole.index(" ", 8)]
    rest = client.chat("demo", [*MESSAGES, {"role": "assistant", "content": begun}], options=GREEDY).message.content
    assert (rest or "").startswith(whole[len(begun) :][:6])


def test_an_async_client_streams(server: Serving) -> None:
    async def lines() -> list[Any]:
        async with ollama.AsyncClient(server.url) as client:
            answer = await client.chat("demo", MESSAGES, stream=True, options={"num_predict": 3})
            return [part async for part in answer]

    found = asyncio.run(lines())
    assert found[-1].done_reason == "length"
    assert found[-1].message.content == ""


def test_a_stop_sequence_is_not_part_of_the_text(client: ollama.Client) -> None:
    text = client.generate("demo", "Tell me a story.", options=GREEDY).response or ""
    stop = text.strip()[3:8]
    stopped = client.generate("demo", "Tell me a story.", options=GREEDY | {"stop": ["never", stop]})
    assert (stopped.done_reason, stopped.response) == ("stop", text[: text.index(stop)])


def test_log_probabilities_are_beside_their_tokens(client: ollama.Client) -> None:
    whole = client.generate("demo", "Tell me a story.", options=GREEDY, logprobs=True, top_logprobs=2)
    assert whole.logprobs is not None
    assert len(whole.logprobs) == 16
    for item in whole.logprobs:
        assert item.top_logprobs is not None
        assert item.token == item.top_logprobs[0].token
        assert item.top_logprobs[1].logprob <= item.logprob <= 0
    assert "".join(item.token for item in whole.logprobs) == whole.response


def test_the_models_and_what_is_known_about_them(client: ollama.Client, server: Serving) -> None:
    [listed] = client.list().models
    assert listed.model == "demo"
    assert listed.details is not None
    assert (listed.details.format, listed.details.family) == ("gguf", "llama")
    assert (listed.details.parameter_size, listed.details.quantization_level) == ("2.16M", "Q8_0")
    assert (listed.size or 0) > 2_000_000
    shown = client.show("demo:latest")
    assert shown.capabilities == ["completion"]
    assert "<|im_start|>" in (shown.template or "")
    assert shown.modelinfo is not None
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.modelinfo["general.parameter_count"] > 2_000_000
    assert shown.modelinfo["tokenizer.ggml.tokens"] is None
    assert len(shown.model_dump_json()) < 20_000
    assert httpx.head(server.url, timeout=60).status_code == 200
    assert httpx.get(f"{server.url}/api/version", timeout=60).json()["version"].count(".") == 2


def test_a_model_stays_as_long_as_its_client_says(client: ollama.Client) -> None:
    assert client.generate("demo", keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    assert client.generate("demo").done_reason == "load"
    client.chat("demo", MESSAGES, options={"num_predict": 1}, keep_alive="10m")
    [running] = client.ps().models
    assert running.expires_at is not None
    left = running.expires_at - datetime.now(timezone.utc)
    assert timedelta(minutes=9) < left <= timedelta(minutes=10)
    assert (running.context_length or 0) >= 1024
    client.chat("demo", [], keep_alive=-1)
    forever = client.ps().models[0].expires_at
    assert forever is not None
    assert forever.year > 2100


def test_errors_name_the_path_of_the_field(client: ollama.Client) -> None:
    def ask(**fields: Any) -> str:  # noqa: ANN401 - as the client's own
        return refused(lambda: client.generate("demo", "Hi", **fields))

    assert ask(options={"top_p": 7}).startswith("options.top_p is 7")
    assert ask(options={"num_ctx": 0}).startswith("options.num_ctx is 0, but must be 1 to")
    assert ask(options={"num_gpus": 1}).startswith("options.num_gpus is not a known field; did you mean num_gpu?")
    assert ask(images=["aGk="]).startswith("images is not supported yet")
    assert ask(format="json").startswith("format is not supported yet")
    assert ask(think=True).startswith("think is not supported yet")
    assert ask(keep_alive="soon").startswith("keep_alive must be a number of seconds, or a duration such as 5m")
    assert ask(raw=True, system="Be brief.") == "system cannot be used with raw, which takes the prompt as it is"
    pictured = [{"role": "user", "content": "Hi", "images": ["aGk="]}]
    assert refused(lambda: client.chat("demo", pictured)).startswith("messages[0].images is not supported yet")
    assert refused(lambda: client.embed("demo", "Hi")) == "embeddings are not supported yet"
    client.generate("demo", "Hi", options={"num_ctx": 256, "num_thread": 2, "num_predict": 1}, think=False, format="")


def test_an_unknown_model_is_404_with_the_nearest_names(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="no model named demon; it has demo") as caught:
        client.generate("demon", "Hi")
    assert caught.value.status_code == 404


def test_a_model_is_pulled_used_and_deleted(hub: HubServer, tmp_path: Path) -> None:
    with serving() as server, ollama.Client(server.url, timeout=60) as client:
        statuses = [part.status for part in client.pull("llama3.2:1b", stream=True)]
        assert statuses[0] == "pulling manifest"
        assert statuses[-1] == "success"
        assert hub.bodies()
        assert [model.model for model in client.list().models] == ["demo", "llama3.2:1b"]
        listed = client.list().models[1]
        assert len(listed.digest or "") == 64
        shown = client.show("llama3.2:1b")
        assert "temperature                    0.6" in (shown.parameters or "")
        assert client.generate("llama3.2:1b", "Hi", options={"num_predict": 2}).eval_count == 2
        assert client.delete("llama3.2:1b").status == "success"
        assert [model.model for model in client.list().models] == ["demo"]
        assert not list((tmp_path / "models").glob("manifests/**/1b"))
        with pytest.raises(ollama.ResponseError) as caught:
            client.delete("llama3.2:1b")
        assert caught.value.status_code == 404
        assert client.pull("tiny").status == "success"


def test_a_pull_that_fails_says_so_in_a_line(hub: HubServer) -> None:
    assert hub.url
    with serving() as server, ollama.Client(server.url, timeout=60) as client:
        with pytest.raises(ollama.ResponseError, match="nowhere"):
            list(client.pull("nowhere", stream=True))
        with pytest.raises(ollama.ResponseError, match="nowhere"):
            client.pull("nowhere")
        for name in ["./x.gguf", "/etc/passwd", "http://127.0.0.1:1/x.gguf", "127.0.0.1:1/library/x"]:
            assert refused(functools.partial(client.pull, name)).startswith("model "), name


def test_a_model_that_is_there_is_pulled_at_once_and_one_that_was_not_downloaded_is_not_deleted(tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    shutil.copyfile(DEMO, copy)
    # Nothing can be downloaded there.
    offline = os.environ | {"MULLAMA_MODELS": str(tmp_path / "models"), "MULLAMA_OFFLINE": "1"}
    with (
        serving("--model", f"mine={copy}", env=offline) as server,
        ollama.Client(server.url, timeout=60) as client,
    ):
        assert client.pull("mine").status == "success"
        assert [part.status for part in client.pull("mine:latest", stream=True)] == ["success"]
        assert client.pull("demo").status == "success"
        assert [model.model for model in client.list().models] == ["mine", "demo"]
        assert refused(lambda: client.delete("demo")) == "demo is built in, so it cannot be removed"
        assert (
            refused(lambda: client.delete("mine"))
            == "this server has no downloaded file of mine, so it cannot be removed"
        )
        with pytest.raises(ollama.ResponseError) as caught:
            client.delete("mind")
        assert caught.value.status_code == 404
        assert caught.value.error == "this server has no model named mind; it has mine, demo"
        with pytest.raises(ollama.ResponseError) as caught:
            client.pull("nope")
        assert caught.value.error == "the server cannot download nope:latest: downloads are turned off on the server"


def test_a_client_that_leaves_stops_its_pull(hub: HubServer) -> None:
    hub.fault("/cdn/*", {"trickle": {"bytes": 4096, "ms": 50}})
    with serving() as server:
        with httpx.stream("POST", f"{server.url}/api/pull", json={"model": "large"}, timeout=60) as answer:
            lines = answer.iter_lines()
            while not json.loads(next(lines)).get("completed"):
                pass
        hub.reset()
        # A download that went on would take minutes, and this one would wait for it.
        with ollama.Client(server.url, timeout=30) as client:
            assert client.pull("large").status == "success"

"""The pages on the HTTP server: every block of them runs against a real server, and their tables are true."""

from __future__ import annotations

import os
import re
import shlex
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from command import COMMAND, mullama
from guide import DOCS, HTTP_PAGES, ROOT, blocks
from http_server import LIMIT, serving
from hub import HubServer, fresh
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from sections import SERVE, Place, Section, run, sections

from mullama import ServerOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

DEMO = ROOT / "python" / "mullama" / "models" / "demo.gguf"
PAGE = (DOCS / "server.md").read_text(encoding="utf-8")
SEED_CURL = """\
curl -X POST http://localhost:8080/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "llama3.2:1b",
    "messages": [{"role": "user", "content": "Hello!"}],
    "stream": true
  }'
"""
SEED_WEBSOCAT = 'echo "Hello!" | websocat ws://localhost:8080/ws\n'
CHAT = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 3}
UNITS = {"": 1, "s": 1, "min": 60, "MiB": 1 << 20}


@pytest.fixture(scope="module")
def place(hub_server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A reader's folder, with the server that the pages begin with."""
    hub_server.reset()
    folder = tmp_path_factory.mktemp("reader")
    (folder / "model.gguf").symlink_to(DEMO)
    path = f"{Path(COMMAND[0]).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**fresh(hub_server, tmp_path_factory.mktemp("home")), "PATH": path, "SHELL": "/bin/sh"}
    with serving("--model", "llama3.2:1b", "--websocket", env=environment) as running:
        yield Place(folder, environment, running)


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of the one table of a section."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def title(section: Section) -> str:
    return f"{section.page.name}: {section.title}"


@pytest.mark.parametrize("section", sections(*HTTP_PAGES), ids=title)
def test_the_blocks_of_a_section_run_in_order(section: Section, place: Place) -> None:
    run(section, place)


def test_a_block_that_fails_writes_nothing_or_writes_an_error_fails_its_section(place: Place) -> None:
    [section] = [section for section in sections(DOCS / "server.md") if section.title == "llama-server"]
    [(_, curl), (_, python)] = section.blocks
    wrong = [curl._replace(code="false"), curl._replace(code="true")]
    wrong += [curl._replace(code=curl.code.replace("n_predict", "n_predicts"))]
    for block in wrong:
        with pytest.raises(AssertionError):
            run(section._replace(blocks=[("sh", block)]), place)
    with pytest.raises(AssertionError):
        run(section._replace(blocks=[("python", python._replace(code="raise SystemExit(1)"))]), place)


def test_the_commands_of_the_first_page_about_streaming_are_among_the_blocks() -> None:
    codes = [block.code for block in blocks("sh", *HTTP_PAGES)]
    assert SEED_CURL in codes
    assert SEED_WEBSOCAT in codes


@pytest.mark.parametrize(
    "page", [page for page in HTTP_PAGES if blocks(r"rust[,\w]*", page)], ids=lambda page: page.name
)
def test_the_rust_blocks_are_doctests_of_the_crate(page: Path) -> None:
    crate = (ROOT / "crates" / "mullama-server" / "src" / "lib.rs").read_text(encoding="utf-8")
    assert f'#[doc = include_str!("../../../docs/{page.name}")]' in crate


def test_each_block_has_a_language_that_a_test_here_knows() -> None:
    for page in HTTP_PAGES:
        fences = re.findall(r"^```(.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(fences) <= {"sh", "python", "rust", "text", "ini"}, page


def test_the_unit_of_systemd_starts_the_server(place: Place) -> None:
    unit = blocks("ini", DOCS / "server.md")[0].code
    [command] = re.findall(r"^ExecStart=(.*)$", unit, flags=re.MULTILINE)
    program, _, options = command.partition(" serve ")
    assert Path(program).name == "mullama"
    with serving(*shlex.split(options), "--port", "0", env=place.environment) as running:
        assert httpx.get(f"{running.url}/health", timeout=LIMIT).status_code == 200
        assert running.stop() == 0
    drain, stop = (int(re.findall(rf"{name}[ =](\d+)", unit)[0]) for name in ("--drain-timeout", "TimeoutStopSec"))
    assert stop > drain


def test_the_command_for_a_socket_of_systemd_serves_the_socket_that_is_passed(place: Place) -> None:
    [options] = re.findall(r"`mullama serve (.*--listen systemd)`", PAGE)
    [address] = re.findall(r"^ListenStream=(.*):\d+$", PAGE, flags=re.MULTILINE)
    with socket.create_server((address, 0)) as listening:
        port = listening.getsockname()[1]
        with serving(*options.split(), env=place.environment, passed=listening) as running:
            assert httpx.get(f"http://{address}:{port}/health", timeout=LIMIT).status_code == 200
            assert running.stop() == 0


def test_each_option_that_the_page_names_exists() -> None:
    known = mullama("serve", "--help").stdout.decode() + mullama("launch", "--help").stdout.decode()
    named = set(re.findall(r"`(--[a-z-]+)", PAGE))
    named |= {word for block in blocks("sh", DOCS / "server.md") for word in options_of(block.code)}
    assert named
    assert {name for name in named if not re.search(rf"{name}\b(?!-)", known)} == set()


def options_of(code: str) -> list[str]:
    lines = [line for line in code.replace("\\\n", " ").splitlines() if line.startswith(SERVE)]
    return [word for line in lines for word in line.split() if word.startswith("--")]


def test_the_defaults_in_the_table_of_limits_are_those_of_the_options() -> None:
    fields = ServerOptions.__dataclass_fields__
    checked = set()
    for _, default, setting, _ in table("Limits"):
        name = setting.strip("`-").replace("-", "_")
        if name in fields and name != "context_params":
            number, _, unit = default.partition(" ")
            assert fields[name].default == float(number) * UNITS[unit], setting
            checked.add(name)
    assert checked >= {"max_connections", "max_body_bytes", "header_timeout", "body_timeout", "drain_timeout"}
    context = ServerOptions().context_params
    rows = {name: default for name, default, _, _ in table("Limits")}
    assert rows["streams of a model that run at once"] == str(context.n_parallel)
    assert rows["streams of a model that wait"] == str(context.max_queue)
    assert rows["streams of a model that run, wait or are paused"] == str(context.max_paused)
    assert context.kv_cells is None, "which is the context"


def test_the_table_of_metrics_lists_what_the_server_exports(
    place: Place, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    url = place.server.url
    endless = {**CHAT, "max_tokens": -1, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=endless, timeout=LIMIT) as answer:
        assert next(answer.iter_lines()).startswith("data: ")
    documented = {
        (name.removesuffix("_total"), kind) for names, kind, _ in table("Metrics") for name in re.findall(r"\w+", names)
    }

    def exported() -> set[tuple[str, str]]:
        text = httpx.get(f"{url}/metrics", timeout=LIMIT).text
        families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        return {(family.name, family.type) for family in families}

    assert eventually(lambda: exported() == documented), exported() ^ documented


def test_a_line_of_the_log_looks_as_the_page_shows_it(
    place: Place, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    body = {**CHAT, "model": "llama3.2:1b"}
    assert httpx.post(f"{place.server.url}/v1/messages", json=body, timeout=LIMIT).status_code == 200
    [shown] = [block.code.strip() for block in blocks("text", DOCS / "server.md")]

    def shape(line: str) -> str:
        without_id = re.sub(r"\breq_[0-9a-f]+", "req", line)
        return re.sub(r"[\d.]+", "0", without_id.replace("true", "…").replace("false", "…"))

    assert eventually(lambda: any(shape(line) == shape(shown) for line in place.server.lines)), place.server.lines


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"tools": [{"type": "function", "function": {"name": "a"}}]}),
        ("/v1/chat/completions", {"response_format": {"type": "json_object"}}),
        ("/api/chat", {"model": "demo", "format": "json"}),
        ("/completion", {"prompt": "Hi", "grammar": 'root ::= "a"'}),
        ("/completion", {"prompt": "Hi", "json_schema": {}}),
        ("/v1/embeddings", {"input": "Hi"}),
        ("/v1/responses", {"input": "Hi", "previous_response_id": "resp_1"}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
        ),
    ],
)
def test_what_is_not_supported_yet_is_refused(path: str, fields: dict[str, object], place: Place) -> None:
    chat = {"messages": CHAT["messages"]} if "chat" in path else {}
    body = {**chat, **fields, **({"model": "llama3.2:1b"} if "model" in fields else {})}
    answer = httpx.post(place.server.url + path, json=body, timeout=LIMIT)
    assert answer.status_code == 400
    assert "not supported" in answer.text

"""The pages say what is so: every block of them runs, and the tables of `docs/streaming.md` are the package's own."""

from __future__ import annotations

import ast
import functools
import json
import logging
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from guide import CHAT, DOCS, GUIDE, MODELS, PAGES, ROOT, SERVERS, Block, Program, blocks, name, run_in_shell
from hub import UNSET, HubServer, fresh

import mullama
from mullama import Context, InvalidConfigError, MullamaError, StreamConfig, _cli, _mullama
from mullama.integrations.fastapi import error_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CORE = ROOT / "crates" / "mullama-core" / "src" / "config" / "stream_config.rs"

WITHOUT_PYTHON = {
    "chat-templates",
    "command-line",
    "dependencies",
    "gpu",
    "node",
    "node-reference",
    "node-values",
    "performance",
    "reference",
    "releasing",
    "rust",
    "server-fields",
    "server-fields-anthropic",
    "server-fields-llama",
    "server-fields-ollama",
    "server-fields-websocket",
    "updating-llama-cpp",
}

METHODS = """
close create_chat_completion create_chat_completion_openai_v1 create_completion create_embedding detokenize embed
eval from_pretrained generate load_state logits_to_logprobs longest_token_prefix n_ctx n_embd n_vocab reset sample
save_state set_cache set_seed token_bos token_eos token_nl tokenize tokenizer
"""
"""The public methods of llama-cpp-python 0.3's `Llama`."""

OUT_OF_RANGE = {
    "seed": 2**32 - 1,
    "logit_bias": {0: math.nan},
    "logprobs": 21,
    "stop_sequences": [""],
    "stop_tokens": [-1],
    "dry_sequence_breakers": ["\0"],
}
"""A value that a field refuses; a number of 400 digits for the others."""


def table(beginning: str) -> list[list[str]]:
    """The cells of the table that begins so, without its head."""
    rows = GUIDE.read_text(encoding="utf-8").split(f"\n| {beginning} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def with_a_model(folder: Path) -> Path:
    """The folder with a model file of the name that the pages use for the reader's own."""
    (folder / "model.gguf").symlink_to(ROOT / "python" / "mullama" / "models" / "demo.gguf")
    return folder


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory, hub_server: HubServer) -> Iterator[Callable[[Path], Program]]:
    """The program of each page, in a folder with a model, and with a server of models on this machine."""
    logger = logging.getLogger("mullama")
    before = logger.level, Path.cwd()
    os.chdir(with_a_model(tmp_path_factory.mktemp("page")))
    hub_server.reset()
    with pytest.MonkeyPatch.context() as patch:
        for variable in UNSET:
            patch.delenv(variable, raising=False)
        for variable, value in hub_server.environment(tmp_path_factory.mktemp("home")).items():
            patch.setenv(variable, value)
        yield functools.cache(Program)
    logger.setLevel(before[0])
    os.chdir(before[1])


@pytest.fixture
def program(programs: Callable[[Path], Program]) -> Program:
    """The program of the guide."""
    return programs(GUIDE)


def test_there_is_something_to_run() -> None:
    assert len(blocks("python", GUIDE)) > 5
    assert len(blocks("python", *PAGES)) > 10
    assert len(blocks("rust", GUIDE)) > 5
    languages = re.findall(r"^```(\w*)\n(?:(?!```).*\n)*```$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(languages) == {"python", "js", "rust", "sh"}
    assert len(blocks("sh", *PAGES)) > 5
    assert {page for page in PAGES if not blocks("python", page)} <= {DOCS / f"{name}.md" for name in WITHOUT_PYTHON}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(r"rust[,\w]*", page)], ids=lambda page: page.name)
def test_the_rust_blocks_are_doctests_of_a_crate(page: Path) -> None:
    crate = "mullama-hub" if page == MODELS else "mullama-core"
    core = (ROOT / "crates" / crate / "src" / "lib.rs").read_text(encoding="utf-8")
    assert f'#[doc = include_str!("../../../docs/{page.name}")]' in core


@pytest.mark.parametrize("block", blocks("python", *PAGES), ids=name)
def test_a_python_block_runs_where_it_stands(programs: Callable[[Path], Program], block: Block) -> None:
    programs(block.page).run_to(block)


@pytest.mark.parametrize(
    ("page", "part", "told"),
    [
        (GUIDE, "from mullama import Context, Model", r"\((length|stop)\)$"),
        (GUIDE, "stats().paused", "paused: 1\n"),
        (GUIDE, "except StreamTimeoutError", "\ntimeout_ms passed after [1-9] tokens, [1-9][0-9]* characters"),
        (GUIDE, '["7", "11"]', "^, 4, 5, 6,  ended before 7\n$"),
        (GUIDE, "threading.Timer", "(?s) cancelled\n.* cancelled\n$"),
        (GUIDE, "getLogger", r"Usage\(.*\nTimings\(.*\nStats\("),
        (CHAT, "chat_stream", r"(?s)\(0 of .*\n\([1-9][0-9]* of"),
        (CHAT, "get_weather", '"city": "Berlin"'),
        (CHAT, "ContextOverflowError", r"\d+ of 128 tokens: the oldest turn goes\n(?s:.*)messages fit\)\n$"),
        (MODELS, 'mullama.pull("hf.co', r"done (\d+) of \1\n"),
        (MODELS, "list_models", r"(?s)tiny:latest \d+ Q8_0 mullama\n.*Apache-2.0"),
        (SERVERS, "serve(answer", r"\{'type': 'done', 'finish_reason': '(length|stop)'\}\n$"),
        (SERVERS, "def body", r"\{\"finish_reason\": \"(length|stop)\"\}\n$"),
    ],
)
def test_a_python_block_does_what_the_text_says(
    programs: Callable[[Path], Program], page: Path, part: str, told: str
) -> None:
    assert re.search(told, programs(page).written_by(part))


def test_typed_control_tokens_are_more_tokens_than_parsed_ones(programs: Callable[[Path], Program]) -> None:
    [(plain, parsed)] = re.findall(
        r"^as plain text (\d+) tokens, parsed (\d+)$", programs(CHAT).written_by("typed"), re.MULTILINE
    )
    assert int(plain) > int(parsed)


def test_a_patient_caller_gets_its_place_when_another_reader_leaves(
    program: Program, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.written_by("def open_patiently")
    with Context(context.model, mullama.ContextParams(n_parallel=1, max_queue=0, max_paused=1)) as narrow:
        monkeypatch.setitem(program.names, "context", narrow)
        other = narrow.generate_stream("Once", buffer_size=1)
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                other.close()

        monkeypatch.setattr("time.sleep", sleep)
        with program.names["open_patiently"]("Write a poem:", max_tokens=3) as stream:
            assert len(list(stream)) == 3
    assert len(waits) == 3


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("sh", *PAGES), ids=name)
def test_a_shell_block_runs_as_it_stands(block: Block, tmp_path: Path, hub_server: HubServer) -> None:
    hub_server.reset()
    # Without a terminal Rich takes the width of the test's own.
    environment = {**fresh(hub_server, tmp_path), "COLUMNS": "100"}
    ran = run_in_shell(block.code, folder=with_a_model(tmp_path), environment=environment)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    if "exit code" in block.code:
        assert re.search(r"exit code [346]\n$", ran.stdout)
    if "--json | tail" in block.code:
        assert '{"type": "done", ' in ran.stdout


def test_the_table_of_settings_is_that_of_the_core(model: mullama.Model, context: Context) -> None:
    core = _mullama.stream_config_defaults()
    meanings = {
        field: words for words, field in re.findall(r"^ +/// (.*)\n +(\w+): .*;$", CORE.read_text(), re.MULTILINE)
    }
    rows = table("field")
    assert [row[0].strip("`") for row in rows] == list(core)
    for field, default, allowed, meaning in rows:
        name = field.strip("`")
        told = ast.literal_eval(default.strip("`"))
        assert told == (dict(core[name]) if name == "logit_bias" else pytest.approx(core[name])), name
        assert meaning == meanings[name]
        if name in {"ignore_eos", "deterministic"}:
            assert allowed == "`True` or `False`"
            continue
        options: Any = {name: OUT_OF_RANGE.get(name, 10**400)}
        with pytest.raises(InvalidConfigError) as caught:
            context.generate_stream("A", **options)
        assert caught.value.field == name
        assert allowed.replace("`n_vocab` - 1", str(model.n_vocab - 1)) == caught.value.range


def test_the_table_of_errors_is_that_of_the_package() -> None:
    rows = {row[0].strip("`"): [cell.strip("`") for cell in row[1:5]] for row in table("Python")}
    assert list(rows) == [one.__name__ for one in MullamaError.__subclasses__()]
    for one in MullamaError.__subclasses__():
        second = "".join(base.__name__ for base in one.__bases__[1:])
        status = error_response(one("")).status_code
        assert rows[one.__name__] == [one.code, second, str(status), str(one.exit_code)]


def test_the_config_of_the_guide_gives_one_text(program: Program) -> None:
    first = program.written_by("StreamConfig(max_tokens=60")
    again = program.names["context"].generate("Write a poem:", config=program.names["config"])
    assert first.startswith(str(again))
    assert isinstance(program.names["config"], StreamConfig)


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^::: (\S+)$", page, flags=re.MULTILINE))
    public = {f"mullama.{one}" for one in mullama.__all__ if one != "__version__"}
    for module in ("fastapi", "langchain"):
        source = (ROOT / "python" / "mullama" / "integrations" / f"{module}.py").read_text(encoding="utf-8")
        [names] = re.findall(r"^__all__ = (\[[^\]]*\])", source, flags=re.MULTILINE)
        public |= {f"mullama.integrations.{module}.{one}" for one in json.loads(names.replace("'", '"'))}
    assert shown == public


def test_the_page_of_the_command_line_has_every_option() -> None:
    import typer.main  # noqa: PLC0415

    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    group: Any = typer.main.get_command(_cli.app)
    for command_name, command in group.commands.items():
        section = page.split(f"\n## mullama {command_name}", 1)[1].split("\n## ", 1)[0]
        options = {option for one in command.params for option in one.opts if option.startswith("--")}
        assert set(re.findall(r"^\| `(?:-\w, )?(--[a-z-]+)", section, flags=re.MULTILINE)) == options, command_name


def test_the_page_of_migration_has_every_method() -> None:
    page = (DOCS / "migration.md").read_text(encoding="utf-8")
    theirs = "\n".join(re.findall(r"(?m)^\| (`.*?) \|", page))
    assert [method for method in METHODS.split() if not re.search(rf"[`.]{method}\b", theirs)] == []


def test_what_contributing_names_is_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sources = [*(ROOT / "tests").glob("**/*.py"), *(ROOT / "crates").glob("*/**/*.rs")]
    defined = set(re.findall(r"(?:def|fn) (\w+)\(", "\n".join(file.read_text(encoding="utf-8") for file in sources)))
    assert set(re.findall(r"`((?:test_|the_)\w+)`", page)) <= defined
    paths = set(re.findall(r"`((?:crates|docs|python|tests)/[\w./-]+)`", page))
    assert [path for path in paths if not (ROOT / path).exists()] == []

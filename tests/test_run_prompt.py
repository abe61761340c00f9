"""The prompt of `mullama run`: words, pipes, chat messages and raw text, and how a text ends."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from command import STEADY, mullama

from mullama import Context, _model, _prompt

pytestmark = pytest.mark.slow

DEMO = Path(_model.DEMO)
POEM = "Write a poem:"


@pytest.mark.parametrize("arguments", [["-"], []])
def test_the_prompt_comes_from_a_pipe(steady: Context, arguments: list[str]) -> None:
    poem = steady.generate(POEM, 30, temperature=0, deterministic=True).text
    done = mullama("run", "demo", *arguments, "--raw", "-n", "30", *STEADY, text=POEM + "\n")
    assert done.stdout.decode().rstrip("\n") == poem.rstrip("\n")


def test_a_prompt_is_a_message_where_the_model_has_a_template(context: Context) -> None:
    answer = context.chat([{"role": "user", "content": "Who are you?"}], 1000, temperature=0)
    done = mullama("run", "demo", "Who", "are", "you?", "-T", "0", "--verbose")
    assert done.stdout.decode() == f"{answer.text}\n"
    assert b"prompt: a chat message, with the template of the model" in done.stderr
    assert f"prompt: {answer.usage.prompt_tokens} tokens".encode() in done.stderr


def test_raw_continues_the_prompt(context: Context) -> None:
    text = context.generate("Count: 1, 2, 3", 6, temperature=0).text
    done = mullama("run", "demo", "Count: 1, 2, 3", "--raw", "-T", "0", "-n", "6", "-v")
    assert done.stdout.decode() == f"{text}\n"
    assert b"prompt: raw text, because of --raw" in done.stderr


def test_a_model_without_a_template_continues_the_prompt_and_says_so(plain_model: Path, context: Context) -> None:
    text = context.generate("Count: 1, 2, 3", 6, temperature=0).text
    done = mullama("run", str(plain_model), "Count: 1, 2, 3", "-T", "0", "-n", "6", "-v")
    assert done.stdout.decode() == f"{text}\n"
    assert b"prompt: raw text, because the model has no chat template" in done.stderr


def test_a_template_of_the_user_replaces_the_models(plain_model: Path, tmp_path: Path, context: Context) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[0].content }}, 2, 3", encoding="utf-8")
    text = context.generate("Count: 1, 2, 3", 6, temperature=0).text
    for model in ("demo", str(plain_model)):
        done = mullama("run", model, "Count: 1", "--chat-template", str(template), "-T", "0", "-n", "6")
        assert done.stdout.decode() == f"{text}\n"


@pytest.mark.parametrize("arguments", [["explain", "this"], ["-", "explain", "this"]])
def test_what_is_piped_in_precedes_the_prompt(steady: Context, arguments: list[str]) -> None:
    asked = {"role": "user", "content": "SECRETWORD\n\nexplain this"}
    answer = steady.chat([asked], 20, temperature=0, deterministic=True)
    done = mullama("run", "demo", *arguments, *STEADY, "-n", "20", "-j", text="SECRETWORD\n")
    end = json.loads(done.stdout.splitlines()[-1])
    assert (end["text"], end["usage"]["prompt_tokens"]) == (answer.text, answer.usage.prompt_tokens)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-n", "3"], "the text was cut off after 3 tokens (max_tokens)"),
        (["-c", "64", "--set", "ignore_eos=true"], "cut off because the context of 64 tokens is full (see --ctx-size)"),
    ],
)
def test_a_text_that_ends_by_length_says_so(arguments: list[str], words: str) -> None:
    done = mullama("run", "demo", "Tell me a story.", *arguments)
    assert done.returncode == 0
    assert words in done.stderr.decode()


def test_without_max_tokens_a_text_may_be_longer_than_the_default_of_the_package() -> None:
    done = mullama("run", "demo", "Tell me a story.", "--set", "ignore_eos=true", "-s", "1", "-c", "600", "-j")
    assert json.loads(done.stdout.splitlines()[-1])["usage"]["completion_tokens"] > 500


@pytest.fixture
def plain_model(tmp_path: Path) -> Path:
    """The demo model without its chat template."""
    file = tmp_path / "plain.gguf"
    file.write_bytes(DEMO.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.chat_somethin", 1))
    return file


def test_with_a_system_message_the_prompt_is_a_turn_of_a_chat(context: Context) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}]
    done = mullama("run", "demo", "Who are you?", "--system", "Be brief.", "--temperature", "0", "--json")
    *tokens, end = [json.loads(line) for line in done.stdout.splitlines()]
    answer = context.chat(messages, temperature=0)
    assert "".join(token["text"] for token in tokens) == end["text"] == answer.text
    assert end["usage"]["prompt_tokens"] == answer.usage.prompt_tokens


def test_with_a_system_message_a_model_without_a_chat_template_is_refused(plain_model: Path) -> None:
    done = mullama("run", str(plain_model), "Hello!", "--system", "Be brief.")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"chat template" in done.stderr
    assert b"--chat-template FILE" in done.stderr


def test_a_pipe_that_holds_more_than_any_context_is_refused() -> None:
    assert _prompt.read_limited(io.BytesIO(b"x" * 10), "standard input", 10) == b"x" * 10
    with pytest.raises(_prompt.TextError, match="standard input holds more than"):
        _prompt.read_limited(io.BytesIO(b"x" * 11), "standard input", 10)


def test_a_pipe_without_text_leaves_the_prompt_alone(context: Context) -> None:
    answer = context.chat([{"role": "user", "content": "Who are you?"}], 1000, temperature=0)
    assert mullama("run", "demo", "Who are you?", "-T", "0", text="").stdout.decode() == f"{answer.text}\n"

"""A conversation with `mullama run`, on a terminal of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from terminal import BACKSPACE, CTRL_C, CTRL_D, CTRL_P, Terminal

from mullama import Context, ContextParams, Model, StreamConfig, _commands, _introduction, _model, _talk
from mullama._run import Job
from mullama._talk import Talk
from mullama._typed import Typed, read_message
from mullama._values import read_value
from mullama._writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

DEMO = Path(_model.DEMO)

GREEDY = ["--temperature", "0", "--no-wrap"]
SLOWLY = ["/set ignore_eos true", "/set stream_delay_ms 30", "/set max_tokens 900"]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A conversation with the demo model, at its first prompt."""
    with Terminal("demo", *GREEDY) as terminal:
        terminal.start()
        yield terminal


def saved(terminal: Terminal, directory: Path) -> list[dict[str, str]]:
    """The conversation, by `/save`."""
    file = directory / "conversation.json"
    assert f" saved to {file}" in terminal.say(f"/save {file}")
    messages: list[dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))
    return messages


def user(text: str) -> dict[str, str]:
    """What a user says."""
    return {"role": "user", "content": text}


def test_a_conversation_begins_with_a_greeting_and_ends_with_ctrl_d() -> None:
    with Terminal("demo") as terminal:
        assert "Chatting with mullama demo. /help lists the commands" in terminal.start()
        terminal.press(CTRL_D)
        code, _ = terminal.end()
        assert [line for line in terminal.screen() if line][-1] == ">>>"
    assert code == 0


def test_an_answer_is_shown_piece_by_piece(terminal: Terminal, context: Context) -> None:
    answer = context.chat([user("Who are you?")], temperature=0).text
    terminal.say("/set stream_delay_ms 20")
    before = terminal.reads
    assert answer in terminal.say("Who are you?")
    assert terminal.reads - before > 5


def test_an_answer_knows_what_was_said_before(tmp_path: Path, context: Context) -> None:
    with Terminal("demo", *GREEDY, "--system", "Be brief.", "--verbose") as terminal:
        terminal.start()
        terminal.say("Hello!")
        shown = terminal.say("Count to three.")
        messages = saved(terminal, tmp_path)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert messages[0] == {"role": "system", "content": "Be brief."}
    prompt_tokens = context.chat(messages[:4], 1).usage.prompt_tokens
    assert f"; prompt: {prompt_tokens} tokens, " in shown
    assert messages[4]["content"] in shown


def test_a_setting_is_changed_checked_and_shown(terminal: Terminal) -> None:
    assert "temperature 0.0" in terminal.say("/set")
    assert 'stop_sequences ["END"]' in terminal.say("/set stop_sequences END")
    assert "top_k 7" in terminal.say("/set top_k 7")
    assert "mullama: temperature is -1, but must be" in terminal.say("/set temperature -1")
    assert "mullama: temperature is hot, but must be a number: 0.0 to 3.4e38" in terminal.say("/set temperature hot")
    assert "did you mean temperature?" in terminal.say("/set temprature 1")
    assert "seed none" in terminal.say("/set seed none")
    assert "top_p 0.9" in terminal.say("/set top_p")
    assert "max_tokens none" in terminal.say("/set max_tokens none")
    shown = terminal.say("/set").splitlines()[1:]
    assert [line.split()[0] for line in shown if line] == ["temperature", "top_k", "stop_sequences"]


def test_a_setting_holds_for_the_next_answer(terminal: Terminal, tmp_path: Path) -> None:
    terminal.say("/set max_tokens 1", "Hello!")
    assert len(saved(terminal, tmp_path)[1]["content"].split()) == 1


def test_clear_forgets_the_conversation_but_not_the_system_message(tmp_path: Path) -> None:
    with Terminal("demo", "--system", "Be brief.") as terminal:
        terminal.start()
        terminal.say("Hello!")
        assert len(saved(terminal, tmp_path)) == 3
        terminal.say("/clear")
        (tmp_path / "conversation.json").unlink()
        assert saved(terminal, tmp_path) == [{"role": "system", "content": "Be brief."}]


def test_commands_are_listed_and_an_unknown_one_is_told(terminal: Terminal) -> None:
    shown = terminal.say("/help")
    assert all(f"/{command.name} {command.arguments}".strip() in shown for command in _commands.COMMANDS)
    assert terminal.say("/?").partition("/help")[2] == shown.partition("/help")[2].partition("/help")[2]
    assert "mullama: unknown command /fly" in terminal.say("/fly away")
    assert "mullama: cannot save to /nowhere/file: No such file" in terminal.say("/save /nowhere/file")
    assert "mullama: /save requires a file name" in terminal.say("/save")
    terminal.press(b"/bye\r")
    assert terminal.end()[0] == 0


def test_a_message_of_several_lines_is_one_message(terminal: Terminal, tmp_path: Path) -> None:
    terminal.press(b'"""\r/help me\r  with this\r')
    terminal.say('"""', "One\\\rtwo")
    said = [message["content"] for message in saved(terminal, tmp_path) if message["role"] == "user"]
    assert said == ["/help me\n  with this", "One\ntwo"]


def test_a_line_comes_back_and_can_be_edited(terminal: Terminal) -> None:
    terminal.say("/set top_k 7")
    terminal.press(CTRL_P + BACKSPACE + b"8\r")
    terminal.until("top_k 8\r\n")


def test_ctrl_c_stops_an_answer_and_what_was_written_is_remembered(terminal: Terminal, tmp_path: Path) -> None:
    terminal.say(*SLOWLY)
    terminal.press(b"Hello!\r")
    terminal.until("It is a")
    terminal.press(CTRL_C)
    terminal.start()
    asked, answered = saved(terminal, tmp_path)
    assert asked == user("Hello!")
    assert answered["content"].startswith("Hello! It is a")
    assert "max_tokens 1" in terminal.say("/set max_tokens 1")
    terminal.say("And then?")
    assert len(saved(terminal, tmp_path)) == 4


def test_ctrl_c_after_a_stopped_answer_hints_and_then_ends_the_program(terminal: Terminal) -> None:
    terminal.say(*SLOWLY)
    terminal.press(b"Hello!\r")
    terminal.until("It is a")
    terminal.press(CTRL_C)
    terminal.start()
    terminal.press_in_rest(CTRL_C)
    terminal.until("Press Ctrl-C again")
    terminal.press_in_rest(CTRL_C)
    code, rest = terminal.end()
    assert code == 130
    assert "Traceback" not in rest


@pytest.mark.parametrize("pause", [0, 0.0005, 0.002, 0.005, 0.01, 0.02, 0.05])
def test_two_ctrl_c_in_a_row_at_the_prompt_end_the_program_quietly(pause: float) -> None:
    for _ in range(4):
        with Terminal("demo", *GREEDY) as terminal:
            terminal.start()
            terminal.press_in_rest(CTRL_C)
            for _ in range(2):
                time.sleep(pause)
                terminal.press(CTRL_C)
            code, rest = terminal.end()
        # While the interpreter is taken down, the signal itself ends the process, which shells report as 130 too.
        assert code in {130, -signal.SIGINT}
        assert "Traceback" not in rest
        assert "Exception" not in rest


def test_a_second_ctrl_c_while_an_answer_stops_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    talk = Talk(job())
    monkeypatch.setattr(_talk, "write_pieces", interrupted)
    monkeypatch.setattr(Writer, "end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        talk._answer("Hello!")


def test_a_turn_that_was_stopped_before_its_first_word_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    talk = Talk(job())
    monkeypatch.setattr(_talk, "write_pieces", interrupted)
    talk._answer("Hello!")
    assert talk.conversation.messages == []


def test_a_name_in_a_file_gives_the_terminal_no_orders(tmp_path: Path) -> None:
    file = tmp_path / "sly.gguf"
    file.write_bytes(DEMO.read_bytes().replace(b"mullama demo", b"\x1b[31m\rdemo!!", 1))
    assert _introduction.greeting(Model.load(file)).startswith("Chatting with ?[31m?demo!!.")


def test_a_turn_that_fails_is_told_and_forgotten(tmp_path: Path) -> None:
    with Terminal("demo", *GREEDY, "--ctx-size", "64") as terminal:
        terminal.start()
        shown = terminal.say("again " * 90)
        assert re.search(r"mullama: the prompt has \d+ tokens, but the context holds 64", shown)
        assert "--ctx-size" in shown
        assert saved(terminal, tmp_path) == []
        terminal.say("Hello!")
        assert len(saved(terminal, tmp_path)) == 2


def test_only_text_goes_to_a_pipe_and_what_is_no_text_is_told(context: Context) -> None:
    answer = context.chat([user("Who are you?")], temperature=0).text
    reader, writer = os.pipe()
    with Terminal("demo", *GREEDY, stdout=writer) as terminal, open(reader, encoding="utf-8") as text:  # noqa: PTH123
        os.close(writer)
        terminal.start()
        terminal.press(b"\xff\r")
        assert "lone surrogate" in terminal.start()
        terminal.say("Who are you?")
        terminal.press(CTRL_D)
        assert terminal.end()[0] == 0
        assert text.read() == f"{answer}\n"


def test_a_reader_that_closes_its_pipe_ends_the_conversation_quietly() -> None:
    reader, writer = os.pipe()
    with Terminal("demo", stdout=writer) as terminal:
        os.close(writer)
        os.close(reader)
        terminal.start()
        terminal.press(b"Hello!\r")
        code, rest = terminal.end()
    assert (code, rest.strip()) == (0, "Hello!")


def test_a_model_without_a_chat_template_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "plain.gguf"
    file.write_bytes(DEMO.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.chat_somethin", 1))
    with Terminal(str(file)) as terminal:
        code, shown = terminal.end()
    assert code == 2
    assert shown.startswith("mullama: the model has no chat template (--raw ")
    assert "--chat-template FILE" in shown


def test_a_conversation_is_no_line_an_event() -> None:
    with Terminal("demo", "--json") as terminal:
        code, shown = terminal.end()
    assert (code, "--json requires a PROMPT" in shown) == (2, True)


@pytest.mark.parametrize(
    ("lines", "typed"),
    [
        (["Hello"], Typed("Hello")),
        (["One\\", "two\\", "three"], Typed("One\ntwo\nthree")),
        (['"""/bye"""'], Typed("/bye", fenced=True)),
        (['"""One', "", 'two"""'], Typed("One\n\ntwo", fenced=True)),
        (['"""', "One\\", "two", '"""'], Typed("One\\\ntwo", fenced=True)),
    ],
)
def test_lines_become_a_message(lines: list[str], typed: Typed) -> None:
    left = iter(lines)
    assert read_message(lambda _: next(left)) == typed
    assert list(left) == []


def test_ctrl_d_in_a_message_of_several_lines_leaves() -> None:
    with pytest.raises(EOFError):
        read_message(reader_of(['"""One']))


def reader_of(lines: list[str]) -> Callable[[str], str]:
    """Reads the lines, then Ctrl-D."""
    left = iter(lines)

    def read(_: str) -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return read


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0.5", 0.5),
        ("ignore_eos", "True", True),
        ("seed", "None", None),
        ("stop_sequences", "5", ["5"]),
        ("stop_sequences", '"\\n"', ["\n"]),
        ("stop_sequences", '["a", "b"]', ["a", "b"]),
        ("stop_sequences", "none", []),
        ("stop_tokens", "5", [5]),
        ("logit_bias", '{"5": -1.5}', {5: -1.5}),
    ],
)
def test_a_value_is_read_as_what_the_setting_takes(name: str, text: str, value: object) -> None:
    assert read_value(name, text, name) == value


def job() -> Job:
    """A conversation with the demo model."""
    return Job(model="demo", prompt=None, config=StreamConfig(timeout_ms=None), params=ContextParams())

"""What a conversation with `mullama run` does with its terminal: keys, history, paste, line breaks, spinner."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command import STEADY
from terminal import BACKSPACE, CTRL_C, CTRL_D, PASTE, PASTED, TAB, UP, Terminal

from mullama import _model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mullama import Context

pytestmark = pytest.mark.slow


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A conversation with the demo model, at its first prompt."""
    with Terminal("demo", "--temperature", "0", columns=80) as terminal:
        terminal.start()
        yield terminal


def told(context: Context, prompt: str = "Tell me a story.", max_tokens: int = 1000) -> str:
    """What the demo model answers if it is steady."""
    message = {"role": "user", "content": prompt}
    return context.chat([message], max_tokens, temperature=0, deterministic=True).text


def said(terminal: Terminal, folder: Path) -> list[str]:
    """What the user said, by `/save`."""
    file = folder / "conversation.json"
    terminal.say(f"/save {file}")
    messages = json.loads(file.read_text(encoding="utf-8"))
    return [message["content"] for message in messages if message["role"] == "user"]


def test_pasted_lines_are_one_message(terminal: Terminal, tmp_path: Path) -> None:
    terminal.press(PASTE + b"/bye\nfirst\r\nsecond\n" + PASTED + b"\r")
    terminal.start()
    assert said(terminal, tmp_path) == ["/bye\nfirst\nsecond"]


@pytest.mark.parametrize(
    "text", ["docker run \\\n  -it foo", '"""Doc."""\nimport os', '"""\na\n"""', "/set seed 3\n/bye"]
)
def test_pasted_lines_are_sent_as_they_are(text: str, terminal: Terminal, tmp_path: Path) -> None:
    terminal.press(PASTE + text.encode() + PASTED + b"\r")
    terminal.start()
    assert said(terminal, tmp_path) == [text]


def test_a_paste_can_be_edited_before_it_is_sent(terminal: Terminal, tmp_path: Path) -> None:
    terminal.press(PASTE + b"one\ntwo" + PASTED + BACKSPACE * 3 + b"three\r")
    terminal.start()
    assert said(terminal, tmp_path) == ["one\nthree"]


def test_a_backslash_at_the_end_of_a_line_continues_the_message(terminal: Terminal, tmp_path: Path) -> None:
    terminal.say("one\\\rtwo")
    assert said(terminal, tmp_path) == ["one\ntwo"]


def test_history_lasts_across_runs_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    with Terminal("demo", XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.start()
        terminal.say("/set top_k 7")
        terminal.press(CTRL_D)
        assert terminal.end()[0] == 0
    file = tmp_path / "mullama" / "history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    with Terminal("demo", XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.start()
        terminal.press(UP + BACKSPACE + b"8\r")
        assert "top_k 8" in terminal.start()


def test_without_history_nothing_is_written_and_nothing_recalled(tmp_path: Path) -> None:
    (tmp_path / "mullama").mkdir()
    (tmp_path / "mullama" / "history").write_text('"/set top_k 7"\n', encoding="utf-8")
    with Terminal("demo", "--no-history", XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.start()
        terminal.press(UP + b"/context\r")
        assert "tokens are used" in terminal.start()
        # What was typed in this conversation is recalled all the same.
        terminal.press(UP + b"\r")
        assert "tokens are used" in terminal.start()
    assert (tmp_path / "mullama" / "history").read_text(encoding="utf-8") == '"/set top_k 7"\n'


def test_a_history_that_cannot_be_kept_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "mullama").write_text("a file, where the folder should be", encoding="utf-8")
    with Terminal("demo", XDG_STATE_HOME=str(tmp_path)) as terminal:
        shown = terminal.start() + terminal.say("/context", "/context")
        assert shown.count("the history cannot be kept in") <= 1
        terminal.press(CTRL_D)
        assert terminal.end()[0] == 0
        assert terminal.raw.count("the history cannot be kept in") == 1


def test_tab_completes_commands_settings_topics_and_files(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("A", encoding="utf-8")
    terminal.press(b"/cont" + TAB + b"\r")
    assert "tokens are used" in terminal.start()
    terminal.press(b"/set temp" + TAB + b"\r")
    assert "temperature 0.0" in terminal.start()
    terminal.press(b"/set ignore_eos t" + TAB + b"\r")
    assert "ignore_eos true" in terminal.start()
    terminal.press(b"/show temp" + TAB + b"\r")
    assert "<|im_start|>" in terminal.start()
    terminal.press(f"/read {tmp_path}/no".encode() + TAB + b"\r")
    assert "1 characters of" in terminal.start()


def test_ctrl_c_at_an_empty_prompt_hints_first_and_ends_the_program_then(terminal: Terminal) -> None:
    terminal.press(CTRL_C)
    assert "Press Ctrl-C again, or Ctrl-D, or type /bye to leave." in terminal.start()
    terminal.press(CTRL_C)
    code, rest = terminal.end()
    assert code == 130
    assert "Traceback" not in rest


def test_a_signal_at_the_prompt_is_a_ctrl_c(terminal: Terminal) -> None:
    terminal.press(b"half a mess")
    terminal.until("half a mess")
    terminal.child.send_signal(signal.SIGINT)
    terminal.start()
    terminal.child.send_signal(signal.SIGINT)
    assert "Press Ctrl-C again" in terminal.start()
    terminal.child.send_signal(signal.SIGINT)
    assert terminal.end()[0] == 130
    assert not any(noise in terminal.raw for noise in ("Traceback", "warning", "destroyed"))


def test_lines_of_the_command_break_between_words_too() -> None:
    with Terminal("demo", columns=40) as terminal:
        terminal.start()
        lines = terminal.screen()
    assert lines[:2] == ["Chatting with mullama demo. /help lists", "the commands, Ctrl-D leaves."]


def test_a_template_of_the_user_is_used_and_shown(tmp_path: Path, steady: Context) -> None:
    file = tmp_path / "template.jinja"
    file.write_text("{{ messages[-1].content }}, 2, 3", encoding="utf-8")
    text = steady.generate("Count: 1, 2, 3", 6, temperature=0).text
    with Terminal("demo", "--temperature", "0", "-n", "6", "--chat-template", str(file)) as terminal:
        terminal.start()
        assert text in terminal.say("Count: 1")
        assert "{{ messages[-1].content }}" in terminal.say("/show template")


def test_what_is_typed_after_the_hint_forgets_it(terminal: Terminal) -> None:
    terminal.press(CTRL_C)
    terminal.start()
    terminal.say("/context")
    terminal.press(CTRL_C)
    assert "Press Ctrl-C again" in terminal.start()


def test_no_word_is_broken_at_the_right_edge(steady: Context) -> None:
    story = told(steady)
    for columns in (30, 47, 80):
        with Terminal("demo", *STEADY, columns=columns) as terminal:
            terminal.start()
            terminal.say("Tell me a story.")
            lines = terminal.screen()
        shown = lines[max(at for at, line in enumerate(lines) if "Tell me a story." in line) + 1 :]
        answer = [line for line in shown if not line.startswith(">>>")]
        assert [word for line in answer for word in line.split()] == story.split()
        assert max(map(len, answer)) < columns


def test_without_wrapping_the_text_is_the_models_own(steady: Context) -> None:
    story = told(steady)
    with Terminal("demo", *STEADY, "--no-wrap", columns=30) as terminal:
        terminal.start()
        assert story in terminal.say("Tell me a story.")


def test_a_spinner_turns_until_the_first_token_and_leaves_nothing_behind(tmp_path: Path, steady: Context) -> None:
    answer = told(steady, max_tokens=3)
    # No machine may be too fast for it.
    path = patched(tmp_path, "from mullama import _terminal", "_terminal.PATIENCE = 0")
    with Terminal("demo", "--temperature", "0", "-n", "3", PYTHONPATH=path) as terminal:
        terminal.start()
        loaded = len(terminal.raw)
        terminal.press(PASTE + b"word and " * 400 + PASTED + b"\r")
        terminal.start()
        terminal.say("/clear", "Tell me a story.")
        assert "⠋" in terminal.raw[loaded:]
        assert not any(frame in "".join(terminal.screen()) for frame in "⠋⠙⠹⠸")
        assert any(line.startswith(answer) for line in terminal.screen())


def test_markdown_is_formatted_only_on_request(tmp_path: Path, steady: Context) -> None:
    prompt = "Give me a list of five animals."
    plain = told(steady, prompt)
    assert plain.startswith("- ")
    for arguments, mark in (([], "- "), (["--render"], "• ")):
        with Terminal("demo", *STEADY, *arguments, columns=60) as terminal:
            terminal.start()
            terminal.say(prompt)
            lines = [line.strip() for line in terminal.screen()]
            assert mark + plain.splitlines()[0].removeprefix("- ") in lines
            # What is saved is the model's own text.
            terminal.say(f"/save {tmp_path / 'saved'}")
            assert json.loads((tmp_path / "saved").read_text(encoding="utf-8"))[1]["content"] == plain


def test_a_dumb_terminal_gets_lines_without_escapes(tmp_path: Path) -> None:
    with Terminal("demo", TERM="dumb") as terminal:
        terminal.start()
        terminal.press(b'"""one\r')
        terminal.until("... ")
        terminal.say('two"""')
        assert said(terminal, tmp_path) == ["one\ntwo"]
        assert "\x1b[K" not in terminal.raw
        terminal.press(CTRL_C)
        assert "Press Ctrl-C again" in terminal.start()
        terminal.press_in_rest(CTRL_C)
        assert terminal.end()[0] == 130


def test_one_prompt_on_a_terminal_breaks_lines_between_words_too(steady: Context) -> None:
    story = told(steady)
    with Terminal("demo", "Tell me a story.", *STEADY, columns=40) as terminal:
        assert terminal.end()[0] == 0
        assert " ".join(terminal.screen()).split() == story.split()


def test_a_model_that_loads_slowly_shows_how_far_it_is(tmp_path: Path) -> None:
    # A load is slow where the file is; here, its progress waits.
    path = patched(
        tmp_path,
        "from mullama import Model",
        "load = Model.load",
        "def slowly(path, *, progress, **options):",
        "    def wait(fraction):",
        "        progress(fraction)",
        "        time.sleep(0.5 if fraction == 1 else 0)",
        "    return load(path, progress=wait, **options)",
        "Model.load = slowly",
    )
    with Terminal("demo", PYTHONPATH=path) as terminal:
        assert "loading the model, 100%" in terminal.start()


def patched(folder: Path, *lines: str) -> str:
    """A path of modules with which the program runs these lines before it loads a model."""
    hook = [
        "import sys, time",
        "class Hook:",
        "    def find_spec(self, name, *_):",
        "        if name == 'mullama._run':",
    ]
    source = [*hook, *(" " * 12 + line for line in lines), "sys.meta_path.insert(0, Hook())"]
    (folder / "sitecustomize.py").write_text("\n".join(source), encoding="utf-8")
    return f"{folder}:{Path(_model.__file__).parents[1]}"


def test_a_message_without_an_answer_is_reported(tmp_path: Path) -> None:
    with Terminal("demo", "--stop", "H", "-T", "0", XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.start()
        assert "there is no answer" in terminal.say("Hello!")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_the_prompt_ends_the_program_and_restores_the_terminal(number: int, tmp_path: Path) -> None:
    with Terminal("demo", XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.start()
        os.kill(terminal.child.pid, number)
        code, _shown = terminal.end()
        assert code == 128 + number
        assert terminal.raw.rindex("\x1b[?2004l") > terminal.raw.rindex("\x1b[?2004h")

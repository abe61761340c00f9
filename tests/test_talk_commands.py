"""The commands of a conversation with `mullama run`, typed on a terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from terminal import CTRL_C, Terminal

from mullama import Context, _model

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A conversation with the demo model, at its first prompt."""
    with Terminal("demo", "--temperature", "0", "--no-wrap") as terminal:
        terminal.start()
        yield terminal


def said(terminal: Terminal, folder: Path) -> list[tuple[str, str]]:
    """The role and the content of each message, by `/save`."""
    file = folder / "conversation.json"
    terminal.say(f"/save {file}")
    return [(each["role"], each["content"]) for each in json.loads(file.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("command", ["/bye", "/exit", "/quit"])
def test_each_command_that_leaves_ends_with_0(terminal: Terminal, command: str) -> None:
    terminal.press(command.encode() + b"\r")
    assert terminal.end()[0] == 0


def test_a_command_with_words_that_it_does_not_take_does_nothing(terminal: Terminal, tmp_path: Path) -> None:
    terminal.say("Hello!")
    assert "/clear takes nothing after it" in terminal.say("/clear now")
    assert "/undo takes nothing after it" in terminal.say("/undo twice")
    assert "/bye takes nothing after it" in terminal.say("/bye now")
    assert len(said(terminal, tmp_path)) == 2


def test_an_unknown_word_with_a_slash_is_refused_with_a_hint_and_not_sent(terminal: Terminal, tmp_path: Path) -> None:
    shown = terminal.say("/etc/passwd is a file")
    assert "mullama: unknown command /etc/passwd" in shown
    assert "/help lists all commands" in shown
    assert "did you mean /regen?" in terminal.say("/regenerate")
    assert said(terminal, tmp_path) == []
    # Fences send it all the same.
    terminal.say('"""/etc/passwd"""')
    assert said(terminal, tmp_path)[0] == ("user", "/etc/passwd")


def test_the_system_message_is_set_shown_and_removed(terminal: Terminal, tmp_path: Path) -> None:
    assert "There is no system message" in terminal.say("/show system")
    assert "system Be brief." in terminal.say("/set system Be brief.")
    assert said(terminal, tmp_path) == [("system", "Be brief.")]
    terminal.say('/set system """One\rtwo"""')
    assert said(terminal, tmp_path) == [("system", "One\ntwo")]
    assert "system none" in terminal.say("/set system none")
    assert said(terminal, tmp_path) == []


def test_show_tells_of_the_model_its_template_and_every_setting(terminal: Terminal) -> None:
    shown = terminal.say("/show")
    assert "mullama demo: llama, 2.16M parameters, Q8_0, 2.2 MiB" in shown
    assert "1024 of 1024 trained tokens" in shown
    assert "<|im_start|>" in terminal.say("/show template")
    settings = terminal.say("/show settings")
    assert "dry_multiplier 0.0" in settings
    assert "max_tokens none" in settings
    assert "it shows info, system" in terminal.say("/show everything")


def test_undo_removes_the_last_turn(terminal: Terminal, tmp_path: Path) -> None:
    assert "nothing to undo" in terminal.say("/undo")
    terminal.say("Hello!", "Who are you?")
    assert "Removed: Who are you?" in terminal.say("/undo")
    assert [content for role, content in said(terminal, tmp_path) if role == "user"] == ["Hello!"]


def test_regen_answers_the_last_question_again(terminal: Terminal, tmp_path: Path) -> None:
    assert "no answer to generate again" in terminal.say("/regen")
    terminal.say("Tell me a story.")
    before = said(terminal, tmp_path)
    terminal.say("/set temperature 1.5", "/set seed 4", "/regen")
    after = said(terminal, tmp_path)
    assert before[0] == after[0]
    assert len(after) == 2
    assert before[1] != after[1]


def test_a_regeneration_that_is_refused_keeps_the_answer(terminal: Terminal, tmp_path: Path) -> None:
    terminal.say("Hello!")
    before = said(terminal, tmp_path)
    terminal.say("/set max_tokens 0", "/regen")
    assert said(terminal, tmp_path) == before


def test_a_saved_conversation_is_continued(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello!"},
    ]
    file.write_text(json.dumps(messages), encoding="utf-8")
    assert "3 messages loaded" in terminal.say(f"/load {file}")
    assert "system Be brief." in terminal.say("/set system")
    terminal.say("Who are you?")
    assert [role for role, _ in said(terminal, tmp_path)] == ["system", "user", "assistant", "user", "assistant"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("[", "it is not JSON"),
        ("{}", "it is not a list of messages"),
        ('[{"role": "user"}]', "message 0 is not an object with a role and a content"),
        ("[" * 100_000, "it is not JSON"),
        ('[{"role": "user", "content": "A"}, 5]', "message 1 is not"),
    ],
)
def test_a_file_that_holds_no_conversation_changes_nothing(
    terminal: Terminal, tmp_path: Path, text: str | None, words: str
) -> None:
    file = tmp_path / "other.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    terminal.say("Hello!")
    assert words in terminal.say(f"/load {file}")
    assert len(said(terminal, tmp_path)) == 2


def test_a_file_that_is_read_precedes_the_next_message(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "notes with spaces.txt"
    file.write_text("The moon is made of cheese.\n", encoding="utf-8")
    assert "27 characters" in terminal.say(f"/read {file}")
    assert "tokens of a file precede the next message" in terminal.say("/context")
    terminal.say("Explain.", "Hello!")
    users = [content for role, content in said(terminal, tmp_path) if role == "user"]
    assert users == ["The moon is made of cheese.\n\nExplain.", "Hello!"]


def test_a_file_that_cannot_be_read_is_told(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"A\xff")
    assert "cannot read /nowhere: No such file" in terminal.say("/read /nowhere")
    assert "it is not UTF-8 (byte 1)" in terminal.say(f"/read {tmp_path / 'binary'}")
    assert "/read requires a file name" in terminal.say("/read")


def test_a_message_is_written_in_the_editor_and_sent(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho " and more" >> "$1"\n', encoding="utf-8")
    editor.chmod(0o700)
    with Terminal("demo", EDITOR=str(editor), VISUAL="") as terminal:
        terminal.start()
        terminal.say("/edit Hello!")
        assert said(terminal, tmp_path)[0] == ("user", "Hello! and more")


@pytest.mark.parametrize(
    ("editor", "words"),
    [
        ("/nowhere/editor", "cannot start the editor"),
        ("false", "failed with exit code 1"),
        ("true", "message is empty"),
    ],
)
def test_an_editor_that_gives_nothing_sends_nothing(tmp_path: Path, editor: str, words: str) -> None:
    with Terminal("demo", VISUAL=editor) as terminal:
        terminal.start()
        assert words in terminal.say("/edit")
        assert said(terminal, tmp_path) == []


def test_the_context_in_use_is_shown(terminal: Terminal, context: Context) -> None:
    assert "0 of 1024 tokens are used (0%), by 0 messages." in terminal.say("/context")
    terminal.say("Hello!")
    answer = context.chat([{"role": "user", "content": "Hello!"}], temperature=0)
    shown = terminal.say("/context")
    used = int(shown.partition(" of 1024 tokens")[0].split()[-1])
    assert used >= answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_an_answer_that_ends_by_length_says_so(terminal: Terminal) -> None:
    terminal.say("/set max_tokens 3")
    assert "mullama: the text was cut off after 3 tokens (max_tokens)" in terminal.say("Tell me a story.")


@pytest.mark.parametrize(
    ("options", "message", "way_out"),
    [
        ([], "again " * 90, "shorten the message"),
        (["-S", "Be brief. " * 60], "Hello!", "shorten the system message"),
    ],
)
def test_what_does_not_fit_is_told_with_the_size_that_it_needs(options: list[str], message: str, way_out: str) -> None:
    with Terminal("demo", "-c", "64", "--no-history", *options, columns=400) as terminal:
        terminal.start()
        shown = terminal.say(message)
    found = re.search(
        r"the prompt has (\d+) tokens, but the context holds 64; it needs --ctx-size (\d+) or more", shown
    )
    assert found is not None
    tokens, needed = map(int, found.groups())
    assert needed == tokens + 1
    assert way_out in shown
    with Terminal("demo", "-c", str(needed), "--no-history", *options, columns=400) as terminal:
        terminal.start()
        assert f"cut off because the context of {needed} tokens is full" in terminal.say(message)


def test_without_max_tokens_only_the_context_ends_an_answer() -> None:
    with Terminal("demo", "--ctx-size", "400", "--set", "ignore_eos=true") as terminal:
        terminal.start()
        assert "cut off because the context of 400 tokens is full" in terminal.say("Tell me a story.")


def test_a_conversation_that_outgrows_the_context_drops_its_oldest_turns_and_says_so_once(tmp_path: Path) -> None:
    with Terminal("demo", "--ctx-size", "200", "-S", "Be brief.", "-n", "60") as terminal:
        terminal.start()
        shown = [terminal.say("Tell me a story.") for _ in range(6)]
        context = terminal.say("/context")
        # Nothing that was said is lost.
        assert len(said(terminal, tmp_path)) == 1 + 2 * 6
    assert sum("oldest messages are no longer sent" in each for each in shown) == 1
    assert not any("context holds" in each for each in shown)
    assert "oldest messages are no longer sent." in context


def test_every_greeting_of_the_demo_names_prompts_and_so_does_its_help(tmp_path: Path) -> None:
    with Terminal("demo") as terminal:
        for shown in (terminal.start(), terminal.say("/help")):
            assert "2 MB toy" in shown
            assert "Tell me a story." in shown
    file = tmp_path / "other.gguf"
    file.write_bytes(Path(_model.DEMO).read_bytes())
    with Terminal(str(file)) as terminal:
        assert "toy" not in terminal.start()


def test_ctrl_c_in_the_middle_of_a_message_drops_the_message_alone(terminal: Terminal) -> None:
    terminal.press(b"half a mess")
    terminal.until("half a mess")
    terminal.press(CTRL_C)
    assert "Press Ctrl-C" not in terminal.start()
    assert "0 messages" in terminal.say("/context")

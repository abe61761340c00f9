"""The parts of a conversation with `mullama run` that need no terminal: wrapping, Markdown, messages, commands."""

from __future__ import annotations

import json
import os
import re
from itertools import pairwise
from typing import TYPE_CHECKING

import pyte
import pytest

from mullama import Context, ContextParams, InvalidConfigError, Model, StreamConfig
from mullama._commands import BARE_COMMANDS, misuse, split_command
from mullama._conversation import Conversation
from mullama._history import FileHistory
from mullama._introduction import PROMPTS, TOY
from mullama._markdown import complete_blocks
from mullama._output import without_controls
from mullama._settings import DEFAULTS, NAMES, changed, shown
from mullama._sizes import parameters
from mullama._terminal import Wrapper
from mullama._typed import Typed, is_complete, typed_of

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "It was a bright cold day in April, and the clocks were striking thirteen.\n\n- one\n- two"


def screen(text: str, columns: int, step: int) -> list[str]:
    """What a terminal shows of a text that is wrapped as it arrives in pieces of `step` characters."""
    shown = pyte.Screen(columns, 60)
    stream = pyte.Stream(shown)
    wrapper = Wrapper()
    for at in range(0, len(text), step):
        stream.feed(wrapper.wrapped(text[at : at + step], columns).replace("\n", "\r\n"))
    return [line.rstrip() for line in shown.display]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("columns", [14, 20, 21, 33, 60])
def test_words_stay_whole_in_any_pieces_and_at_any_width(columns: int, step: int) -> None:
    lines = screen(TEXT, columns, step)
    assert [word for line in lines for word in line.split()] == TEXT.split()
    # A line is only broken where the next word would not have fitted.
    whole = TEXT.splitlines()[0].split()
    assert lines[0].split() == whole[: len(lines[0].split())]
    assert len(lines[0]) + 1 + len(whole[len(lines[0].split())]) >= columns


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_a_word_longer_than_a_line_is_left_to_the_terminal(step: int) -> None:
    address = "https://example.org/" + "a" * 60
    lines = screen(f"See {address} for more", 30, step)
    assert "".join(lines).replace(" ", "").startswith("See" + address)
    assert "\n" not in Wrapper().wrapped(address, 30)


@pytest.mark.parametrize("step", [1, 4, 1000])
def test_wide_and_combining_characters_are_measured(step: int) -> None:
    lines = screen("日本語のとても長い文章はどこでも改行できます。" * 2, 21, step)
    assert "".join(lines).replace(" ", "") == "日本語のとても長い文章はどこでも改行できます。" * 2
    accents = "e\u0301" * 9
    assert Wrapper().wrapped(f"{accents} {accents}", 20) == f"{accents} {accents}"
    assert "\n" in Wrapper().wrapped(f"{accents} {accents}", 19)


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("A paragraph", ""),
        ("A paragraph\n\n", ""),
        ("A paragraph\n\nB", "A paragraph\n\n"),
        ("- one\n\n  more of one", ""),
        ("- one\n\n  more of one\n\nB", "- one\n\n  more of one\n\n"),
        ("```\ncode\n\nmore code", ""),
        ("```\ncode\n\nmore\n```\n\nB", "```\ncode\n\nmore\n```\n\n"),
        ("````\n```\n\nA\n````\n\nB", "````\n```\n\nA\n````\n\n"),
        ("", ""),
    ],
)
def test_a_block_of_markdown_is_complete_when_the_next_begins(text: str, complete: str) -> None:
    assert complete_blocks(text) == (complete, text.removeprefix(complete))


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("Hello", True),
        ("Hello\\", False),
        ("Hello\\\nthere", True),
        ('"""', False),
        ('"""Hello', False),
        ('"""Hello\\', False),
        ('"""Hello"""', True),
        ('""""""', True),
        ('/set system """One', False),
        ('/set system """One\ntwo"""', True),
        ('Say """', True),
    ],
)
def test_enter_sends_what_is_complete(text: str, complete: object) -> None:
    assert is_complete(text) is complete


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello", None),
        ("/bye", ("bye", "")),
        ("  /exit ", ("bye", "")),
        ("/?", ("help", "")),
        ("/", ("help", "")),
        ("/set top_k 7", ("set", "top_k 7")),
        ("/bye\nand more", None),
        ('"""/bye"""', None),
        ("/etc/passwd", ("etc/passwd", "")),
        ('/set system """One\ntwo"""', ("set", 'system """One\ntwo"""')),
        ("/set\ttop_k  7", ("set", "top_k  7")),
        ("/save! a b", ("save!", "a b")),
        ("/ text", ("", "text")),
    ],
)
def test_a_line_with_a_slash_is_a_command(text: str, expected: tuple[str, str] | None) -> None:
    assert split_command(typed_of(text)) == expected


@pytest.mark.parametrize("name", sorted(BARE_COMMANDS))
def test_words_after_a_command_that_takes_none_are_refused_by_name(name: str) -> None:
    expected = f"mullama: /{name} takes nothing after it, so 'right now' was not expected and nothing was done"
    assert misuse(name, "right now") == expected
    assert misuse(name, "") is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/ text", "mullama: unknown command / text"),
        ("/Bye", "did you mean /bye?"),
        ("/exit now", "/bye takes nothing after it"),
        ("/? set", "/help takes nothing after it"),
        ("/save", "/save requires a file name"),
        ("/save!", "/save! requires a file name"),
        ("/" + "x" * 10_000, "unknown command /xxx"),
    ],
)
def test_a_command_that_is_misused_is_told_what_it_takes(line: str, words: str) -> None:
    command = split_command(typed_of(line))
    assert command is not None
    said = misuse(*command)
    assert said is not None
    assert words in said
    assert len(said) < 300


def test_a_text_loses_its_fences_and_its_backslashes() -> None:
    assert typed_of('"""\nOne\ntwo\n"""') == Typed("One\ntwo", fenced=True)
    assert typed_of("One\\\ntwo\n") == Typed("One\ntwo")


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_is_shown_as_it_can_be_set(name: str) -> None:
    other = StreamConfig(seed=5, stop_sequences=["a", "\n"], logit_bias={5: -1.5}, logprobs=3)
    for config in (DEFAULTS, other):
        value = shown(config, name).removeprefix(f"{name} ")
        assert getattr(changed(StreamConfig(), name, value), name) == getattr(config, name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("temprature", "did you mean temperature?"),
        ("stop", "did you mean stop_sequences?"),
        ("num_predict", "did you mean max_tokens?"),
        ("num_ctx", "did you mean --ctx-size?"),
        ("quality", "unknown setting quality; the settings are max_tokens, "),
    ],
)
def test_an_unknown_setting_is_refused_with_what_was_meant(name: str, words: str) -> None:
    with pytest.raises(InvalidConfigError, match=re.escape(words)):
        changed(StreamConfig(), name, "1")


def test_turns_are_dropped_from_the_oldest_and_the_system_message_stays(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=200)) as context:
        conversation = Conversation(context, None, "Be brief.")
        for number in range(20):
            messages = conversation.ask(f"Question {number}?", 50)
            assert conversation.count(messages) + 50 <= 200
            assert messages[0] == {"role": "system", "content": "Be brief."}
            assert messages[1]["role"] == "user"
            assert messages[-1]["content"] == f"Question {number}?"
            conversation.record(f"Question {number}?", "An answer of a few words.")
        assert conversation.first_sent
        assert len(conversation.whole()) == 41


def test_few_answers_in_a_row_change_what_is_sent(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=400)) as context:
        conversation = Conversation(context, None, None)
        firsts = []
        for _ in range(40):
            conversation.ask("What is 17 + 5?", 40)
            conversation.record("What is 17 + 5?", "17 + 5 = 22.")
            firsts.append(conversation.first_sent)
        changes = sum(one != other for one, other in pairwise(firsts))
        assert 0 < changes <= 20


def test_a_message_that_cannot_fit_is_sent_alone_for_the_engine_to_refuse(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=64)) as context:
        conversation = Conversation(context, None, None)
        conversation.record("A", "B")
        assert conversation.ask("again " * 100, 10)[-1]["content"].startswith("again")
        assert len(conversation.ask("x" * 1_000_000, 10)) == 1


def test_undo_of_a_turn_that_is_no_longer_sent_sends_what_is_left(context: Context) -> None:
    conversation = Conversation(context, None, None)
    conversation.record("A", "B")
    conversation.first_sent = 2
    assert conversation.undo() == "A"
    assert (conversation.first_sent, conversation.whole(), conversation.undo()) == (0, [], None)


def test_what_is_saved_is_loaded(context: Context, tmp_path: Path) -> None:
    conversation = Conversation(context, None, "Be brief.")
    conversation.record("Über", "日本語")
    conversation.save(str(tmp_path / "saved"))
    other = Conversation(context, None, None)
    other.load(str(tmp_path / "saved"))
    assert other.whole() == conversation.whole() == json.loads((tmp_path / "saved").read_text(encoding="utf-8"))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_demo_can_do_what_its_greeting_promises(context: Context, prompt: str) -> None:
    answer = context.chat([{"role": "user", "content": prompt}], 300, temperature=0)
    expected = {"17 + 5": "17 + 5 = 22.", "JSON": '{"name": ', "list": "- ", "moon": "The moon"}
    begins = next((start for key, start in expected.items() if key in prompt), "")
    assert answer.text.startswith(begins)
    assert answer.finish_reason == "stop"
    assert len(TOY.splitlines()[0]) < 80


@pytest.mark.parametrize(
    ("count", "words"), [(999, "999"), (2_164_800, "2.16M"), (494_032_768, "494M"), (1_235_814_432, "1.24B")]
)
def test_a_number_of_parameters_is_rounded(count: int, words: str) -> None:
    assert parameters(count) == words


def test_a_message_that_can_never_fit_drops_nothing() -> None:
    with Context(Model.load("demo"), ContextParams(n_ctx=256)) as context:
        conversation = Conversation(context, None, None)
        conversation.record("Hello!", "Hi there!")
        conversation.ask("word " * 400, 10)
        assert conversation.first_sent == 0
        assert len(conversation.ask("Hello!", 10)) == 3


def test_a_text_cannot_control_the_terminal_and_emoji_stay_whole() -> None:
    assert without_controls("a\x1b]52;c;AAAA\x07\x9b2J\tb\n") == "a?]52;c;AAAA??2J\tb\n"
    assert without_controls("👨\u200d👩\u200d👧 נסיון") == "👨\u200d👩\u200d👧 נסיון"


@pytest.mark.parametrize("line", ["[" * 100_000, '"half', "\xff"])
def test_a_line_of_the_history_that_is_no_entry_is_skipped(line: str, tmp_path: Path) -> None:
    file = tmp_path / "history"
    file.write_text(f'{line}\n"good"\n', encoding="utf-8")
    assert list(FileHistory(file).load_history_strings()) == ["good"]


def test_a_history_that_is_a_pipe_is_refused_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "history"
    os.mkfifo(file)
    assert list(FileHistory(file).load_history_strings()) == []
    assert "not a regular file" in capfd.readouterr().err


@pytest.mark.parametrize(("name", "text"), [("logit_bias", "{1: 2}"), ("stop_tokens", "[1,")])
def test_a_setting_that_begins_like_json_but_is_not_says_so(name: str, text: str) -> None:
    with pytest.raises(InvalidConfigError, match="begins like JSON but is not valid"):
        changed(DEFAULTS, name, text)

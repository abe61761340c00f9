"""Files that the command reads and writes: nothing is overwritten unasked, half written, or waited for in silence."""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from command import COMMAND, mullama
from terminal import Terminal

from mullama import Context, _history
from mullama._conversation import Conversation
from mullama._history import FileHistory
from mullama._prompt import TextError, read_text
from mullama._replace import write_whole

pytestmark = pytest.mark.slow

GREETING = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hi!"}]


def conversation(context: Context) -> Conversation:
    """A conversation of one turn."""
    made = Conversation(context, None, None)
    made.record("Hello!", "Hi!")
    return made


def test_a_file_of_somebody_else_is_replaced_only_on_request(context: Context, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("precious", encoding="utf-8")
    talk = conversation(context)
    with pytest.raises(TextError, match=f"it exists already; /save! {file} replaces it"):
        talk.save(str(file))
    assert file.read_text(encoding="utf-8") == "precious"
    talk.save(str(file), replace=True)
    assert json.loads(file.read_text(encoding="utf-8")) == GREETING
    talk.record("More", "Of it")
    talk.save(str(file))  # which now holds this conversation
    assert len(json.loads(file.read_text(encoding="utf-8"))) == 4


def test_a_file_that_was_loaded_is_replaced_and_one_of_an_earlier_conversation_is_not(
    context: Context, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    talk = conversation(context)
    talk.save(str(first))
    second.write_text(json.dumps(GREETING), encoding="utf-8")
    talk.load(str(second))
    talk.save(str(second))
    with pytest.raises(TextError, match="exists already"):
        talk.save(str(first))
    talk.clear()
    with pytest.raises(TextError, match="exists already"):
        talk.save(str(second))


def test_a_link_to_a_file_is_that_file(context: Context, tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("precious", encoding="utf-8")
    link.symlink_to(file)
    talk = conversation(context)
    with pytest.raises(TextError, match="exists already"):
        talk.save(str(link))
    talk.save(str(link), replace=True)
    assert (link.is_symlink(), json.loads(file.read_text(encoding="utf-8"))) == (True, GREETING)
    talk.save(str(file))


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "missing folder", "nobody's home", "null"])
def test_what_is_no_regular_file_is_never_written_to(context: Context, tmp_path: Path, kind: str) -> None:
    names = {
        "fifo": tmp_path / "fifo",
        "folder": tmp_path,
        "device": "/dev/null",
        "missing folder": tmp_path / "no" / "file",
        "nobody's home": "~nobody-here/file",
        "null": "a\0b",
    }
    os.mkfifo(tmp_path / "fifo")
    before = sorted(tmp_path.iterdir())
    for replace in (False, True):
        with pytest.raises(TextError, match="cannot save to"):
            conversation(context).save(str(names[kind]), replace=replace)
    assert sorted(tmp_path.iterdir()) == before
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_file_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(mode)
    write_whole(file, b"new")
    assert (stat.S_IMODE(file.stat().st_mode), file.read_bytes()) == (mode, b"new")


def test_a_new_file_has_the_permissions_that_the_user_gives_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_whole(file, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("file", b"old")]


def test_the_longest_name_that_a_file_may_have_can_be_saved(context: Context, tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127):
        conversation(context).save(str(tmp_path / name))
        assert json.loads((tmp_path / name).read_text(encoding="utf-8")) == GREETING


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is not JSON"),
        ("[" * 100_000, "it is nested too deeply"),
        ("5", "it is not a list of messages"),
        ('["a"]', "message 0 is not an object"),
        ('[{"role": "user", "content": ["a"]}]', "message 0 is not an object with a role and a content that are text"),
        ('[{"role": "user", "content": "A", "tool_calls": []}]', "message 0 has a tool_calls, but only"),
        (json.dumps(GREETING * 5001), "it has 10002 messages, but at most 10000"),
        (
            '[{"role": "wizard", "content": "A"}]',
            "message 0 has the role wizard, but it must be system, user, assistant",
        ),
        ("[" + "1" * 100_000, "it is not JSON"),
        (" " * (17 << 20), "holds more than 16 MiB"),
    ],
)
def test_a_hostile_file_is_refused_with_a_sentence_and_changes_nothing(
    context: Context, tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "hostile.json"
    file.write_text(text, encoding="utf-8")
    talk = conversation(context)
    with pytest.raises((TextError, ValueError), match=words) as caught:
        talk.load(str(file))
    assert len(str(caught.value)) < 500
    assert talk.whole() == GREETING
    with pytest.raises(TextError, match="exists already"):
        talk.save(str(file))


@pytest.mark.parametrize("name", ["fifo", "/dev/zero", "/dev/stdin", "/", ""])
def test_only_regular_files_are_read_into_a_conversation(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader, writer = os.pipe()
    with pytest.raises(TextError, match="cannot read"):
        read_text(str(tmp_path / "fifo") if name == "fifo" else name)
    os.close(reader)
    os.close(writer)


def test_a_conversation_says_so_and_goes_on(tmp_path: Path) -> None:
    fifo, file = tmp_path / "fifo", tmp_path / "precious"
    os.mkfifo(fifo)
    file.write_text("precious", encoding="utf-8")
    with Terminal("demo", "-T", "0", columns=400) as terminal:
        terminal.start()
        assert "it is not a regular file" in terminal.say(f"/load {fifo}")
        assert "it is not a regular file" in terminal.say(f"/read {fifo}")
        assert "it is not a regular file" in terminal.say(f"/save! {fifo}")
        assert f"it exists already; /save! {file} replaces it" in terminal.say(f"/save {file}")
        assert file.read_text(encoding="utf-8") == "precious"
        assert f"0 messages saved to {file}" in terminal.say(f"/save! {file}")


def shell(line: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a line of bash, which has process substitution."""
    return subprocess.run(["/bin/bash", "-c", line], capture_output=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("how", "writer"),
    [
        ("<(%s)", "echo"),
        ("<(%s)", "sleep 1; echo"),
        ("/dev/stdin < <(%s)", "echo"),
        ("/dev/stdin < file", "echo"),
        ("fifo", "echo"),
        ("fifo", "sleep 1; echo"),
    ],
)
def test_a_template_may_come_from_a_pipe(how: str, writer: str, tmp_path: Path) -> None:
    template = "{{ messages[0].content }}, 2, 3"
    (tmp_path / "file").write_text(template, encoding="utf-8")
    os.mkfifo(tmp_path / "fifo")
    writing = f"{writer} {shlex.quote(template)}"
    given = how.replace("file", shlex.quote(f"{tmp_path}/file")).replace("fifo", shlex.quote(f"{tmp_path}/fifo"))
    given = given % writing if "%s" in given else given
    before = f"({writing}) > {tmp_path}/fifo & " if how == "fifo" else ""
    options = "'Count: 1' -T 0 -n 6 -t 1 -v --chat-template"
    done = shell(f"{before}{shlex.join([*COMMAND, 'run', 'demo'])} {options} {given}")
    assert done.returncode == 0
    assert done.stdout.startswith(b", 4, 5")
    assert b"Traceback" not in done.stderr


def test_a_template_in_standard_input_needs_a_prompt_elsewhere() -> None:
    done = mullama("run", "demo", "--chat-template", "/dev/stdin", text="{{ messages[0].content }}")
    assert done.returncode == 2
    assert b"standard input holds the chat template, so the prompt must be given as PROMPT" in done.stderr


@pytest.mark.parametrize("what", ["a fifo", "standard input"])
def test_a_wait_for_a_pipe_is_told_and_ctrl_c_ends_it(what: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader, writer = os.pipe()
    more = ["--chat-template", str(fifo)] if what == "a fifo" else []
    program = """
import sys
import _mullama_command
from mullama import _prompt

_prompt.PATIENCE = 0.1
sys.exit(_mullama_command.main())
"""
    command = [sys.executable, "-c", program, "run", "demo", "A", *more]
    with subprocess.Popen(command, stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        said = child.stderr.readline().decode()
        child.send_signal(signal.SIGINT)
        rest = child.communicate(timeout=10)
    os.close(reader)
    os.close(writer)
    expected = (
        f"{fifo} to end; Ctrl-C gives up" if what == "a fifo" else "standard input to end; </dev/null leaves it out"
    )
    assert said == f"mullama: waiting for {expected}\n"
    assert (child.returncode, rest) == (130, (b"", b""))


def test_in_a_shell_loop_each_line_is_answered_if_the_command_has_an_input_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("Hello!\nWho are you?\nGoodbye!\n", encoding="utf-8")
    run = f'{shlex.join([*COMMAND, "run", "demo"])} "$line" -n 1 </dev/null'
    done = shell(f'while read -r line; do echo "<$line>"; {run}; done < {tmp_path}/lines')
    assert done.stdout.count(b"<") == 3


def test_a_history_that_links_elsewhere_stays_a_link_when_it_is_shortened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_history, "MAX_BYTES", 200)
    (tmp_path / "real").touch()
    (tmp_path / "history").symlink_to(tmp_path / "real")
    history = FileHistory(tmp_path / "history")
    for number in range(50):
        history.store_string(f"entry {number}")
    assert (tmp_path / "history").is_symlink()
    assert next(iter(history.load_history_strings())) == "entry 49"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["history", "real"]


def test_a_disk_that_is_full_ends_the_history_and_not_the_conversation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    history = FileHistory(tmp_path / "history")
    history.store_string("one")
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        history.store_string("two" * 100)
        history.store_string("three")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)
    assert capsys.readouterr().err.count("the history cannot be kept in") == 1
    assert list(FileHistory(tmp_path / "history").load_history_strings()) == ["one"]

"""Words of a command line as bash splits them, for the completion of names with a colon."""

from __future__ import annotations

import io
import os
import re
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

from mullama._output import stdout

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPLETE = "_MULLAMA_COMPLETE"
"""The variable in which a shell's completion script says what it asks for."""

WORD = re.compile(r"""(?:\\.|"(?:\\.|[^"\\])*"?|'[^']*'?|[^\s\\"'])+""", re.DOTALL)
"""A word with its quotes. The last one may have an open quote."""

BREAKS = re.compile("[:=@]+")
"""Characters that bash makes words of their own (`COMP_WORDBREAKS`), although no space is around them."""


@contextmanager
def whole_words() -> Iterator[None]:
    """Lets a completion for bash that the block writes see whole words, and writes only what bash has to insert.

    Bash splits `llama3.2:1b` into three words, and replaces only the last of them by what is completed.
    """
    if os.environ.get(COMPLETE) != "complete_bash":
        yield
        return
    words, before = joined(os.environ.get("COMP_WORDS", ""), os.environ.get("COMP_CWORD", ""))
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(words), str(len(words) - 1)
    written = io.StringIO()
    try:
        with redirect_stdout(written):
            yield
    finally:
        with stdout() as out:
            out.writelines(f"{line.removeprefix(before)}\n" for line in written.getvalue().splitlines())


def joined(text: str, position: str) -> tuple[list[str], str]:
    """The whole words up to the one at the cursor, and the part of that one which bash does not replace."""
    pieces = WORD.findall(text)
    at = int(position) if position.isdecimal() else len(pieces) - 1
    pieces = [*pieces[: at + 1], *([""] if at >= len(pieces) else [])]
    words: list[str] = []
    is_open = False
    for number, piece in enumerate(pieces):
        is_break = BREAKS.fullmatch(piece) is not None
        # The word at the cursor is empty after a space.
        if words and piece and (is_break or is_open):
            words[-1] += piece
        else:
            words.append(piece)
        is_open = is_break and number > 0
    last = pieces[-1] if pieces else ""
    return words, words[-1].removesuffix("" if BREAKS.fullmatch(last) else last) if words else ""

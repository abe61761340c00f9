"""Writes the text of a stream to stdout: as it arrives or as a whole, plain, wrapped or rendered."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mullama._output import stdout, without_controls
from mullama._terminal import Spinner, Wrapper, columns, is_capable

if TYPE_CHECKING:
    from mullama._markdown import Renderer
    from mullama._stream import TokenStream


class Writer:
    """Writes one text."""

    def __init__(self, *, stream: bool, wrap: bool, render: bool) -> None:
        """Chooses how to write it; a file or a pipe gets the text as it is.

        Args:
            stream: Whether each piece is written as it arrives.
            wrap: Whether lines break between words on a terminal.
            render: Whether Markdown is formatted on a terminal.
        """
        # A terminal that cannot show a character gets a question mark, not a traceback.
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
        self._is_streamed = stream
        self._wrapper = Wrapper() if wrap and is_capable(sys.stdout) else None
        self._renderer = self._new_renderer() if render and is_capable(sys.stdout) else None
        # A model may come from a stranger, and what it writes must not control the terminal. The renderer, whose output
        # does control it, filters for itself.
        self._is_filtered = self._renderer is None and sys.stdout.isatty()
        self._spinner = Spinner()
        self._last = "\n"

    def write(self, text: str) -> None:
        """Writes a piece, or what of the text it completes."""
        if not self._is_streamed:
            return
        shown = self._renderer.rendered(text) if self._renderer else text
        if shown:
            self._put(shown)
            if self._renderer:
                self._spinner = Spinner()  # until the next block is complete

    def end(self, whole: str) -> None:
        """Writes what is left of the text, and ends the last line."""
        shown = "" if self._is_streamed else whole
        if self._renderer:
            shown = self._renderer.rendered(shown, is_last=True)
        self._spinner.stop()
        if shown:
            self._put(shown)
        if self._last != "\n":
            with stdout() as out:
                out.write("\n")

    def _put(self, text: str) -> None:
        self._spinner.stop()
        with stdout() as out:
            if self._is_filtered:
                text = without_controls(text)
            self._last = text[-1]
            if self._wrapper is not None and self._renderer is None:
                text = self._wrapper.wrapped(text, columns(out))
            out.write(text)

    @staticmethod
    def _new_renderer() -> Renderer:
        from mullama._markdown import Renderer  # noqa: PLC0415  # only --render needs it

        return Renderer()


def write_pieces(stream: TokenStream, writer: Writer) -> None:
    """Reads the stream to its end, and writes each piece. Call `writer.end` afterwards, however it ended."""
    for token in stream:
        writer.write(token.text)

"""Readies the reference: docstrings of `Token`, which the stub has not, examples in docstrings, and public bases."""

from __future__ import annotations

import builtins
import inspect
import re
from typing import TYPE_CHECKING

import griffe

import mullama
from mullama import Token

if TYPE_CHECKING:
    from collections.abc import Iterator


class Docstrings(griffe.Extension):
    """Griffe reads `Token` from the stub alone, and takes "Example:" for an ordinary remark."""

    def on_package(self, *, pkg: griffe.Module, **_more: object) -> None:
        """Called when a package is loaded."""
        if pkg.path != "mullama":
            return
        shown = pkg["_mullama.Token"].final_target
        for thing, native in [(shown, Token), *((shown[name], getattr(Token, name)) for name in shown.members)]:
            if words := inspect.getdoc(native):
                thing.docstring = griffe.Docstring(words, parent=thing)
        known = {*mullama.__all__, *dir(builtins), "TypedDict"}
        for thing in within(pkg):
            if thing.docstring:
                thing.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", thing.docstring.value)
            if isinstance(thing, griffe.Class):
                # Their methods are shown with the class; the names of private bases would lead nowhere.
                thing.bases = [base for base in thing.bases if str(base) in known]


def within(thing: griffe.Object) -> Iterator[griffe.Object]:
    """The thing and all that is in it."""
    yield thing
    for member in thing.members.values():
        if isinstance(member, griffe.Object):
            yield from within(member)

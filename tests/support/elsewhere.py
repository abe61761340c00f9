"""What tests run in another process, which imports it by name."""

from __future__ import annotations

from mullama import Completion, Context, Model


def generate_elsewhere() -> Completion:
    """Generates three tokens with a model of the process's own."""
    return Context(Model.load("demo")).generate("Count: 1,", 3, temperature=0)

"""The commands for models by name: `pull`, `list`, `show`, `rm` and `cp`."""

# Typer evaluates the annotations when the command starts, so they are not postponed.
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeAlias

import typer

from mullama import _options as option
from mullama._help import Command
from mullama._model_names import local_names


def _argument(metavar: str, words: str, **more: Any) -> Any:  # noqa: ANN401  # as typer.Argument itself
    return typer.Argument(metavar=metavar, help=words, show_default=False, **more)


def _option(names: str, metavar: str | None, words: str) -> Any:  # noqa: ANN401  # as typer.Option itself
    # The help text states the default.
    return typer.Option(*names.split(), metavar=metavar, help=words, rich_help_panel="Output", show_default=False)


_NAME = "Name such as llama3.2:1b or hf.co/user/repo:Q4_K_M, or the address of a GGUF file."
Name = Annotated[str, _argument("NAME", _NAME, autocompletion=local_names)]
Model = Annotated[
    str, _argument("MODEL", "Name of a model, or path of a GGUF file.", autocompletion=option.complete_model)
]
Names = Annotated[
    list[str], _argument("NAME", "Name or alias of a model, as mullama list shows it.", autocompletion=local_names)
]
From = Annotated[str, _argument("FROM", "Name of a model on this machine.", autocompletion=local_names)]
To = Annotated[str, _argument("TO", "New name, such as small or me/small.")]
ContextSize = Annotated[
    int | None,
    _option(
        "-c --ctx-size", "N", "Estimate the memory for a context of N tokens (default: recommended, or at most 4096)."
    ),
]
Template = Annotated[bool, _option("--template", None, "Write only the chat template.")]

PULL_EXAMPLES = """
mullama pull llama3.2:1b
mullama pull hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF
mullama pull https://example.com/models/model.gguf
"""
LIST_EXAMPLES = """
mullama list
mullama list --json
"""
SHOW_EXAMPLES = """
mullama show llama3.2:1b
mullama show llama3.2:1b --ctx-size 32768
mullama show model.gguf --template
"""
RM_EXAMPLES = """
mullama rm llama3.2:1b
"""
CP_EXAMPLES = """
mullama cp llama3.2:1b small
mullama run small "Write a poem:"
"""


Start: TypeAlias = Callable[[], None]
"""Runs a command."""


def pull_command(name: Name, *, json: option.EventsJson = False) -> Start:
    """Download a model, or continue its download."""

    def start() -> None:
        from mullama._pull import pull  # noqa: PLC0415  # other commands do not need it

        pull(name, json=json)

    return start


def list_command(*, json: option.Json = False) -> Start:
    """List the models on this machine, including those of other programs."""

    def start() -> None:
        from mullama._model_tables import write_list  # noqa: PLC0415  # other commands do not need it

        write_list(json=json)

    return start


def show_command(
    model: Model, *, ctx_size: ContextSize = None, template: Template = False, json: option.Json = False
) -> Start:
    """Show what is known about a model on this machine."""

    def start() -> None:
        from mullama._model_tables import write_model  # noqa: PLC0415  # other commands do not need it

        write_model(model, n_ctx=ctx_size, only_template=template, json=json)

    return start


def rm_command(name: Names, *, json: option.EventsJson = False) -> Start:
    """Remove models that mullama downloaded, or aliases. Files of other programs are never removed."""

    def start() -> None:
        from mullama._model_tables import remove  # noqa: PLC0415  # other commands do not need it

        remove(name, json=json)

    return start


def cp_command(source: From, name: To, *, json: option.Json = False) -> Start:
    """Give a model another name, its alias. The file is not copied."""

    def start() -> None:
        from mullama._model_tables import alias  # noqa: PLC0415  # other commands do not need it

        alias(source, name, json=json)

    return start


COMMANDS: dict[str, tuple[Callable[..., Start], str]] = {
    "pull": (pull_command, PULL_EXAMPLES),
    "list": (list_command, LIST_EXAMPLES),
    "show": (show_command, SHOW_EXAMPLES),
    "rm": (rm_command, RM_EXAMPLES),
    "cp": (cp_command, CP_EXAMPLES),
}


def register(app: typer.Typer, order: Callable[[Start], object]) -> None:
    """Adds the commands. `order` makes what they return of what they run."""
    for name, (command, examples) in COMMANDS.items():
        app.command(name, cls=Command, epilog=examples)(ordered(command, order))


def ordered(command: Callable[..., Start], order: Callable[[Start], object]) -> Callable[..., object]:
    """The command as Typer calls it."""

    @wraps(command)
    def run(**arguments: Any) -> object:  # noqa: ANN401  # those of the command
        return order(command(**arguments))

    return run

"""The package exports what it has, and nothing else."""

from __future__ import annotations

import pkgutil
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

import mullama
from mullama import _exceptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess


def test_all_is_sorted_and_complete() -> None:
    public = {name for name in dir(mullama) if not name.startswith("_")} - {"integrations"} | {"__version__"}
    assert list(mullama.__all__) == sorted(mullama.__all__)
    assert set(mullama.__all__) == public


def test_the_import_loads_nothing_slow_that_only_some_need(script: Callable[[str], CompletedProcess[str]]) -> None:
    slow = {"asyncio", "difflib", "json", "logging", "pathlib", "pydantic"}
    program = f"import sys; before = {{*sys.modules}}; import mullama; print({slow} & ({{*sys.modules}} - before))"
    assert script(program).stdout == "set()\n"


def test_a_name_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="module 'mullama' has no attribute 'Modell'") as raised:
        getattr(mullama, "Modell")  # noqa: B009  # type checkers know that too
    assert (raised.value.name, raised.value.obj) == ("Modell", mullama)


def test_every_module_but_the_integrations_is_private() -> None:
    modules = [module.name for module in pkgutil.iter_modules(mullama.__path__)]
    assert [name for name in modules if not name.startswith("_")] == ["integrations"]


def test_every_exported_name_has_a_docstring() -> None:
    bare = [name for name in mullama.__all__ if name != "__version__" and not getattr(mullama, name).__doc__]
    assert bare == []


@pytest.mark.parametrize("name", ["AsyncModel", "Context", "Model", "Token", "TokenStream"])
def test_every_public_method_has_a_docstring(name: str) -> None:
    members = vars(getattr(mullama, name)).items()
    bare = [member for member, value in members if not member.startswith("_") and not value.__doc__]
    assert bare == []


def test_the_version_is_the_installed_one() -> None:
    assert mullama.__version__ == version("mullama")


def test_the_drawing_of_the_exceptions_is_the_tree() -> None:
    drawn = {}
    for line in (_exceptions.__doc__ or "").splitlines():
        if line.startswith((" ├─", " └─")):
            name, code, *second = line[3:].split()
            drawn[name] = (code, *(base.strip("()") for base in second))
    classes = {
        one.__name__: (one.code, *(base.__name__ for base in one.__bases__[1:]))
        for one in mullama.MullamaError.__subclasses__()
    }
    assert drawn == classes

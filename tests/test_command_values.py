"""Values that the command takes as text: each is read as what its setting takes, or refused with what is allowed."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from mullama import InvalidConfigError, StreamConfig
from mullama._settings import NAMES, configured, duration, layers, params
from mullama._values import UNLIMITED, read_value

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBERS = [each.name for each in fields(StreamConfig) if type(each.default) is float]
INTEGERS = [each.name for each in fields(StreamConfig) if each.default is None or type(each.default) is int]
FLAGS = [each.name for each in fields(StreamConfig) if type(each.default) is bool]
LISTS = ["stop_sequences", "dry_sequence_breakers", "stop_tokens", "logit_bias"]


def refusal(name: str, text: str) -> str:
    """What is said of a value that is refused."""
    with pytest.raises(InvalidConfigError) as caught:
        read_value(name, text, name)
    return str(caught.value)


def test_every_setting_is_of_a_kind_that_is_tested_here() -> None:
    assert sorted([*NUMBERS, *INTEGERS, *FLAGS, *LISTS]) == sorted(NAMES)


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-Infinity", "1e400", "-1e400", "none", "null"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_not_finite_is_refused_with_the_range(name: str, text: str) -> None:
    assert re.fullmatch(rf"{name} is {re.escape(text)}, but must be [-0-9.]+ to [0-9.e]+", refusal(name, text))


@pytest.mark.parametrize(
    "text", ["hot", "", " ", "0,5", "1_0", "true", "[1]", "0x1", "\uff11", "--1", "1 2", '"1"', "9" * 99 + "x"]
)
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_not_a_number_is_refused_with_the_range(name: str, text: str) -> None:
    assert re.fullmatch(rf"{name} is .+, but must be a number: [-0-9.]+ to [0-9.e]+", refusal(name, text))


@pytest.mark.parametrize("text", ["hot", "", "nan", "inf", "1e3", "1.0", "true", "[1]", "1_000", "9" * 41])
@pytest.mark.parametrize("name", INTEGERS)
def test_what_is_not_an_integer_is_refused_with_the_range(name: str, text: str) -> None:
    words = refusal(name, text)
    assert re.fullmatch(rf"{name} is .+, but must be (none or )?an integer: .*[0-9]", words)
    assert "NoneType" not in words


@pytest.mark.parametrize("name", INTEGERS)
def test_an_integer_out_of_range_is_refused_with_the_range(name: str) -> None:
    assert re.fullmatch(rf"{name} is -9{{30}}, but must be (none or )?[-0-9].*", refusal(name, "-" + "9" * 30))


@pytest.mark.parametrize("text", ["yes", "1", "", "none", "on", "[true]"])
@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_true_or_false(name: str, text: str) -> None:
    assert refusal(name, text).endswith(", but must be true or false")


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ('["a"', 5),
        ("[1,", 4),
        ("{1", 2),
        ('{"a"', 5),
        ('"a', 1),
        ("[", 2),
        (' ["a"]]', 7),
        ('["a",]', 6),
        ("{'5': 1}", 2),
    ],
)
@pytest.mark.parametrize("name", LISTS)
def test_a_value_that_begins_like_json_and_is_not_valid_is_refused_with_the_position(
    name: str, text: str, position: int
) -> None:
    words = refusal(name, text)
    assert "which begins like JSON but is not valid: " in words
    assert f" at character {position}" in words


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("text", ["[" * 100_000, '{"5": 1, "5": 2}', "[" + "9" * 5000])
def test_json_that_python_refuses_for_another_reason_is_refused_in_one_short_line(name: str, text: str) -> None:
    words = refusal(name, text)
    assert "begins like JSON but is not valid" in words
    assert len(words) < 300
    assert "\n" not in words


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("stop_sequences", "", "stop_sequences is empty, but must be a text, a JSON list of texts, or none"),
        ("stop_sequences", "[1, 2]", "must be a text, a JSON list of texts, or none"),
        ("stop_sequences", '["a", ""]', "no text may be empty"),
        ("stop_sequences", '{"a": 1}', "must be a text, a JSON list of texts, or none"),
        ("stop_sequences", '"a', r'as a text it is written ["\"a"]'),
        ("stop_tokens", "a", "must be a token id, a JSON list of token ids such as [1, 2], or none"),
        ("stop_tokens", "-1", "must be a token id"),
        ("stop_tokens", "[1.5]", "must be a token id"),
        ("stop_tokens", "[true]", "must be a token id"),
        ("logit_bias", "5", 'must be a JSON object of token ids and numbers such as {"15": -1.5}, or none'),
        ("logit_bias", "[5]", "must be a JSON object"),
        ("logit_bias", '{"a": 1}', 'logit_bias has "a": 1, but must have token ids and numbers'),
        ("logit_bias", '{"5": null}', 'logit_bias has "5": null, but must have token ids and numbers'),
        ("logit_bias", '{"5": true}', "must have token ids and numbers"),
        ("logit_bias", '{"5": 1, "05": 2}', "logit_bias has the token 5 twice"),
    ],
)
def test_a_wrong_list_is_refused_with_what_it_takes(name: str, text: str, words: str) -> None:
    assert words in refusal(name, text)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", " 0.5 ", 0.5),
        ("temperature", "1e-3", 0.001),
        ("temperature", ".5", 0.5),
        ("top_k", "+5", 5),
        ("max_tokens", "NONE", UNLIMITED),
        ("timeout_ms", "null", None),
        ("ignore_eos", "False", False),
        ("stop_sequences", " a ", [" a "]),
        ("stop_sequences", '"["', ["["]),
        ("stop_sequences", "true", ["true"]),
        ("stop_tokens", "[1, 2]", [1, 2]),
        ("logit_bias", '{"5": -Infinity}', {5: float("-inf")}),
        ("logit_bias", "none", {}),
    ],
)
def test_a_value_is_read_as_what_its_setting_takes(name: str, text: str, value: object) -> None:
    assert read_value(name, text, name) == value


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["temperature"], "--set temperature has no value; write --set temperature=VALUE"),
        (["=1"], "--set =1 has no name; write --set NAME=VALUE"),
        ([""], "--set empty has no name; write --set NAME=VALUE"),
        (["temprature"], "unknown setting temprature; did you mean temperature?"),
        (["x" * 10_000], "unknown setting xxx"),
        (["top_k=3", "top-k=4"], "top_k is given twice: with --set top_k=3, and with --set top-k=4"),
        (["timeout_ms=5"], "timeout_ms is given twice: with --timeout 7, and with --set timeout_ms=5"),
        (["stop_sequences=b"], "stop_sequences is given twice: with --stop a, and with --set stop_sequences=b"),
    ],
)
def test_a_setting_that_is_incomplete_unknown_or_given_twice_is_refused(settings: list[str], words: str) -> None:
    with pytest.raises(InvalidConfigError, match=f"^{re.escape(words)}") as caught:
        configured({"--timeout": "7"}, ["a"], settings)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("option", "text", "allowed"),
    [
        ("--ctx-size", "0", "none or 1 to 268435456"),
        ("--ctx-size", "4k", "none or an integer: 1 to 268435456"),
        ("--threads", "-1", "none or 1 to 512"),
        ("--gpu-layers", "-2", "-1 (all layers) or 0 to 2147483647"),
        ("--gpu-layers", "all", "-1 (all layers) or 0 to 2147483647"),
        ("--gpu-layers", "9" * 20, "-1 (all layers) or 0 to 2147483647"),
        ("--seconds", "0", "a number of seconds: 0.05 to 3600"),
        ("--seconds", "nan", "a number of seconds: 0.05 to 3600"),
        ("--seconds", "soon", "a number of seconds: 0.05 to 3600"),
        ("--top-p", "90", "0.0 to 1.0"),
        ("--stop", "", "a text of one character or more"),
    ],
)
def test_an_option_out_of_range_is_named_as_it_was_given(option: str, text: str, allowed: str) -> None:
    takers: dict[str, Callable[[str], object]] = {
        "--top-p": lambda text: configured({option: text}, None, []),
        "--stop": lambda text: configured({}, [text], []),
        "--gpu-layers": layers,
        "--seconds": duration,
        "--ctx-size": lambda text: params(text, None),
        "--threads": lambda text: params(None, text),
    }
    with pytest.raises(InvalidConfigError) as caught:
        takers[option](text)
    assert str(caught.value) == f"{option} is {text or 'empty'}, but must be {allowed}"

"""Results that a user makes or reads: every mistake names its field, and every way there and back ends equal."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import math
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from mullama import Completion, Context, Stats, Steps, Timings, Token, Usage

USAGE = Usage(3, 1, 2)
TIMINGS = Timings(0.1, 0.2, 0.3, 0.4, 0.0)
STEPS = Steps(2, 0.5, 0.4)
COUNTED: Any = [*range(15), STEPS, STEPS]
STATS = Stats(*COUNTED)
TOKENS = (
    Token("", 5, b"\xf0\x9f", 0, -0.5, [(5, -0.5), (6, -math.inf)]),
    Token("😀", None, b"\x98\x80", 1),
    Token("\0\n\u2028", 2**31 - 1, b"", 2, -math.inf),
    Token("", bytes=bytes(range(256))),
)
COMPLETION = Completion("😀", TOKENS, "stop", "END", USAGE, TIMINGS, 2**32 - 1)
VALUES = [USAGE, TIMINGS, STEPS, STATS, *TOKENS, COMPLETION]

COUNT = "0 to 18446744073709551615"
PAIR = "a pair of a token id and a log-probability"
SECONDS = "a finite number of seconds, 0.0 or more"
LOGPROB = "-3.4e+38 to 3.4e+38, or negative infinity"


class Reply(BaseModel):
    """A model of a user's own, with our results as fields."""

    completion: Completion
    tokens: list[Token]
    stats: Stats | None = None


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_result_returns_from_its_dict_and_from_json(value: Any) -> None:  # noqa: ANN401  # a value of ours
    kind = type(value)
    assert kind(**value.to_dict()) == value
    assert kind(**json.loads(json.dumps(value.to_dict()))) == value


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_result_returns_from_pydantic_with_all_its_fields(value: Any) -> None:  # noqa: ANN401  # a value of ours
    adapter = TypeAdapter(type(value))
    written = adapter.dump_json(value)
    json.loads(written, parse_constant=pytest.fail)
    for read in (adapter.validate_json(written), adapter.validate_python(adapter.dump_python(value))):
        assert read == value
        assert hash(read) == hash(value)
        assert read.to_dict() == value.to_dict()
    assert adapter.validate_python(value) == value
    assert set(adapter.json_schema()["properties"]) == set(value.to_dict())
    assert set(adapter.json_schema(mode="serialization")["properties"]) == set(value.to_dict())


def test_results_return_from_the_fields_of_a_model_of_pydantic(context: Context) -> None:
    completion = context.generate("Count: 1,", 3, logprobs=2)
    for one in (completion, COMPLETION):
        reply = Reply(completion=one, tokens=list(one.tokens), stats=context.stats())
        read = Reply.model_validate_json(reply.model_dump_json())
        assert read == reply
        assert [token.bytes for token in read.tokens] == [token.bytes for token in one.tokens]
        assert Reply.model_validate(reply.model_dump()) == reply


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"text": 1}, TypeError, "text must be a str, not int"),
        ({"text": "a\ud800"}, ValueError, r"text is 'a\ud800', but must be text without lone surrogates"),
        ({"id": "b"}, TypeError, "id must be an int, not str"),
        ({"id": True}, TypeError, "id must be an int, not bool"),
        ({"id": 1.0}, TypeError, "id must be an int, not float"),
        ({"id": -1}, ValueError, "id is -1, but must be 0 to 2147483647"),
        ({"id": 2**40}, ValueError, "id is 1099511627776, but must be 0 to 2147483647"),
        ({"index": -1}, ValueError, f"index is -1, but must be {COUNT}"),
        ({"index": 2**64}, ValueError, f"index is 18446744073709551616, but must be {COUNT}"),
        ({"index": 10**5000}, ValueError, f"index is a number of very many digits, but must be {COUNT}"),
        ({"index": None}, TypeError, "index must be an int, not NoneType"),
        ({"bytes": "a"}, TypeError, "bytes must be bytes or a list of integers, not str"),
        ({"bytes": 5}, TypeError, "bytes must be bytes or a list of integers, not int"),
        ({"bytes": [300]}, ValueError, "bytes[0] is 300, but must be 0 to 255"),
        ({"bytes": [1, "a"]}, TypeError, "bytes[1] must be an int, not str"),
        ({"logprob": "x"}, TypeError, "logprob must be a number, not str"),
        ({"logprob": True}, TypeError, "logprob must be a number, not bool"),
        ({"logprob": math.nan}, ValueError, f"logprob is nan, but must be {LOGPROB}"),
        ({"logprob": math.inf}, ValueError, f"logprob is inf, but must be {LOGPROB}"),
        ({"logprob": -1e300}, ValueError, f"logprob is -1e+300, but must be {LOGPROB}"),
        ({"logprob": 10**5000}, ValueError, f"logprob is a number of very many digits, but must be {LOGPROB}"),
        ({"top_logprobs": None}, TypeError, "top_logprobs must be a list or a tuple, not NoneType"),
        ({"top_logprobs": {1: 2}}, TypeError, "top_logprobs must be a list or a tuple, not dict"),
        ({"top_logprobs": [1]}, TypeError, f"top_logprobs[0] must be {PAIR}, not int"),
        ({"top_logprobs": ["ab"]}, TypeError, f"top_logprobs[0] must be {PAIR}, not str"),
        ({"top_logprobs": [(1, 2, 3)]}, ValueError, f"top_logprobs[0] is a collection of 3 items, but must be {PAIR}"),
        ({"top_logprobs": [(1, "a")]}, TypeError, "top_logprobs[0][1] must be a number, not str"),
        ({"top_logprobs": [(0, 0), (-1, 0)]}, ValueError, "top_logprobs[1][0] is -1, but must be 0 to 2147483647"),
        ({"other": 1}, TypeError, "Token() got an unexpected keyword argument 'other'"),
    ],
)
def test_a_wrong_field_of_a_token_is_named(fields: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        Token(**{"text": "a", **fields})
    assert (type(caught.value), str(caught.value)) == (error, words)
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(Token).validate_python({"text": "a", **fields})
    assert words in str(refused.value)


def test_a_token_without_a_text_says_so() -> None:
    make: Any = Token
    with pytest.raises(TypeError, match=r"^Token\(\) missing 1 required positional argument: 'text'$"):
        make()
    assert list(inspect.signature(Token).parameters) == ["text", "id", "bytes", "index", "logprob", "top_logprobs"]


@pytest.mark.parametrize("given", [b"\xff", bytearray(b"\xff"), memoryview(b"\xff"), [255], (255,)])
def test_the_bytes_of_a_token_may_be_given_in_any_form(given: Any) -> None:  # noqa: ANN401  # several types
    assert Token("", bytes=given).bytes == b"\xff"


def test_a_changed_copy_of_a_token_has_the_bytes_of_the_original() -> None:
    incomplete = TOKENS[0]
    for changed in (dataclasses.replace(incomplete, index=7), incomplete.__replace__(index=7)):
        assert changed == Token("", 5, b"\xf0\x9f", 7, -0.5, [(5, -0.5), (6, -math.inf)])
    assert dataclasses.replace(incomplete, bytes=b"a").bytes == b"a"
    assert "bytes" not in dataclasses.asdict(incomplete)


def wrong(value: Any, field: str, given: object) -> str:  # noqa: ANN401  # a value of ours
    """What the class of the value says of a wrong field."""
    with pytest.raises((TypeError, ValueError)) as caught:
        dataclasses.replace(value, **{field: given})
    return str(caught.value)


@pytest.mark.parametrize("value", [USAGE, TIMINGS, STEPS, STATS], ids=lambda value: type(value).__name__)
def test_every_wrong_count_and_time_is_named(value: Any) -> None:  # noqa: ANN401  # a value of ours
    for field in dataclasses.fields(value):
        if field.type == "int":
            assert wrong(value, field.name, "a") == f"{field.name} must be an int, not str"
            assert wrong(value, field.name, None) == f"{field.name} must be an int, not NoneType"
            assert wrong(value, field.name, np.True_) == f"{field.name} must be an int, not numpy.bool"
            assert wrong(value, field.name, 1.5) == f"{field.name} must be an int, not float"
            assert wrong(value, field.name, -1) == f"{field.name} is -1, but must be {COUNT}"
            assert wrong(value, field.name, 2**64) == f"{field.name} is 18446744073709551616, but must be {COUNT}"
        elif field.type == "float":
            assert wrong(value, field.name, "a") == f"{field.name} must be a number, not str"
            assert wrong(value, field.name, np.False_) == f"{field.name} must be a number, not numpy.bool"
            for out in (-0.5, math.nan, math.inf):
                assert wrong(value, field.name, out) == f"{field.name} is {out}, but must be {SECONDS}"
        else:
            assert wrong(value, field.name, 5) == f"{field.name} must be a Steps or its fields, not int"
            assert wrong(value, field.name, {"count": 1}).startswith(f"{field.name}: Steps.__init__() missing 2 req")


@pytest.mark.parametrize(
    ("field", "given", "words"),
    [
        ("text", 1, "text must be a str, not int"),
        ("tokens", 1, "tokens must be a list or a tuple, not int"),
        ("tokens", "ab", "tokens must be a list or a tuple, not str"),
        ("tokens", [TOKENS[0], "a"], "tokens[1] must be a Token or its fields, not str"),
        ("tokens", [{"text": "a", "id": -1}], "tokens[0]: id is -1, but must be 0 to 2147483647"),
        ("tokens", [{"txt": "a"}], "tokens[0]: Token() got an unexpected keyword argument 'txt'"),
        ("finish_reason", None, "finish_reason must be a str, not NoneType"),
        (
            "finish_reason",
            "eos",
            "finish_reason is 'eos', but must be one of stop, length, cancelled, timeout, error",
        ),
        ("stop_sequence", 5, "stop_sequence must be a str or None, not int"),
        ("usage", (1, 2, 3), "usage must be a Usage or its fields, not tuple"),
        ("timings", USAGE, "timings must be a Timings or its fields, not Usage"),
        ("timings", {**TIMINGS.to_dict(), "queue": "a"}, "timings: queue must be a number, not str"),
        ("seed", None, "seed must be an int, not NoneType"),
        ("seed", 2**32, "seed is 4294967296, but must be 0 to 4294967295"),
    ],
)
def test_a_wrong_field_of_a_completion_is_named(field: str, given: object, words: str) -> None:
    assert wrong(COMPLETION, field, given) == words


def test_a_completion_keeps_no_list_that_could_change() -> None:
    tokens = [Token("a")]
    completion = Completion("a", tokens, "stop", None, USAGE, TIMINGS, 1)  # type: ignore[arg-type]
    tokens.append(Token("b"))
    assert completion.tokens == (Token("a"),)
    assert len({completion, copy.deepcopy(completion)}) == 1

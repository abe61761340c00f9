"""Settings and results hold Python's own types, read once: what was checked is what is stored."""

from __future__ import annotations

import enum
import json
import math
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from mullama import Completion, ContextParams, InvalidConfigError, Stats, Steps, StreamConfig, Timings, Token, Usage

EXACT = {bool, float, int, str, type(None)}
MANY = 1 << 20


class Changing(Sequence[Any]):
    """A list whose second reading gives other items than its first."""

    def __init__(self, first: Sequence[Any], later: Sequence[Any]) -> None:
        """Holds both."""
        self.first, self.later = first, later

    def _next(self) -> Sequence[Any]:
        items, self.first = self.first, self.later
        return items

    def __len__(self) -> int:
        """As the first reading has it."""
        return len(self.first)

    def __getitem__(self, at: Any) -> Any:  # noqa: ANN401  # as the base has it
        """An item of the later list."""
        return self.later[at]

    def __iter__(self) -> Iterator[Any]:
        """The first items, then the later ones."""
        return iter(self._next())


class ChangingMapping(Mapping[Any, Any]):
    """A mapping whose second reading gives other pairs than its first."""

    def __init__(self, first: dict[Any, Any], later: dict[Any, Any]) -> None:
        """Holds both."""
        self.readings = [first, later]

    def __len__(self) -> int:
        """As the first reading has it."""
        return 1

    def __iter__(self) -> Iterator[Any]:
        """The keys of the next reading."""
        return iter(self.readings[0])

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401  # as the base has it
        """The value of the next reading."""
        reading = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        return reading.get(key, "changed")


class ChangingPairs(ChangingMapping):
    """A mapping with one key, which may be one that no dict takes."""

    def __init__(self, key: object) -> None:
        """Holds the key."""
        self.key = key

    def __iter__(self) -> Iterator[Any]:
        """The key."""
        yield self.key

    def __getitem__(self, key: Any) -> float:  # noqa: ANN401  # as the base has it
        """A bias."""
        return 0.5


class ChangingNumber:
    """A number that is in range when it is read first, and no number later."""

    def __init__(self, first: float) -> None:
        """Holds the first reading."""
        self.readings: list[Any] = [first]

    def __index__(self) -> int:
        """The first reading."""
        return int(self.readings.pop(0))

    def __float__(self) -> float:
        """The same."""
        return float(self.readings.pop(0))


class OneShot:
    """A list that can be read once."""

    def __init__(self, items: Sequence[Any]) -> None:
        """Holds the items."""
        self.items = iter(items)

    def __getitem__(self, at: int) -> Any:  # noqa: ANN401  # as a list has it
        """Never called."""
        raise AssertionError

    def __iter__(self) -> Iterator[Any]:
        """The items that are left."""
        return self.items


class Endless(OneShot):
    """A list without an end that says it has three items."""

    def __init__(self, item: object) -> None:
        """Holds the item."""
        self.item = item

    def __len__(self) -> int:
        """A lie."""
        return 3

    def __iter__(self) -> Iterator[Any]:
        """The item again and again."""
        while True:
            yield self.item


class Text(str):
    """A text whose `str` is another."""

    __slots__ = ()

    def __str__(self) -> str:
        """Another text."""
        return "another"


class Whole(int):
    """An int of its own class."""


class Real(float):
    """A float of its own class."""


class Three(enum.IntEnum):
    """A number that is a member of an enum."""

    THREE = 3


class Mode(str, enum.Enum):
    """Texts that are members of an enum."""

    ON = "on"
    END = "END"


def assert_exact(value: object) -> None:
    """Fails unless the value consists of Python's own types, all the way down."""
    if isinstance(value, dict):
        for pair in value.items():
            assert_exact(list(pair))
    elif isinstance(value, (list, tuple)):
        assert type(value) in {list, tuple}
        for item in value:
            assert_exact(item)
    else:
        assert type(value) in EXACT, repr(value)


def assert_travels(value: Any) -> None:  # noqa: ANN401  # a value of ours
    """Fails unless the value is hashed, written and read as one of exact types is."""
    for field in fields(value):
        held = getattr(value, field.name)
        if not isinstance(held, (Token, Usage, Timings, Steps)):
            assert_exact([one for one in held if not isinstance(one, Token)] if isinstance(held, tuple) else held)
    assert type(value)(**value.to_dict()) == value
    assert type(value)(**json.loads(json.dumps(value.to_dict()))) == value
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301  # our own bytes
    assert "np." not in repr(value)
    hash(value)


def foreign(kind: str) -> list[Any]:
    """Numbers of other types, equal to 3, 0.5 or 1 and True."""
    return {
        "int": [
            np.int64(3),
            np.uint8(3),
            np.array(3),
            np.array(3, dtype=np.int16),
            Whole(3),
            ChangingNumber(3),
            Three.THREE,
        ],
        "float": [
            np.float16(0.5),
            np.float32(0.5),
            np.float64(0.5),
            np.longdouble(0.5),
            np.array(0.5),
            np.array(0.5, dtype=np.float32),
            Decimal("0.5"),
            Fraction(1, 2),
            Real(0.5),
            ChangingNumber(0.5),
            1,
            np.int8(1),
        ],
        "bool": [np.bool_(1), np.array([True])[0], np.array(1, dtype=bool)],
    }[kind]


CONFIGS = {"top_k": "int", "seed": "int", "timeout_ms": "int", "temperature": "float", "top_p": "float"}
CONFIGS |= {"ignore_eos": "bool", "deterministic": "bool"}


@pytest.mark.parametrize("field", CONFIGS)
def test_a_number_of_any_library_is_stored_as_pythons_own(field: str) -> None:
    for value in foreign(CONFIGS[field]):
        config = StreamConfig(**{field: value})
        wanted: Any = {"int": 3, "bool": True}.get(CONFIGS[field], getattr(config, field))
        assert (getattr(config, field), type(getattr(config, field)).__name__) == (wanted, CONFIGS[field])
        assert_travels(config)


def test_the_numbers_of_params_and_results_are_pythons_own() -> None:
    for number in (np.int64(3), np.array(3), Whole(3)):
        params: Any = {"n_ctx": number, "n_parallel": number, "max_queue": number, "max_paused": number}
        assert_travels(ContextParams(**params))
        counts: Any = [number] * 3
        assert_travels(Usage(*counts))
        seconds: Any = [number] * 5
        assert_travels(Timings(*seconds))
        steps = Steps(*counts)
        assert_travels(steps)
        stats: Any = [*[number] * 15, steps, steps]
        assert_travels(Stats(*stats))
        token: Any = {"text": Text("a"), "id": number, "index": number, "logprob": number, "bytes": [number]}
        pair: Any = np.array([number, number])
        made = Token(**token, top_logprobs=[pair])
        assert made == Token("a", 3, b"\x03", 3, 3.0, [(3, 3.0)])
        assert_exact(made.to_dict())
        parts: Any = ([made, made], Mode.END, None, Usage(*counts), Timings(*seconds), number)
        with pytest.raises(ValueError, match=r"^finish_reason is 'END', but must be one of stop, length"):
            Completion(Text("a"), *parts)
        completion = Completion(Text("a"), [made], Text("stop"), Mode.END, *parts[3:])  # type: ignore[arg-type]
        assert (completion.text, completion.stop_sequence, type(completion.tokens)) == ("a", "END", tuple)
        assert_travels(completion)


def test_a_text_of_its_own_class_is_stored_as_its_characters() -> None:
    config = StreamConfig(stop_sequences=[Text("END"), Mode.END, np.str_("x")])
    assert config.stop_sequences == ("END", "END", "x")
    assert_travels(config)
    params: Any = {"flash_attn": Mode.ON, "type_k": Text("f16"), "type_v": np.str_("q8_0")}
    made = ContextParams(**params)
    assert (made.flash_attn, made.type_k, made.type_v) == ("on", "f16", "q8_0")
    assert_travels(made)


@pytest.mark.parametrize(
    ("field", "first", "later"),
    [
        ("stop_sequences", ["END"], [""]),
        ("dry_sequence_breakers", ["a"], [7]),
        ("stop_tokens", [1, 2], ["x"]),
        ("stop_tokens", [np.int64(1), Whole(2)], [2**70]),
    ],
)
def test_a_list_is_read_once(field: str, first: list[Any], later: list[Any]) -> None:
    for items in (Changing(first, later), OneShot(first), tuple(first), np.array(first)):
        config: Any = {field: items}
        made = StreamConfig(**config)
        assert getattr(made, field) == tuple(first)
        assert_travels(made)
    refused: Any = {field: Changing(later, first)}
    with pytest.raises((TypeError, InvalidConfigError), match=f"^{field}"):
        StreamConfig(**refused)


def test_a_mapping_is_read_once() -> None:
    for biases in (
        ChangingMapping({1: 2}, {1: math.nan}),
        {np.int64(1): np.float32(2)},
        {Whole(1): Decimal(2)},
        {"1": ChangingNumber(2)},
        {Text("1"): 2},
    ):
        made = StreamConfig(logit_bias=biases)  # type: ignore[arg-type]
        assert made.logit_bias == {1: 2.0}
        assert_travels(made)


@pytest.mark.parametrize("field", ["stop_sequences", "stop_tokens", "dry_sequence_breakers"])
def test_a_list_without_an_end_is_refused(field: str) -> None:
    item = 1 if field == "stop_tokens" else "x"
    for endless in (Endless(item), OneShot(Endless(item))):  # type: ignore[arg-type]
        config: Any = {field: endless}
        with pytest.raises(InvalidConfigError) as caught:
            StreamConfig(**config)
        words = f"{field} is a collection of more than {MANY} items, but must be at most {MANY} items"
        assert str(caught.value) == words


def test_a_mapping_without_an_end_is_refused() -> None:
    class Longer(ChangingMapping):
        def __iter__(self) -> Iterator[int]:
            return iter(range(2 * MANY))

        def __getitem__(self, key: int) -> float:
            return 0.0

    with pytest.raises(InvalidConfigError, match=f"^logit_bias is a collection of {MANY + 1} items, but must be at mo"):
        StreamConfig(logit_bias=Longer({}, {}))


@pytest.mark.parametrize(
    ("biases", "keys"),
    [
        ({"1": 1.0, 1: 2.0}, "'1' and 1"),
        ({1: 1.0, "1": 1.0}, "1 and '1'"),
        ({"-1": 1.0, -1: 2.0}, "'-1' and -1"),
    ],
)
def test_two_keys_for_one_token_are_refused_by_name(biases: Any, keys: str) -> None:  # noqa: ANN401  # wrong
    with pytest.raises(InvalidConfigError) as caught:
        StreamConfig(logit_bias=biases)
    assert str(caught.value) == (
        f"logit_bias is a mapping with the keys {keys}, but must be a mapping with one key for each token id"
    )
    assert caught.value.field == "logit_bias"


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("top_k", np.bool_(1), "an int, not "),
        ("top_k", np.float64(3), "an int, not float64"),
        ("top_k", np.array([3]), "an int, not ndarray"),
        ("timeout_ms", np.timedelta64(5, "s"), "an int, not timedelta64"),
        ("temperature", np.bool_(1), "a number, not "),
        ("temperature", np.array(1, dtype=bool), "a number, not ndarray"),
        ("temperature", np.array([0.5]), "a number, not ndarray"),
        ("temperature", np.complex128(1), "a number, not complex128"),
        ("temperature", np.timedelta64(5, "s"), "a number, not timedelta64"),
        ("temperature", np.str_("0.5"), "a number, not str_"),
        ("temperature", b"1", "a number, not bytes"),
        ("temperature", 1j, "a number, not complex"),
        ("ignore_eos", np.int64(1), "a bool, not int64"),
        ("ignore_eos", np.array([True]), "a bool, not ndarray"),
        ("stop_tokens", np.array(3), "a list or a tuple, not ndarray"),
        ("stop_tokens", (n for n in (1, 2)), "a list or a tuple, not generator"),
        ("stop_sequences", {"END"}, "a list or a tuple, not set"),
    ],
)
def test_what_only_converts_to_a_setting_is_refused(field: str, value: Any, wanted: str) -> None:  # noqa: ANN401  # wrong
    config: Any = {field: value}
    with pytest.raises(TypeError, match=f"^{field} must be {wanted}"):
        StreamConfig(**config)


@pytest.mark.parametrize("value", [True, np.bool_(1), 1.0, np.float64(1), "1", None, np.array([1])])
def test_what_only_converts_to_a_token_id_is_refused(value: Any) -> None:  # noqa: ANN401  # wrong
    with pytest.raises(TypeError, match=r"^stop_tokens\[1\] must be an int, not "):
        StreamConfig(stop_tokens=[1, value])
    if value != "1":
        with pytest.raises(TypeError, match=r"^the key .* of logit_bias must be an int token id, not "):
            StreamConfig(logit_bias=ChangingPairs(value))


def test_numbers_that_no_float_holds_are_out_of_range() -> None:
    for huge in (10**400, Whole(10**400)):
        with pytest.raises(InvalidConfigError, match=r"^temperature is 1"):
            StreamConfig(temperature=huge)
        with pytest.raises(InvalidConfigError, match=r"^logit_bias is 1"):
            StreamConfig(logit_bias={1: huge})
        with pytest.raises(ValueError, match=r"^queue is 1.*but must be a finite number of seconds, 0.0 or more"):
            Timings(huge, 0, 0, 0, 0)


LONG: Any = "x" * 10**6
WRONG: Any = {LONG: 1}


@pytest.mark.parametrize(
    "use",
    [
        lambda: StreamConfig(logit_bias=WRONG),
        lambda: StreamConfig(logit_bias=ChangingPairs((LONG,))),
        lambda: StreamConfig(logit_bias={10**5000: 1}),
        lambda: StreamConfig(logit_bias={**WRONG, 10**4000: 1}),
        lambda: StreamConfig(**WRONG),
        lambda: StreamConfig(top_k=type(LONG, (), {})()),
        lambda: ContextParams(flash_attn=LONG),
        lambda: ContextParams(**WRONG),
        lambda: Usage(LONG, 1, 1),
        lambda: Usage(10**5000, 1, 1),
        lambda: Timings(-(10**5000), 1, 1, 1, 1),
        lambda: Token(LONG, bytes=LONG),
        lambda: Token(LONG + "\ud800"),
        lambda: Completion("", (), LONG, None, Usage(0, 0, 0), Timings(0, 0, 0, 0, 0), 0),
        lambda: Completion("", (), "stop", None, WRONG, Timings(0, 0, 0, 0, 0), 0),
    ],
)
def test_what_an_error_quotes_is_cut(use: Any) -> None:  # noqa: ANN401  # a lambda
    with pytest.raises((TypeError, ValueError)) as caught:
        use()
    assert len(str(caught.value)) < 500

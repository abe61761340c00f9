"""The two tables of settings: their defaults, their checks, and how a call merges them."""

from __future__ import annotations

import copy
import math
import operator
import pickle
from array import array
from collections import UserDict
from dataclasses import FrozenInstanceError, fields, replace
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from mullama import Context, ContextParams, InvalidConfigError, Model, StreamConfig, StreamOptions, _mullama

if TYPE_CHECKING:
    from collections.abc import Callable

HUGE = 2**70


def make(table: type, field: str, value: object) -> object:
    """A config with one field, of whatever type."""
    return table(**{field: value})


def test_fields_and_defaults_are_those_of_the_core() -> None:
    core = _mullama.stream_config_defaults()
    core["logit_bias"] = dict(core["logit_bias"])
    ours = {field.name: getattr(StreamConfig(), field.name) for field in fields(StreamConfig)}
    assert list(ours) == list(core)
    for name, default in core.items():
        mine = list(ours[name]) if isinstance(ours[name], tuple) else ours[name]
        # The core has single precision.
        assert mine == (pytest.approx(default) if isinstance(default, float) else default), name


def test_a_call_takes_every_field_as_a_keyword() -> None:
    assert set(StreamOptions.__annotations__) | {"max_tokens"} == {field.name for field in fields(StreamConfig)}


def test_every_context_param_is_read() -> None:
    read = []

    class Spy:
        def __getattr__(self, name: str) -> object:
            read.append(name)
            return getattr(ContextParams(), name)

    spy: Any = Spy()
    _mullama.check_context_params(spy)
    assert read == [field.name for field in fields(ContextParams)]


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("max_tokens", -1, "0 to 4294967295"),
        ("max_tokens", HUGE, "0 to 4294967295"),
        ("temperature", -1, "0.0 to 3.4e38"),
        ("temperature", math.nan, "0.0 to 3.4e38"),
        ("temperature", math.inf, "0.0 to 3.4e38"),
        ("temperature", 1e300, "0.0 to 3.4e38"),
        ("temperature", 10**400, "0.0 to 3.4e38"),
        ("top_k", -1, "0 to 2147483647"),
        ("top_k", 2**31, "0 to 2147483647"),
        pytest.param("top_k", 10**5000, "0 to 2147483647", id="top_k-of-5001-digits"),
        ("top_p", 1.5, "0.0 to 1.0"),
        ("min_p", -0.1, "0.0 to 1.0"),
        ("repeat_penalty", 0, "0.000001 to 1000000"),
        ("frequency_penalty", math.nan, "-1000000 to 1000000"),
        ("repeat_last_n", -2, "-1 to 1048576"),
        ("mirostat", 3, "0, 1 or 2"),
        ("seed", -1, "None or 0 to 4294967294"),
        ("seed", 2**32 - 1, "None or 0 to 4294967294"),
        ("logprobs", -1, "None or 0 to 20"),
        ("logprobs", 21, "None or 0 to 20"),
        ("stop_sequences", ["END", ""], "texts of one character or more"),
        ("stop_sequences", ["\ud800"], "text without lone surrogates"),
        ("stop_tokens", [HUGE], "token ids of the model's vocabulary"),
        ("logit_bias", {1: math.nan}, "numbers up to 1000000000, or negative infinity"),
        ("logit_bias", {HUGE: 1}, "token ids of the model's vocabulary"),
        ("logit_bias", {1: 1e300}, "numbers up to 1000000000, or negative infinity"),
        ("logit_bias", {1: 1e30}, "numbers up to 1000000000, or negative infinity"),
        ("frequency_penalty", -1e38, "-1000000 to 1000000"),
        ("presence_penalty", 1e38, "-1000000 to 1000000"),
        ("repeat_penalty", 1e-38, "0.000001 to 1000000"),
        ("stop_tokens", range(4 * 10**8), "at most 1048576 items"),
        ("stop_sequences", ["x"] * (2**20 + 1), "at most 1048576 items"),
        ("buffer_size", 0, "1 to 65536"),
        ("buffer_size", 65_537, "1 to 65536"),
        ("timeout_ms", -1, "None or 0 to 18446744073709551615"),
        ("priority", HUGE, "-2147483648 to 2147483647"),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(field: str, value: object, allowed: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        make(StreamConfig, field, value)
    error = caught.value
    assert (error.field, error.range, error.code) == (field, allowed, "INVALID_CONFIG")
    assert str(error) == f"{field} is {error.value}, but must be {allowed}"
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("value", "told"),
    [(1e300, "1e+300"), (-2, "-2"), pytest.param(10**5000, "a number of very many digits", id="huge")],
)
def test_a_value_is_told_as_it_was_given(value: float, told: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        StreamConfig(temperature=value)
    assert caught.value.value == told


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("max_tokens", 1.0, "an int, not float"),
        ("max_tokens", True, "an int, not bool"),
        ("max_tokens", None, "an int, not NoneType"),
        ("temperature", "hot", "a number, not str"),
        ("temperature", False, "a number, not bool"),
        ("ignore_eos", 1, "a bool, not int"),
        ("seed", "7", "an int, not str"),
        ("stop_sequences", "END", "a list or a tuple, not str"),
        ("stop_tokens", 7, "a list or a tuple, not int"),
        ("stop_tokens", {7: 1}, "a list or a tuple, not dict"),
        ("logit_bias", [(1, 2.0)], "a mapping, not list"),
    ],
)
def test_a_setting_of_the_wrong_type_is_refused_by_name(field: str, value: object, wanted: str) -> None:
    with pytest.raises(TypeError, match=f"^{field} must be {wanted}$"):
        make(StreamConfig, field, value)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("n_ctx", 0, "None or 1 to 268435456"),
        ("n_batch", -1, "1 to 268435456"),
        ("n_parallel", 257, "1 to 256"),
        ("kv_cells", -1, "None or 1 to 268435456"),
        ("n_threads", 513, "None or 1 to 512"),
        ("n_threads", -1, "None or 1 to 512"),
        ("flash_attn", "maybe", "one of auto, on, off"),
        ("type_k", "q3", "one of f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl"),
        ("max_queue", HUGE, "0 to 1048576"),
        ("max_paused", HUGE, "1 to 1048576"),
        ("prefix_cache_bytes", -1, "0 to 18446744073709551615"),
    ],
)
def test_a_context_param_out_of_its_range_is_refused_by_name(field: str, value: object, allowed: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        make(ContextParams, field, value)
    assert (caught.value.field, caught.value.range) == (field, allowed)


def test_integers_and_floats_of_other_libraries_are_taken() -> None:
    class Number:
        def __index__(self) -> int:
            return 3

    make(StreamConfig, "top_k", Number())
    make(StreamConfig, "temperature", Decimal("0.5"))
    make(StreamConfig, "stop_tokens", array("q", [1, 2]))


def test_any_mapping_is_a_logit_bias(context: Context) -> None:
    likeliest = context.generate("A", 1, temperature=0).tokens[0].id
    assert likeliest is not None
    for bias in (UserDict({likeliest: -math.inf}), MappingProxyType({likeliest: -math.inf})):
        assert context.generate("A", 1, temperature=0, logit_bias=bias).tokens[0].id != likeliest


def test_a_config_is_frozen_and_keeps_no_list_that_could_change() -> None:
    stops = ["END"]
    bias = {1: 2.0}
    config = StreamConfig(stop_sequences=stops, logit_bias=bias)
    stops.append("")
    bias[1] = math.nan
    assert (config.stop_sequences, config.logit_bias) == (("END",), {1: 2.0})
    with pytest.raises(FrozenInstanceError):
        config.seed = 7  # type: ignore[misc]
    biases: Any = config.logit_bias
    for change in (
        lambda: biases.update({1: 0}),
        lambda: operator.setitem(biases, 1, 0),
        lambda: biases.setdefault(2, 0),
        lambda: operator.delitem(biases, 1),
        lambda: biases.pop(1),
        biases.popitem,
        biases.clear,
        lambda: biases.__ior__({1: 0}),  # `|=` is a statement
    ):
        with pytest.raises(TypeError, match="belongs to a frozen value"):
            change()
    assert replace(config, seed=7).seed == 7


def test_keywords_win_over_max_tokens_and_config(context: Context) -> None:
    config = StreamConfig(max_tokens=9, temperature=0, ignore_eos=True)
    assert len(context.generate("A", config=config).tokens) == 9
    assert len(context.generate("A", 5, config=config).tokens) == 5
    assert context.generate("A", 5, config=config, seed=7).seed == 7
    assert config.seed is None


@pytest.mark.parametrize("call", ["generate", "generate_stream"])
def test_an_unknown_keyword_is_a_type_error_that_names_what_was_meant(context: Context, call: str) -> None:
    method: Callable[..., object] = getattr(context, call)
    call = f"Context.{call}"
    known = r"\(\) got an unexpected keyword argument 'temprature'\. Did you mean 'temperature'\?"
    with pytest.raises(TypeError, match=f"^{call}{known}$"):
        method("A", temprature=0.5)
    for name in ("xyzzy", "step"):
        with pytest.raises(TypeError, match=rf"got an unexpected keyword argument '{name}'$"):
            method("A", **{name: 0.5})


@pytest.mark.parametrize(
    ("name", "ours"),
    [("stop", "stop_sequences"), ("max_new_tokens", "max_tokens"), ("repetition_penalty", "repeat_penalty")],
)
def test_a_name_of_another_library_is_told_by_ours(context: Context, name: str, ours: str) -> None:
    options: Any = {name: 1}
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'. Did you mean '{ours}'?"):
        context.generate("A", **options)


def test_configs_are_values() -> None:
    config = StreamConfig(logit_bias={1: 0.5}, stop_sequences=["END"])
    from_json: Any = {"logit_bias": {"1": 0.5}}
    assert len({config, replace(config), replace(config, **from_json), replace(config, seed=7)}) == 2
    assert hash(ContextParams(n_ctx=512)) == hash(ContextParams(n_ctx=512))
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config  # noqa: S301  # our own bytes
    assert StreamConfig(**config.to_dict()) == config
    assert ContextParams(**ContextParams(n_ctx=512).to_dict()) == ContextParams(n_ctx=512)


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        make(ContextParams, "type_k", "q" * 10**6)
    assert caught.value.value == "q" * 200 + "…"


def test_a_config_of_the_wrong_class_is_a_type_error(context: Context, model: Model) -> None:
    wrong: Any = {"max_tokens": 3}
    with pytest.raises(TypeError, match="config must be a StreamConfig, not dict"):
        context.generate_stream("A", config=wrong)
    with pytest.raises(TypeError, match="params must be a ContextParams, not dict"):
        Context(model, wrong)
    with pytest.raises(TypeError, match="model must be a Model, not dict"):
        Context(wrong)


def test_token_ids_outside_the_vocabulary_are_refused_by_the_call(context: Context) -> None:
    for field, value in (("logit_bias", {999_999: 1.0}), ("stop_tokens", [-1])):
        config: Any = {field: value}
        with pytest.raises(InvalidConfigError) as caught:
            context.generate_stream("A", **config)
        assert caught.value.field == field


@pytest.mark.parametrize("type_v", ["f32", "bf16", "q8_0", "q4_0", "iq4_nl"])
def test_every_number_format_of_the_cache_generates(model: Model, type_v: Any) -> None:  # noqa: ANN401  # a literal
    params = ContextParams(n_ctx=256, flash_attn="on", type_k=type_v, type_v=type_v)
    with Context(model, params) as context:
        assert len(context.generate("Write a poem:", 5, temperature=0).tokens) == 5

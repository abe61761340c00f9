"""Settings and results with pydantic and FastAPI: they are read, written and described with their limits."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, TypeAdapter, ValidationError

from mullama import (
    Completion,
    Context,
    ContextParams,
    InvalidConfigError,
    Stats,
    Steps,
    StreamConfig,
    StreamOptions,
    Timings,
    Token,
    Usage,
    _mullama,
)

CONFIG = StreamConfig(
    max_tokens=7, seed=3, logit_bias={5: -math.inf, 6: 0.5}, stop_sequences=["END"], stop_tokens=[7], timeout_ms=None
)
BODY: Any = {"seed": 3, "logit_bias": {"6": 0.5}, "stop_sequences": ["END"]}


class Order(BaseModel):
    """A model of a user's own, with our settings as fields."""

    config: StreamConfig = StreamConfig()
    params: ContextParams | None = None


def schema_of(settings: type) -> dict[str, Any]:
    properties: dict[str, Any] = TypeAdapter(settings).json_schema()["properties"]
    return properties


def test_a_config_returns_from_json_with_its_biases() -> None:
    for told in (CONFIG.to_dict(), dataclasses.asdict(CONFIG)):
        assert StreamConfig(**json.loads(json.dumps(told))) == CONFIG
    adapter = TypeAdapter(StreamConfig)
    written = adapter.dump_json(CONFIG)
    assert adapter.validate_json(written) == CONFIG
    assert json.loads(written, parse_constant=pytest.fail)["logit_bias"] == {"5": "-Infinity", "6": 0.5}
    order = Order(config=CONFIG, params=ContextParams(n_ctx=512))
    assert Order.model_validate_json(order.model_dump_json()) == order
    params = TypeAdapter(ContextParams)
    assert params.validate_json(params.dump_json(ContextParams(n_ctx=512))) == ContextParams(n_ctx=512)


def test_what_the_class_refuses_pydantic_refuses() -> None:
    for wrong, words in (({"top_k": -1}, "top_k is -1"), ({"temprature": 1}, "temprature"), ({"top_k": "x"}, "top_k")):
        with pytest.raises(ValidationError, match=words):
            TypeAdapter(StreamConfig).validate_python(wrong)
    with pytest.raises(ValidationError, match="n_parallel is 0"):
        Order.model_validate({"params": {"n_parallel": 0}})


def test_the_schema_of_every_limited_field_has_the_limits_that_the_core_checks() -> None:
    properties = {**schema_of(StreamConfig), **schema_of(ContextParams)}
    for name, least, _ in _mullama.setting_limits():
        [schema] = [one for one in properties[name].get("anyOf", [properties[name]]) if one["type"] != "null"]
        if least is None:
            assert schema.keys() & {"maxItems", "maxProperties"}, name
            continue
        settings: Any = StreamConfig if name in schema_of(StreamConfig) else ContextParams
        settings(**{name: schema["minimum"]})
        with pytest.raises(InvalidConfigError):
            settings(**{name: schema["minimum"] - 1})
        if "maximum" in schema:
            settings(**{name: schema["maximum"]})
            with pytest.raises(InvalidConfigError):
                settings(**{name: schema["maximum"] + 1})
    assert properties["top_p"] == {"default": 0.9, "maximum": 1.0, "minimum": 0.0, "title": "Top P", "type": "number"}
    assert properties["n_threads"]["anyOf"] == [{"maximum": 512, "minimum": 1, "type": "integer"}, {"type": "null"}]
    assert properties["stop_sequences"]["maxItems"] == 256
    assert properties["logit_bias"]["maxProperties"] == 65_536


def test_fastapi_takes_settings_as_a_body_and_describes_them(context: Context) -> None:
    app = FastAPI()

    @app.post("/generate")
    def generate(config: StreamConfig) -> Completion:
        return context.generate("Count: 1,", config=config)

    @app.post("/order")
    def order(order: Order) -> StreamConfig:
        return order.config

    client = TestClient(app)
    answer = client.post("/generate", json={"max_tokens": 3, "temperature": 0})
    assert answer.status_code == 200
    assert answer.json()["text"] == str(context.generate("Count: 1,", 3, temperature=0))
    refused = client.post("/generate", json={"top_p": 2})
    assert refused.status_code == 422
    assert "top_p is 2, but must be 0.0 to 1.0" in refused.text
    assert client.post("/order", json={"config": BODY}).json() == {
        **json.loads(json.dumps(StreamConfig(**BODY).to_dict()))
    }
    described = client.get("/openapi.json")
    assert described.status_code == 200
    settings = described.json()["components"]["schemas"]["StreamConfig"]
    assert settings["properties"]["buffer_size"]["maximum"] == 65_536
    assert settings["additionalProperties"] is False
    answered = described.json()["components"]["schemas"]["Completion"]["properties"]
    told = json.dumps([answered, described.json()["components"]["schemas"]])
    assert set(answered) == set(answer.json())
    assert all(field in told for field in Token("a").to_dict())
    assert TypeAdapter(Completion).validate_json(answer.text).to_dict() == answer.json() | {
        "tokens": [Token(**token).to_dict() for token in answer.json()["tokens"]]
    }


@pytest.mark.parametrize("value", [Completion, Stats, Steps, StreamOptions, Timings, Token, Usage])
def test_every_value_has_a_schema(value: type) -> None:
    assert TypeAdapter(value).json_schema()["properties"]


def test_the_package_needs_no_pydantic() -> None:
    program = """
import sys
sys.modules["pydantic"] = sys.modules["pydantic_core"] = None
import mullama
mullama.StreamConfig(logit_bias={"1": 0.5})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_log_probabilities_survive_json(context: Context) -> None:
    completion = context.generate("Hello", 3, logprobs=2)
    adapter = TypeAdapter(Completion)
    read = adapter.validate_json(adapter.dump_json(completion))
    assert [token.top_logprobs for token in read.tokens] == [token.top_logprobs for token in completion.tokens]

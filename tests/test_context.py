"""Contexts: what they share, what they limit, and how they close."""

from __future__ import annotations

import gc
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from mullama import Context, ContextParams, EngineClosedError, Model, OverloadedError, StreamConfig

if TYPE_CHECKING:
    from collections.abc import Callable

STUCK = StreamConfig(stream_delay_ms=3_600_000, timeout_ms=None)


def test_contexts_of_equal_params_share_an_engine(model: Model) -> None:
    with (
        Context(model) as one,
        Context(model, ContextParams()) as same,
        Context(model, ContextParams(n_ctx=512)) as other,
        one.generate_stream("A", config=STUCK),
    ):
        assert (one.unfinished, same.unfinished, other.unfinished) == (1, 1, 0)


def test_it_tells_its_model_and_its_params(model: Model) -> None:
    params = ContextParams(n_ctx=512)
    with Context(model, params) as context:
        assert context.model is model
        assert context.params is params
        assert context.context_len == 512
        assert "n_ctx=512" in repr(context)


def test_a_context_longer_than_the_training_warns_where_it_was_asked_for(model: Model) -> None:
    longer = model.n_ctx_train + 1
    words = f"^n_ctx is {longer}, but the model was trained for {model.n_ctx_train} tokens"
    with pytest.warns(UserWarning, match=words) as told, Context(model, ContextParams(n_ctx=longer)):
        pass
    assert [warning.filename for warning in told] == [__file__]
    Context(model, ContextParams(n_ctx=model.n_ctx_train)).close()


def test_calls_beyond_slots_and_queue_are_refused_at_once(model: Model) -> None:
    # None of them is paused or ends while the calls are made: their buffers hold all that they generate.
    long = StreamConfig(ignore_eos=True, max_tokens=500, buffer_size=500)
    with Context(model, ContextParams(n_ctx=512, n_parallel=8, kv_cells=4096, max_queue=16)) as context:
        streams = [context.generate_stream("A", config=long) for _ in range(24)]
        for _ in range(8):
            with pytest.raises(OverloadedError) as caught:
                context.generate_stream("A", config=long)
            assert (caught.value.unfinished, caught.value.limit) == (24, 24)
        # A stream that waits leaves the queue at once, and one more may come.
        streams.pop().close()
        context.generate_stream("A", config=long).close()


def test_paused_streams_keep_no_other_out_up_to_a_limit_of_their_own(
    model: Model, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    params = ContextParams(n_ctx=256, n_parallel=2, max_queue=1, max_paused=9)
    with Context(model, params) as context, ExitStack() as unread:
        for count in range(1, 10):
            unread.enter_context(context.generate_stream("Once", 100, ignore_eos=True, buffer_size=1))
            assert eventually(lambda count=count: context.stats().paused == count)  # type: ignore[misc]
            if count < 9:
                assert context.generate("Once", 20, ignore_eos=True).usage.completion_tokens == 20
        with pytest.raises(OverloadedError, match="9 streams are paused and the limit is 9 \\(max_paused\\)") as caught:
            context.generate("Once")
        assert (caught.value.unfinished, caught.value.limit) == (9, 9)


def test_a_closed_context_refuses_while_its_streams_go_on(model: Model) -> None:
    with Context(model) as context:
        stream = context.generate_stream("Write a poem:", 5)
    context.close()
    assert len(list(stream)) == 5
    for call in (lambda: context.generate("A"), lambda: context.generate_stream("A"), lambda: context.unfinished):
        with pytest.raises(EngineClosedError) as caught:
            call()
        assert caught.value.what == "context"
    assert repr(context).startswith("<Context")


def test_a_stream_outlives_its_context_and_its_model(model: Model) -> None:
    own = Model.load(model.path)
    stream = Context(own).generate_stream("Write a poem:", 5)
    gone = weakref.ref(own)
    del own
    gc.collect()
    assert gone() is None
    assert len(list(stream)) == 5


def test_closing_the_model_ends_open_streams_with_an_error() -> None:
    with Model.load("demo") as model:
        stream = Context(model).generate_stream("A", config=STUCK)
        next(stream)
    with pytest.raises(EngineClosedError):
        next(stream)
    assert list(stream) == []
    assert stream.finish_reason == "error"


def test_a_context_made_for_every_request_is_cheap(
    model: Model, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    with Context(model) as kept:
        for _ in range(200):
            assert len(Context(model).generate("A", 1).tokens) == 1
        assert eventually(lambda: kept.unfinished == 0)

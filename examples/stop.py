"""Three ways in which a stream ends early: a stop sequence, a deadline, and a reader that has enough.

python examples/stop.py
"""

from mullama import Context, Model, StreamConfig, StreamTimeoutError

context = Context(Model.load("demo"))
config = StreamConfig(temperature=0, stop_sequences=["8"])

counted = context.generate("Count: 1, 2, 3,", config=config)
print(f"{counted.text!r} ended before {counted.stop_sequence!r}")

stream = context.generate_stream("Count: 1, 2, 3,", stream_delay_ms=50, timeout_ms=200)
try:
    for _ in stream:
        pass
except StreamTimeoutError as error:
    print(f"{stream.text!r} ended by {error.deadline} of {error.limit_ms} ms")

stream = context.generate_stream("Count: 1, 2, 3,", config=config, buffer_size=1)
for token in stream:
    if "5" in token.text:
        break
stream.close()
print(f"{stream.text!r} was enough: {stream.finish_reason}")

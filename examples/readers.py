"""Eight readers at once, one of them slow: it keeps nobody waiting.

python examples/readers.py
"""

import time
from concurrent.futures import ThreadPoolExecutor

from mullama import Context, Model

context = Context(Model.load("demo"))


def read(reader: int) -> str:
    """Reads one stream; reader 0 takes ten milliseconds over each token."""
    started = time.monotonic()
    for _ in (stream := context.generate_stream("Once upon a time", 100, ignore_eos=True, buffer_size=8)):
        time.sleep(0.01 if reader == 0 else 0)
    return f"reader {reader}: {stream.tokens_generated} tokens in {time.monotonic() - started:.2f} s"


with ThreadPoolExecutor(8) as readers:
    for line in readers.map(read, range(8)):
        print(line)

"""Writes a poem as it comes, and then what it cost.

python examples/stream.py [model.gguf]
"""

import sys

from mullama import Context, Model

model = Model.load(sys.argv[1] if len(sys.argv) > 1 else "demo")
context = Context(model)

with context.generate_stream("Write a poem:", max_tokens=200, temperature=0.8) as stream:
    for token in stream:
        print(token.text, end="", flush=True)

print(f"\n\n{stream.usage.completion_tokens} tokens, {stream.tokens_per_second():.0f} a second: {stream.finish_reason}")

"""llama-cpp-python's stream on call: a line on stdin is a run, its tokens a second the answer.

    python benches/peer_llama_cpp_python.py MODEL --tokens 200 --threads 2

Runs in an interpreter of its own, where llama-cpp-python is installed; `python_streams.py --peer` starts it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from llama_cpp import Llama


def main() -> None:
    """Loads the model, then runs once a line."""
    parser = argparse.ArgumentParser(description="llama-cpp-python's stream on call.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", default="Once upon a time")
    args = parser.parse_args()
    llama = Llama(
        str(args.model), n_ctx=512, n_threads=args.threads, n_threads_batch=args.threads, flash_attn=True, verbose=False
    )
    sampling = {"temperature": 1.0, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "repeat_penalty": 1.0, "seed": 1}
    # Endings are forbidden, as the other side's ignore_eos does.
    forbidden = {llama.token_eos(): -1e9}
    for _ in sys.stdin:
        began = time.perf_counter()
        stream = llama(args.prompt, max_tokens=args.tokens, stream=True, logit_bias=forbidden, **sampling)
        tokens = sum(1 for chunk in stream if chunk["choices"][0]["finish_reason"] is None)
        print(tokens / (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()

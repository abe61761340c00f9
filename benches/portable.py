"""Compares builds of mullama for many processors with one that was compiled for this one.

    python benches/portable.py MODEL... --portable PYTHON --native PYTHON [--rust FOLDER] [--tokens 128] [--pairs 9]

PYTHON is the interpreter of an environment: with the wheel of `make release` in it for `--portable`, and with a source
build for `--native`. `--rust` compiles a Rust program that depends on this checkout three times in FOLDER, which must
lie outside the checkout, whose cargo settings would apply: as plain `cargo build` does, for this processor, and with
the feature `portable`. Each build has a process of its own, and they take turns; ratios are of medians.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[1]
STREAMS = (1, 8)
# A process that is sent a number of streams and answers with tokens a second.
PYTHON_PROGRAM = """
import sys, threading, time
from mullama import Context, ContextParams, Model
path, tokens, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
context = Context(Model.load(path), ContextParams(n_parallel=8, n_threads=threads, n_ctx=512))
def read():
    list(context.generate_stream("Once upon a time", tokens, ignore_eos=True, seed=1, timeout_ms=None))
for line in sys.stdin:
    readers = [threading.Thread(target=read) for _ in range(int(line))]
    start = time.perf_counter()
    [reader.start() for reader in readers]
    [reader.join() for reader in readers]
    print(len(readers) * tokens / (time.perf_counter() - start), flush=True)
"""
# Milliseconds from the import to a loaded model.
LOAD_PROGRAM = """
import sys, time
start = time.perf_counter()
from mullama import Model
model = Model.load(sys.argv[1])
print((time.perf_counter() - start) * 1000)
"""
CARGO_TOML = """
[package]
name = "rust-user"
version = "0.0.0"
edition = "2024"

[features]
portable = ["mullama/portable"]

[dependencies]
mullama = {{ path = "{core}" }}

[workspace]
"""
RUST_PROGRAM = """
use std::io::Write as _;
use std::time::Instant;
use mullama::{Context, ContextParams, Model, StreamConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let (tokens, threads) = (arguments[2].parse::<u32>()?, arguments[3].parse::<u32>()?);
    let params =
        ContextParams { n_parallel: 8, n_threads: Some(threads), n_ctx: Some(512), ..ContextParams::default() };
    let context = Context::new(Model::load(&arguments[1])?.into(), params)?;
    let read = || {
        let config = StreamConfig::new().max_tokens(tokens).ignore_eos(true).seed(1).timeout_ms(None);
        context.generate("Once upon a time", config).map(drop)
    };
    for line in std::io::stdin().lines() {
        let streams = line?.parse::<u32>()?;
        let start = Instant::now();
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..streams).map(|_| scope.spawn(read)).collect();
            readers.into_iter().try_for_each(|reader| reader.join().expect("a reader does not panic"))
        })?;
        println!("{}", f64::from(streams * tokens) / start.elapsed().as_secs_f64());
        std::io::stdout().flush()?;
    }
    Ok(())
}
"""
RUST_BUILDS = {"plain cargo build": "", "native": "-C target-cpu=native", "portable": "-C target-cpu=x86-64"}


def main() -> None:
    """Prints a row for each model and number of streams, and one for the time to load."""
    asked = arguments()
    programs = compiled(asked.rust.resolve()) if asked.rust else {}
    print("| ratio to native | model | streams | measured | tokens a second |\n|---|---|---|---|---|")
    for model in asked.models:
        rest = [model, str(asked.tokens), str(asked.threads)]
        python = {"portable": asked.portable, "native": asked.native}
        rates("Python, ", {name: [path, "-c", PYTHON_PROGRAM, *rest] for name, path in python.items()}, asked.pairs)
        if programs:
            rates("Rust, ", {name: [str(path), *rest] for name, path in programs.items()}, asked.pairs)
    for model in asked.models:
        load_times(asked, model)


def arguments() -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="paths of GGUF files, or demo")
    parser.add_argument("--portable", required=True, help="an interpreter with the wheel of `make release`")
    parser.add_argument("--native", required=True, help="an interpreter with a source build")
    parser.add_argument("--rust", type=Path, help="a folder outside the checkout for the Rust programs")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=9)
    return parser.parse_args()


def rates(title: str, commands: dict[str, list[str]], pairs: int) -> None:
    """Prints the ratio of each build to the native one, for one stream and for eight."""
    model = Path(commands["native"][-3]).name
    with ExitStack() as stack:
        runs = {name: stack.enter_context(on_call(command)) for name, command in commands.items()}
        for streams in STREAMS:
            found = interleaved({name: partial(run, streams) for name, run in runs.items()}, pairs)
            for name in found.keys() - {"native"}:
                ratio = found[name] / found["native"]
                figures = f"{found[name]:.1f}; native {found['native']:.1f}"
                print(f"| {title}{name} | {model} | {streams} | {ratio:.3f} | {figures} |", flush=True)


def load_times(asked: argparse.Namespace, model: str) -> None:
    """Prints how much longer the portable build takes from the import to a loaded model."""
    interpreters = {"portable": asked.portable, "native": asked.native}
    runs = {name: partial(once, [path, "-c", LOAD_PROGRAM, model]) for name, path in interpreters.items()}
    found = interleaved(runs, 2 * asked.pairs)
    times = (
        f"{found['portable']:.1f} ms; native {found['native']:.1f} ms: {found['portable'] - found['native']:+.1f} ms"
    )
    print(f"{Path(model).name}: from the import to a loaded model {times}")


def interleaved(runs: Mapping[str, Callable[[], float]], pairs: int) -> dict[str, float]:
    """The median of each, over runs in turn that change their order; the first round only warms up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(pairs + 1):
        for name in list(runs) if number % 2 else reversed(list(runs)):
            measured = runs[name]()
            if number:
                found[name].append(measured)
    return {name: statistics.median(values) for name, values in found.items()}


@contextmanager
def on_call(command: list[str]) -> Iterator[Callable[[int], float]]:
    """A process that is sent numbers of streams, in a folder where no checkout is imported by chance."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", env=bare()
    ) as process:
        requests, answers = process.stdin, process.stdout
        assert requests is not None
        assert answers is not None

        def run(streams: int) -> float:
            requests.write(f"{streams}\n")
            requests.flush()
            return float(answers.readline())

        yield run
        requests.close()


def once(command: list[str]) -> float:
    """What a process prints."""
    return float(subprocess.run(command, check=True, capture_output=True, text=True, cwd="/", env=bare()).stdout)


def compiled(folder: Path) -> dict[str, Path]:
    """The three programs of a Rust user."""
    if folder.is_relative_to(ROOT):
        sys.exit(f"{folder} lies in the checkout, whose cargo settings would apply")
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "Cargo.toml").write_text(CARGO_TOML.format(core=ROOT / "crates" / "mullama-core"), encoding="utf-8")
    (folder / "src" / "main.rs").write_text(RUST_PROGRAM, encoding="utf-8")
    shutil.copy2(ROOT / "Cargo.lock", folder / "Cargo.lock")
    tools = ROOT / "target" / "build-tools" / "cargo.toml"
    programs = {}
    for name, flags in RUST_BUILDS.items():
        target = folder / "target" / name.replace(" ", "-")
        options = ["--features", "portable"] if name == "portable" else []
        rpath = " -C link-arg=-Wl,-rpath,$ORIGIN/mullama-lib,--disable-new-dtags" if options else ""
        command = ["cargo", "build", "--release", "--target-dir", str(target), *options]
        command += ["--config", str(tools)] if tools.exists() else []
        subprocess.run(command, cwd=folder, env=bare() | {"RUSTFLAGS": flags + rpath}, check=True)
        programs[name] = target / "release" / "rust-user"
    return programs


def bare() -> dict[str, str]:
    """The environment without what points to this checkout."""
    return {
        name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "RUSTFLAGS", "CARGO_TARGET_DIR"}
    }


if __name__ == "__main__":
    main()

//! Measures mullama against a bare loop over the same llama.cpp, side by side in one run.
//!
//!     cargo bench --profile release -p mullama --bench ratios -- MODEL [--tokens N] [--pairs N] [--prompt N] [--only CASE]
//!
//! Every figure is a ratio of medians of interleaved runs: the machine's speed drifts, the ratio does not.

mod args;
mod cases;
mod deterministic;
mod engine_alone;
mod leaving;
mod prompts;
mod raw;
mod table;

use std::error::Error;

use args::Args;

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse(std::env::args().skip(1))?;
    if let Some(library) = &args.plugin {
        mullama::load_plugin(library)?;
    }
    if args.raw_only {
        return raw::serve(&args);
    }
    table::head();
    cases::run(&args)?;
    prompts::run(&args)?;
    deterministic::run(&args)?;
    leaving::run(&args)?;
    engine_alone::run(&args)
}

//! The settings of a run, parsed from the command line.

use std::path::PathBuf;

/// The settings of a run.
#[derive(Debug, Clone)]
pub(crate) struct Args {
    pub(crate) model: PathBuf,
    /// Number of tokens of each stream.
    pub(crate) tokens: u32,
    /// Number of interleaved runs of each case.
    pub(crate) pairs: usize,
    pub(crate) threads: u32,
    /// Run only the bare loop, on demand: each line on stdin starts a run, which answers with its tokens/s.
    pub(crate) raw_only: bool,
    /// Run only cases whose name contains this.
    pub(crate) only: String,
    /// The library of a GPU backend, for a build with the feature `portable`.
    pub(crate) plugin: Option<PathBuf>,
    /// Number of prompt tokens in the cases about prompts.
    pub(crate) prompt: usize,
}

impl Args {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self {
            model: PathBuf::new(),
            tokens: 200,
            pairs: 11,
            threads: 2,
            raw_only: false,
            only: String::new(),
            plugin: None,
            prompt: 1000,
        };
        while let Some(arg) = args.next() {
            let mut number = || args.next().and_then(|n| n.parse().ok()).ok_or(format!("{arg} needs a number"));
            match arg.as_str() {
                // Cargo passes this argument to every bench.
                "--bench" => {}
                "--tokens" => parsed.tokens = number()?,
                "--pairs" => parsed.pairs = number()? as usize,
                "--threads" => parsed.threads = number()?,
                "--prompt" => parsed.prompt = number()? as usize,
                "--plugin" => parsed.plugin = args.next().map(PathBuf::from),
                "--raw" => parsed.raw_only = true,
                "--only" => parsed.only = args.next().unwrap_or_default(),
                _ if parsed.model.as_os_str().is_empty() && !arg.starts_with('-') => parsed.model = arg.into(),
                _ => return Err(format!("unknown argument {arg}")),
            }
        }
        if parsed.model.as_os_str().is_empty() {
            return Err(
                "usage: ratios MODEL [--tokens N] [--pairs N] [--threads N] [--prompt N] [--only CASE] [--plugin LIBRARY] [--raw]".into(),
            );
        }
        Ok(parsed)
    }
}

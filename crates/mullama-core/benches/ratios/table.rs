//! The table: interleaved pairs, medians, and one line per case.

use crate::args::Args;
use crate::cases::Outcome;

/// Prints the header of the table.
pub(crate) fn head() {
    say("| case | ratio | ours | beside |\n|---|---|---|---|");
}

/// Runs both alternately, once to warm up and then `args.pairs` times, and prints the ratio of their medians.
pub(crate) fn pairs(
    args: &Args,
    name: &str,
    mut ours: impl FnMut() -> Outcome<f64>,
    mut beside: impl FnMut() -> Outcome<f64>,
) -> Outcome<()> {
    if !name.contains(&args.only) {
        return Ok(());
    }
    ours()?;
    beside()?;
    let (mut our_values, mut other_values) = (Vec::new(), Vec::new());
    for _ in 0..args.pairs {
        our_values.push(ours()?);
        other_values.push(beside()?);
    }
    let (ours, beside) = (quantile(our_values, 0.5), quantile(other_values, 0.5));
    say(&format!("| {name} | {:.3} | {ours:.1} | {beside:.1} |", ours / beside));
    Ok(())
}

/// The quantile of the values at this share.
pub(crate) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let at = ((values.len() as f64 - 1.0) * share).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

/// Prints a line of the table, or an answer.
#[expect(clippy::print_stdout, reason = "the table is what a bench is for")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

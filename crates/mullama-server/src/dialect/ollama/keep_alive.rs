//! `keep_alive`: how long a model stays in memory after its last use.

use std::time::Duration;

use serde_json::Value;

use crate::error::ApiError;
use crate::json::Json;
use crate::models::KeepLoaded;

/// Times beyond this are for ever.
const LONGEST: f64 = 100.0 * 365.25 * 86400.0;
/// The units of a duration as Go writes them, in seconds. A unit that another one starts with is after it.
const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Seconds as a number, or a duration such as `5m`, `1h30m` or `300ms`; what is negative is for ever, which is `None`.
pub(super) fn read(value: &Json<'_>) -> Result<KeepLoaded, ApiError> {
    let seconds = match value.value() {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => {
            text.trim().parse().ok().filter(|seconds: &f64| seconds.is_finite()).or_else(|| go(text))
        }
        _ => None,
    };
    let seconds =
        seconds.ok_or_else(|| value.error("must be a number of seconds, or a duration such as 5m or 1h30m"))?;
    if !(0.0..=LONGEST).contains(&seconds) {
        return Ok(None);
    }
    Ok(Duration::try_from_secs_f64(seconds).ok())
}

/// The seconds of a duration as Go writes it.
fn go(text: &str) -> Option<f64> {
    let text = text.trim();
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let mut seconds = None;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let (unit, factor) = UNITS.into_iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        seconds = Some(seconds.unwrap_or(0.0) + number * factor);
        rest = &rest[digits + unit.len()..];
    }
    seconds.map(|seconds: f64| sign * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(value: &Value) -> Result<Option<Duration>, ApiError> {
        read(&Json::new(value, "keep_alive"))
    }

    #[test]
    fn seconds_and_durations_of_go_are_understood() {
        for (value, seconds) in [
            (json!(0), 0.0),
            (json!("0"), 0.0),
            (json!(2.5), 2.5),
            (json!("5m"), 300.0),
            (json!("1h30m"), 5400.0),
            (json!("1.5h"), 5400.0),
            (json!("300ms"), 0.3),
            (json!("90"), 90.0),
        ] {
            assert_eq!(of(&value), Ok(Some(Duration::from_secs_f64(seconds))), "{value}");
        }
        for forever in [json!(-1), json!("-1"), json!("-1m"), json!(1e300), json!("1e300")] {
            assert_eq!(of(&forever), Ok(None), "{forever}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_by_name() {
        for wrong in [json!("soon"), json!(""), json!("5 minutes"), json!("m"), json!("-"), json!("inf"), json!("nan")]
        {
            let error = of(&wrong).expect_err("no duration");
            assert!(error.message.starts_with("keep_alive must be a number of seconds"), "{wrong}: {}", error.message);
        }
        for wrong in [json!(true), json!([]), json!({})] {
            assert!(of(&wrong).is_err(), "{wrong}");
        }
    }
}

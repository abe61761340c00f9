//! The samplers of a request: they run in llama.cpp's default order, and one is left out where its settings turn it off.

use mullama::StreamConfig;
use serde_json::Value;

use crate::error::ApiError;
use crate::json::Json;

/// A sampler: its name and letter as llama-server knows them, and whether a config turns it off.
struct Sampler {
    name: &'static str,
    letter: char,
    is_off: fn(&StreamConfig) -> bool,
}

/// llama.cpp's samplers in its default order, which is the only one.
#[expect(clippy::float_cmp, reason = "these exact values are off")]
const SAMPLERS: [Sampler; 9] = [
    Sampler {
        name: "penalties",
        letter: 'e',
        is_off: |config| {
            let is_neutral = config.frequency_penalty == 0.0 && config.presence_penalty == 0.0;
            config.repeat_last_n == 0 || config.repeat_penalty == 1.0 && is_neutral
        },
    },
    Sampler { name: "dry", letter: 'd', is_off: |config| config.dry_multiplier == 0.0 },
    Sampler { name: "top_n_sigma", letter: 's', is_off: |config| config.top_n_sigma == 0.0 },
    Sampler { name: "top_k", letter: 'k', is_off: |config| config.top_k == 0 },
    Sampler { name: "typ_p", letter: 'y', is_off: |config| config.typical_p == 1.0 },
    Sampler { name: "top_p", letter: 'p', is_off: |config| config.top_p == 1.0 },
    Sampler { name: "min_p", letter: 'm', is_off: |config| config.min_p == 0.0 },
    Sampler { name: "xtc", letter: 'x', is_off: |config| config.xtc_probability == 0.0 },
    Sampler {
        name: "temperature",
        letter: 't',
        is_off: |config| config.temperature == 1.0 && config.dynatemp_range == 0.0,
    },
];

/// Whether a config penalizes tokens that were there before.
pub(super) fn penalizes(config: &StreamConfig) -> bool {
    !(SAMPLERS[0].is_off)(config)
}

/// The names of all samplers in their order.
pub(crate) fn names() -> [&'static str; SAMPLERS.len()] {
    SAMPLERS.map(|sampler| sampler.name)
}

/// Checks that a request asks for the samplers that run anyway: all of them, or those that its settings do not turn off.
pub(super) fn check(value: &Json<'_>, config: &StreamConfig) -> Result<(), ApiError> {
    let mut next = 0;
    for asked in positions(value)? {
        if asked < next {
            return Err(value.error(format_args!("must be in llama.cpp's default order: {}", names().join(", "))));
        }
        check_left_out(value, next..asked, config)?;
        next = asked + 1;
    }
    check_left_out(value, next..SAMPLERS.len(), config)
}

/// The position of each sampler that a list of names, or a string of letters, asks for.
fn positions(value: &Json<'_>) -> Result<Vec<usize>, ApiError> {
    if let Value::String(letters) = value.value() {
        let position = |letter| SAMPLERS.iter().position(|sampler| sampler.letter == letter);
        let unknown = || value.error("has a letter of no sampler; the default order is edskypmxt");
        return letters.chars().map(|letter| position(letter).ok_or_else(unknown)).collect();
    }
    let Value::Array(_) = value.value() else { return Err(value.must_be("a list of names or a string of letters")) };
    let position = |item: Json<'_>| {
        let name = if item.text()? == "typical_p" { "typ_p" } else { item.text()? };
        let found = SAMPLERS.iter().position(|sampler| sampler.name == name);
        found.ok_or_else(|| item.error(format_args!("must be one of {}", names().join(", "))))
    };
    value.list_of(SAMPLERS.len(), "samplers")?.map(position).collect()
}

fn check_left_out(value: &Json<'_>, left_out: std::ops::Range<usize>, config: &StreamConfig) -> Result<(), ApiError> {
    match SAMPLERS[left_out].iter().find(|sampler| !(sampler.is_off)(config)) {
        Some(Sampler { name, .. }) => {
            Err(value.error(format_args!("leaves out {name}, which is on: turn it off by its own settings instead")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use mullama::StreamConfig;
    use serde_json::json;

    use super::{check, names};
    use crate::json::Json;

    #[test]
    fn samplers_that_run_anyway_are_accepted_and_others_are_named() {
        let config = StreamConfig::new();
        for value in [
            json!(names()),
            json!("edskypmxt"),
            json!("edkypmxt"),
            json!("kp"),
            json!(["dry", "top_k", "typical_p", "top_p", "min_p", "xtc", "temperature"]),
        ] {
            assert_eq!(check(&Json::new(&value, "samplers"), &config), Ok(()), "{value}");
        }
        for (value, words) in [
            (json!([]), "samplers leaves out top_k, which is on"),
            (json!("pk"), "samplers leaves out top_k, which is on"),
            (json!("kkp"), "samplers must be in llama.cpp's default order"),
            (json!("k"), "samplers leaves out top_p, which is on"),
            (json!("kzp"), "samplers has a letter of no sampler"),
            (json!(["top_k", "infill"]), "samplers[1] must be one of penalties, dry"),
            (json!(7), "samplers must be a list of names or a string of letters, not a number"),
        ] {
            let error = check(&Json::new(&value, "samplers"), &config).expect_err("it cannot be done");
            assert!(error.message.starts_with(words), "{value}: {}", error.message);
        }
        let sigma = StreamConfig::new().top_n_sigma(1.5);
        assert!(check(&Json::new(&json!("edkypmxt"), "samplers"), &sigma).is_err());
    }
}

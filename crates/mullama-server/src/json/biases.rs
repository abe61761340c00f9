//! Biases of tokens: an object of token ids, or llama-server's list of pairs.

use mullama::{Field as Target, Setting, TokenId};
use serde_json::Value;

use super::Json;
use crate::error::ApiError;

/// Biases up to this forbid a token: no logit is so high, and sums with them may overflow.
const FORBIDDING: f32 = -1e9;
/// Most biases of a request.
const MOST_BIASES: usize = 65_536;

/// Most biases of texts, which have to be tokenized.
const MOST_TEXTS: usize = 1024;

/// Biases as llama-server takes them: of token ids, and of every token of a text.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Biases {
    pub(crate) tokens: Vec<(TokenId, f32)>,
    pub(crate) texts: Vec<(String, f32)>,
}

impl Biases {
    /// Reads the biases of a request; what is no token id is a text.
    pub(crate) fn read(value: &Json<'_>) -> Result<Self, ApiError> {
        check_count(value)?;
        let mut biases = Self::default();
        match value.value() {
            Value::Object(fields) => {
                for name in fields.keys() {
                    if name.parse::<i64>().is_ok() {
                        biases.tokens.push(of_field(value, name)?);
                    } else {
                        biases.texts.push((name.clone(), bias(&value.present(name)?)?));
                    }
                }
            }
            _ => {
                for pair in value.list()? {
                    match pair.value().as_array().map(Vec::as_slice) {
                        Some([Value::String(text), _]) => {
                            let number = pair.list()?.nth(1).map(|number| bias(&number)).transpose()?;
                            biases.texts.push((text.clone(), number.unwrap_or_default()));
                        }
                        _ => biases.tokens.push(of_pair(&pair)?),
                    }
                }
            }
        }
        let count = biases.texts.len();
        if count > MOST_TEXTS {
            return Err(value.error(format_args!("has {count} texts, but may have at most {MOST_TEXTS}")));
        }
        Ok(biases)
    }
}

/// Reads biases of token ids.
pub(super) fn read(value: &Json<'_>) -> Result<Vec<(TokenId, f32)>, ApiError> {
    check_count(value)?;
    match value.value() {
        Value::Object(biases) => biases.keys().map(|name| of_field(value, name)).collect(),
        _ => value.list()?.map(|pair| of_pair(&pair)).collect(),
    }
}

/// Refuses what is no list of biases, or too long.
fn check_count(value: &Json<'_>) -> Result<(), ApiError> {
    let count = match value.value() {
        Value::Object(biases) => biases.len(),
        Value::Array(pairs) => pairs.len(),
        _ => return Err(value.must_be("an object of token ids and biases")),
    };
    if count > MOST_BIASES {
        return Err(value.error(format_args!("has {count} biases, but may have at most {MOST_BIASES}")));
    }
    Ok(())
}

fn of_field(biases: &Json<'_>, name: &str) -> Result<(TokenId, f32), ApiError> {
    let token = name.parse().ok().filter(|token: &TokenId| *token >= 0 && token.to_string() == name);
    let wrong = || ApiError::field(biases.child(name), "must have a token id as its name");
    Ok((token.ok_or_else(wrong)?, bias(&biases.present(name)?)?))
}

fn of_pair(pair: &Json<'_>) -> Result<(TokenId, f32), ApiError> {
    let mut items = pair.list()?;
    match (items.next(), items.next(), items.next()) {
        (Some(token), Some(number), None) => Ok((token.integer(0..=TokenId::MAX)?, bias(&number)?)),
        _ => Err(pair.error("must be a pair of a token id and a bias")),
    }
}

/// A number, or false for a token that is forbidden.
fn bias(value: &Json<'_>) -> Result<f32, ApiError> {
    if *value.value() == Value::Bool(false) {
        return Ok(f32::NEG_INFINITY);
    }
    let bias: f32 = Setting::take(value, Target::new("logit_bias", |_| None))?;
    Ok(if bias <= FORBIDDING { f32::NEG_INFINITY } else { bias })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Biases, MOST_TEXTS, read};
    use crate::json::Json;

    #[test]
    fn a_text_has_a_bias_as_a_token_id_has() {
        for value in [json!([[5, 1.5], ["e", false]]), json!({"5": 1.5, "e": false})] {
            let wanted = Biases { tokens: vec![(5, 1.5)], texts: vec![("e".to_owned(), f32::NEG_INFINITY)] };
            assert_eq!(Biases::read(&Json::new(&value, "logit_bias")), Ok(wanted), "{value}");
        }
        for (value, path) in [
            (json!([["e", "x"]]), "logit_bias[0][1]"),
            (json!([["e"]]), "logit_bias[0]"),
            (json!({"-1": 1}), "logit_bias.-1"),
            (json!({"e": null}), "logit_bias.e"),
            (json!(vec![json!(["e", 1]); MOST_TEXTS + 1]), "logit_bias"),
        ] {
            let error = Biases::read(&Json::new(&value, "logit_bias")).expect_err("no biases");
            assert_eq!(error.field.as_deref(), Some(path), "{}", error.message);
        }
    }

    #[test]
    fn objects_and_pairs_are_read_and_what_overflows_forbids() {
        let forbidden = f32::NEG_INFINITY;
        for (value, biases) in [
            (json!({"5": 1.5, "7": -1e30}), vec![(5, 1.5), (7, forbidden)]),
            (json!([[5, 1.5], [7, false]]), vec![(5, 1.5), (7, forbidden)]),
            (json!({}), vec![]),
        ] {
            assert_eq!(read(&Json::new(&value, "logit_bias")), Ok(biases), "{value}");
        }
    }

    #[test]
    fn what_is_no_bias_is_named() {
        for (value, path) in [
            (json!({"x": 1}), "logit_bias.x"),
            (json!({"05": 1}), "logit_bias.05"),
            (json!({"-1": 1}), "logit_bias.-1"),
            (json!({"5": "x"}), "logit_bias.5"),
            (json!({"5": null}), "logit_bias.5"),
            (json!({"5": true}), "logit_bias.5"),
            (json!([[5]]), "logit_bias[0]"),
            (json!([[5, 1, 2]]), "logit_bias[0]"),
            (json!([[5, 1], ["x", 1]]), "logit_bias[1][0]"),
            (json!([[5, 1], 6]), "logit_bias[1]"),
            (json!("x"), "logit_bias"),
            (json!(vec![[1, 1]; 65_537]), "logit_bias"),
        ] {
            let error = read(&Json::new(&value, "logit_bias")).expect_err("no biases");
            assert_eq!(error.field.as_deref(), Some(path), "{}", error.message);
        }
    }
}

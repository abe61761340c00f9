//! API keys, compared in constant time.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use subtle::{Choice, ConstantTimeEq};

use crate::error::ApiError;

/// Headers that hold a key as it is, besides `Authorization: Bearer`.
const PLAIN: [&str; 2] = ["x-api-key", "api-key"];

/// The keys of which clients must send one; if there are none, no key is needed.
pub(super) struct Keys(Vec<String>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Keys {
    pub(super) fn new(keys: &[String]) -> Self {
        Self(keys.to_vec())
    }

    /// # Errors
    /// If no header has a known key.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let (mut is_known, mut is_given) = (Choice::from(0), false);
        for given in given(headers) {
            is_given = true;
            for key in &self.0 {
                is_known |= key.as_bytes().ct_eq(given);
            }
        }
        if bool::from(is_known) {
            return Ok(());
        }
        let message = if is_given {
            "the API key is not valid"
        } else {
            "this server needs an API key; send it in the header Authorization: Bearer KEY or x-api-key: KEY"
        };
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "INVALID_API_KEY", message))
    }
}

/// The keys that a request gives, in whichever headers.
pub(crate) fn given(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearers = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| bearer(value.as_bytes()));
    let plain = PLAIN.iter().flat_map(|name| headers.get_all(*name)).map(HeaderValue::as_bytes);
    bearers.chain(plain)
}

/// The token of `Bearer TOKEN`, whose scheme may be written in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::Keys;

    fn is_let_in(name: &'static str, value: &'static str) -> bool {
        let keys = Keys::new(&["secret".to_owned(), "other".to_owned()]);
        let header = (HeaderName::from_static(name), HeaderValue::from_static(value));
        keys.check(&HeaderMap::from_iter([header])).is_ok()
    }

    #[test]
    fn each_key_is_taken_from_each_header() {
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("authorization", "bearer  other"),
            ("x-api-key", "secret"),
            ("api-key", "other"),
        ] {
            assert!(is_let_in(name, value), "{name}: {value}");
        }
    }

    #[test]
    fn what_is_not_a_whole_key_is_refused() {
        for (name, value) in [
            ("authorization", "Bearer secre"),
            ("authorization", "Bearer secret1"),
            ("authorization", "Bearer "),
            ("authorization", "Bearersecret"),
            ("authorization", "Basic secret"),
            ("authorization", "secret"),
            ("authorization", ""),
            ("x-api-key", ""),
            ("x-api-key", "Secret"),
            ("cookie", "secret"),
        ] {
            assert!(!is_let_in(name, value), "{name}: {value}");
        }
    }

    #[test]
    fn a_server_without_keys_needs_none_and_shows_none() {
        assert!(Keys::new(&[]).check(&HeaderMap::new()).is_ok());
        assert_eq!(format!("{:?}", Keys::new(&["secret".to_owned()])), "1 keys");
    }
}

//! The token that a registry gives to everybody: its challenge, and the address to get the token from.

use serde::Deserialize;
use url::Url;

use super::redirect;

/// What a registry answers to requests without a token: `Bearer realm="…",service="…",scope="…"`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header; `None` if it asks for something other than a Bearer token with a realm.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut challenge = Self { realm: String::new(), service: None, scope: None };
        for (key, value) in parameters(rest) {
            match key.as_str() {
                "realm" => challenge.realm = value,
                "service" => challenge.service = Some(value),
                "scope" => challenge.scope = Some(value),
                _ => {}
            }
        }
        (!challenge.realm.is_empty()).then_some(challenge)
    }

    /// The address of the token, if a server at `from` may refer to it.
    pub(super) fn address(&self, from: &Url) -> Result<Url, String> {
        let mut url = Url::parse(&self.realm)
            .map_err(|error| format!("the address of its token service is not valid ({error})"))?;
        redirect::allowed(from, &url)?;
        for (key, value) in [("service", &self.service), ("scope", &self.scope)] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(key, value);
            }
        }
        Ok(url)
    }
}

/// The parameters of a challenge: `key=value` or `key="value"`, separated by commas; quoted values may contain commas.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_start_matches([',', ' ', '\t']).trim().to_ascii_lowercase();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted_text(quoted),
            None => match after.split_once(',') {
                Some((value, next)) => (value.trim().to_owned(), next),
                None => (after.trim().to_owned(), ""),
            },
        };
        found.push((key, value));
        rest = next;
    }
    found
}

fn quoted_text(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The token in the answer of a token service.
pub(super) fn token(answer: &[u8]) -> Option<String> {
    let answer: TokenAnswer = serde_json::from_slice(answer).ok()?;
    let token = answer.token.or(answer.access_token)?;
    // Anything else could not be sent as a header.
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then_some(token)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_challenge_of_a_registry_is_read() {
        let header = r#"Bearer realm="https://ollama.com/token",service="ollama.com",scope="repository:a/b:pull,push""#;
        let challenge = Challenge::parse(header).unwrap();
        let url = challenge.address(&Url::parse("https://registry.ollama.ai/v2/").unwrap()).unwrap();
        assert_eq!(url.as_str(), "https://ollama.com/token?service=ollama.com&scope=repository%3Aa%2Fb%3Apull%2Cpush");
    }

    #[test]
    fn a_challenge_without_quotes_and_with_escapes_is_read() {
        let challenge =
            Challenge::parse(r#"bearer nonce=1, Realm=http://127.0.0.1/t , scope="a\"b", service="#).unwrap();
        assert_eq!((challenge.realm.as_str(), challenge.scope.as_deref()), ("http://127.0.0.1/t", Some("a\"b")));
    }

    #[test]
    fn other_challenges_are_not_answered() {
        for header in ["", "Bearer", "Bearer realm=", "Basic realm=\"x\"", "Negotiate abc=="] {
            assert_eq!(Challenge::parse(header), None, "{header}");
        }
    }

    #[test]
    fn a_token_is_not_fetched_without_encryption() {
        let challenge = Challenge::parse("Bearer realm=\"http://evil.example/\"").unwrap();
        assert!(challenge.address(&Url::parse("https://registry.ollama.ai/").unwrap()).is_err());
    }

    #[test]
    fn only_a_token_that_fits_a_header_is_used() {
        assert_eq!(token(br#"{"token":"abc"}"#).as_deref(), Some("abc"));
        assert_eq!(token(br#"{"access_token":"x.y"}"#).as_deref(), Some("x.y"));
        for answer in [&br#"{"token":"a\r\nb"}"#[..], br#"{"token":""}"#, b"{}", b"no json", br#"{"token":3}"#] {
            assert_eq!(token(answer), None);
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(header in ".{0,200}", tail in r#"[ -~é"\\,=]{0,60}"#) {
            let _ = Challenge::parse(&header);
            let _ = Challenge::parse(&format!("Bearer {tail}"));
        }
    }
}

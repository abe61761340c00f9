//! Redirects: which addresses they may lead to, and which of those get credentials.

use url::Url;

/// The most redirects that are followed for one request.
pub(super) const MOST: usize = 10;

/// The address in a `Location` header, or the reason why it is not followed.
pub(super) fn target(from: &Url, location: &[u8]) -> Result<Url, String> {
    let location = std::str::from_utf8(location)
        .map_err(|_| "the server redirects to an address that is not valid UTF-8".to_owned())?;
    let mut to = from
        .join(location)
        .map_err(|error| format!("the server redirects to an address that is not valid ({error})"))?;
    to.set_fragment(None);
    allowed(from, &to)?;
    Ok(to)
}

/// Refuses addresses that a server must not refer to: those of another protocol, and unencrypted ones if the server was
/// asked over TLS. Nothing but the weights has a digest, so everything else would be open to changes on the way.
pub(super) fn allowed(from: &Url, to: &Url) -> Result<(), String> {
    let host = to.host_str().unwrap_or_default();
    match (from.scheme(), to.scheme()) {
        _ if host.is_empty() => Err("the server refers to an address without a host".to_owned()),
        (_, "https") | ("http", "http") => Ok(()),
        (_, "http") => Err(format!(
            "the server refers from https:// to http://{host}, which is not encrypted; this is not followed, so use an \
             address or a mirror that stays with https://"
        )),
        (_, scheme) => {
            Err(format!("the server refers to an address that begins with {scheme}:, but only https:// is followed"))
        }
    }
}

/// Whether credentials for one address may be sent to another.
pub(super) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_relative_redirect_stays_on_its_host() {
        let to = target(&url("https://a.example/x/y?q"), b"../z?k=1#f").unwrap();
        assert_eq!(to.as_str(), "https://a.example/z?k=1");
        assert_eq!(target(&url("https://a.example/x"), b"//b.example/z").unwrap().as_str(), "https://b.example/z");
    }

    #[test]
    fn encryption_is_never_given_up() {
        assert!(target(&url("https://a.example/"), b"http://a.example/").is_err());
        assert!(target(&url("https://a.example/"), b"http://127.0.0.1/").is_err());
        assert!(target(&url("http://a.example/"), b"https://b.example/").is_ok());
    }

    #[test]
    fn only_http_is_followed() {
        for location in [&b"file:///etc/passwd"[..], b"ftp://a/", b"data:,x", b"javascript:1", b"\xff\xfe"] {
            assert!(target(&url("http://a.example/"), location).is_err(), "{location:?}");
        }
    }

    #[test]
    fn another_port_scheme_or_name_is_another_origin() {
        let one = url("https://a.example/x");
        assert!(same_origin(&one, &url("https://a.example:443/y")));
        for other in ["https://a.example:444/", "http://a.example/", "https://b.a.example/", "https://a.example./"] {
            assert!(!same_origin(&one, &url(other)), "{other}");
        }
    }
}

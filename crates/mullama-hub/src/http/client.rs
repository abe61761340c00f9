//! The client: one try of a GET, with the redirects and the token challenge that belong to it.

use std::error::Error;
use std::io;
use std::iter;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use mullama::DownloadFailure;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderName, IF_RANGE, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Client, Response};
use rustls::CertificateError;
use tokio::time::{Instant, timeout};
use url::Url;

use super::auth::{self, Challenge};
use super::body::{self, Stall};
use super::{Kind, RequestError, is_loopback, one_line, redirect, retry, shown, tls};

const USER_AGENT: &str = concat!("mullama/", env!("CARGO_PKG_VERSION"));
/// The longest time for a connection, TLS included, if the stall limit is not shorter.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// The most bytes of a token service's answer.
const MOST_TOKEN_BYTES: usize = 64 << 10;
/// What to do when a server refuses access, unless there is better advice for it.
const NO_CREDENTIALS: &str = "check the name or the address; mullama sends credentials to Hugging Face only, so download \
                              a private model with another program and load its file by its path";

/// Sends requests. Each `pull` has its own, because connections belong to the runtime that opened them.
pub(crate) struct Http {
    stall_limit: Duration,
    /// Created on first use, because reading the system's certificates takes time, and fails where there are none.
    clients: [OnceLock<Client>; Route::COUNT],
    /// Tokens by origin.
    tokens: Mutex<Vec<(Url, String)>>,
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) url: &'a Url,
    pub(crate) accept: Option<&'static str>,
    /// The first byte and, unless the rest of the file is wanted, the offset after the last one.
    pub(crate) range: Option<(u64, Option<u64>)>,
    /// The `ETag` that the file must still have for the range to be useful.
    pub(crate) if_range: Option<&'a str>,
}

impl<'a> Ask<'a> {
    pub(crate) const fn new(url: &'a Url) -> Self {
        Self { url, accept: None, range: None, if_range: None }
    }
}

/// A successful answer; its body has not been read.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The address that answered, after all redirects.
    pub(crate) url: Url,
    pub(super) response: Response,
    pub(crate) stall: Stall,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.response.content_length()
    }

    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }
}

impl Http {
    pub(crate) fn new(stall_limit: Duration) -> Self {
        Self { stall_limit, clients: Default::default(), tokens: Mutex::default() }
    }

    /// Sends this token to the origin of `url`, and nowhere else.
    pub(crate) fn authorize(&self, url: &Url, token: String) {
        let mut tokens = self.tokens();
        tokens.retain(|(origin, _)| !redirect::same_origin(origin, url));
        tokens.push((url.clone(), token));
    }

    /// One try. It follows redirects, and answers a registry's challenge for a token once.
    pub(crate) async fn get(&self, ask: &Ask<'_>) -> Result<Answer, RequestError> {
        let mut url = ask.url.clone();
        let (mut redirects, mut challenged) = (0, false);
        loop {
            let response = self.send(&url, ask).await?;
            let status = response.status();
            if status.is_success() {
                tracing::debug!(host = url.host_str(), path = url.path(), status = status.as_u16(), "answered");
                return Ok(Answer { url, response, stall: Stall::new(self.stall_limit, Instant::now()) });
            }
            if let Some(location) = response.headers().get(LOCATION).filter(|_| status.is_redirection()) {
                redirects += 1;
                url = match redirect::target(&url, location.as_bytes()) {
                    Ok(_) if redirects > redirect::MOST => {
                        return Err(protocol(
                            &url,
                            format!("the server redirects more than {} times in a row", redirect::MOST),
                        ));
                    }
                    Ok(to) => to,
                    Err(message) => return Err(protocol(&url, message)),
                };
            } else if let Some(challenge) = challenge(&response).filter(|_| !challenged) {
                challenged = true;
                let token = self.token(&challenge, &url).await?;
                self.authorize(&url, token);
            } else {
                return Err(self.refusal(&url, response).await);
            }
        }
    }

    async fn send(&self, url: &Url, ask: &Ask<'_>) -> Result<Response, RequestError> {
        let mut request = self.client(url)?.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(accept) = ask.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some((begin, end)) = ask.range {
            let last = end.map(|end| (end - 1).to_string()).unwrap_or_default();
            request = request.header(RANGE, format!("bytes={begin}-{last}"));
        }
        if let Some(etag) = ask.if_range {
            request = request.header(IF_RANGE, etag);
        }
        if let Some(token) = self.token_for(url) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        match timeout(self.stall_limit, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(network(error, url)),
            Err(_) => Err(Stall::failure(self.stall_limit, url)),
        }
    }

    /// The token that a challenge asks for. The service gets no credentials, because it gives this token to everybody.
    async fn token(&self, challenge: &Challenge, from: &Url) -> Result<String, RequestError> {
        let url = challenge.address(from).map_err(|message| protocol(from, message))?;
        let response = self.send(&url, &Ask::new(&url)).await?;
        if !response.status().is_success() {
            return Err(self.refusal(&url, response).await);
        }
        let answer = Answer { url, response, stall: Stall::new(self.stall_limit, Instant::now()) };
        let url = answer.url.clone();
        let bytes = answer.bytes(MOST_TOKEN_BYTES).await?;
        auth::token(&bytes).ok_or_else(|| protocol(&url, "the token service sent no token that can be used".to_owned()))
    }

    /// The error for a status other than success.
    async fn refusal(&self, url: &Url, response: Response) -> RequestError {
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let after = header(RETRY_AFTER.as_str()).and_then(|value| retry::retry_after(&value, SystemTime::now()));
        // Hugging Face answers 401 for repositories that do not exist, and says so in this header.
        let not_found = header("x-error-code").is_some_and(|code| code.ends_with("NotFound"));
        let kind = if not_found { Kind::Missing } else { retry::kind(status, after) };
        let said = header("x-error-message").map(String::into_bytes);
        let said = match said {
            Some(said) => said,
            None => body::beginning(response).await,
        };
        let message = self.redacted(&spoken(&said), url);
        let (url, advice) = (shown(url), NO_CREDENTIALS.to_owned());
        let failure = match kind {
            Kind::Refused => DownloadFailure::Unauthorized { url, status, message, advice },
            _ => DownloadFailure::Status { url, status, message: with_wait(message, after), tries: 1 },
        };
        RequestError { failure, kind }
    }

    /// A server's message without secrets that it may repeat.
    fn redacted(&self, message: &str, url: &Url) -> String {
        let mut message = message.to_owned();
        let tokens = self.tokens();
        let secrets = tokens.iter().map(|(_, token)| token.as_str()).chain(url.query()).chain(url.password());
        for secret in secrets.filter(|secret| !secret.is_empty()) {
            message = message.replace(secret, "…");
        }
        message
    }

    fn token_for(&self, url: &Url) -> Option<String> {
        let tokens = self.tokens();
        tokens.iter().find(|(origin, _)| redirect::same_origin(origin, url)).map(|(_, token)| token.clone())
    }

    fn tokens(&self) -> MutexGuard<'_, Vec<(Url, String)>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self, url: &Url) -> Result<&Client, RequestError> {
        let route = Route::to(url);
        let slot = &self.clients[usize::from(route.encrypted) * 2 + usize::from(route.direct)];
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client = self.build(route, url)?;
        Ok(slot.get_or_init(|| client))
    }

    fn build(&self, route: Route, url: &Url) -> Result<Client, RequestError> {
        let tls = if route.encrypted { tls::system() } else { tls::none() };
        let tls = tls.map_err(|message| {
            RequestError::permanent(DownloadFailure::Certificate { url: shown(url), message: one_line(&message) })
        })?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_LIMIT.min(self.stall_limit));
        let client = if route.direct { client.no_proxy() } else { client };
        client.build().map_err(|error| network(error, url))
    }
}

/// The kinds of connections that need separate clients.
#[derive(Debug, Clone, Copy)]
struct Route {
    encrypted: bool,
    /// To this machine itself, so never through the proxy of the environment.
    direct: bool,
}

impl Route {
    const COUNT: usize = 4;

    fn to(url: &Url) -> Self {
        Self { encrypted: url.scheme() == "https", direct: is_loopback(url) }
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("stall_limit", &self.stall_limit).finish_non_exhaustive()
    }
}

fn challenge(response: &Response) -> Option<Challenge> {
    if response.status().as_u16() != 401 {
        return None;
    }
    Challenge::parse(response.headers().get(WWW_AUTHENTICATE)?.to_str().ok()?)
}

/// The error of a request without an answer, or of a body that broke off.
pub(super) fn network(error: reqwest::Error, url: &Url) -> RequestError {
    let error = error.without_url();
    let host = url.host_str().unwrap_or_default();
    if let Some(cause) = certificate_error(&error) {
        let message = one_line(&tls::refusal(cause, host));
        return RequestError::permanent(DownloadFailure::Certificate { url: shown(url), message });
    }
    let action = if error.is_connect() { "cannot reach" } else { "lost the connection to" };
    let message = one_line(&format!("{action} {host} ({})", innermost(&error)));
    let failure = DownloadFailure::Network { url: shown(url), message, tries: 1 };
    if error.is_builder() { RequestError::permanent(failure) } else { RequestError::transient(failure) }
}

/// The innermost cause, which is what the system or the TLS library said; the others only repeat which layer failed.
fn innermost(error: &reqwest::Error) -> String {
    let text = causes(error).last().map_or_else(|| error.to_string(), ToString::to_string);
    // What getaddrinfo says has this prefix in Rust's standard library.
    let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    // The number of the system's error says nothing to most people.
    text.split_once(" (os error").map_or(text, |(text, _)| text).to_owned()
}

/// Why the certificate of the server was refused, if that is the error: another try would get the same certificate.
fn certificate_error(error: &reqwest::Error) -> Option<&CertificateError> {
    causes(error).find_map(|cause| match cause.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(cause)) => Some(cause),
        _ => None,
    })
}

/// The causes of an error, from the outermost to the innermost.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    iter::successors(error.source(), |cause| cause_of(*cause))
}

fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        // `source` would skip it, and return its source.
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn protocol(url: &Url, message: String) -> RequestError {
    RequestError::permanent(DownloadFailure::Protocol { url: shown(url), message })
}

/// What a server said, in one line: the message in JSON of a registry or of Hugging Face, or plain text. HTML is left out.
fn spoken(body: &[u8]) -> String {
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) {
        let places = ["/errors/0/message", "/error/message", "/error", "/message"];
        let text = places.iter().find_map(|place| json.pointer(place)?.as_str());
        return text.map(one_line).unwrap_or_default();
    }
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') { String::new() } else { one_line(&text) }
}

/// What a server said, with the time that it asks to wait.
fn with_wait(message: String, after: Option<Duration>) -> String {
    let Some(seconds) = after.map(|after| after.as_secs()) else { return message };
    let unit = if seconds == 1 { "second" } else { "seconds" };
    let wait = format!("it asks to wait {seconds} {unit}");
    if message.is_empty() { wait } else { one_line(&format!("{message} ({wait})")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_found_in_its_json() {
        assert_eq!(spoken(br#"{"errors":[{"code":"X","message":"manifest\nunknown"}]}"#), "manifest unknown");
        assert_eq!(spoken(br#"{"error":"gone"}"#), "gone");
        assert_eq!(spoken(b" plain \r\n text"), "plain text");
        assert_eq!(spoken(b" <html>page"), "");
        assert_eq!(spoken(b"[1]"), "");
    }

    #[test]
    fn the_time_to_wait_is_part_of_the_message() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(with_wait("busy".to_owned(), None), "busy");
        assert_eq!(with_wait(String::new(), seconds(1)), "it asks to wait 1 second");
        assert_eq!(with_wait("busy".to_owned(), seconds(2)), "busy (it asks to wait 2 seconds)");
    }

    #[test]
    fn a_server_cannot_make_an_error_repeat_a_secret() {
        let http = Http::new(Duration::from_secs(1));
        let url = Url::parse("https://u:pw@a.example/x?sig=123").unwrap();
        http.authorize(&url, "hf_secret".to_owned());
        assert_eq!(http.redacted("you sent hf_secret, pw and sig=123", &url), "you sent …, … and …");
        assert!(!format!("{http:?}").contains("hf_secret"));
    }

    #[test]
    fn a_token_belongs_to_one_origin() {
        let http = Http::new(Duration::from_secs(1));
        http.authorize(&Url::parse("https://a.example/x").unwrap(), "one".to_owned());
        http.authorize(&Url::parse("https://a.example/y").unwrap(), "two".to_owned());
        assert_eq!(http.token_for(&Url::parse("https://a.example/z").unwrap()).as_deref(), Some("two"));
        assert_eq!(http.token_for(&Url::parse("https://b.a.example/z").unwrap()), None);
        assert_eq!(http.token_for(&Url::parse("http://a.example/z").unwrap()), None);
    }
}

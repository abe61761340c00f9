//! Errors of requests: an HTTP status, a stable code and a message that names the field.

use axum::http::StatusCode;
use mullama::{Deadline, DownloadFailure, Fact, MullamaError, StreamFailure, TemplateFailure, TokenId};

/// Most characters of a message. It may repeat parts of the request.
const MOST_CHARS: usize = 1000;

/// Most characters of the path of a field, so that the message has room for what is wrong with it.
const MOST_PATH_CHARS: usize = 256;

/// What clients are told once the server takes no more requests.
pub(crate) const STOPPING: &str = "the server is stopping";

/// An error that a client is told. Each dialect writes it in its own shape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// The stable code, the same in every language.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The path of the field of the request that is wrong, such as `messages[2].content`.
    pub(crate) field: Option<String>,
    /// Seconds after which the request may succeed.
    pub(crate) retry_after: Option<u64>,
    /// The tokens of a prompt that is too long, and the most that fit.
    pub(crate) overflow: Option<(usize, usize)>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: shortened(message.into(), MOST_CHARS),
            field: None,
            retry_after: None,
            overflow: None,
        }
    }

    /// The request cannot be understood.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", message)
    }

    /// A field of the request has a wrong value. The message continues the path of the field.
    pub(crate) fn field(path: impl Into<String>, message: impl std::fmt::Display) -> Self {
        let path = shortened(path.into(), MOST_PATH_CHARS);
        Self { field: Some(path.clone()), ..Self::invalid(format!("{path} {message}")) }
    }

    /// The error with another name for a field that this endpoint calls so.
    pub(crate) fn renamed(self, field: &str, name: &str) -> Self {
        if self.field.as_deref() != Some(field) {
            return self;
        }
        let message = self.message.strip_prefix(field).map(|rest| format!("{name}{rest}"));
        Self { field: Some(name.to_owned()), message: message.unwrap_or(self.message), ..self }
    }

    /// The request ran into a fault of the server.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "the server failed on this request")
    }

    /// Others take what the request needs; it may succeed after this many seconds.
    pub(crate) fn overloaded(message: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "OVERLOADED", message) }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }
}

/// A text without what is beyond so many characters.
fn shortened(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The HTTP status of an error: the same table as in Python's exceptions.
pub(crate) fn status(error: &MullamaError) -> StatusCode {
    match error {
        MullamaError::ModelNotFound { .. } | MullamaError::UnknownModel { .. } => StatusCode::NOT_FOUND,
        MullamaError::Download { .. } => StatusCode::BAD_GATEWAY,
        MullamaError::ModelLoad { .. } | MullamaError::StreamingError(_) => StatusCode::INTERNAL_SERVER_ERROR,
        MullamaError::InvalidConfig { .. }
        | MullamaError::InvalidPrompt(_)
        | MullamaError::ChatTemplate(_)
        | MullamaError::ContextOverflow { .. } => StatusCode::BAD_REQUEST,
        MullamaError::Overloaded { .. }
        | MullamaError::PausedOverloaded { .. }
        | MullamaError::Displaced { .. }
        | MullamaError::PromptsOverloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
        MullamaError::StreamTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        MullamaError::Closed { .. } => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl From<MullamaError> for ApiError {
    fn from(error: MullamaError) -> Self {
        let field = match &error {
            MullamaError::InvalidConfig { field: "logit_bias", value, .. } if value.parse::<TokenId>().is_ok() => {
                Some(format!("logit_bias.{value}"))
            }
            MullamaError::InvalidConfig { field, .. } => Some((*field).to_owned()),
            MullamaError::ContextOverflow { .. } | MullamaError::InvalidPrompt(_) => Some("prompt".to_owned()),
            MullamaError::ChatTemplate(failure) => Some(path_of(failure)),
            _ => None,
        };
        let overflow = match &error {
            // The context also has room for a token of the answer.
            MullamaError::ContextOverflow { prompt_tokens, context_len, .. } => {
                Some((*prompt_tokens, context_len.saturating_sub(1)))
            }
            _ => None,
        };
        Self { field, overflow, ..Self::new(status(&error), error.code(), public_message(&error)) }
    }
}

/// The path of what is wrong with the messages, as far as the message names it.
fn path_of(failure: &TemplateFailure) -> String {
    match failure {
        TemplateFailure::InvalidMessage { index, field: Some(field), .. } => format!("messages[{index}].{field}"),
        TemplateFailure::InvalidMessage { index, .. } => format!("messages[{index}]"),
        _ => "messages".to_owned(),
    }
}

/// Why a download failed, without the hosts and the paths of the server.
fn public_reason(failure: &DownloadFailure) -> String {
    match failure {
        DownloadFailure::Network { .. } => "the network failed".to_owned(),
        DownloadFailure::Certificate { .. } => "the certificate of the registry is not trusted".to_owned(),
        DownloadFailure::Stalled { seconds, .. } => format!("the registry sent nothing for {seconds} s"),
        DownloadFailure::Status { status, .. } => format!("the registry answered with the status {status}"),
        DownloadFailure::Unauthorized { status, .. } => format!("the registry refuses access with the status {status}"),
        DownloadFailure::Protocol { .. } => "the registry sent an answer that cannot be used".to_owned(),
        DownloadFailure::Digest { .. } => "the downloaded file has the wrong SHA-256 digest".to_owned(),
        DownloadFailure::NoSpace { .. } => "the disk of the server has too little free space".to_owned(),
        DownloadFailure::Disk { .. } | DownloadFailure::Store { .. } => {
            "a file on the server cannot be read, written or removed".to_owned()
        }
        DownloadFailure::InvalidFile { .. } => "the downloaded file is not a GGUF file that can be loaded".to_owned(),
        DownloadFailure::Offline { .. } => "downloads are turned off on the server".to_owned(),
        DownloadFailure::Cancelled => "the download was cancelled".to_owned(),
    }
}

/// The message without paths of this machine, which are nobody's business over the network.
fn public_message(error: &MullamaError) -> String {
    match error {
        MullamaError::ModelNotFound { .. } => "the file of the model is missing on the server".to_owned(),
        MullamaError::StreamingError(StreamFailure::ModelFileChanged { .. }) => {
            "the file of the model was changed on the server while it was in use".to_owned()
        }
        MullamaError::ModelLoad { .. } => "the server cannot load the model; its log says why".to_owned(),
        MullamaError::UnknownModel { name, .. } => format!("the server knows no model named {name}"),
        MullamaError::Download { name, failure } => {
            format!("the server cannot {} {name}: {}", failure.action(), public_reason(failure))
        }
        MullamaError::InvalidConfig { field: "logit_bias", value, range } if value.parse::<TokenId>().is_ok() => {
            format!("logit_bias.{value} is not a token of the model, which has {range}")
        }
        MullamaError::Closed { what: "server" } => STOPPING.to_owned(),
        MullamaError::StreamTimeout { deadline: deadline @ Deadline::Total, .. } => {
            // The limit may be the server's own, which a client can only shorten.
            let (removed, told) = (format!("{deadline}=0 removes the limit"), "the limit is the server's, or ");
            error.message().replace(&removed, &format!("{told}{deadline} of the request where that is shorter"))
        }
        error if error.facts().iter().any(|(_, fact)| matches!(fact, Fact::Path(_))) => error.code().to_owned(),
        error => error.message(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use mullama::{DownloadFailure, ModelLoadFailure, MullamaError, StreamFailure};

    use super::{ApiError, MOST_CHARS, MOST_PATH_CHARS};

    #[test]
    fn clients_are_told_no_path_of_the_servers_machine() {
        let path = PathBuf::from("/home/somebody/model.gguf");
        for error in [
            MullamaError::ModelNotFound { path: path.clone() },
            MullamaError::ModelLoad { path: path.clone(), source: ModelLoadFailure::Cancelled },
            MullamaError::StreamingError(StreamFailure::ModelFileChanged { path, len: 7 }),
            MullamaError::UnknownModel {
                name: "it".to_owned(),
                tried: vec!["/home/somebody/models: nothing".to_owned()],
                advice: "look into /home/somebody".to_owned(),
            },
        ] {
            let told = ApiError::from(error).message;
            assert!(!told.contains("somebody"), "{told}");
        }
    }

    #[test]
    fn why_a_download_failed_is_a_clause_without_hosts() {
        let failure = |failure| ApiError::from(MullamaError::Download { name: "tiny".to_owned(), failure }).message;
        let url = "http://registry.internal/x".to_owned();
        let network = DownloadFailure::Network { url: url.clone(), message: "cannot reach it".to_owned(), tries: 3 };
        assert_eq!(failure(network), "the server cannot download tiny: the network failed");
        let path = PathBuf::from("/home/somebody/x");
        let store = DownloadFailure::Store { action: "remove", path, message: "busy".to_owned() };
        let told = failure(store);
        assert!(told.starts_with("the server cannot remove tiny: a file on the server "), "{told}");
        let stalled = failure(DownloadFailure::Stalled { url, seconds: 9, tries: 1 });
        assert_eq!(stalled, "the server cannot download tiny: the registry sent nothing for 9 s");
    }

    #[test]
    fn a_message_is_bounded_whatever_it_repeats() {
        let value = "é".repeat(100_000);
        let error = MullamaError::InvalidConfig { field: "stop", value: value.clone(), range: "short".to_owned() };
        assert_eq!(ApiError::from(error).message.chars().count(), MOST_CHARS + 1);
        assert_eq!(ApiError::field("stop", &value).message.chars().count(), MOST_CHARS + 1);
        let error = ApiError::field(value, "is wrong");
        assert_eq!(error.field.expect("a path").chars().count(), MOST_PATH_CHARS + 1);
        assert!(error.message.ends_with(" is wrong"), "{}", error.message);
    }
}

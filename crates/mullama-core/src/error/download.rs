//! Why a model could not be downloaded.

use std::path::PathBuf;

/// Why a model could not be downloaded. Addresses are without credentials and query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownloadFailure {
    /// The server could not be reached, or the connection was lost, in every try.
    #[error("{url}: {message}{}; check the network or the proxy, then try again to continue the download", after(*tries))]
    Network {
        /// The address of the request.
        url: String,
        /// What could not be done, with the host and the system's error.
        message: String,
        /// The number of tries.
        tries: u32,
    },
    /// The certificate of the server is not trusted. It was tried once.
    #[error("{url}: {message}")]
    Certificate {
        /// The address of the request.
        url: String,
        /// What is wrong with the certificate, and what to do about it.
        message: String,
    },
    /// The server sent nothing for too long, in every try.
    #[error(
        "{url}: the server sent nothing for {seconds} s{}; check the network or the proxy, then try again to continue \
         the download",
        after(*tries)
    )]
    Stalled {
        /// The address of the request.
        url: String,
        /// The stall limit, in seconds.
        seconds: u64,
        /// The number of tries.
        tries: u32,
    },
    /// The server answered with an error.
    #[error(
        "{url}: the server answered {status}{}{}{message}{}",
        after(*tries),
        if message.is_empty() { "" } else { ": " },
        if is_temporary(*status) { "; try again later" } else { "" }
    )]
    Status {
        /// The address of the request.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what the server said, in one line.
        message: String,
        /// The number of tries.
        tries: u32,
    },
    /// The server requires credentials, or does not accept those that it got.
    #[error(
        "{url}: the server refuses access ({status}{}{message}); {advice}",
        if message.is_empty() { "" } else { ": " }
    )]
    Unauthorized {
        /// The address of the request.
        url: String,
        /// The HTTP status: 401 or 403.
        status: u16,
        /// The beginning of what the server said, in one line.
        message: String,
        /// What to do.
        advice: String,
    },
    /// The answer does not follow the protocol, or cannot be used.
    #[error("{url}: {message}")]
    Protocol {
        /// The address of the request.
        url: String,
        /// What is wrong with the answer.
        message: String,
    },
    /// The bytes are not those of the model. They were deleted.
    #[error(
        "{url}: the SHA-256 of the downloaded file is {actual}, but must be {expected}; the download was deleted, so try \
         again, or tell the publisher if it stays like this"
    )]
    Digest {
        /// The address of the file.
        url: String,
        /// The digest that was promised, in hexadecimal.
        expected: String,
        /// The digest of the bytes, in hexadecimal.
        actual: String,
    },
    /// The disk does not have enough free space for the file.
    #[error(
        "{} needs {needed} more bytes, but its disk has {free} bytes free; free some space, or choose another folder with \
         MULLAMA_MODELS or HF_HUB_CACHE",
        path.display()
    )]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// Bytes of the file that are still missing.
        needed: u64,
        /// Free bytes.
        free: u64,
    },
    /// A file cannot be written, read, locked or renamed.
    #[error("{}: {message}; check this path, or choose another folder with MULLAMA_MODELS or HF_HUB_CACHE", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// The system's error.
        message: String,
    },
    /// Something other than a download failed in the store of models.
    #[error("{}: {message}", path.display())]
    Store {
        /// What was being done with the model, such as `remove`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        message: String,
    },
    /// The download is complete, but is not a model that can be loaded. It was deleted.
    #[error(
        "{url}: the download is complete, but it is not a GGUF file that can be loaded: {message}; it was deleted, so \
         choose another file, or tell the publisher"
    )]
    InvalidFile {
        /// The address of the file.
        url: String,
        /// What the check of the GGUF file found.
        message: String,
    },
    /// Downloads are turned off.
    #[error(
        "it is not on this machine ({}), and downloads are turned off ({by}); turn them on, or give the path of a GGUF file",
        tried.join("; ")
    )]
    Offline {
        /// Where the model was looked for on this machine, and what was found there.
        tried: Vec<String>,
        /// What turned downloads off, such as `MULLAMA_OFFLINE=1`.
        by: String,
    },
    /// The progress callback cancelled the download. What has arrived is kept, and the next download continues it.
    #[error("the download was cancelled by the progress callback")]
    Cancelled,
}

/// The number of tries in a message, unless there was only one.
fn after(tries: u32) -> String {
    if tries > 1 { format!(" after {tries} tries") } else { String::new() }
}

/// Whether a server that answers with this status may answer differently later.
const fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502..=599)
}

impl DownloadFailure {
    /// What could not be done with the model, as a verb.
    pub const fn action(&self) -> &'static str {
        match self {
            Self::Store { action, .. } => action,
            _ => "download",
        }
    }

    /// The kind of failure, the same in every language: `network`, `status`, `authorization`, `protocol`, `digest`,
    /// `disk`, `file`, `offline` or `cancelled`.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Network { .. } | Self::Certificate { .. } | Self::Stalled { .. } => "network",
            Self::Status { .. } => "status",
            Self::Unauthorized { .. } => "authorization",
            Self::Protocol { .. } => "protocol",
            Self::Digest { .. } => "digest",
            Self::NoSpace { .. } | Self::Disk { .. } | Self::Store { .. } => "disk",
            Self::InvalidFile { .. } => "file",
            Self::Offline { .. } => "offline",
            Self::Cancelled => "cancelled",
        }
    }

    /// What was asked for, if the failure belongs to an address.
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Network { url, .. }
            | Self::Certificate { url, .. }
            | Self::Stalled { url, .. }
            | Self::Status { url, .. }
            | Self::Unauthorized { url, .. }
            | Self::Protocol { url, .. }
            | Self::Digest { url, .. }
            | Self::InvalidFile { url, .. } => Some(url),
            Self::NoSpace { .. } | Self::Disk { .. } | Self::Store { .. } | Self::Offline { .. } | Self::Cancelled => {
                None
            }
        }
    }

    /// The HTTP status that the server answered with, if that is the failure.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } | Self::Unauthorized { status, .. } => Some(*status),
            _ => None,
        }
    }
}

//! Why a model could not be downloaded.

use std::path::PathBuf;

/// Why a model could not be downloaded. Addresses are without credentials and query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownloadFailure {
    /// No connection, or one that broke more often than it is tried again.
    #[error("{url}: {message}")]
    Network {
        /// What was asked for.
        url: String,
        /// What the network said.
        message: String,
    },
    /// The server sent nothing for too long, more often than it is tried again.
    #[error("{url}: the server sent nothing for {seconds} seconds")]
    Stalled {
        /// What was asked for.
        url: String,
        /// How long it was waited for, in seconds.
        seconds: u64,
    },
    /// The server refused, and asking again would not help.
    #[error("{url}: the server answered {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what the server said, in one line.
        message: String,
    },
    /// The server wants to know who asks, or does not let this one in.
    #[error("{url}: the server answered {status}; {advice}")]
    Unauthorized {
        /// What was asked for.
        url: String,
        /// The HTTP status: 401 or 403.
        status: u16,
        /// What to do.
        advice: String,
    },
    /// The answer is not what the protocol says.
    #[error("{url}: {message}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        message: String,
    },
    /// The bytes are not those that the name stands for. The file was deleted.
    #[error("{url}: the SHA-256 of what the server sent is {actual}, but must be {expected}; it was deleted")]
    Digest {
        /// Where the bytes came from.
        url: String,
        /// The digest that was promised, in hexadecimal.
        expected: String,
        /// The digest of the bytes, in hexadecimal.
        actual: String,
    },
    /// The disk has no room for the file.
    #[error("{} needs {needed} bytes, but its disk has {free} free", path.display())]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// Bytes that are still missing of it.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A file cannot be written, read, locked or renamed.
    #[error("{}: {message}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// Something else than a download failed in the store of models.
    #[error("{}: {message}", path.display())]
    Store {
        /// What was being done with the model, such as `remove`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// The file arrived whole, but is no model that can be loaded. It was deleted.
    #[error("{url}: the file arrived whole, but {message}; it was deleted")]
    InvalidFile {
        /// Where it came from.
        url: String,
        /// What the check of the GGUF file said.
        message: String,
    },
    /// Downloads are turned off.
    #[error(
        "it is not on this machine ({}), and downloads are turned off ({by}); turn them on, or name a GGUF file by its path",
        tried.join("; ")
    )]
    Offline {
        /// What was looked at on this machine, and what was found there.
        tried: Vec<String>,
        /// What turned them off, such as `MULLAMA_OFFLINE=1`.
        by: String,
    },
    /// The caller's progress function said that it is enough. What has arrived is kept and continued the next time.
    #[error("the download was cancelled by the progress callback")]
    Cancelled,
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
            Self::Network { .. } | Self::Stalled { .. } => "network",
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

//! Why a template could not be rendered.

use std::fmt;

/// How many bytes of a message a failure keeps: texts of a template and of messages have no useful limit.
const MAX_MESSAGE: usize = 2000;

pub(super) type Result<T> = std::result::Result<T, Error>;

/// A failure and the line where it happened, from 1.
#[derive(Debug)]
pub(in crate::chat) struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    line: Option<u32>,
}

/// What kind of failure it is.
#[derive(Debug)]
pub(in crate::chat) enum Kind {
    /// The template called `raise_exception` with this text.
    Raised(String),
    /// The template is not valid, or an operation in it failed.
    Failed(String),
    /// A limit of the rendering was reached.
    Exhausted(Exhausted),
}

/// The limit that ended a rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chat) enum Exhausted {
    /// All units of work were used.
    Work {
        /// The number of units.
        units: u64,
    },
    /// The values of the template would hold too much memory.
    Memory {
        /// The maximum in bytes.
        bytes: u64,
    },
    /// The result is not needed any more.
    Abandoned,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work { units } => write!(f, "rendering takes more than {units} units of work"),
            Self::Memory { bytes } => write!(f, "rendering takes more than {} MiB of memory", bytes >> 20),
            Self::Abandoned => f.write_str("rendering was stopped because its request has ended"),
        }
    }
}

impl Error {
    fn new(kind: Kind) -> Self {
        Self(Box::new(Inner { kind, line: None }))
    }

    /// An operation failed.
    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self::new(Kind::Failed(bounded(reason.into())))
    }

    /// The template says that it cannot render these messages.
    pub(super) fn raised(message: String) -> Self {
        Self::new(Kind::Raised(bounded(message)))
    }

    pub(super) fn exhausted(limit: Exhausted) -> Self {
        Self::new(Kind::Exhausted(limit))
    }

    /// The template is not valid.
    pub(super) fn syntax(reason: impl fmt::Display, line: u32) -> Self {
        Self::failed(format!("syntax error: {reason}")).at(line)
    }

    /// Sets the line, unless an inner part of the template has already set it.
    pub(super) fn at(mut self, line: u32) -> Self {
        self.0.line.get_or_insert(line);
        self
    }

    /// What happened, and the line of the template, from 1.
    pub(in crate::chat) fn into_parts(self) -> (Kind, usize) {
        (self.0.kind, self.0.line.unwrap_or(1) as usize)
    }
}

/// The message; the end of a long one is replaced by its length.
fn bounded(mut message: String) -> String {
    let bytes = message.len();
    if bytes > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.shrink_to_fit();
        let _ = fmt::Write::write_fmt(&mut message, format_args!("… ({bytes} bytes)"));
    }
    message
}

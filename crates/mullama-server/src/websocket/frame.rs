//! The frames of RFC 6455, as pure functions: bytes to messages, and messages to bytes.
//!
//! The crate has its own because a client that says that it sends nothing more, as `websocat` does at the end of its
//! input, is still sent the rest of its answer. Common crates refuse to send anything after the peer's close frame.

use bytes::{Buf, BytesMut};

/// Longest payload of a control frame.
const CONTROL_BYTES: usize = 125;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Text = 1,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A whole text message.
    Text(String),
    Ping(Vec<u8>),
    Pong,
    /// The client sends nothing more; the code is its reason, if it gave one.
    Close(Option<u16>),
}

/// A breach of the protocol or of a limit, which closes the connection with this code and reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) code: u16,
    pub(super) reason: &'static str,
}

const fn protocol(reason: &'static str) -> Violation {
    Violation { code: 1002, reason }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy)]
struct Header {
    is_last: bool,
    opcode: u8,
    /// Bytes of the header itself.
    len: usize,
    payload: usize,
    mask: [u8; 4],
}

/// Makes messages of a client's bytes, however they are cut.
#[derive(Debug)]
pub(super) struct Decoder {
    buffer: BytesMut,
    /// The frames so far of a message that has several.
    message: Option<Vec<u8>>,
    most_bytes: usize,
}

impl Decoder {
    /// A decoder that refuses messages of more than `most_bytes`.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { buffer: BytesMut::new(), message: None, most_bytes }
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that are held, of frames and messages that are incomplete.
    pub(super) fn held(&self) -> usize {
        self.buffer.len() + self.message.as_ref().map_or(0, Vec::len)
    }

    /// The next message or control frame; `None` until more bytes come.
    pub(super) fn next(&mut self) -> Result<Option<Incoming>, Violation> {
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            if self.buffer.len() < header.len + header.payload {
                return Ok(None);
            }
            self.buffer.advance(header.len);
            let mut payload = self.buffer.split_to(header.payload).to_vec();
            for (byte, mask) in payload.iter_mut().zip(header.mask.iter().cycle()) {
                *byte ^= mask;
            }
            if self.buffer.is_empty() {
                // The memory of a large message is not kept.
                self.buffer = BytesMut::new();
            }
            if let Some(incoming) = self.frame(header, payload)? {
                return Ok(Some(incoming));
            }
        }
    }

    /// The header at the start of the buffer, as soon as it is whole.
    fn header(&self) -> Result<Option<Header>, Violation> {
        let [first, second, rest @ ..] = &*self.buffer else { return Ok(None) };
        let (opcode, is_last) = (first & 15, first & 0x80 != 0);
        if first & 0x70 != 0 {
            return Err(protocol("reserved bits are set"));
        }
        if second & 0x80 == 0 {
            return Err(protocol("a frame of a client must be masked"));
        }
        self.check_order(opcode, is_last)?;
        let short = usize::from(second & 0x7f);
        if opcode >= 8 && short > CONTROL_BYTES {
            return Err(protocol("a control frame is too long"));
        }
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((mask, extended)) =
            rest.get(..extended + 4).and_then(|rest| rest.split_last_chunk::<4>().map(|(a, b)| (*b, a)))
        else {
            return Ok(None);
        };
        let payload = match extended {
            [] => short as u64,
            bytes => bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let payload = self.checked(payload)?;
        Ok(Some(Header { is_last, opcode, len: 2 + extended.len() + 4, payload, mask }))
    }

    /// Whether a frame of this kind may come now.
    fn check_order(&self, opcode: u8, is_last: bool) -> Result<(), Violation> {
        match (opcode, &self.message) {
            (0, None) => Err(protocol("a continuation has nothing to continue")),
            (1, Some(_)) => Err(protocol("a message starts inside another")),
            (0 | 1, _) => Ok(()),
            (2, _) => Err(Violation { code: 1003, reason: "messages must be text, not binary" }),
            (8..=10, _) if is_last => Ok(()),
            (8..=10, _) => Err(protocol("a control frame is fragmented")),
            _ => Err(protocol("the opcode is unknown")),
        }
    }

    fn checked(&self, payload: u64) -> Result<usize, Violation> {
        let before = self.message.as_ref().map_or(0, Vec::len);
        let fits = |payload: &usize| before.saturating_add(*payload) <= self.most_bytes;
        let too_large = Violation { code: 1009, reason: "the message is too large" };
        usize::try_from(payload).ok().filter(fits).ok_or(too_large)
    }

    /// What a whole frame means; `None` if its message goes on.
    fn frame(&mut self, header: Header, payload: Vec<u8>) -> Result<Option<Incoming>, Violation> {
        match header.opcode {
            8 => close(&payload).map(|code| Some(Incoming::Close(code))),
            9 => Ok(Some(Incoming::Ping(payload))),
            10 => Ok(Some(Incoming::Pong)),
            _ => {
                let mut message = self.message.take().unwrap_or_default();
                if message.is_empty() {
                    message = payload;
                } else {
                    message.extend_from_slice(&payload);
                }
                if !header.is_last {
                    self.message = Some(message);
                    return Ok(None);
                }
                let not_text = |_| Violation { code: 1007, reason: "the text is not valid UTF-8" };
                String::from_utf8(message).map(|text| Some(Incoming::Text(text))).map_err(not_text)
            }
        }
    }
}

/// The code of a close frame.
fn close(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let [high, low, reason @ ..] = payload else {
        return if payload.is_empty() { Ok(None) } else { Err(protocol("a close frame has half a code")) };
    };
    let code = u16::from_be_bytes([*high, *low]);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(protocol("the code of a close frame is not one that may be sent"));
    }
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(Violation { code: 1007, reason: "the reason of a close frame is not valid UTF-8" }),
    }
}

/// Appends a frame that is a whole message.
pub(super) fn encode(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode as u8);
    let length = payload.len();
    if length <= CONTROL_BYTES {
        out.push(length.to_le_bytes()[0]);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(126);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
    out.extend_from_slice(payload);
}

/// Appends a close frame.
pub(super) fn encode_close(code: Option<u16>, reason: &str, out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(reason.as_bytes());
    }
    encode(Opcode::Close, &payload, out);
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;

//! Sends an answer, correctly or with faults.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::answer::Answer;
use crate::connection::hang;
use crate::request::Request;
use crate::server::Shared;
use crate::{Content, Fault};

/// Bytes that are handed to the system at once.
const PIECE: u64 = 256 << 10;

/// Where an answer goes.
pub(crate) struct Sender<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) stream: &'a TcpStream,
    pub(crate) request: &'a Request,
    /// The index of the request in the log.
    pub(crate) entry: Option<usize>,
    pub(crate) faults: &'a [Fault],
}

/// How the client learns where the body ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// How the body is sent.
struct Plan {
    framing: Framing,
    /// After how many bytes the body breaks off, and whether the connection then stays open.
    end: Option<(u64, bool)>,
    piece: u64,
    pause: Duration,
    /// Bytes that are sent after the body.
    extra: u64,
    keep_alive: bool,
}

impl Plan {
    fn new(faults: &[Fault], len: u64) -> Self {
        let framing = Framing::Length(len);
        let mut plan = Self { framing, end: None, piece: PIECE, pause: Duration::ZERO, extra: 0, keep_alive: true };
        for fault in faults {
            plan.apply(fault, len);
        }
        plan.keep_alive &= plan.end.is_none() && plan.extra == 0 && plan.framing != Framing::UntilClose;
        plan
    }

    fn apply(&mut self, fault: &Fault, len: u64) {
        match fault {
            Fault::Cut { bytes } | Fault::CutWithReset { bytes } => self.end = Some((*bytes, false)),
            Fault::Stall { bytes } => self.end = Some((*bytes, true)),
            Fault::Trickle { bytes, ms } => {
                (self.piece, self.pause) = ((*bytes).clamp(1, PIECE), Duration::from_millis(*ms));
            }
            Fault::WrongLength { by } => {
                self.framing = Framing::Length(len.saturating_add_signed(*by));
                self.keep_alive = false;
            }
            Fault::MoreThanPromised { bytes } => self.extra = *bytes,
            Fault::UntilClose => self.framing = Framing::UntilClose,
            Fault::Chunked => self.framing = Framing::Chunked,
            Fault::ChunkedCut { bytes } => (self.framing, self.end) = (Framing::Chunked, Some((*bytes, false))),
            _ => {}
        }
    }
}

/// Sends an answer; false if the connection must end.
pub(crate) fn send(sender: &Sender<'_>, answer: Answer) -> io::Result<bool> {
    let mut answer = sender.faults.iter().fold(answer, Answer::replace);
    let (first, end) = answer.choose_range(sender.request, sender.faults);
    let answer = sender.faults.iter().fold(answer, Answer::spoil_header);
    sender.note(|entry| entry.status = answer.status);
    if sender.faults.contains(&Fault::EndlessHeaders) {
        return sender.endless(b"HTTP/1.1 200 OK\r\n", b"X-Endless: and another one\r\n");
    }
    if sender.faults.contains(&Fault::EndlessJson) {
        return sender.endless(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[0", b", 1234567890");
    }
    let plan = Plan::new(sender.faults, end - first);
    let mut stream = sender.stream;
    stream.write_all(head(&answer, &plan).as_bytes())?;
    if sender.request.method == "HEAD" {
        sender.note(|entry| entry.complete = true);
        return Ok(plan.keep_alive);
    }
    sender.body(&answer.body, (first, end), &plan)
}

fn head(answer: &Answer, plan: &Plan) -> String {
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    match plan.framing {
        Framing::Length(len) => drop(write!(head, "Content-Length: {len}\r\n")),
        Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::UntilClose => {}
    }
    head.push_str(if plan.keep_alive { "\r\n" } else { "Connection: close\r\n\r\n" });
    head
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        307 => "Temporary Redirect",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

impl Sender<'_> {
    /// Changes the request's entry in the log.
    fn note(&self, change: impl FnOnce(&mut Request)) {
        let mut state = self.shared.state();
        if let Some(entry) = self.entry.and_then(|index| state.requests.get_mut(index)) {
            change(entry);
        }
    }

    /// Sends `beginning`, and then `piece` until the client closes the connection or the server stops.
    fn endless(&self, beginning: &[u8], piece: &[u8]) -> io::Result<bool> {
        let mut stream = self.stream;
        stream.write_all(beginning)?;
        let pieces = piece.repeat(1000);
        while !self.shared.wait(Duration::ZERO) {
            stream.write_all(&pieces)?;
            self.note(|entry| entry.sent += pieces.len() as u64);
        }
        Ok(false)
    }

    fn body(&self, content: &Content, (first, end): (u64, u64), plan: &Plan) -> io::Result<bool> {
        let stop = plan.end.map_or(end, |(bytes, _)| end.min(first.saturating_add(bytes)));
        let mut buffer = vec![0; usize::try_from(plan.piece).expect("a piece fits in memory")];
        let mut at = first;
        while at < stop {
            let wanted = usize::try_from(plan.piece.min(stop - at)).expect("a piece fits in memory");
            let count = content.read_at(at, &mut buffer[..wanted]);
            self.piece(&buffer[..count], plan.framing)?;
            at += count as u64;
            if !plan.pause.is_zero() && self.shared.wait(plan.pause) {
                return Ok(false);
            }
        }
        match plan.end {
            Some((_, true)) => return hang(self.shared, self.stream),
            Some((_, false)) => return Ok(false),
            None => {}
        }
        let extra = Content::generated(plan.extra, 1);
        let mut at = 0;
        while at < extra.len() {
            let count = extra.read_at(at, &mut buffer);
            self.piece(&buffer[..count], plan.framing)?;
            at += count as u64;
        }
        if plan.framing == Framing::Chunked {
            let mut stream = self.stream;
            stream.write_all(b"0\r\n\r\n")?;
        }
        self.note(|entry| entry.complete = true);
        Ok(plan.keep_alive)
    }

    fn piece(&self, bytes: &[u8], framing: Framing) -> io::Result<()> {
        let mut stream = self.stream;
        if framing == Framing::Chunked {
            stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
            stream.write_all(bytes)?;
            stream.write_all(b"\r\n")?;
        } else {
            stream.write_all(bytes)?;
        }
        self.note(|entry| entry.sent += bytes.len() as u64);
        Ok(())
    }
}

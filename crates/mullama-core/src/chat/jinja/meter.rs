//! The budget of a rendering, or of all renderings of one chat: how much work it may do, and how much memory its values may hold.
//!
//! Every operation on values draws on it, in proportion to what the operation touches: one unit for a node of the
//! template that is evaluated, for an item that is visited and for [`BYTES_PER_UNIT`] bytes of text. Memory is counted
//! while it is held: a [`Held`] travels with each text, list and dict and gives its bytes back when it is dropped.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::error::{Error, Exhausted, Result};

/// Text that one unit of work pays for.
const BYTES_PER_UNIT: usize = 16;

/// Number of units between two checks whether the text is still needed: about a millisecond.
const UNITS_PER_QUESTION: u64 = 1 << 14;

/// Asks whether a rendering should go on. It is asked about once per millisecond.
pub(in crate::chat) type KeepGoing = Arc<dyn Fn() -> bool + Send + Sync>;

/// What a rendering may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chat) struct Limits {
    /// Units of work; a unit takes some 10 to 50 ns.
    pub(in crate::chat) work: u64,
    /// Bytes that texts, lists and dicts hold at the same time, the rendered text among them.
    pub(in crate::chat) memory: u64,
}

impl Limits {
    /// The limits for messages and other variables of this size.
    pub(in crate::chat) fn for_input(bytes: usize) -> Self {
        let bytes = bytes as u64;
        Self { work: 20_000_000 + 4 * bytes, memory: (64 << 20) + 8 * bytes }
    }

    /// The limits for several renderings that share the work of two. Memory is given back between them.
    pub(in crate::chat) fn for_renderings(self) -> Self {
        Self { work: self.work.saturating_mul(2), ..self }
    }
}

/// Counts what one rendering, or several that share a budget, use.
pub(in crate::chat) struct Meter {
    limits: Limits,
    work_left: Cell<u64>,
    memory_left: Cell<u64>,
    until_question: Cell<u64>,
    keep_going: Option<KeepGoing>,
}

impl Meter {
    pub(in crate::chat) fn new(limits: Limits, keep_going: Option<KeepGoing>) -> Rc<Self> {
        Rc::new(Self {
            limits,
            work_left: Cell::new(limits.work),
            memory_left: Cell::new(limits.memory),
            until_question: Cell::new(UNITS_PER_QUESTION),
            keep_going,
        })
    }

    /// Pays for some units of work.
    pub(super) fn work(&self, units: usize) -> Result<()> {
        let units = units as u64;
        let Some(left) = self.work_left.get().checked_sub(units) else {
            // A template that catches this error gets no further either.
            self.work_left.set(0);
            return Err(Error::exhausted(Exhausted::Work { units: self.limits.work }));
        };
        self.work_left.set(left);
        match self.until_question.get().checked_sub(units) {
            Some(left) => self.until_question.set(left),
            None => self.ask()?,
        }
        Ok(())
    }

    fn ask(&self) -> Result<()> {
        self.until_question.set(UNITS_PER_QUESTION);
        match &self.keep_going {
            Some(keep_going) if !keep_going() => {
                self.work_left.set(0);
                Err(Error::exhausted(Exhausted::Abandoned))
            }
            _ => Ok(()),
        }
    }

    /// Pays for reading or copying this much text.
    pub(super) fn text_work(&self, bytes: usize) -> Result<()> {
        self.work(1 + bytes / BYTES_PER_UNIT)
    }

    /// Reserves memory until the guard is dropped.
    pub(super) fn hold(self: &Rc<Self>, bytes: usize) -> Result<Held> {
        let mut held = Held { meter: Rc::clone(self), bytes: 0 };
        held.grow(bytes)?;
        Ok(held)
    }

    /// Units of work used so far.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.limits.work - self.work_left.get()
    }

    /// Bytes held now.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        self.limits.memory - self.memory_left.get()
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter")
            .field("work_left", &self.work_left)
            .field("memory_left", &self.memory_left)
            .finish_non_exhaustive()
    }
}

/// Memory of one value.
#[derive(Debug)]
pub(super) struct Held {
    meter: Rc<Meter>,
    bytes: u64,
}

impl Held {
    /// Reserves more.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<()> {
        let bytes = bytes as u64;
        let Some(left) = self.meter.memory_left.get().checked_sub(bytes) else {
            return Err(Error::exhausted(Exhausted::Memory { bytes: self.meter.limits.memory }));
        };
        self.meter.memory_left.set(left);
        self.bytes += bytes;
        Ok(())
    }

    pub(super) fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.memory_left.set(self.meter.memory_left.get() + self.bytes);
    }
}

/// The only way to make text: it pays before it grows.
#[derive(Debug)]
pub(super) struct Writer {
    text: String,
    held: Held,
}

impl Writer {
    pub(super) fn new(meter: &Rc<Meter>) -> Self {
        Self { text: String::new(), held: Held { meter: Rc::clone(meter), bytes: 0 } }
    }

    pub(super) fn meter(&self) -> &Rc<Meter> {
        &self.held.meter
    }

    pub(super) fn push_str(&mut self, text: &str) -> Result<()> {
        self.reserve(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    pub(super) fn push(&mut self, character: char) -> Result<()> {
        self.push_str(character.encode_utf8(&mut [0; 4]))
    }

    /// Appends a character this many times.
    pub(super) fn fill(&mut self, character: char, times: usize) -> Result<()> {
        self.reserve(times.saturating_mul(character.len_utf8()))?;
        self.text.extend(std::iter::repeat_n(character, times));
        Ok(())
    }

    /// Appends a text this many times.
    pub(super) fn repeat(&mut self, text: &str, times: usize) -> Result<()> {
        self.reserve(text.len().saturating_mul(times))?;
        self.text.extend(std::iter::repeat_n(text, times));
        Ok(())
    }

    fn reserve(&mut self, bytes: usize) -> Result<()> {
        self.held.meter.text_work(bytes)?;
        // A text grows by doubling; what it may take beyond its length is paid for as well.
        let needed = self.text.len().saturating_add(bytes);
        if needed > self.text.capacity() {
            let capacity = needed.max(self.text.capacity().saturating_mul(2));
            self.held.grow(capacity - self.text.capacity())?;
            self.text.reserve_exact(capacity - self.text.len());
        }
        Ok(())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The text and the memory that it holds.
    pub(super) fn finish(self) -> (String, Held) {
        (self.text, self.held)
    }
}

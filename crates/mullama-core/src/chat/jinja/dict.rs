//! Dicts, and the values that can be their keys.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::error::{Error, Result};
use super::meter::{Held, Meter};
use super::value::{SeqKind, Text, Value, bounded_depth};

/// Parts of a tuple that is the key of a dict.
const MAX_KEY_PARTS: usize = 256;

/// A value that can be a key of a dict. Numbers that are equal are the same key.
#[derive(Debug, Clone)]
pub(super) enum Key {
    None,
    Int(i128),
    Float(u64),
    Text(Text),
    Tuple(Rc<[Key]>),
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Int(one), Self::Int(other)) => one == other,
            (Self::Float(one), Self::Float(other)) => one == other,
            (Self::Text(one), Self::Text(other)) => one.as_str() == other.as_str(),
            (Self::Tuple(one), Self::Tuple(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::None => {}
            Self::Int(number) => number.hash(state),
            Self::Float(bits) => bits.hash(state),
            Self::Text(text) => text.as_str().hash(state),
            Self::Tuple(keys) => keys.hash(state),
        }
    }
}

impl Key {
    /// The key that a value is. It pays for all that hashing and comparing it will visit.
    pub(super) fn of(value: &Value, meter: &Rc<Meter>) -> Result<Self> {
        Self::of_part(value, meter, &Cell::new(MAX_KEY_PARTS))
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "checked by the way back")]
    #[expect(clippy::float_cmp, reason = "only a float that is exactly an int is the same key")]
    fn of_part(value: &Value, meter: &Rc<Meter>, parts_left: &Cell<usize>) -> Result<Self> {
        meter.work(1)?;
        let left = parts_left.get().checked_sub(1);
        let too_large = || Error::failed(format!("a key of a dict has more than {MAX_KEY_PARTS} parts"));
        parts_left.set(left.ok_or_else(too_large)?);
        Ok(match value {
            Value::None => Self::None,
            Value::Bool(yes) => Self::Int(i128::from(*yes)),
            Value::Int(number) => Self::Int(*number),
            Value::Float(number) if (*number as i128) as f64 == *number => Self::Int(*number as i128),
            Value::Float(number) => Self::Float(number.to_bits()),
            Value::Text(text) => {
                meter.text_work(text.as_str().len())?;
                Self::Text(text.clone())
            }
            Value::Seq(seq) if seq.kind == SeqKind::Tuple => {
                let keys = seq.as_slice().iter().map(|item| Self::of_part(item, meter, parts_left));
                Self::Tuple(keys.collect::<Result<Vec<Self>>>()?.into())
            }
            Value::Undefined(missing) => return Err(missing.error()),
            other => return Err(Error::failed(format!("a value of type {} cannot be a key", other.kind()))),
        })
    }
}

/// A dict, in the order of its making.
#[derive(Debug, Clone)]
pub(super) struct Dict(Rc<Entries>);

#[derive(Debug)]
struct Entries {
    pairs: Vec<(Value, Value)>,
    index: HashMap<Key, usize>,
    depth: usize,
    held: Held,
}

impl Dict {
    pub(super) fn pairs(&self) -> &[(Value, Value)] {
        &self.0.pairs
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        self.0.index.get(key).map(|&at| &self.0.pairs[at].1)
    }

    /// The value of a text key.
    pub(super) fn get_text(&self, key: &str) -> Result<Option<&Value>> {
        let meter = self.0.held.meter();
        Ok(self.get(&Key::Text(Text::new(meter, key)?)))
    }

    /// How many containers are inside one another here.
    pub(super) fn depth(&self) -> usize {
        self.0.depth
    }

    /// Whether both are the same dict.
    pub(super) fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// Collects the pairs of a dict. It pays for each.
#[derive(Debug)]
pub(super) struct DictBuilder(Entries);

/// Memory of one pair: key and value, and about twice the key and the number in the index.
const PAIR_BYTES: usize = 2 * size_of::<Value>() + 3 * (size_of::<Key>() + size_of::<usize>());

impl DictBuilder {
    pub(super) fn new(meter: &Rc<Meter>) -> Result<Self> {
        let held = meter.hold(size_of::<Entries>())?;
        Ok(Self(Entries { pairs: Vec::new(), index: HashMap::new(), depth: 1, held }))
    }

    /// Sets a key. One that is there already keeps its position.
    pub(super) fn insert(&mut self, key: Value, value: Value) -> Result<()> {
        let found = Key::of(&key, self.0.held.meter())?;
        self.0.depth = self.0.depth.max(1 + value.depth().max(key.depth()));
        if let Some(&at) = self.0.index.get(&found) {
            self.0.pairs[at].1 = value;
            return Ok(());
        }
        // Vectors and tables double, so a pair is paid for twice.
        self.0.held.grow(2 * PAIR_BYTES + found.bytes())?;
        self.0.index.insert(found, self.0.pairs.len());
        self.0.pairs.push((key, value));
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Value> {
        bounded_depth(self.0.depth)?;
        Ok(Value::Dict(Dict(Rc::new(self.0))))
    }
}

impl Key {
    /// Memory beyond the key itself.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Tuple(keys) => keys.iter().map(|key| size_of::<Self>() + key.bytes()).sum(),
            _ => 0,
        }
    }
}

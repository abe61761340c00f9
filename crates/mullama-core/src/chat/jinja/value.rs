//! Values of a template, as Python has them.
//!
//! Lists, tuples and dicts never change once they are made: the sandbox in which Hugging Face's libraries render refuses
//! that too. They may share parts, so an operation that walks them pays for each visit. Their depth is known and bounded
//! when they are made, so that walking and dropping them takes a bounded stack.

use std::cell::Cell;
use std::rc::Rc;

use super::ast::MacroDef;
use super::dict::Dict;
use super::error::{Error, Result};
use super::meter::{Held, Meter, Writer};

/// Containers that may be inside one another.
pub(super) const MAX_DEPTH: usize = 128;

/// Any value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// What does not exist.
    Undefined(Missing),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text),
    Seq(Seq),
    Dict(Dict),
    /// A function of this name that every template has.
    Function(&'static str),
    /// A method of a value.
    Method(Rc<Method>),
    Macro(Macro),
    Cycler(Rc<Cycler>),
    Joiner(Rc<Joiner>),
    /// A namespace of the rendering, by its number. Namespaces can change, so they could hold themselves.
    Namespace(usize),
    /// The variable `loop` of a loop, by its number.
    Loop(usize),
}

/// The name that was looked up in vain.
#[derive(Debug, Clone)]
pub(super) struct Missing {
    pub(super) name: Rc<str>,
    /// What kind of value it was looked up in; `None` is a variable.
    pub(super) owner: Option<&'static str>,
}

impl Missing {
    /// The error of using it.
    pub(super) fn error(&self) -> Error {
        Error::failed(match self.owner {
            Some(owner) => format!("undefined value: {owner} has no attribute {:?}", self.name),
            None => format!("undefined value: {:?} is undefined", self.name),
        })
    }
}

/// A bound method, such as `message.get`.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) owner: Value,
    pub(super) name: Rc<str>,
}

/// A macro, and the scope in which it was defined.
#[derive(Debug, Clone)]
pub(super) struct Macro {
    pub(super) def: Rc<MacroDef>,
    pub(super) scope: usize,
}

/// What `cycler(…)` makes.
#[derive(Debug)]
pub(super) struct Cycler {
    pub(super) items: Seq,
    pub(super) at: Cell<usize>,
}

/// What `joiner(…)` makes.
#[derive(Debug)]
pub(super) struct Joiner {
    pub(super) separator: Value,
    pub(super) used: Cell<bool>,
}

/// A text.
#[derive(Debug, Clone)]
pub(super) struct Text(Rc<(String, Held)>);

impl Text {
    pub(super) fn new(meter: &Rc<Meter>, text: &str) -> Result<Self> {
        let mut writer = Writer::new(meter);
        writer.push_str(text)?;
        Ok(writer.into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0.0
    }

    /// Whether both are one text, and not only equal.
    pub(super) fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl From<Writer> for Text {
    fn from(writer: Writer) -> Self {
        Self(Rc::new(writer.finish()))
    }
}

impl From<Writer> for Value {
    fn from(writer: Writer) -> Self {
        Self::Text(writer.into())
    }
}

/// What kind of sequence it is: they differ in how they are printed and in what may be done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeqKind {
    List,
    Tuple,
    /// Start, stop and step.
    Range(i64, i64, i64),
    /// What a dict's `keys`, `values` and `items` give, by the name that Python prints.
    View(&'static str),
    /// What filters such as `map` give.
    Generator,
}

/// A sequence: a stretch of values that it may share with others.
#[derive(Debug, Clone)]
pub(super) struct Seq {
    pub(super) kind: SeqKind,
    items: Rc<Items>,
    from: usize,
    len: usize,
}

#[derive(Debug)]
struct Items {
    values: Vec<Value>,
    depth: usize,
    _held: Held,
}

impl Seq {
    pub(super) fn as_slice(&self) -> &[Value] {
        &self.items.values[self.from..self.from + self.len]
    }

    /// The items from one index to another, without copying them.
    pub(super) fn part(&self, from: usize, to: usize) -> Self {
        let (from, to) = (from.min(self.len), to.min(self.len));
        Self { from: self.from + from, len: to.saturating_sub(from), ..self.clone() }
    }

    /// The same items as a sequence of another kind.
    pub(super) fn of_kind(self, kind: SeqKind) -> Self {
        Self { kind, ..self }
    }

    /// Whether both are the same items of the same sequence.
    pub(super) fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.items, &other.items) && (self.from, self.len) == (other.from, other.len)
    }
}

/// Collects the values of a sequence. It pays for each.
#[derive(Debug)]
pub(super) struct SeqBuilder {
    values: Vec<Value>,
    depth: usize,
    held: Held,
}

impl SeqBuilder {
    pub(super) fn new(meter: &Rc<Meter>) -> Result<Self> {
        Ok(Self { values: Vec::new(), depth: 1, held: meter.hold(size_of::<Items>())? })
    }

    pub(super) fn push(&mut self, value: Value) -> Result<()> {
        self.held.meter().work(1)?;
        if self.values.len() == self.values.capacity() {
            let more = self.values.len().max(4);
            self.held.grow(more * size_of::<Value>())?;
            self.values.reserve_exact(more);
        }
        self.depth = self.depth.max(1 + value.depth());
        self.values.push(value);
        Ok(())
    }

    pub(super) fn extend<'v>(&mut self, values: impl IntoIterator<Item = &'v Value>) -> Result<()> {
        values.into_iter().try_for_each(|value| self.push(value.clone()))
    }

    pub(super) fn finish(self, kind: SeqKind) -> Result<Value> {
        bounded_depth(self.depth)?;
        let len = self.values.len();
        let items = Rc::new(Items { values: self.values, depth: self.depth, _held: self.held });
        Ok(Value::Seq(Seq { kind, items, from: 0, len }))
    }

    pub(super) fn list(self) -> Result<Value> {
        self.finish(SeqKind::List)
    }
}

/// Refuses what is nested too deeply.
pub(super) fn bounded_depth(depth: usize) -> Result<()> {
    if depth <= MAX_DEPTH {
        return Ok(());
    }
    Err(Error::failed(format!("lists and dicts are nested more than {MAX_DEPTH} levels deep")))
}

impl Value {
    pub(super) fn text(meter: &Rc<Meter>, text: &str) -> Result<Self> {
        Ok(Self::Text(Text::new(meter, text)?))
    }

    /// An undefined variable or attribute.
    pub(super) fn missing(name: &Rc<str>, owner: Option<&'static str>) -> Self {
        Self::Undefined(Missing { name: Rc::clone(name), owner })
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// How many containers are inside one another here.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Seq(seq) => seq.items.depth,
            Self::Dict(dict) => dict.depth(),
            Self::Method(method) => 1 + method.owner.depth(),
            Self::Cycler(cycler) => 1 + cycler.items.items.depth,
            Self::Joiner(joiner) => 1 + joiner.separator.depth(),
            _ => 0,
        }
    }

    /// A name for the type, for error messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "undefined",
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::Seq(seq) => match seq.kind {
                SeqKind::List => "list",
                SeqKind::Tuple => "tuple",
                SeqKind::Range(..) => "range",
                SeqKind::View(name) => name,
                SeqKind::Generator => "generator",
            },
            Self::Dict(_) => "dict",
            Self::Function(_) => "function",
            Self::Method(_) => "method",
            Self::Macro(_) => "macro",
            Self::Cycler(_) => "cycler",
            Self::Joiner(_) => "joiner",
            Self::Namespace(_) => "namespace",
            Self::Loop(_) => "loop",
        }
    }

    /// Whether Python takes it for true.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(yes) => *yes,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Text(text) => !text.as_str().is_empty(),
            Self::Seq(seq) => seq.kind == SeqKind::Generator || seq.len > 0,
            Self::Dict(dict) => !dict.pairs().is_empty(),
            _ => true,
        }
    }

    /// The number that an int or a bool is.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Bool(yes) => Some(i128::from(*yes)),
            _ => None,
        }
    }

    /// The number that an int, a bool or a float is.
    #[expect(clippy::cast_precision_loss, reason = "as Python converts")]
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            other => other.as_int().map(|number| number as f64),
        }
    }
}

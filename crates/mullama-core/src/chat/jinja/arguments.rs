//! The arguments of a call, and what they are called.

use std::rc::Rc;

use super::error::{Error, Result};
use super::meter::{Held, Meter};
use super::value::Value;
use crate::chat::normalize::shown;

/// Memory of one argument.
const ARGUMENT_BYTES: usize = 2 * (size_of::<Value>() + size_of::<Rc<str>>());

/// What a function, a filter, a test or a method is given.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Rc<str>, Value)>,
    held: Held,
}

impl Given {
    pub(super) fn new(meter: &Rc<Meter>) -> Result<Self> {
        Ok(Self { positional: Vec::new(), named: Vec::new(), held: meter.hold(0)? })
    }

    pub(super) fn push(&mut self, value: Value) -> Result<()> {
        self.held.meter().work(1)?;
        self.held.grow(ARGUMENT_BYTES)?;
        self.positional.push(value);
        Ok(())
    }

    pub(super) fn push_named(&mut self, name: Rc<str>, value: Value) -> Result<()> {
        // The name is compared with all others, which may begin as it does.
        self.held.meter().text_work(name.len().saturating_mul(1 + self.named.len()))?;
        self.held.meter().work(self.named.len())?;
        self.held.grow(ARGUMENT_BYTES + name.len())?;
        if self.named.iter().any(|(other, _)| *other == name) {
            return Err(Error::failed(format!("the argument {} was given twice", shown(&name))));
        }
        self.named.push((name, value));
        Ok(())
    }

    /// A copy, for a call that is repeated for each item.
    pub(super) fn again(&self) -> Result<Self> {
        let mut copy = Self::new(self.held.meter())?;
        for value in &self.positional {
            copy.push(value.clone())?;
        }
        for (name, value) in &self.named {
            copy.push_named(Rc::clone(name), value.clone())?;
        }
        Ok(copy)
    }

    /// Takes the first positional argument.
    pub(super) fn take_first(&mut self) -> Option<Value> {
        (!self.positional.is_empty()).then(|| self.positional.remove(0))
    }

    /// Takes an argument by its name.
    pub(super) fn take_named(&mut self, name: &str) -> Option<Value> {
        let at = self.named.iter().position(|(other, _)| &**other == name)?;
        Some(self.named.remove(at).1)
    }

    /// All arguments, where none has a name.
    pub(super) fn positional_only(self) -> Result<Vec<Value>> {
        match self.named.first() {
            None => Ok(self.positional),
            Some((name, _)) => Err(Error::failed(format!("unexpected keyword argument {}", shown(name)))),
        }
    }

    /// The arguments in the order of their names; `None` was not given. This pays for reading each text among them once:
    /// searching for a text, for example, reads all of it even if the text that is searched is short.
    pub(super) fn bind<const N: usize>(self, names: [&str; N]) -> Result<[Option<Value>; N]> {
        if self.positional.len() > N {
            return Err(Error::failed(format!(
                "{} arguments were given, at most {N} are taken",
                self.positional.len()
            )));
        }
        for value in self.positional.iter().chain(self.named.iter().map(|(_, value)| value)) {
            self.held.meter().text_work(value.as_str().map_or(0, str::len))?;
        }
        let mut bound = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let Some(at) = names.iter().position(|other| **other == *name) else {
                return Err(Error::failed(format!("unexpected keyword argument {}", shown(&name))));
            };
            if bound[at].replace(value).is_some() {
                return Err(Error::failed(format!("the argument {} was given twice", shown(&name))));
            }
        }
        Ok(bound)
    }
}

/// An argument that must be there.
pub(super) fn required(value: Option<Value>, name: &str) -> Result<Value> {
    value.ok_or_else(|| Error::failed(format!("the argument {name:?} is missing")))
}

/// An argument that is an int; None counts as not given.
pub(super) fn int(value: Option<&Value>, name: &str) -> Result<Option<i128>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => match value.as_int() {
            Some(number) => Ok(Some(number)),
            None => Err(Error::failed(format!("the argument {name:?} must be an int, not {}", value.kind()))),
        },
    }
}

/// An argument that is an int of at least 0, as a count or a width.
pub(super) fn count(value: Option<&Value>, name: &str, default: usize) -> Result<usize> {
    Ok(int(value, name)?.map_or(default, |number| usize::try_from(number.max(0)).unwrap_or(usize::MAX)))
}

/// An argument that is a text; None counts as not given.
pub(super) fn text<'v>(value: Option<&'v Value>, name: &str) -> Result<Option<&'v str>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text.as_str())),
        Some(other) => Err(Error::failed(format!("the argument {name:?} must be a str, not {}", other.kind()))),
    }
}

/// An argument that is true or false.
pub(super) fn flag(value: Option<&Value>) -> bool {
    value.is_some_and(Value::is_true)
}

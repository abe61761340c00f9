//! The variables of a rendering.
//!
//! Scopes stand in a list and know their parents by number. A macro keeps the number of the scope that it was defined in,
//! so that scope stays in the list until the rendering ends. Nothing refers to itself, so everything is dropped then.

use std::collections::HashMap;
use std::rc::Rc;

use super::error::Result;
use super::meter::{Held, Meter};
use super::value::Value;

/// Memory of one variable or scope.
const ENTRY_BYTES: usize = 3 * (size_of::<Value>() + size_of::<Rc<str>>());

/// Scopes and namespaces.
#[derive(Debug)]
pub(super) struct Scopes {
    list: Vec<Scope>,
    pub(super) current: usize,
    namespaces: Vec<HashMap<Rc<str>, Value>>,
    /// Memory of the namespaces.
    held: Held,
}

#[derive(Debug)]
struct Scope {
    variables: HashMap<Rc<str>, Value>,
    parent: Option<usize>,
    /// Whether a macro needs it after its end.
    kept: bool,
    held: Held,
}

impl Scopes {
    /// Only the outermost scope, with these variables.
    pub(super) fn new(variables: Vec<(Rc<str>, Value)>, meter: &Rc<Meter>) -> Result<Self> {
        let held = meter.hold((variables.len() + 1) * ENTRY_BYTES)?;
        let root = Scope { variables: variables.into_iter().collect(), parent: None, kept: true, held };
        Ok(Self { list: vec![root], current: 0, namespaces: Vec::new(), held: meter.hold(0)? })
    }

    /// Begins a scope inside another, and returns the one that was current.
    pub(super) fn enter(&mut self, parent: usize) -> Result<usize> {
        let meter = self.held.meter();
        meter.work(1)?;
        let held = meter.hold(ENTRY_BYTES)?;
        let left = self.current;
        self.current = self.list.len();
        self.list.push(Scope { variables: HashMap::new(), parent: Some(parent), kept: false, held });
        Ok(left)
    }

    /// Ends the current scope, and goes back to the one before.
    pub(super) fn leave(&mut self, back_to: usize) {
        // A scope on top of one that is kept goes; one that a macro keeps stays.
        if self.current + 1 == self.list.len() && !self.list[self.current].kept {
            self.list.pop();
        }
        self.current = back_to;
    }

    /// Keeps the current scope, and those around it, for a macro.
    pub(super) fn keep(&mut self) -> usize {
        let mut next = Some(self.current);
        while let Some(at) = next.filter(|&at| !self.list[at].kept) {
            self.list[at].kept = true;
            next = self.list[at].parent;
        }
        self.current
    }

    /// Finds a variable in the current scope or one around it.
    pub(super) fn get(&self, name: &str) -> Result<Option<&Value>> {
        let mut next = Some(self.current);
        while let Some(at) = next {
            self.held.meter().work(1)?;
            if let Some(value) = self.list[at].variables.get(name) {
                return Ok(Some(value));
            }
            next = self.list[at].parent;
        }
        Ok(None)
    }

    /// Sets a variable of the current scope.
    pub(super) fn set(&mut self, name: &Rc<str>, value: Value) -> Result<()> {
        self.held.meter().work(1)?;
        let scope = &mut self.list[self.current];
        if scope.variables.insert(Rc::clone(name), value).is_none() {
            scope.held.grow(ENTRY_BYTES)?;
        }
        Ok(())
    }

    /// Makes a namespace.
    pub(super) fn namespace(&mut self, attributes: Vec<(Rc<str>, Value)>) -> Result<Value> {
        let names: usize = attributes.iter().map(|(name, _)| name.len()).sum();
        self.held.grow(names.saturating_add((attributes.len() + 1) * ENTRY_BYTES))?;
        self.namespaces.push(attributes.into_iter().collect());
        Ok(Value::Namespace(self.namespaces.len() - 1))
    }

    /// An attribute of a namespace.
    pub(super) fn attribute(&self, namespace: usize, name: &str) -> Option<&Value> {
        self.namespaces[namespace].get(name)
    }

    /// Sets an attribute of a namespace.
    pub(super) fn set_attribute(&mut self, namespace: usize, name: &Rc<str>, value: Value) -> Result<()> {
        self.held.meter().work(1)?;
        if self.namespaces[namespace].insert(Rc::clone(name), value).is_none() {
            self.held.grow(ENTRY_BYTES)?;
        }
        Ok(())
    }
}

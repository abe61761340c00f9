//! Evaluates expressions.

use std::rc::Rc;

use super::arguments::Given;
use super::ast::{Argument, Arguments, Expr, Node, Step, StepKind};
use super::dict::DictBuilder;
use super::error::{Error, Result};
use super::runner::Runner;
use super::value::{Missing, SeqBuilder, SeqKind, Value};
use super::{compare, functions, methods, operators, print, tests};

/// The longest key in bytes that is looked for as an attribute, and quoted where it was not found.
pub(super) const SHOWN_KEY: usize = 60;

impl Runner {
    /// The value of an expression.
    pub(super) fn eval(&mut self, expr: &Expr) -> Result<Value> {
        self.meter.work(1)?;
        let result = match &expr.node {
            Node::Const(value) => return Ok(value.clone()),
            Node::Name(name) => self.variable(name),
            _ => self.nested(|runner| runner.eval_node(&expr.node)),
        };
        result.map_err(|error| error.at(expr.line))
    }

    fn eval_node(&mut self, node: &Node) -> Result<Value> {
        match node {
            Node::Const(value) => Ok(value.clone()),
            Node::Name(name) => self.variable(name),
            Node::List(items) => self.sequence(items, SeqKind::List),
            Node::Tuple(items) => self.sequence(items, SeqKind::Tuple),
            Node::Dict(pairs) => self.dict(pairs),
            Node::Postfix(value, steps) => {
                let value = self.eval(value)?;
                self.steps(value, steps)
            }
            Node::Negative(value) => operators::signed(&self.eval(value)?, true),
            Node::Positive(value) => operators::signed(&self.eval(value)?, false),
            Node::Not(value) => Ok(Value::Bool(!self.eval(value)?.is_true())),
            Node::Binary(first, rest) => {
                let mut value = self.eval(first)?;
                for (operator, other) in rest {
                    let other = self.eval(other)?;
                    value = operators::apply(*operator, &value, &other, &self.meter)?;
                }
                Ok(value)
            }
            Node::Concat(parts) => {
                let parts = self.values(parts)?;
                operators::concat(&parts.positional, &self.meter)
            }
            Node::Compare(first, rest) => {
                let mut value = self.eval(first)?;
                for (comparison, other) in rest {
                    let other = self.eval(other)?;
                    if !compare::holds(*comparison, &value, &other, &self.meter)? {
                        return Ok(Value::Bool(false));
                    }
                    value = other;
                }
                Ok(Value::Bool(true))
            }
            Node::And(parts) => self.first_where(parts, false),
            Node::Or(parts) => self.first_where(parts, true),
            Node::If(parts, other) => {
                let (value, condition) = &**parts;
                if self.eval(condition)?.is_true() {
                    return self.eval(value);
                }
                match other {
                    Some(other) => self.eval(other),
                    None => Ok(Value::missing(&"the inline if without else".into(), None)),
                }
            }
        }
    }

    /// The first value that is true, or false; the last one if there is none.
    fn first_where(&mut self, parts: &[Expr], wanted: bool) -> Result<Value> {
        let mut value = Value::None;
        for part in parts {
            value = self.eval(part)?;
            if value.is_true() == wanted {
                break;
            }
        }
        Ok(value)
    }

    fn variable(&mut self, name: &Rc<str>) -> Result<Value> {
        if let Some(value) = self.scopes.get(name)? {
            return Ok(value.clone());
        }
        Ok(match functions::known(name) {
            Some(function) => Value::Function(function),
            None => Value::missing(name, None),
        })
    }

    fn values(&mut self, items: &[Expr]) -> Result<Given> {
        let mut given = Given::new(&self.meter)?;
        for item in items {
            given.push(self.eval(item)?)?;
        }
        Ok(given)
    }

    fn sequence(&mut self, items: &[Expr], kind: SeqKind) -> Result<Value> {
        let mut built = SeqBuilder::new(&self.meter)?;
        for item in items {
            built.push(self.eval(item)?)?;
        }
        built.finish(kind)
    }

    fn dict(&mut self, pairs: &[(Expr, Expr)]) -> Result<Value> {
        let mut built = DictBuilder::new(&self.meter)?;
        for (key, value) in pairs {
            let key = self.eval(key)?;
            built.insert(key, self.eval(value)?)?;
        }
        built.finish()
    }

    /// Applies what stands behind a value, one after another.
    pub(super) fn steps(&mut self, mut value: Value, steps: &[Step]) -> Result<Value> {
        for step in steps {
            self.meter.work(1)?;
            value = self.step(value, &step.kind).map_err(|error| error.at(step.line))?;
        }
        Ok(value)
    }

    fn step(&mut self, value: Value, step: &StepKind) -> Result<Value> {
        match step {
            StepKind::Attribute(name) => self.attribute(&value, name),
            StepKind::Item(key) => {
                let key = self.eval(key)?;
                self.item(&value, &key)
            }
            StepKind::Slice(parts) => {
                let mut bounds = [None; 3];
                for (bound, part) in bounds.iter_mut().zip(&**parts) {
                    if let Some(part) = part {
                        let part = self.eval(part)?;
                        *bound = super::arguments::int(Some(&part), "slice")?;
                    }
                }
                operators::slice(&value, bounds, &self.meter)
            }
            StepKind::Call(arguments) => {
                let given = self.arguments(arguments)?;
                self.call(&value, given)
            }
            StepKind::Filter(name, arguments) => {
                let given = self.arguments(arguments)?;
                self.filter(name, value, given)
            }
            StepKind::Test { name, arguments, negated } => {
                let given = self.arguments(arguments)?;
                Ok(Value::Bool(tests::holds(name, &value, given, &self.meter)? != *negated))
            }
        }
    }

    /// `value.name`: a method or a field of its own, then an item.
    pub(super) fn attribute(&mut self, value: &Value, name: &Rc<str>) -> Result<Value> {
        let found = match value {
            Value::Undefined(missing) => return Err(missing.error()),
            Value::Loop(number) => self.loop_attribute(*number, name)?,
            Value::Namespace(namespace) => self.scopes.attribute(*namespace, name).cloned(),
            Value::Macro(called) if &**name == "name" => Some(Value::text(&self.meter, &called.def.name)?),
            value => methods::find(value, name),
        };
        if let Some(found) = found {
            return Ok(found);
        }
        let item = match value {
            Value::Dict(dict) if !methods::changes(value, name) => dict.get_text(name)?.cloned(),
            // The pairs that `groupby` gives.
            Value::Seq(seq) if seq.kind == SeqKind::Tuple => match &**name {
                "grouper" => seq.as_slice().first().cloned(),
                "list" => seq.as_slice().get(1).cloned(),
                _ => None,
            },
            _ => None,
        };
        Ok(item.unwrap_or_else(|| Value::missing(name, Some(value.kind()))))
    }

    /// `value[key]`: an item, then a method or a field.
    pub(super) fn item(&mut self, value: &Value, key: &Value) -> Result<Value> {
        if let Some(found) = operators::item(value, key, &self.meter)? {
            return Ok(found);
        }
        match key {
            Value::Text(name) if name.as_str().len() <= SHOWN_KEY => {
                let name = name.as_str().into();
                if !matches!(value, Value::Dict(_)) {
                    return self.attribute(value, &name);
                }
                Ok(methods::find(value, &name).unwrap_or_else(|| Value::missing(&name, Some(value.kind()))))
            }
            key => {
                let name = match key {
                    Value::Int(number) => number.to_string(),
                    Value::Float(number) => print::float(*number),
                    other => format!("a key of type {}", other.kind()),
                };
                Ok(Value::Undefined(Missing { name: name.into(), owner: Some(value.kind()) }))
            }
        }
    }

    pub(super) fn arguments(&mut self, arguments: &Arguments) -> Result<Given> {
        let mut given = Given::new(&self.meter)?;
        for argument in &arguments.0 {
            match argument {
                Argument::Positional(value) => given.push(self.eval(value)?)?,
                Argument::Named(name, value) => given.push_named(Rc::clone(name), self.eval(value)?)?,
                Argument::All(values) => {
                    let values = self.eval(values)?;
                    for value in self.items(&values)?.as_slice() {
                        given.push(value.clone())?;
                    }
                }
                Argument::AllNamed(values) => {
                    let values = self.eval(values)?;
                    let Value::Dict(dict) = &values else {
                        return Err(Error::failed(format!("\"**\" takes a dict, not {}", values.kind())));
                    };
                    for (key, value) in dict.pairs() {
                        let Some(name) = key.as_str() else {
                            return Err(Error::failed("keyword arguments have names that are str"));
                        };
                        self.meter.text_work(name.len())?;
                        given.push_named(name.into(), value.clone())?;
                    }
                }
            }
        }
        Ok(given)
    }
}

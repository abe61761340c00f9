//! Renders the statements of a template.

use std::rc::Rc;

use super::ast::{Stmt, StmtKind, Target};
use super::error::{Error, Result};
use super::loops::LoopState;
use super::meter::{Meter, Writer};
use super::print;
use super::scope::Scopes;
use super::value::{Macro, Seq, SeqBuilder, SeqKind, Value};

/// Statements, expressions and macros that may be inside one another while they run. Each takes at most a few kilobytes
/// of the stack; a test runs the worst of them in a small one.
const MAX_LEVELS: usize = 600;

/// What comes after a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

/// One rendering.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) meter: Rc<Meter>,
    pub(super) scopes: Scopes,
    /// The running loops, from outer to inner, and a number that distinguishes earlier and later ones.
    pub(super) loops: Vec<LoopState>,
    pub(super) loops_begun: usize,
    /// The name of the variable `loop`.
    pub(super) loop_name: Rc<str>,
    output: Writer,
    level: usize,
}

impl Runner {
    pub(super) fn new(variables: Vec<(Rc<str>, Value)>, meter: &Rc<Meter>) -> Result<Self> {
        Ok(Self {
            meter: Rc::clone(meter),
            scopes: Scopes::new(variables, meter)?,
            loops: Vec::new(),
            loops_begun: 0,
            loop_name: "loop".into(),
            output: Writer::new(meter),
            level: 0,
        })
    }

    /// Renders a template from its start to its end.
    pub(super) fn render(mut self, body: &[Stmt]) -> Result<String> {
        self.run(body)?;
        Ok(self.output.finish().0)
    }

    /// Goes one level deeper.
    pub(super) fn nested<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.level == MAX_LEVELS {
            let reason = "macros, blocks and expressions are nested more than";
            return Err(Error::failed(format!("{reason} {MAX_LEVELS} levels deep")));
        }
        self.level += 1;
        let result = part(self);
        self.level -= 1;
        result
    }

    /// Runs statements.
    pub(super) fn run(&mut self, body: &[Stmt]) -> Result<Flow> {
        self.nested(|runner| {
            for statement in body {
                let flow = runner.statement(&statement.kind).map_err(|error| error.at(statement.line))?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
            }
            Ok(Flow::Next)
        })
    }

    fn statement(&mut self, statement: &StmtKind) -> Result<Flow> {
        self.meter.work(1)?;
        match statement {
            StmtKind::Data(text) => self.output.push_str(text)?,
            StmtKind::Print(value) => {
                let value = self.eval(value)?;
                print::write(&value, &mut self.output)?;
            }
            StmtKind::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.eval(condition)?.is_true() {
                        return self.run(body);
                    }
                }
                return self.run(otherwise);
            }
            StmtKind::For(statement) => self.for_loop(statement)?,
            StmtKind::Set(target, value) => {
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            StmtKind::Capture(target, filters, body) => {
                let text = self.scoped(|runner| runner.captured(body))?;
                let text = self.steps(text, filters)?;
                self.assign(target, text)?;
            }
            StmtKind::With(variables, body) => return self.with(variables, body),
            StmtKind::Block(body) => {
                let back_to = self.scopes.enter(0)?;
                let flow = self.run(body);
                self.scopes.leave(back_to);
                return flow;
            }
            StmtKind::Macro(def) => {
                let scope = self.scopes.keep();
                self.scopes.set(&def.name, Value::Macro(Macro { def: Rc::clone(def), scope }))?;
            }
            StmtKind::Call(call, def) => {
                let scope = self.scopes.keep();
                let text = self.call_with_caller(call, Macro { def: Rc::clone(def), scope })?;
                print::write(&text, &mut self.output)?;
            }
            StmtKind::Filter(filters, body) => {
                let text = self.scoped(|runner| runner.captured(body))?;
                let text = self.steps(text, filters)?;
                print::write(&text, &mut self.output)?;
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn with(&mut self, variables: &[(Target, super::ast::Expr)], body: &[Stmt]) -> Result<Flow> {
        // Their values do not see one another.
        let values = variables.iter().map(|(_, value)| self.eval(value)).collect::<Result<Vec<Value>>>()?;
        self.scoped(|runner| {
            for ((target, _), value) in variables.iter().zip(values) {
                runner.assign(target, value)?;
            }
            runner.run(body)
        })
    }

    /// Runs a part in a scope of its own.
    pub(super) fn scoped<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let back_to = self.scopes.enter(self.scopes.current)?;
        let result = part(self);
        self.scopes.leave(back_to);
        result
    }

    /// The text that statements write.
    pub(super) fn captured(&mut self, body: &[Stmt]) -> Result<Value> {
        self.capture(|runner| runner.run(body).map(drop))
    }

    /// The text that a part writes.
    pub(super) fn capture(&mut self, part: impl FnOnce(&mut Self) -> Result<()>) -> Result<Value> {
        let outer = std::mem::replace(&mut self.output, Writer::new(&self.meter));
        let result = part(self);
        let captured = std::mem::replace(&mut self.output, outer);
        result?;
        Ok(captured.into())
    }

    pub(super) fn assign(&mut self, target: &Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => self.scopes.set(name, value),
            Target::Tuple(targets) => {
                let items = self.items(&value)?;
                let (wanted, found) = (targets.len(), items.as_slice().len());
                if wanted != found {
                    return Err(Error::failed(format!("{wanted} values are assigned to, but there are {found}")));
                }
                for (target, value) in targets.iter().zip(items.as_slice()) {
                    self.assign(target, value.clone())?;
                }
                Ok(())
            }
            Target::Attribute(name, attribute) => match self.scopes.get(name)? {
                Some(&Value::Namespace(namespace)) => self.scopes.set_attribute(namespace, attribute, value),
                Some(other) => {
                    let kind = other.kind();
                    Err(Error::failed(format!("attributes are assigned to namespaces only, not to a {kind}")))
                }
                None => Err(Error::failed(format!("undefined value: {name:?} is undefined"))),
            },
        }
    }

    /// The items of a value that is iterated over.
    pub(super) fn items(&mut self, value: &Value) -> Result<Seq> {
        let mut items = SeqBuilder::new(&self.meter)?;
        match value {
            Value::Seq(seq) => return Ok(seq.clone()),
            // Jinja2 refuses None here. Many templates loop over tools that may be None, and other engines let them.
            Value::Undefined(_) | Value::None => {}
            Value::Dict(dict) => items.extend(dict.pairs().iter().map(|(key, _)| key))?,
            Value::Text(text) => {
                for character in text.as_str().chars() {
                    items.push(Value::text(&self.meter, character.encode_utf8(&mut [0; 4]))?)?;
                }
            }
            other => return Err(Error::failed(format!("a value of type {} is not iterable", other.kind()))),
        }
        match items.finish(SeqKind::List)? {
            Value::Seq(seq) => Ok(seq),
            _ => Err(Error::failed("a list is a sequence")),
        }
    }
}

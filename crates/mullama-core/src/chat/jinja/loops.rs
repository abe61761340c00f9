//! `{% for %}`, and the variable `loop`.

use std::collections::VecDeque;
use std::rc::Rc;

use super::arguments::Given;
use super::ast::For;
use super::compare;
use super::error::{Error, Result};
use super::meter::Held;
use super::runner::{Flow, Runner};
use super::value::{Method, Seq, SeqBuilder, SeqKind, Value};

/// Units of work for the scope and the variables of one iteration.
const ITERATION: usize = 4;

/// A running loop. Its items are evaluated one after another, because the body may change the result of a condition.
#[derive(Debug)]
pub(super) struct LoopState {
    /// Distinguishes the loop from earlier ones.
    number: usize,
    statement: Rc<For>,
    /// The scope around the loop.
    scope: usize,
    items: Seq,
    /// How many of them were looked at.
    seen: usize,
    /// Items that were looked at before their turn.
    ahead: VecDeque<Value>,
    held: Held,
    previous: Option<Value>,
    current: Option<Value>,
    /// Counts from 1 at the first item.
    index: usize,
    /// Recursive calls of the loop around this one.
    depth: usize,
    /// The previous arguments of `changed`.
    last: Option<Value>,
}

impl Runner {
    pub(super) fn for_loop(&mut self, statement: &Rc<For>) -> Result<()> {
        let items = self.eval(&statement.items)?;
        self.loop_over(statement, &items, 0)
    }

    fn loop_over(&mut self, statement: &Rc<For>, items: &Value, depth: usize) -> Result<()> {
        let items = self.items(items)?;
        self.loops_begun += 1;
        self.loops.push(LoopState {
            number: self.loops_begun,
            statement: Rc::clone(statement),
            scope: self.scopes.current,
            items,
            seen: 0,
            ahead: VecDeque::new(),
            held: self.meter.hold(size_of::<LoopState>())?,
            previous: None,
            current: None,
            index: 0,
            depth,
            last: None,
        });
        let at = self.loops.len() - 1;
        let result = self.iterate(statement, at);
        let ran = self.loops.pop().is_some_and(|state| state.index > 0);
        result?;
        if !ran {
            self.scoped(|runner| runner.run(&statement.otherwise))?;
        }
        Ok(())
    }

    fn iterate(&mut self, statement: &Rc<For>, at: usize) -> Result<()> {
        while let Some(item) = self.next_item(at)? {
            let state = &mut self.loops[at];
            state.previous = state.current.replace(item.clone());
            state.index += 1;
            let number = state.number;
            self.meter.work(ITERATION)?;
            let name = Rc::clone(&self.loop_name);
            let flow = self.scoped(|runner| {
                runner.scopes.set(&name, Value::Loop(number))?;
                runner.assign(&statement.target, item)?;
                runner.run(&statement.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    fn next_item(&mut self, at: usize) -> Result<Option<Value>> {
        if let Some(item) = self.loops[at].ahead.pop_front() {
            return Ok(Some(item));
        }
        self.look_at_next(at)
    }

    /// The next item that the condition of the loop lets through.
    fn look_at_next(&mut self, at: usize) -> Result<Option<Value>> {
        loop {
            self.meter.work(1)?;
            let state = &mut self.loops[at];
            let Some(item) = state.items.as_slice().get(state.seen).cloned() else { return Ok(None) };
            state.seen += 1;
            let (statement, scope) = (Rc::clone(&state.statement), state.scope);
            let Some(condition) = &statement.condition else { return Ok(Some(item)) };
            let back_to = self.scopes.enter(scope)?;
            let result = self.assign(&statement.target, item.clone()).and_then(|()| self.eval(condition));
            self.scopes.leave(back_to);
            if result?.is_true() {
                return Ok(Some(item));
            }
        }
    }

    /// Looks ahead until so many items wait, and returns how many do.
    fn look_ahead(&mut self, at: usize, wanted: usize) -> Result<usize> {
        while self.loops[at].ahead.len() < wanted {
            let Some(item) = self.look_at_next(at)? else { break };
            let state = &mut self.loops[at];
            state.held.grow(2 * size_of::<Value>())?;
            state.ahead.push_back(item);
        }
        Ok(self.loops[at].ahead.len())
    }

    /// Items that follow the current one.
    fn items_left(&mut self, at: usize) -> Result<usize> {
        let state = &self.loops[at];
        if state.statement.condition.is_none() {
            return Ok(state.items.as_slice().len() - state.seen + state.ahead.len());
        }
        self.look_ahead(at, usize::MAX)
    }

    fn loop_at(&self, number: usize) -> Result<usize> {
        let found = self.loops.iter().rposition(|state| state.number == number);
        self.meter.work(self.loops.len())?;
        found.ok_or_else(|| Error::failed("this loop has ended"))
    }

    /// An attribute of `loop`.
    pub(super) fn loop_attribute(&mut self, number: usize, name: &Rc<str>) -> Result<Option<Value>> {
        let at = self.loop_at(number)?;
        let int = |number: usize| Some(Value::Int(number as i128));
        let state = &self.loops[at];
        Ok(match &**name {
            "index" => int(state.index),
            "index0" => int(state.index.saturating_sub(1)),
            "first" => Some(Value::Bool(state.index == 1)),
            "depth" => int(state.depth + 1),
            "depth0" => int(state.depth),
            "previtem" => state.previous.clone(),
            "last" => Some(Value::Bool(self.look_ahead(at, 1)? == 0)),
            "nextitem" => {
                self.look_ahead(at, 1)?;
                self.loops[at].ahead.front().cloned()
            }
            "length" => int(state.index + self.items_left(at)?),
            "revindex" => int(self.items_left(at)? + 1),
            "revindex0" => int(self.items_left(at)?),
            "cycle" | "changed" => {
                Some(Value::Method(Rc::new(Method { owner: Value::Loop(number), name: Rc::clone(name) })))
            }
            _ => None,
        })
    }

    /// Calls `loop.cycle` or `loop.changed`.
    pub(super) fn loop_method(&mut self, number: usize, name: &str, given: Given) -> Result<Value> {
        let at = self.loop_at(number)?;
        let values = given.positional_only()?;
        if name == "cycle" {
            let count = values.len();
            let item = self.loops[at].index.saturating_sub(1).checked_rem(count).map(|at| values[at].clone());
            return item.ok_or_else(|| Error::failed("no items for loop.cycle"));
        }
        let mut values_seen = SeqBuilder::new(&self.meter)?;
        values_seen.extend(&values)?;
        let values_seen = values_seen.finish(SeqKind::Tuple)?;
        let same = match &self.loops[at].last {
            Some(last) => compare::equal(last, &values_seen, &self.meter)?,
            None => false,
        };
        if !same {
            self.loops[at].last = Some(values_seen);
        }
        Ok(Value::Bool(!same))
    }

    /// Calls a recursive loop again with other items.
    pub(super) fn call_loop(&mut self, number: usize, given: Given) -> Result<Value> {
        let at = self.loop_at(number)?;
        let [items] = given.bind(["iterable"])?;
        let items = items.ok_or_else(|| Error::failed("loop() takes the items of the inner loop"))?;
        let (statement, depth) = (Rc::clone(&self.loops[at].statement), self.loops[at].depth + 1);
        if !statement.recursive {
            return Err(Error::failed("the loop must have the marker \"recursive\" to be called"));
        }
        let scope = self.loops[at].scope;
        self.captured_from(scope, |runner| runner.nested(|runner| runner.loop_over(&statement, &items, depth)))
    }
}

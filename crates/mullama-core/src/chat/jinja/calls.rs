//! Calls: functions, methods and macros.

use super::arguments::Given;
use super::ast::{Expr, Node, StepKind};
use super::dict::DictBuilder;
use super::error::{Error, Result};
use super::runner::Runner;
use super::value::{Macro, SeqBuilder, SeqKind, Value};
use super::{functions, methods};
use crate::chat::normalize::shown;

impl Runner {
    /// Calls a value.
    pub(super) fn call(&mut self, function: &Value, given: Given) -> Result<Value> {
        self.meter.work(1)?;
        match function {
            Value::Function(name) => functions::call(self, name, given),
            Value::Method(method) => match &method.owner {
                Value::Loop(number) => self.loop_method(*number, &method.name, given),
                owner => methods::call(owner, &method.name, given, &self.meter),
            },
            Value::Macro(definition) => self.call_macro(definition, given),
            Value::Loop(number) => self.call_loop(*number, given),
            Value::Joiner(joiner) => {
                given.bind([])?;
                if joiner.used.replace(true) { Ok(joiner.separator.clone()) } else { Value::text(&self.meter, "") }
            }
            Value::Undefined(missing) => Err(match missing.owner {
                Some(owner) => Error::failed(format!("{owner} has no method {:?}", missing.name)),
                None => Error::failed(format!("the function {:?} is undefined", missing.name)),
            }),
            other => Err(Error::failed(format!("a value of type {} cannot be called", other.kind()))),
        }
    }

    /// Calls a macro for `{% call %}`.
    pub(super) fn call_with_caller(&mut self, call: &Expr, caller: Macro) -> Result<Value> {
        let Node::Postfix(value, steps) = &call.node else {
            return Err(Error::failed("{% call %} wants a call"));
        };
        let Some((last, before)) = steps.split_last() else { return Err(Error::failed("{% call %} wants a call")) };
        let StepKind::Call(arguments) = &last.kind else { return Err(Error::failed("{% call %} wants a call")) };
        let value = self.eval(value)?;
        let function = self.steps(value, before)?;
        let mut given = self.arguments(arguments)?;
        given.push_named("caller".into(), Value::Macro(caller))?;
        self.call(&function, given).map_err(|error| error.at(last.line))
    }

    /// The text of a macro.
    fn call_macro(&mut self, of: &Macro, given: Given) -> Result<Value> {
        self.captured_from(of.scope, |runner| {
            runner.bind_parameters(of, given)?;
            runner.run(&of.def.body).map(drop)
        })
    }

    /// The text that a part writes, in a new scope inside the given one.
    pub(super) fn captured_from(&mut self, scope: usize, part: impl FnOnce(&mut Self) -> Result<()>) -> Result<Value> {
        let back_to = self.scopes.enter(scope)?;
        let captured = self.capture(part);
        self.scopes.leave(back_to);
        captured
    }

    fn bind_parameters(&mut self, of: &Macro, mut given: Given) -> Result<()> {
        let def = &of.def;
        let caller = given.take_named("caller");
        let mut positional = std::mem::take(&mut given.positional).into_iter();
        for (name, default) in &def.parameters {
            self.meter.work(given.named.len())?;
            let value = match (positional.next(), given.take_named(name)) {
                (Some(_), Some(_)) => {
                    return Err(Error::failed(format!("the argument {name:?} was given twice")));
                }
                (Some(value), None) | (None, Some(value)) => value,
                (None, None) => match default {
                    Some(default) => self.eval(default)?,
                    None => Value::missing(name, None),
                },
            };
            self.scopes.set(name, value)?;
        }
        if def.reads.caller {
            self.scopes.set(&"caller".into(), caller.unwrap_or_else(|| Value::missing(&"caller".into(), None)))?;
        } else if caller.is_some() {
            return Err(Error::failed(format!("the macro {:?} does not call caller()", def.name)));
        }
        let mut more = SeqBuilder::new(&self.meter)?;
        positional.try_for_each(|value| more.push(value))?;
        let more = more.finish(SeqKind::Tuple)?;
        if def.reads.varargs {
            self.scopes.set(&"varargs".into(), more)?;
        } else if more.is_true() {
            let most = def.parameters.len();
            return Err(Error::failed(format!("the macro {:?} takes at most {most} arguments", def.name)));
        }
        if def.reads.kwargs {
            let mut kwargs = DictBuilder::new(&self.meter)?;
            for (name, value) in given.named {
                kwargs.insert(Value::text(&self.meter, &name)?, value)?;
            }
            self.scopes.set(&"kwargs".into(), kwargs.finish()?)?;
        } else if let Some((name, _)) = given.named.first() {
            return Err(Error::failed(format!("the macro {:?} has no argument {}", def.name, shown(name))));
        }
        Ok(())
    }
}

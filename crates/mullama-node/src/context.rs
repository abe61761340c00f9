//! Where streams are asked for, for the JavaScript class of that name.

use std::sync::Arc;

use mullama::{MullamaError, Steps};
use napi_derive::napi;
use serde_json::{Map, Value, json};

use crate::error::{Failure, failure};
use crate::held::Held;
use crate::job::{Job, Output};
use crate::model::Model;
use crate::notifier::Notifier;
use crate::settings;
use crate::value::camel_case;

/// Where streams are asked for. Several of them may share one context of the core.
#[napi]
pub(crate) struct Context(Option<Held<Arc<mullama::Context>>>);

impl Context {
    pub(crate) fn new(context: Held<Arc<mullama::Context>>) -> Self {
        Self(Some(context))
    }

    pub(crate) fn get(&self) -> Result<&Arc<mullama::Context>, Failure> {
        self.0.as_deref().ok_or_else(|| failure(MullamaError::Closed { what: "context" }))
    }
}

/// Starts the engine with these params, or joins the one that runs, on another thread.
#[napi]
pub(crate) fn open_context(model: &Model, params: String, notifier: &Notifier, key: u32) -> Result<Job, Failure> {
    let (model, params) = (Arc::clone(model.get()?), settings::context_params(&params)?);
    Job::start(notifier.handle(key), move |_| {
        let context = mullama::Context::new(model, params)?;
        Ok(Output::Context(Held::new(Arc::new(context))))
    })
}

#[napi]
impl Context {
    /// Another handle to the same context of the core.
    #[napi]
    pub fn share(&self) -> Result<Self, Failure> {
        Ok(Self::new(Held::new(Arc::clone(self.get()?))))
    }

    #[napi]
    pub fn context_len(&self) -> Result<u32, Failure> {
        let len = self.get()?.context_len().map_err(failure)?;
        Ok(u32::try_from(len).unwrap_or(u32::MAX))
    }

    #[napi]
    pub fn unfinished(&self) -> Result<u32, Failure> {
        let unfinished = self.get()?.unfinished().map_err(failure)?;
        Ok(u32::try_from(unfinished).unwrap_or(u32::MAX))
    }

    /// What the engine has done, as JSON. Durations are in milliseconds.
    #[napi]
    pub fn stats(&self) -> Result<String, Failure> {
        let stats = self.get()?.stats().map_err(failure)?;
        let mut fields: Map<String, Value> =
            stats.counts().into_iter().map(|(name, count)| (camel_case(name), count.into())).collect();
        fields.insert("decodeSteps".to_owned(), steps(&stats.decode_steps));
        fields.insert("prefillSteps".to_owned(), steps(&stats.prefill_steps));
        Ok(Value::Object(fields).to_string())
    }

    /// Gives the context up. Streams continue.
    #[napi]
    pub fn close(&mut self) {
        drop(self.0.take());
    }
}

fn steps(steps: &Steps) -> Value {
    let milliseconds = |span: std::time::Duration| span.as_secs_f64() * 1000.0;
    json!({ "count": steps.count, "total": milliseconds(steps.total), "longest": milliseconds(steps.longest) })
}

//! A loaded model, for the JavaScript class of that name.

use std::path::Path;
use std::sync::Arc;

use mullama::MullamaError;
use napi_derive::napi;
use serde_json::{Map, Value, json};

use crate::chat::{self, Written};
use crate::error::{Failure, failure};
use crate::held::Held;
use crate::hub::Source;
use crate::job::{Job, Output};
use crate::notifier::Notifier;
use crate::prompt::read_ids;
use crate::settings::model_options;
use crate::value::camel_case;

/// A loaded model.
#[napi]
pub(crate) struct Model {
    /// `None` once it is closed.
    model: Option<Held<Arc<mullama::Model>>>,
    facts: String,
}

impl Model {
    pub(crate) fn new(model: Held<Arc<mullama::Model>>, facts: String) -> Self {
        Self { model: Some(model), facts }
    }

    pub(crate) fn get(&self) -> Result<&Arc<mullama::Model>, Failure> {
        self.model.as_deref().ok_or_else(|| failure(MullamaError::Closed { what: "model" }))
    }
}

/// Loads a model on another thread. `source` is JSON, as [`Source`] reads it, and so are `options`.
#[napi]
pub(crate) fn load_model(source: String, options: String, notifier: &Notifier, key: u32) -> Result<Job, Failure> {
    let (source, options) = (Source::read(&source)?, model_options(&options)?);
    Job::start(notifier.handle(key), move |report| {
        let found = source.find(report)?;
        let mut progress = |fraction: f32| report.progress(fraction.to_string());
        let loaded = mullama::Model::load_with(&found.path, &options, Some(&mut progress));
        let model = loaded.map_err(|error| source.explain(&found, error))?;
        let facts = facts(&model, &found.name, found.defaults).to_string();
        Ok(Output::Model(Held::new(Arc::new(model)), facts))
    })
}

/// The properties of the model by the names that they have in JavaScript.
fn facts(model: &mullama::Model, name: &str, defaults: Value) -> Value {
    let path: &Path = model.path();
    let metadata: Map<String, Value> = model.metadata().into_iter().map(|(key, value)| (key, value.into())).collect();
    let mut facts = Map::new();
    macro_rules! set {
        ($($fact:ident),*) => { $(facts.insert(camel_case(stringify!($fact)), json!(model.$fact()));)* };
    }
    set!(description, n_ctx_train, n_embd, n_layer, n_gpu_layers, n_params, n_vocab, size, bos, eos, end_tokens);
    facts.insert("name".to_owned(), name.into());
    facts.insert("path".to_owned(), path.to_string_lossy().into());
    facts.insert("defaults".to_owned(), defaults);
    facts.insert("metadata".to_owned(), metadata.into());
    Value::Object(facts)
}

#[napi]
impl Model {
    /// The properties of the model as JSON.
    #[napi]
    pub fn facts(&self) -> &str {
        &self.facts
    }

    /// The token ids of a text, on another thread. `special` is whether to add and whether to parse special tokens.
    #[napi]
    pub fn tokenize(&self, text: String, special: (bool, bool), notifier: &Notifier, key: u32) -> Result<Job, Failure> {
        let model = Arc::clone(self.get()?);
        Job::start(notifier.handle(key), move |report| {
            let ids = model.tokenize_while(&text, special.0, special.1, || report.is_wanted())?;
            Ok(Output::Ids(ids.unwrap_or_default()))
        })
    }

    /// The token ids of a chat, on another thread; as text, the prompt that its template makes of it.
    #[napi]
    pub fn render(&self, chat: Written, as_text: bool, notifier: &Notifier, key: u32) -> Result<Job, Failure> {
        let model = Arc::clone(self.get()?);
        let chat = chat::read(chat)?;
        Job::start(notifier.handle(key), move |report| {
            if as_text {
                let text = model.apply_chat_template_while(&chat, || report.is_wanted())?;
                return Ok(Output::Text(text.unwrap_or_default()));
            }
            let ids = model.tokenize_chat_while(&chat, || report.is_wanted())?;
            Ok(Output::Ids(ids.unwrap_or_default()))
        })
    }

    /// The text of token ids, on another thread.
    #[napi]
    pub fn detokenize(&self, ids: &[f64], notifier: &Notifier, key: u32) -> Result<Job, Failure> {
        let model = Arc::clone(self.get()?);
        mullama::Model::check_detokenized(ids.len()).map_err(failure)?;
        let ids = read_ids(ids, model.n_vocab()).map_err(|refused| failure(refused.into()))?;
        Job::start(notifier.handle(key), move |_| {
            let bytes = model.detokenize(&ids)?;
            Ok(Output::Text(String::from_utf8_lossy(&bytes).into_owned()))
        })
    }

    /// Ends all engines of the model, on another thread, which waits for theirs.
    #[napi]
    pub fn close(&mut self, notifier: &Notifier, key: u32) -> Result<Job, Failure> {
        let model = self.model.take();
        Job::start(notifier.handle(key), move |_| {
            if let Some(model) = model {
                model.into_inner().close();
            }
            Ok(Output::Text(String::new()))
        })
    }
}

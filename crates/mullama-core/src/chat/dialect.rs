//! How one model talks: its template, and what becomes of a chat in its tokens.

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value};
use mullama_ffi::{Model, Special, TokenId};

use super::guard::{Guard, Piece};
use super::{Chat, TemplateFailure, template};
use crate::error::MullamaError;
use crate::text::vocabulary::LlamaVocabulary;

/// The key of a model's template. Others stand under the same with `.` and a name behind it.
const TEMPLATE_KEY: &str = "tokenizer.chat_template";

/// What a model's file says about chats.
#[derive(Debug)]
pub(crate) struct Dialect {
    template: Option<String>,
    /// The template for chats with tools, where a model has one of its own.
    tool_template: Option<String>,
    /// `bos_token` and its fellows, as Hugging Face's templates know them.
    named_tokens: BTreeMap<&'static str, String>,
    guard: Guard,
}

impl Dialect {
    /// Reads the model's metadata and looks through its vocabulary once.
    pub(crate) fn of(model: &Model) -> Result<Self, MullamaError> {
        let mut metadata: BTreeMap<String, String> = model.metadata().into_iter().collect();
        let vocab = model.vocab();
        let named = [("bos_token", vocab.bos()), ("eos_token", vocab.eos()), ("pad_token", vocab.pad())];
        let mut named_tokens = BTreeMap::new();
        for (name, token) in named {
            if let Some(token) = token {
                named_tokens.insert(name, vocab.text(token).map_err(MullamaError::untokenizable)?);
            }
        }
        let (mut spellings, mut stubborn) = (Vec::new(), Vec::new());
        if vocab.has_vocabulary() {
            for token in (0..).take(vocab.n_tokens()) {
                let control = vocab.is_control(token).map_err(MullamaError::untokenizable)?;
                if control || vocab.is_eog(token) {
                    let spelling = vocab.text(token).map_err(MullamaError::untokenizable)?;
                    stubborn.extend((!control).then(|| spelling.clone()));
                    spellings.push(spelling);
                }
            }
        }
        Ok(Self {
            template: metadata.remove(TEMPLATE_KEY),
            tool_template: metadata.remove(&format!("{TEMPLATE_KEY}.tool_use")),
            named_tokens,
            guard: Guard::new(spellings, stubborn)
                .expect("a vocabulary's control tokens are few enough to be searched for"),
        })
    }

    /// The prompt as text.
    pub(crate) fn render(&self, chat: &Chat) -> Result<String, MullamaError> {
        let special = chat.tools.as_ref().and(self.tool_template.as_ref());
        let source = chat.chat_template.as_ref().or(special).or(self.template.as_ref());
        let source = source.ok_or(MullamaError::ChatTemplate(TemplateFailure::Missing))?;
        template::render(source, self.variables(chat)).map_err(MullamaError::ChatTemplate)
    }

    /// The prompt in pieces with control tokens and without. Marks can change what a template computes of a text, such as
    /// its length, so what was rendered with them counts only where they kept a token from being forged.
    fn pieces(&self, chat: &Chat) -> Result<Vec<Piece>, MullamaError> {
        let rendered = self.render(chat)?;
        let (marked, mark) = self.guard.mark(chat);
        if marked == *chat {
            return Ok(vec![Piece::Parsed(rendered)]);
        }
        let guarded = self.render(&marked)?;
        if self.guard.tokens(&rendered).eq(self.guard.tokens(&guarded)) {
            return Ok(vec![Piece::Parsed(rendered)]);
        }
        Ok(self.guard.pieces(&guarded, mark))
    }

    /// What Hugging Face's libraries give a template: what there is none of is none, and the caller's own come last.
    fn variables(&self, chat: &Chat) -> Value {
        let mut variables: BTreeMap<&str, Value> = BTreeMap::new();
        for (&name, text) in &self.named_tokens {
            variables.insert(name, text.into());
        }
        variables.insert("messages", Value::from(Serde(&chat.messages)));
        variables.insert("tools", Value::from(Serde(&chat.tools)));
        variables.insert("documents", Value::from(()));
        variables.insert("add_generation_prompt", chat.add_generation_prompt.into());
        for (name, value) in &chat.chat_template_kwargs {
            variables.insert(name, Value::from(Serde(value)));
        }
        variables.into()
    }

    /// The prompt as token ids. What a message says never becomes a control token. `go_on` is asked now and then with the
    /// number of tokens so far; once it says no, these are all that is returned. Needs a tokenizer thread.
    pub(crate) fn tokens(
        &self,
        chat: &Chat,
        vocabulary: &LlamaVocabulary,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<TokenId>, MullamaError> {
        let vocab = vocabulary.model().vocab();
        let (mut tokens, mut stopped) = (Vec::new(), false);
        for piece in self.pieces(chat)? {
            let (text, parse_special) = match &piece {
                Piece::Parsed(text) => (text, true),
                Piece::Plain(text) => (text, false),
            };
            let before = tokens.len();
            let mut ask = |count: usize| {
                stopped = !go_on(before + count);
                !stopped
            };
            let piece = vocabulary.tokens(text, Special { add: false, parse: parse_special }, &mut ask);
            tokens.extend(piece.map_err(MullamaError::untokenizable)?);
            if stopped {
                return Ok(tokens);
            }
        }
        // Many templates write BOS themselves, and a second one would only confuse the model.
        match vocab.bos().filter(|_| vocab.add_bos()) {
            Some(bos) if tokens.first() != Some(&bos) => tokens.insert(0, bos),
            _ => {}
        }
        Ok(tokens)
    }
}

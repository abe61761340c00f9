//! A model's chat template, and the tokens of a chat.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use mullama_ffi::{Model, Special, TokenId};
use serde_json::{Map, Value};

use super::guard::{Guard, Piece};
use super::jinja::{self, Input, Limits, Meter};
use super::normalize::{normalized, shown};
use super::{Chat, Message, TemplateFailure};
use crate::error::MullamaError;
use crate::text::vocabulary::{IsWanted, LlamaVocabulary};

/// The metadata key of a model's template. Further templates have the same key followed by `.` and a name.
const TEMPLATE_KEY: &str = "tokenizer.chat_template";

/// Roles that are not checked, because templates ignore system messages, or the model's text beside a tool call, on
/// purpose.
const UNCHECKED_ROLES: [&str; 2] = ["system", "assistant"];

/// Maximum number of other roles in one chat. Each may take a separate rendering to check.
const MAX_CHECKED_ROLES: usize = 8;

/// What a model's file contains about chats.
#[derive(Debug)]
pub(crate) struct Dialect {
    template: Option<String>,
    /// The template for chats with tools, if the model has a separate one.
    tool_template: Option<String>,
    /// `bos_token` and others, under the names that they have in Hugging Face's templates.
    named_tokens: BTreeMap<&'static str, String>,
    guard: Guard,
}

impl Dialect {
    /// Reads the model's metadata and scans its vocabulary once.
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

    /// The prompt as text, of messages as they are. Rendering stops once nobody wants it any more.
    pub(crate) fn render(&self, chat: &Chat, is_wanted: &IsWanted) -> Result<String, MullamaError> {
        let meter = Meter::new(self.limits(chat), Some(Arc::clone(is_wanted)));
        self.rendered(chat, &meter).map_err(MullamaError::ChatTemplate)
    }

    /// The limits of one rendering.
    fn limits(&self, chat: &Chat) -> Limits {
        let messages: Vec<&Map<String, Value>> = chat.messages.iter().map(Message::fields).collect();
        let variables = self.variables(chat, &messages);
        Limits::for_input(variables.iter().map(|(_, value)| jinja::size_of_input(value)).sum())
    }

    fn rendered(&self, chat: &Chat, meter: &Rc<Meter>) -> Result<String, TemplateFailure> {
        let special = chat.tools.as_ref().and(self.tool_template.as_ref());
        let source = chat.chat_template.as_ref().or(special).or(self.template.as_ref());
        let source = source.ok_or(TemplateFailure::Missing)?;
        let messages: Vec<&Map<String, Value>> = chat.messages.iter().map(Message::fields).collect();
        Ok(jinja::rendered(source, &self.variables(chat, &messages), meter)?)
    }

    /// The variables that Hugging Face's libraries pass to a template: missing values are None, and the caller's own
    /// variables come last.
    fn variables<'c>(&'c self, chat: &'c Chat, messages: &'c [&Map<String, Value>]) -> Vec<(&'c str, Input<'c>)> {
        let mut variables: Vec<(&str, Input<'_>)> = Vec::new();
        variables.extend(self.named_tokens.iter().map(|(&name, text)| (name, Input::Text(text))));
        variables.push(("messages", Input::Objects(messages)));
        variables.push(("tools", chat.tools.as_ref().map_or(Input::None, |tools| Input::List(tools))));
        variables.push(("documents", Input::None));
        variables.push(("add_generation_prompt", Input::Bool(chat.add_generation_prompt)));
        variables.extend(chat.chat_template_kwargs.iter().map(|(name, value)| (name.as_str(), Input::Json(value))));
        variables
    }

    /// The prompt in pieces with control tokens and without. Marks can change what a template computes of a text, such as
    /// its length, so the text that was rendered with them is used only where they kept a control token from being forged.
    /// All renderings share one budget, however many roles are checked.
    fn pieces(&self, chat: &Chat, is_wanted: &IsWanted) -> Result<Vec<Piece>, TemplateFailure> {
        let meter = Meter::new(self.limits(chat).for_renderings(), Some(Arc::clone(is_wanted)));
        let rendered = self.rendered(chat, &meter)?;
        self.check_roles(chat, &rendered, &meter)?;
        let Some((marked, mark)) = self.guard.mark(chat) else {
            let reason = "the chat contains every private-use character of Unicode; one must be free".to_owned();
            let index = chat.messages.len().saturating_sub(1);
            return Err(TemplateFailure::InvalidMessage { index, field: None, reason });
        };
        if marked == *chat {
            return Ok(vec![Piece::Parsed(rendered)]);
        }
        let guarded = self.rendered(&marked, &meter)?;
        if self.guard.tokens(&rendered).eq(self.guard.tokens(&guarded)) {
            return Ok(vec![Piece::Parsed(rendered)]);
        }
        Ok(self.guard.pieces(&guarded, mark))
    }

    /// Refuses messages of a role that the template leaves out without a word: the prompt stays the same whatever they say.
    fn check_roles(&self, chat: &Chat, rendered: &str, meter: &Rc<Meter>) -> Result<(), TemplateFailure> {
        let mut checked: Vec<&str> = Vec::new();
        for (index, message) in chat.messages.iter().enumerate() {
            let role = message.role();
            if UNCHECKED_ROLES.contains(&role) || checked.contains(&role) {
                continue;
            }
            let invalid = |reason| Err(TemplateFailure::InvalidMessage { index, field: Some("role"), reason });
            if checked.len() == MAX_CHECKED_ROLES {
                return invalid(format!(
                    "the chat has more than {MAX_CHECKED_ROLES} roles beside system and assistant"
                ));
            }
            checked.push(role);
            if message.content().is_some_and(|text| !text.trim().is_empty() && rendered.contains(text.trim())) {
                continue;
            }
            let mut changed = chat.clone();
            for message in changed.messages.iter_mut().filter(|message| message.role() == role) {
                message.say_more();
            }
            match self.rendered(&changed, meter) {
                Ok(same) if same == rendered => {
                    return invalid(format!("the chat template leaves out messages of the role {}", shown(role)));
                }
                Err(failure @ TemplateFailure::Stopped { .. }) => return Err(failure),
                _ => {}
            }
        }
        Ok(())
    }

    /// The prompt as token ids. Text in messages never becomes a control token. `is_wanted` and `go_on` are asked as
    /// [`Vocabulary::tokenize_chat`](crate::text::vocabulary::Vocabulary::tokenize_chat) says. Needs a tokenizer thread.
    pub(crate) fn tokens(
        &self,
        chat: &Chat,
        vocabulary: &LlamaVocabulary,
        is_wanted: &IsWanted,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<TokenId>, MullamaError> {
        let chat = normalized(chat).map_err(MullamaError::ChatTemplate)?;
        let vocab = vocabulary.model().vocab();
        let (mut tokens, mut stopped) = (Vec::new(), false);
        for piece in self.pieces(&chat, is_wanted).map_err(MullamaError::ChatTemplate)? {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_renderings_of_a_chat_share_one_budget() {
        // One rendering takes about half of its own limit and reads no message.
        let work = "{% for i in range(300) %}{% for j in range(5000) %}{% endfor %}{% endfor %}";
        let dialect = Dialect {
            template: Some(format!(
                "{work}{{% for message in messages %}}{{{{ message.content | length }}}}{{% endfor %}}"
            )),
            tool_template: None,
            named_tokens: BTreeMap::new(),
            guard: Guard::new([], Vec::new()).unwrap(),
        };
        let wanted: IsWanted = Arc::new(|| true);
        let chat = |roles: usize| Chat::new((0..roles).map(|role| Message::new(format!("role {role}"), "Hello!")));
        dialect.pieces(&chat(1), &wanted).unwrap();
        let failure = dialect.pieces(&chat(MAX_CHECKED_ROLES), &wanted).unwrap_err();
        assert!(matches!(failure, TemplateFailure::Stopped { .. }), "{failure:?}");
    }
}

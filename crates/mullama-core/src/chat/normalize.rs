//! Converts messages in the forms of `OpenAI`'s API to the one form that most templates expect.
//!
//! llama-server and vLLM do the same before they render: text parts become one text, arguments of tool calls that are
//! given as JSON text become objects, and missing content beside tool calls becomes empty. What no template can render
//! is refused here, with the index of the message, instead of somewhere inside a template.
//!
//! [`Model::apply_chat_template`](crate::Model::apply_chat_template) renders messages unchanged, as Hugging Face's
//! does.

use serde_json::{Map, Value};

use super::{Chat, Message, TemplateFailure};

/// Types of parts that are text, and the field that contains it.
const TEXT_PARTS: [(&str, &str); 4] =
    [("text", "text"), ("input_text", "text"), ("output_text", "text"), ("refusal", "refusal")];

/// Fields of an assistant's message that allow the content to be missing.
const INSTEAD_OF_CONTENT: [&str; 4] = ["tool_calls", "reasoning_content", "reasoning", "thinking"];

/// The separator between two text parts: llama-server and vLLM use a line end.
const BETWEEN_PARTS: &str = "\n";

/// Maximum length in bytes of the arguments of one tool call that are given as a text.
const MAX_ARGUMENTS: usize = 1 << 20;

/// Maximum number of values in the arguments of all tool calls of a chat that are given as texts. A value of two bytes
/// takes about a hundred once it is parsed, and no budget of a rendering counts that.
const MAX_ARGUMENT_VALUES: usize = 1 << 17;

/// The chat with its messages in the common form.
///
/// # Errors
/// [`TemplateFailure::NoMessages`], and [`TemplateFailure::InvalidMessage`] for the first message without a common
/// form.
pub(super) fn normalized(chat: &Chat) -> Result<Chat, TemplateFailure> {
    if chat.messages.is_empty() {
        return Err(TemplateFailure::NoMessages);
    }
    let mut values_left = MAX_ARGUMENT_VALUES;
    let messages = chat.messages.iter().enumerate().map(|(index, message)| {
        let invalid = |reason| TemplateFailure::InvalidMessage { index, field: None, reason };
        message_of(message.fields(), &mut values_left).map_err(invalid)
    });
    // Each field by itself, so that the messages are not copied twice.
    Ok(Chat {
        messages: messages.collect::<Result<_, _>>()?,
        tools: chat.tools.clone(),
        chat_template: chat.chat_template.clone(),
        add_generation_prompt: chat.add_generation_prompt,
        chat_template_kwargs: chat.chat_template_kwargs.clone(),
    })
}

/// `values_left` is how many values the arguments of further tool calls may have.
fn message_of(fields: &Map<String, Value>, values_left: &mut usize) -> Result<Message, String> {
    match fields.get("role") {
        Some(Value::String(role)) if !role.is_empty() => {}
        Some(Value::String(_)) => return Err("the role is empty".to_owned()),
        Some(other) => return Err(format!("the role must be a text, not {}", kind(other))),
        None => return Err("the role is missing".to_owned()),
    }
    // Clients send null for missing values; templates often check only whether a field exists.
    let is_there = |value: &Value| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty());
    let mut message = Map::new();
    for (name, value) in fields {
        match name.as_str() {
            "content" => {}
            "tool_calls" if !is_there(value) => {}
            "tool_calls" => drop(message.insert(name.clone(), tool_calls(value, values_left)?)),
            _ if value.is_null() => {}
            _ => drop(message.insert(name.clone(), value.clone())),
        }
    }
    let content = match fields.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => joined(parts)?,
        None | Some(Value::Null) if INSTEAD_OF_CONTENT.iter().any(|name| message.contains_key(*name)) => String::new(),
        None | Some(Value::Null) => return Err("the content is missing".to_owned()),
        Some(other) => return Err(format!("the content must be a text or a list of text parts, not {}", kind(other))),
    };
    // The content stays in its position, or is put after the role.
    let at = fields.keys().position(|name| name == "content").unwrap_or(1).min(message.len());
    message.shift_insert(at, "content".to_owned(), Value::String(content));
    Ok(message.into())
}

/// The text of a list of parts.
fn joined(parts: &[Value]) -> Result<String, String> {
    let mut joined = String::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            joined.push_str(BETWEEN_PARTS);
        }
        joined.push_str(text_part(at, part)?);
    }
    Ok(joined)
}

fn text_part(at: usize, part: &Value) -> Result<&str, String> {
    let fields = match part {
        Value::String(text) => return Ok(text),
        Value::Object(fields) => fields,
        other => return Err(format!("content[{at}] must be an object with a type, not {}", kind(other))),
    };
    let part_type = match fields.get("type") {
        Some(Value::String(part_type)) => part_type.as_str(),
        // Some clients leave the type of a text out.
        None if fields.contains_key("text") => "text",
        _ => return Err(format!("content[{at}] has no type")),
    };
    let Some((_, field)) = TEXT_PARTS.into_iter().find(|(name, _)| *name == part_type) else {
        return Err(format!("content[{at}] is of the type {}, but only text is supported", shown(part_type)));
    };
    match fields.get(field) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(format!("content[{at}] has no {field:?} that is a text")),
    }
}

fn tool_calls(calls: &Value, values_left: &mut usize) -> Result<Value, String> {
    let Value::Array(calls) = calls else { return Err(format!("tool_calls must be a list, not {}", kind(calls))) };
    let calls = calls.iter().enumerate().map(|(at, call)| tool_call(at, call, values_left));
    Ok(Value::Array(calls.collect::<Result<_, _>>()?))
}

/// A tool call with its arguments as an object. They are in `function`, or next to the name.
fn tool_call(at: usize, call: &Value, values_left: &mut usize) -> Result<Value, String> {
    let mut call = call.clone();
    let Value::Object(fields) = &mut call else {
        return Err(format!("tool_calls[{at}] must be an object, not {}", kind(&call)));
    };
    let function = match fields.get_mut("function") {
        Some(Value::Object(function)) => function,
        Some(other) => return Err(format!("tool_calls[{at}].function must be an object, not {}", kind(other))),
        None => fields,
    };
    if !matches!(function.get("name"), Some(Value::String(_))) {
        return Err(format!("tool_calls[{at}] has no name that is a text"));
    }
    match function.get_mut("arguments") {
        Some(Value::String(text)) if text.trim().is_empty() => {
            function.insert("arguments".to_owned(), Value::Object(Map::new()));
        }
        Some(Value::String(text)) => {
            let arguments = parsed(at, text, values_left)?;
            function.insert("arguments".to_owned(), Value::Object(arguments));
        }
        Some(Value::Object(_)) | None => {}
        Some(other) => return Err(format!("the arguments of tool_calls[{at}] are {}, not an object", kind(other))),
    }
    Ok(call)
}

/// The arguments of a tool call that are given as a text. They are refused before they take more memory than they may.
fn parsed(at: usize, text: &str, values_left: &mut usize) -> Result<Map<String, Value>, String> {
    let of = format!("the arguments of tool_calls[{at}]");
    if text.len() > MAX_ARGUMENTS {
        return Err(format!("{of} have {} bytes as a text, at most {MAX_ARGUMENTS} are allowed", text.len()));
    }
    *values_left = values_left.checked_sub(values_in(text)).ok_or_else(|| {
        format!(
            "with {of}, those of this chat have more than {MAX_ARGUMENT_VALUES} values; pass objects instead of texts"
        )
    })?;
    match serde_json::from_str(text) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(other) => Err(format!("{of} are {}, not an object", kind(&other))),
        Err(error) => Err(format!("{of} are not valid JSON: {error}")),
    }
}

/// The number of values and names in a JSON text, or more: each but the first has a separator or a bracket before it.
fn values_in(json: &str) -> usize {
    let (mut values, mut in_text, mut escaped) = (1, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b':' | b'[' | b'{' if !in_text => values += 1,
            _ => {}
        }
    }
    values
}

/// A text in quotes, for an error message; a long one is cut.
pub(super) fn shown(text: &str) -> String {
    /// Maximum number of characters that are shown.
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// A value as text.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chat(messages: Value) -> Chat {
        let messages: Vec<Map<String, Value>> = serde_json::from_value(messages).unwrap();
        Chat::new(messages.into_iter().map(Message::from))
    }

    fn becomes(message: &Value) -> Value {
        let chat = normalized(&chat(json!([message]))).unwrap();
        Value::Object(chat.messages[0].fields().clone())
    }

    fn refused(message: &Value) -> String {
        let first = json!({"role": "user", "content": "Hello!"});
        let failure = normalized(&chat(json!([first, message]))).unwrap_err();
        let TemplateFailure::InvalidMessage { index: 1, reason, .. } = failure else { panic!("{failure:?}") };
        reason
    }

    #[test]
    fn text_parts_become_one_text() {
        let parts = json!([{"type": "text", "text": "a"}, {"text": "b"}, "c", {"type": "refusal", "refusal": "d"}]);
        let expected = json!({"role": "user", "content": "a\nb\nc\nd"});
        assert_eq!(becomes(&json!({"role": "user", "content": parts})), expected);
        assert_eq!(becomes(&json!({"role": "user", "content": []})), json!({"role": "user", "content": ""}));
    }

    #[test]
    fn arguments_in_a_text_become_an_object() {
        let with = |arguments: Value| json!([{"type": "function", "function": {"name": "f", "arguments": arguments}}]);
        let message =
            |content: Value, calls: Value| json!({"role": "assistant", "content": content, "tool_calls": calls});
        for arguments in [json!("{\"b\": 1, \"a\": [2]}"), json!({"b": 1, "a": [2]})] {
            let expected = message(json!(""), with(json!({"b": 1, "a": [2]})));
            assert_eq!(becomes(&message(Value::Null, with(arguments))), expected);
        }
        assert_eq!(becomes(&message(json!("x"), with(json!("")))), message(json!("x"), with(json!({}))));
        assert!(refused(&message(json!(""), with(json!("{oops")))).contains("tool_calls[0] are not valid JSON"));
        assert!(refused(&message(json!(""), with(json!("[1]")))).contains("a list, not an object"));
    }

    #[test]
    fn arguments_in_a_text_are_refused_before_they_take_much_memory() {
        let call = |arguments: String| json!([{"name": "f", "arguments": arguments}]);
        let message = |calls: Value| json!({"role": "assistant", "content": "", "tool_calls": calls});
        let list = |values: usize| format!("{{\"a\": [{}0]}}", "0,".repeat(values));
        let long = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_ARGUMENTS));
        assert!(refused(&message(call(long))).contains("at most 1048576 are allowed"));
        assert!(refused(&message(call(list(MAX_ARGUMENT_VALUES)))).contains("more than 131072 values"));
        // Brackets and separators inside a text are no values.
        let text = format!("{{\"a\": \"\\\"{}\"}}", "[,".repeat(MAX_ARGUMENT_VALUES));
        becomes(&message(call(text)));
        // The calls of all messages share the limit.
        let half = message(call(list(MAX_ARGUMENT_VALUES * 3 / 4)));
        becomes(&half);
        let failure = normalized(&chat(json!([half, half]))).unwrap_err();
        assert!(matches!(failure, TemplateFailure::InvalidMessage { index: 1, .. }), "{failure:?}");
    }

    #[test]
    fn a_content_may_be_missing_only_where_something_else_was_said() {
        let calls = json!([{"name": "f", "arguments": {}}]);
        let expected = json!({"role": "assistant", "content": "", "tool_calls": calls});
        assert_eq!(becomes(&json!({"role": "assistant", "tool_calls": calls})), expected);
        for content in [json!({"role": "assistant"}), json!({"role": "user", "content": null, "tool_calls": []})] {
            assert_eq!(refused(&content), "the content is missing");
        }
    }

    #[test]
    fn what_is_not_text_is_refused_by_its_name() {
        let content = |content: Value| refused(&json!({"role": "user", "content": content}));
        assert!(content(json!(7)).contains("not a number"));
        assert!(content(json!([{"type": "image_url", "image_url": {"url": "data:"}}])).contains("\"image_url\""));
        assert!(content(json!([{"type": "text"}])).contains("content[0]"));
        assert!(refused(&json!({"content": "x"})).contains("role is missing"));
        assert!(matches!(normalized(&chat(json!([]))), Err(TemplateFailure::NoMessages)));
    }

    #[test]
    fn fields_that_are_null_are_left_out_and_the_others_stay_in_order() {
        let message = json!({"role": "tool", "name": null, "tool_call_id": "1", "content": "x", "tool_calls": null});
        let becomes = serde_json::to_string(&becomes(&message)).unwrap();
        assert_eq!(becomes, r#"{"role":"tool","tool_call_id":"1","content":"x"}"#);
    }
}

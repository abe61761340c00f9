//! A chat template, rendered as Hugging Face's libraries render it.
//!
//! They set Jinja2 up with `trim_blocks` and `lstrip_blocks`, the tags `break`, `continue` and `generation`, the functions
//! `raise_exception` and `strftime_now`, and a `tojson` of their own (`transformers.utils.chat_template_utils`).

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use chrono::format::{Item, StrftimeItems};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};
use minijinja_contrib::pycompat;

use super::{TemplateFailure, json};

/// Instructions that a template may run: ten thousand messages take some ten million, and nothing may run for ever.
const FUEL: u64 = 100_000_000;

/// Marks an error as the template's own word.
#[derive(Debug, thiserror::Error)]
#[error("raise_exception")]
struct Raised;

/// Renders a template with these variables.
///
/// # Errors
/// [`TemplateFailure::Failed`] and [`TemplateFailure::Refused`] name the line.
pub(super) fn render(source: &str, variables: Value) -> Result<String, TemplateFailure> {
    let source = without_generation_tags(source);
    let environment = environment();
    let template = environment.template_from_named_str("chat_template", &source).map_err(failure)?;
    template.render(variables).map_err(failure)
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build().expect("the delimiters are Jinja's own"));
    environment.set_fuel(Some(FUEL));
    // Methods of Python's strings, lists and dicts.
    environment.set_unknown_method_callback(pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message).with_source(Raised))
    });
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", json::tojson);
    // Python's strings are sequences, too.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String) || value.is_undefined()
    });
    environment
}

/// The local time in words, as Python's `datetime.now().strftime(format)`.
fn strftime_now(format: &str) -> Result<String, Error> {
    let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
    if items.contains(&Item::Error) {
        let message = format!("strftime_now does not know the format {format:?}");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    let mut words = String::new();
    // A format without unknown items is always written.
    let _ = write!(words, "{}", chrono::Local::now().format_with_items(items.into_iter()));
    Ok(words)
}

fn failure(error: Error) -> TemplateFailure {
    let line = error.line().unwrap_or(1);
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if cause.is::<Raised>() {
            return TemplateFailure::Refused { message: error.detail().unwrap_or_default().to_owned(), line };
        }
        source = cause.source();
    }
    let reason = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    TemplateFailure::Failed { reason, line, source: Arc::new(error) }
}

/// `{% generation %}` marks what an assistant said, for training. It writes nothing, so it becomes a block that is always
/// taken, with its own trimming.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut parts = source.split("{%");
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        written.push_str("{%");
        let Some((tag, rest)) = part.split_once("%}") else {
            written.push_str(part);
            continue;
        };
        match tag.trim_matches(['-', '+']).trim() {
            "generation" => written.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => written.push_str(&tag.replace("endgeneration", "endif")),
            _ => written.push_str(tag),
        }
        written.push_str("%}");
        written.push_str(rest);
    }
    Cow::Owned(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    fn said(source: &str) -> String {
        render(source, context! { messages => ["a", "b"], none => () }).unwrap()
    }

    #[test]
    fn blocks_take_their_line_with_them_as_in_jinja_with_trim_and_lstrip() {
        let source = "{% for m in messages %}\n    {% if true %}\n{{ m }}\n    {% endif %}\n{% endfor %}\n";
        assert_eq!(said(source), "a\nb\n");
    }

    #[test]
    fn generation_tags_write_nothing_and_trim_as_they_say() {
        assert_eq!(said("x {%- generation -%} {{ messages[0] }} {%- endgeneration %} y"), "xa y");
        assert_eq!(said("add_generation_prompt {% if generation is defined %}1{% endif %}"), "add_generation_prompt ");
    }

    #[test]
    fn an_error_names_the_line() {
        let failed = render("\n\n{{ messages.x.y }}", context! { messages => "a" }).unwrap_err();
        assert!(matches!(failed, TemplateFailure::Failed { line: 3, .. }), "{failed:?}");
        let syntax = render("\n{% if %}", context! {}).unwrap_err();
        assert!(matches!(syntax, TemplateFailure::Failed { line: 2, .. }), "{syntax:?}");
        let refused = render("{% if true %}\n{{ raise_exception('no tools here') }}{% endif %}", context! {});
        let Err(TemplateFailure::Refused { message, line }) = refused else { panic!("{refused:?}") };
        assert_eq!((message.as_str(), line), ("no tools here", 2));
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let endless = "{% for a in range(10000) %}{% for b in range(10000) %}{% for c in range(10000) %}{% endfor %}{% endfor %}{% endfor %}";
        assert!(render(endless, context! {}).is_err());
    }

    #[test]
    fn an_unknown_format_of_the_time_is_an_error_and_no_panic() {
        assert_eq!(said("{{ strftime_now('%Y') | length }}"), "4");
        assert!(render("{{ strftime_now('%Q%') }}", context! {}).is_err());
    }
}

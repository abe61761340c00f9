//! A chat template, rendered as Hugging Face's libraries render it.
//!
//! They set Jinja2 up with `trim_blocks` and `lstrip_blocks`, the tags `break`, `continue` and `generation`, the functions
//! `raise_exception` and `strftime_now`, and a `tojson` of their own (`transformers.utils.chat_template_utils`).

use std::borrow::Cow;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use chrono::format::{Item, StrftimeItems};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};

use super::{TemplateFailure, json, pythonic};

/// Instructions that a template may run: ten thousand messages take about one million. An instruction can put one list into
/// another, and the stack of a tokenizing thread takes as many levels; it can make some dozens of bytes, and never all memory.
const FUEL: u64 = 4_000_000;

/// Longest template in bytes. The parser goes as deep as operators stand in a row; well-known templates have up to 30,000.
const LONGEST_SOURCE: usize = 256 << 10;

/// Marks an error as the template's own word.
#[derive(Debug, thiserror::Error)]
#[error("raise_exception")]
struct Raised;

/// Renders a template with these variables.
///
/// # Errors
/// [`TemplateFailure::Failed`] and [`TemplateFailure::Refused`] name the line.
pub(super) fn render(source: &str, variables: Value) -> Result<String, TemplateFailure> {
    if source.len() > LONGEST_SOURCE {
        let message = format!("the template has {} bytes, more than {LONGEST_SOURCE}", source.len());
        return Err(failure(Error::new(ErrorKind::SyntaxError, message)));
    }
    // Jinja2 reads every line end of a template as `\n`.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = without_generation_tags(&source);
    let environment = environment();
    let render = || environment.template_from_named_str("chat_template", &source)?.render(variables);
    // Some rare templates that are wrong make minijinja panic (`break` inside `with`); that is their error, not the program's.
    let rendered = catch_unwind(AssertUnwindSafe(render));
    rendered.unwrap_or_else(|_| Err(Error::new(ErrorKind::InvalidOperation, "minijinja panicked"))).map_err(failure)
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build().expect("the delimiters are Jinja's own"));
    environment.set_fuel(Some(FUEL));
    pythonic::install(&mut environment);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message).with_source(Raised))
    });
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", json::tojson);
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

/// `{% generation %}` marks what an assistant said, for training. It writes nothing, so it becomes a block that keeps its
/// variables to itself, as the original does, with its own trimming.
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
            "generation" => written.push_str(&tag.replace("generation", "with")),
            "endgeneration" => written.push_str(&tag.replace("endgeneration", "endwith")),
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
        assert_eq!(said(&source.replace('\n', "\r\n")), "a\nb\n");
    }

    #[test]
    fn generation_tags_write_nothing_and_trim_as_they_say() {
        assert_eq!(said("x {%- generation -%} {{ messages[0] }} {%- endgeneration %} y"), "xa y");
        assert_eq!(said("{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x }}"), "1");
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
    fn what_would_overflow_the_stack_or_the_memory_is_refused() {
        let nested = "{% set n = namespace(x=[1]) %}{% for i in range(300) %}{% set n.x = [n.x] %}{% endfor %}";
        let shared = "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}";
        for value in [nested, shared] {
            for written in ["{{ n.x }}", "{{ n.x | string }}", "{{ n.x | tojson }}"] {
                assert!(render(&format!("{value}{written}"), context! {}).is_err(), "{value}{written}");
            }
        }
        for width in ["'a' | indent(10 ** 15, true)", "[1] | tojson(indent=10 ** 15)"] {
            assert!(render(&format!("{{{{ {width} }}}}"), context! {}).is_err(), "{width}");
        }
        assert!(render("{% set x = 'a' * 10000000 %}{{ x.replace('a', x) }}", context! {}).is_err());
    }

    #[test]
    fn values_and_filters_are_those_of_python() {
        let texts =
            context! { list => ["a\u{200d}é", "\u{a0}\u{e000}\u{e0001}"], big => 1e20, lines => "a\r\nb\u{2028}\nc\n" };
        let rendered = |source: &str| render(source, texts.clone()).unwrap();
        assert_eq!(rendered("{{ list }}"), r"['a\u200dé', '\xa0\ue000\U000e0001']");
        assert_eq!(rendered("{{ list | trim }}"), r"['a\u200dé', '\xa0\ue000\U000e0001']");
        assert_eq!(rendered("{{ list | string }} {{ big }}"), r"['a\u200dé', '\xa0\ue000\U000e0001'] 1e+20");
        assert_eq!(rendered("{{ none is iterable }} {{ list is iterable }} {{ {} is sequence }}"), "False True True");
        assert_eq!(rendered("{{ '{\n' | indent(2, first=true) }}|{{ lines | indent('>') }}|"), "  {\n|a\n>b\n\n>c\n|");
        assert_eq!(rendered("{{ lines.splitlines() }}"), "['a', 'b', '', 'c']");
        assert_eq!(rendered("{{ none | default('x', boolean=true) }}{{ x | default(none) }}"), "xNone");
        assert_eq!(
            rendered("{{ 'x' | int }} {{ 'x' | int(default=5) }} {{ 'x' | float }} {{ '7' | int }}"),
            "0 5 0.0 7"
        );
        assert_eq!(
            rendered("{{ 'a,b,c'.split(',', maxsplit=1) }}{{ 'a,b,c'.rsplit(',', 1) }}"),
            "['a', 'b,c']['a,b', 'c']"
        );
        assert_eq!(rendered("{{ 'a b'.split() }}{{ 'abc'.removeprefix('a') }}"), "['a', 'b']bc");
    }

    #[test]
    fn an_unknown_format_of_the_time_is_an_error_and_no_panic() {
        assert_eq!(said("{{ strftime_now('%Y') | length }}"), "4");
        assert!(render("{{ strftime_now('%Q%') }}", context! {}).is_err());
    }
}

//! What templates render, where Jinja2 has a rule that is easily missed. The whole is compared with jinja2 itself in
//! `tests/test_chat_templates.py`.

use serde_json::json;

use super::error::Kind;
use super::{Input, Limits, Meter, rendered};

fn try_render(source: &str) -> Result<String, (Kind, usize)> {
    let messages = json!([{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]);
    let variables = [("messages", Input::Json(&messages)), ("none_given", Input::None)];
    rendered(source, &variables, &Meter::new(Limits::for_input(100), None)).map_err(super::Error::into_parts)
}

fn said(source: &str) -> String {
    try_render(source).unwrap_or_else(|failed| panic!("{source}: {failed:?}"))
}

#[test]
fn blocks_take_their_line_with_them_as_in_jinja_with_trim_and_lstrip() {
    let source = "{% for m in messages %}\n    {% if true %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}\n";
    assert_eq!(said(source), "a\nb\n");
    assert_eq!(said(&source.replace('\n', "\r\n")), "a\nb\n");
}

#[test]
fn generation_tags_write_nothing_and_trim_as_they_say() {
    assert_eq!(said("x {%- generation -%} {{ messages[0].content }} {%- endgeneration %} y"), "xa y");
    assert_eq!(said("{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x }}"), "1");
    assert_eq!(said("{% if generation is defined %}1{% endif %}."), ".");
}

#[test]
fn an_error_names_the_line() {
    let line = |source: &str| try_render(source).unwrap_err().1;
    assert_eq!(line("\n\n{{ messages.x.y }}"), 3);
    assert_eq!(line("\n{% if %}"), 2);
    assert_eq!(line("{{ 1 }}\n{{ 1 +\n 'a' }}"), 2);
    let (kind, line) = try_render("{% if true %}\n{{ raise_exception('no tools here') }}{% endif %}").unwrap_err();
    assert!(matches!(kind, Kind::Raised(message) if message == "no tools here"));
    assert_eq!(line, 2);
}

#[test]
fn the_condition_of_a_loop_sees_what_the_body_changed() {
    let source = "{% set n = namespace(left=1) %}{% for m in messages if n.left %}{{ m.content }}{% set n.left = 0 %}{% endfor %}";
    assert_eq!(said(source), "a");
    assert_eq!(
        said("{% for m in messages if m.role == 'tool' %}{{ loop.length }}{{ loop.last }}{% endfor %}"),
        "1True"
    );
}

#[test]
fn a_loop_over_none_is_empty() {
    assert_eq!(said("{% for x in none_given %}x{% else %}nothing{% endfor %}"), "nothing");
}

#[test]
fn macros_see_the_scope_that_they_were_defined_in() {
    let source =
        "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{% for x in [3] %}{{ m() }}{% endfor %}";
    assert_eq!(said(source), "2");
}

#[test]
fn an_unknown_format_of_the_time_is_an_error() {
    assert_eq!(said("{{ strftime_now('%Y') | length }}"), "4");
    for pattern in ["%Q%", "%", "%-", "%A%A%A%!"] {
        assert!(try_render(&format!("{{{{ strftime_now('{pattern}') }}}}")).is_err(), "{pattern}");
    }
}

//! No template takes more work, memory or stack than its budget, whatever it does. Nothing here depends on time: work is
//! counted in units.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::error::{Exhausted, Kind};
use super::meter::{KeepGoing, Limits, Meter};
use super::{list_filters, rendered, text_filters};

/// A stack of half the size of the smallest that a rendering ever gets.
const SMALL_STACK: usize = 2 << 20;

/// Two values of 60 levels that share their parts: walking one takes 2^60 visits.
const SHARED: [&str; 3] = [
    "{% set n = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}",
    "{% set n = namespace(x=(1, 2), y=(1, 2)) %}{% for i in range(60) %}{% set n.x = (n.x, n.x) %}{% set n.y = (n.y, n.y) %}{% endfor %}",
    "{% set n = namespace(x={1: 1}, y={1: 1}) %}{% for i in range(60) %}{% set n.x = {'a': n.x, 'b': n.x} %}{% set n.y = {'a': n.y, 'b': n.y} %}{% endfor %}",
];

const FILTERS_OF_VALUES: [&str; 8] = ["string", "tojson", "list", "length", "abs", "int", "float", "round"];

/// What is done to a value: `@` is the value, `#` another one.
const OPERATIONS: [&str; 58] = [
    "@ == #",
    "@ != #",
    "@ < #",
    "@ <= #",
    "@ in #",
    "@ in [#]",
    "@ not in [#]",
    "[@, #].index(#)",
    "[@, #].count(#)",
    "@ + #",
    "@ * 3",
    "@ * 1000000000000",
    "@ ~ #",
    "@ ~ @ ~ @",
    "'%s' % @",
    "'%s %r' % (@, #)",
    "'%5000s' % (@,)",
    "'{} {!r:>9}'.format(@, #)",
    "'{0:{1}}'.format(1, 900000000)",
    "{@: #}",
    "{'a': @}[#]",
    "{1: @}.get(#)",
    "@[#]",
    "@[0]",
    "@[::-1]",
    "@[1:]",
    "@.items()",
    "@ | join(#)",
    "@ | replace('1', '22')",
    "@ | indent(100)",
    "@ | batch(2) | list",
    "@ | slice(3) | list",
    "@ | center(1000000)",
    "@ | tojson(indent=900)",
    "[@, #] | sort",
    "[@, #] | unique | list",
    "[@, #] | max",
    "[{'a': @}, {'a': #}] | groupby('a')",
    "[@, #] | map('string') | list",
    "[@, #] | select('eq', #) | list",
    "[@, #] | reject('in', [#]) | list",
    "{'a': @, 'b': #} | dictsort(by='value')",
    "[@, #] | sum(start=[])",
    "[@, #] | join(@)",
    "'%s' | format(@)",
    "@ | default(#)",
    "@ is eq #",
    "@ is sameas #",
    "namespace(a=@).a",
    "dict(a=@)",
    "cycler(@, #).next()",
    "joiner(@)()",
    "@.split('1')",
    "@.join([#, #])",
    "@.ljust(90000000)",
    "@.replace('', @)",
    "@.format(#)",
    "range(90000)",
];

/// Renders within limits; checks that they held and that all memory came back.
fn ended(source: &str, limits: Limits) -> Result<String, Kind> {
    let meter = Meter::new(limits, None);
    let result = rendered(source, &[], &meter);
    assert!(meter.used() <= limits.work, "{source}");
    assert_eq!(meter.held(), 0, "{source}");
    result.map_err(|error| error.into_parts().0)
}

fn on_a_small_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(SMALL_STACK).spawn_scoped(scope, work).unwrap();
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

const SMALL: Limits = Limits { work: 300_000, memory: 4 << 20 };

#[test]
fn no_operation_walks_a_shared_value_for_free() {
    on_a_small_stack(|| {
        for shared in SHARED {
            for operation in OPERATIONS {
                let operation = operation.replace('@', "n.x").replace('#', "n.y");
                // The result is looked at as well, for what is only made when it is used.
                let _ =
                    ended(&format!("{shared}{{{{ {operation} }}}}{{{{ [{operation}] | string | length }}}}"), SMALL);
            }
            for filter in text_filters::NAMES.iter().chain(&list_filters::NAMES).chain(&FILTERS_OF_VALUES) {
                let _ = ended(&format!("{shared}{{{{ n.x | {filter} }}}}{{{{ n.x | {filter}('a') | list }}}}"), SMALL);
            }
        }
    });
}

#[test]
fn walking_a_shared_value_ends_with_the_limit_that_it_reached() {
    for shared in SHARED {
        for operation in ["n.x == n.y", "n.x | string", "n.x | tojson", "[n.x] in [[n.y]]", "n.x ~ ''", "'%s' % [n.x]"]
        {
            let failed = ended(&format!("{shared}{{{{ {operation} }}}}"), SMALL).unwrap_err();
            assert!(matches!(failed, Kind::Exhausted(_)), "{operation}: {failed:?}");
        }
    }
}

#[test]
fn a_text_is_paid_for_before_it_is_made() {
    let long = "{% set x = 'a' * 1000000 %}";
    for operation in [
        "('{0}' * 100000).format(x)",
        "x.replace('a', x)",
        "x | indent(10 ** 15, true)",
        "[1] | tojson(indent=10 ** 15)",
        "'a' * 10 ** 15",
        "[1] * 10 ** 15",
        "'%1000000000000s' % 'a'",
        "'{:1000000000000}'.format(1)",
        "'a'.ljust(10 ** 30)",
        "x.join(x)",
        "[1] | batch(10 ** 12, 'x') | list",
        "x.split('a') | list",
    ] {
        let failed = ended(&format!("{long}{{{{ {operation} }}}}"), SMALL).unwrap_err();
        assert!(matches!(failed, Kind::Exhausted(_)), "{operation}: {failed:?}");
    }
}

#[test]
fn a_text_is_paid_for_when_it_is_an_argument() {
    const BYTES: u64 = 1_000_000;
    let used = |source: &str| {
        let meter = Meter::new(Limits { work: 1 << 40, memory: 1 << 30 }, None);
        let _ = rendered(source, &[], &meter);
        meter.used()
    };
    let long = "{% set x = 'a' * 1000000 %}{% set d = {x: 1} %}";
    let before = used(long);
    let methods = [
        "split",
        "rsplit",
        "partition",
        "rpartition",
        "find",
        "rfind",
        "index",
        "rindex",
        "count",
        "startswith",
        "endswith",
        "removeprefix",
        "removesuffix",
        "strip",
        "lstrip",
        "rstrip",
        "join",
        "format_map",
        "splitlines",
    ];
    let operations = [
        "'a'.startswith(('b', x))",
        "'a'.endswith(('b', x))",
        "'a'.replace(x, '')",
        "'a'.replace('b', x)",
        "'a'.split(sep=x)",
        "'a'.ljust(3, x)",
        "'a'.center(3, x)",
        "'a'.format(**d)",
        "'a' | replace(x, '')",
        "'a' | replace('b', x)",
        "'a' | truncate(9, true, x)",
        "'a' | truncate(9, end=x)",
        "'a' | trim(x)",
        "'a' | indent(x)",
        "[1] | join(x)",
        "[1] | tojson(indent=x)",
        "{} | dictsort(by=x)",
        "['a'] | map('replace', x, '') | list",
        "['a'] | select('in', x) | list",
        "1 | round(0, x)",
        "1.5 | round(0, x)",
        "raise_exception(x)",
        "strftime_now(x)",
        "x in 'a'",
        "'a' in x",
        "x not in 'a'",
        "x in {}",
        "{}[x]",
        "{}.get(x)",
        "x[0]",
        "x | int",
        "x | float",
        "x is lower",
        "'%s' % x",
        "x % 1",
        "namespace(d)",
        "namespace(**d)",
        "dict(**d)",
    ];
    let methods = methods.map(|name| format!("'a'.{name}(x)"));
    for operation in methods.into_iter().chain(operations.map(str::to_owned)) {
        let used = used(&format!("{long}{{% set y = {operation} %}}")) - before;
        assert!(used >= BYTES / 16, "{operation} takes {used} units");
    }
}

#[test]
fn a_name_is_short_enough_to_be_looked_up_for_one_unit() {
    let named = |bytes: usize| ended(&format!("{{{{ {} }}}}", "a".repeat(bytes)), SMALL);
    assert_eq!(named(256).unwrap(), "");
    let failed = named(257).unwrap_err();
    assert!(matches!(&failed, Kind::Failed(reason) if reason.contains("at most 256")), "{failed:?}");
}

#[test]
fn keys_are_paid_for_while_a_filter_holds_them() {
    let limits = Limits { work: 10_000_000, memory: 1 << 20 };
    // Tuples that share their parts: each is small, and its key is not.
    let made = "{% set t = (1,) * 250 %}{% set n = namespace(x=[]) %}{% for i in range(400) %}{% set n.x = n.x + [(t, i)] %}{% endfor %}";
    ended(made, limits).unwrap();
    let failed = ended(&format!("{made}{{{{ n.x | unique | list | length }}}}"), limits).unwrap_err();
    assert!(matches!(failed, Kind::Exhausted(Exhausted::Memory { .. })), "{failed:?}");
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    let failed = ended(endless, SMALL).unwrap_err();
    assert!(matches!(failed, Kind::Exhausted(Exhausted::Work { units: 300_000 })), "{failed:?}");
    let namespaces = "{% for a in range(9999) %}{{ namespace(x=a) is string }}{% endfor %}";
    assert!(matches!(ended(namespaces, SMALL), Err(Kind::Exhausted(_))));
}

#[test]
fn rendering_stops_soon_after_its_request_has_ended() {
    let asked = Arc::new(AtomicUsize::new(0));
    let keep_going: KeepGoing = {
        let asked = Arc::clone(&asked);
        Arc::new(move || asked.fetch_add(1, Ordering::Relaxed) < 3)
    };
    let meter = Meter::new(Limits { work: 1 << 40, memory: 1 << 30 }, Some(keep_going));
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    let (kind, _) = rendered(endless, &[], &meter).unwrap_err().into_parts();
    assert!(matches!(kind, Kind::Exhausted(Exhausted::Abandoned)), "{kind:?}");
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

/// One level of every kind of expression.
fn every_kind(inner: &str) -> String {
    format!("((a if (a or (a and (not (a == (1 + (2 * (a ~ [{{'k': a.b(x, *[{inner}])[0] | first}}]))))))) else 2))")
}

#[test]
fn what_is_nested_fits_a_small_stack_or_is_refused() {
    let mut nested = "1".to_owned();
    let mut sources: Vec<String> = Vec::new();
    for _ in 0..16 {
        nested = every_kind(&nested);
        sources.push(format!("{{% set a = 1 %}}{{{{ {nested} }}}}"));
    }
    for (open, close) in [("(", ")"), ("[", "]"), ("-", ""), ("not ", ""), ("{1:", "}"), ("f(", ")"), ("x[", "]")] {
        sources.push(format!("{{{{ {}1{} }}}}", open.repeat(40_000), close.repeat(40_000)));
    }
    for part in ["+1", " ~ 1", " and 1", " == 1", "**1", " | abs", ".a", "[0]", "()", " if 1 else 1"] {
        sources.push(format!("{{{{ 1{} }}}}", part.repeat(20_000)));
    }
    for (tag, end) in
        [("if 1", "endif"), ("for i in [1]", "endfor"), ("with", "endwith"), ("filter upper", "endfilter")]
    {
        let tags = format!("{{% {tag} %}}").repeat(9_000) + &format!("{{% {end} %}}").repeat(9_000);
        sources.push(tags);
    }
    sources.extend(
        [
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{% macro g() %}{{ ((((g()|upper)|lower)~1)~1) is eq 2 }}{% endmacro %}{{ g() }}",
            "{% macro m() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call m() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}",
            "{% macro g(x=g()) %}{% endmacro %}{{ g() }}",
            "{% for i in [1] recursive %}{% set x %}{{ loop([i]) }}{% endset %}{% endfor %}",
            "{% set n = namespace(x=[1]) %}{% for i in range(127) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}{{ n.x | tojson }}{{ n.x == [n.x][0] + [] }}",
            "{% set n = namespace(x=1) %}{% for i in range(9999) %}{% set n.x = joiner(n.x) %}{% endfor %}",
            "{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = n.x.copy %}{% endfor %}",
        ]
        .map(str::to_owned),
    );
    let limits = Limits::for_input(0);
    on_a_small_stack(|| sources.iter().for_each(|source| drop(ended(source, limits))));
}

#[test]
fn a_long_row_of_operators_is_no_deep_tree() {
    let terms = 60_000;
    let sum = format!("{{{{ 1{} }}}}", "+1".repeat(terms));
    assert_eq!(ended(&sum, Limits::for_input(0)).unwrap(), (terms + 1).to_string());
    // The work is in proportion to the length.
    let used = |terms: usize| {
        let meter = Meter::new(Limits::for_input(0), None);
        rendered(&format!("{{% set x = 1 %}}{{{{ {}1 }}}}", "x+".repeat(terms)), &[], &meter).unwrap();
        meter.used()
    };
    assert!(used(40_000) < 5 * used(10_000));
}

fn value() -> impl Strategy<Value = String> {
    let leaf =
        prop::sample::select(vec!["n.x", "n.y", "1", "'a1'", "none", "nothing", "2.5", "x", "[]", "{}", "n", "loop"]);
    let filters = text_filters::NAMES.iter().chain(&list_filters::NAMES).chain(&FILTERS_OF_VALUES).copied();
    let filters = prop::sample::select(filters.collect::<Vec<_>>());
    let operations = prop::sample::select(OPERATIONS.to_vec());
    leaf.prop_map(str::to_owned).prop_recursive(4, 16, 3, move |inner| {
        prop_oneof![
            (operations.clone(), inner.clone(), inner.clone()).prop_map(|(operation, one, other)| {
                format!("({})", operation.replace('@', &format!("({one})")).replace('#', &format!("({other})")))
            }),
            (filters.clone(), inner.clone()).prop_map(|(filter, value)| format!("({value} | {filter})")),
            (filters.clone(), inner.clone(), inner)
                .prop_map(|(filter, value, argument)| format!("({value} | {filter}({argument}))")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_program_ends_within_its_budget(
        shared in prop::sample::select(SHARED.to_vec()),
        values in prop::collection::vec(value(), 1..4),
        repeated in any::<bool>(),
    ) {
        let steps = values.iter().map(|value| format!("{{% set x = {value} %}}{{{{ x is defined }}}}"));
        let steps = steps.collect::<Vec<_>>().concat();
        let last = &values[0];
        let body = if repeated { format!("{{% for i in range(9999) %}}{steps}{{% endfor %}}") } else { steps };
        let source = format!("{shared}{{% set x = 'ab' %}}{body}{{{{ {last} }}}}");
        on_a_small_stack(|| drop(ended(&source, SMALL)));
    }
}

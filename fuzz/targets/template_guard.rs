//! Whatever a message says, none of it is parsed as a control token, and the prompt's text stays what the template wrote.
#![no_main]
#![allow(dead_code, reason = "the module is part of a crate, and this target uses some of it")]

mod chat;

// Three lines: what the template writes before the message, the message, and what it writes after it.
libfuzzer_sys::fuzz_target!(|input: &str| {
    let mut parts = input.splitn(3, '\n');
    let mut next = || parts.next().unwrap_or_default();
    chat::check(next(), next(), next());
});

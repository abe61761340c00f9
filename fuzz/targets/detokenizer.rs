//! However bytes are cut into tokens, their text is that of `String::from_utf8_lossy`, and little of it waits.
#![no_main]
#![allow(dead_code, reason = "the module is part of a crate, and this target uses some of it")]

#[path = "../../crates/mullama-core/src/text/detokenizer.rs"]
mod detokenizer;

use detokenizer::Detokenizer;

// The first byte says how long the tokens are, one of four lengths after another.
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&lengths, mut bytes)) = input.split_first() else { return };
    let whole = String::from_utf8_lossy(bytes).into_owned();
    let (mut detokenizer, mut text) = (Detokenizer::default(), String::new());
    for turn in (0..8).step_by(2).cycle() {
        if bytes.is_empty() {
            break;
        }
        let len = usize::from(lengths >> turn & 3) + 1;
        let (token, rest) = bytes.split_at(len.min(bytes.len()));
        detokenizer.push(token, &mut text);
        assert!(whole.starts_with(&text));
        bytes = rest;
    }
    detokenizer.finish(&mut text);
    assert_eq!(text, whole);
});

use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as a client sends it.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode(Opcode::Text, payload, &mut frame);
    let header = frame.len() - payload.len();
    frame[0] = first;
    frame[1] |= 0x80;
    let masked: Vec<u8> = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    frame.splice(header.., MASK.into_iter().chain(masked));
    frame
}

fn decode(bytes: &[u8]) -> Result<Vec<Incoming>, Violation> {
    let mut decoder = Decoder::new(1000);
    decoder.extend(bytes);
    let mut all = Vec::new();
    while let Some(incoming) = decoder.next()? {
        all.push(incoming);
    }
    Ok(all)
}

fn code_of(bytes: &[u8]) -> u16 {
    decode(bytes).expect_err("a violation").code
}

#[test]
fn a_message_may_come_in_fragments_with_control_frames_between() {
    let frames = [client_frame(0x01, b"Hel"), client_frame(0x89, b"ping"), client_frame(0x80, b"lo")].concat();
    assert_eq!(decode(&frames), Ok(vec![Incoming::Ping(b"ping".to_vec()), Incoming::Text("Hello".into())]));
    assert_eq!(decode(&client_frame(0x81, b"")), Ok(vec![Incoming::Text(String::new())]));
}

#[test]
fn close_frames_have_codes_that_may_be_sent() {
    assert_eq!(decode(&client_frame(0x88, b"")), Ok(vec![Incoming::Close(None)]));
    assert_eq!(decode(&client_frame(0x88, &[3, 232, b'x'])), Ok(vec![Incoming::Close(Some(1000))]));
    assert_eq!(code_of(&client_frame(0x88, &[3])), 1002);
    assert_eq!(code_of(&client_frame(0x88, &[3, 232, 0xff])), 1007);
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
        assert_eq!(code_of(&client_frame(0x88, &code.to_be_bytes())), 1002, "{code}");
    }
}

#[test]
fn breaches_of_the_protocol_have_their_codes() {
    let unmasked = [0x81, 2, b'h', b'i'];
    assert_eq!(code_of(&unmasked), 1002);
    for first in [0xc1, 0xa1, 0x91, 0x83, 0x87, 0x8b, 0x8f, 0x80, 0x08, 0x09, 0x0a] {
        assert_eq!(code_of(&client_frame(first, b"")), 1002, "{first:#x}");
    }
    assert_eq!(code_of(&[client_frame(0x01, b"a"), client_frame(0x81, b"b")].concat()), 1002);
    assert_eq!(code_of(&client_frame(0x89, &[0; 126])), 1002);
    assert_eq!(code_of(&client_frame(0x82, b"binary")), 1003);
    assert_eq!(code_of(&client_frame(0x81, &[0xc3, 0x28])), 1007);
}

#[test]
fn a_large_message_is_refused_by_its_header() {
    assert_eq!(code_of(&client_frame(0x81, &[b'x'; 1001])[..8]), 1009);
    assert_eq!(code_of(&[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), 1009);
    let halves = [client_frame(0x01, &[b'x'; 600]), client_frame(0x80, &[b'x'; 600])].concat();
    assert_eq!(code_of(&halves), 1009);
}

proptest! {
    #[test]
    fn messages_are_the_same_however_the_bytes_are_cut(texts in prop::collection::vec(".{0,300}", 0..5), cut in 1..64_usize) {
        let bytes: Vec<u8> = texts.iter().flat_map(|text| client_frame(0x81, text.as_bytes())).collect();
        let mut decoder = Decoder::new(10_000);
        let mut got = Vec::new();
        for piece in bytes.chunks(cut) {
            decoder.extend(piece);
            while let Some(incoming) = decoder.next().expect("valid frames") {
                got.push(incoming);
            }
        }
        prop_assert_eq!(decoder.held(), 0);
        prop_assert_eq!(got, texts.into_iter().map(Incoming::Text).collect::<Vec<_>>());
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_or_hold_more_than_it_was_given(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut decoder = Decoder::new(100);
        decoder.extend(&bytes);
        while let Ok(Some(_)) = decoder.next() {}
        prop_assert!(decoder.held() <= bytes.len());
    }
}

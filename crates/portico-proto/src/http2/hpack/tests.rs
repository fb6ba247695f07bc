//! Blocks of RFC 7541, appendix C, what is wrong with others, and any that h2's own encoder makes.

use super::*;

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    let mut list = DecodedFields::new(1 << 16);
    decoder.decode(block, &mut list)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(list.iter().map(|(name, value)| (text(name), text(value))).collect())
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn expect(decoder: &mut Decoder, block: &str, fields: &[(&str, &str)]) {
    let told = decoded(decoder, &hex(block)).unwrap();
    let told: Vec<_> = told.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(told, fields, "{block}");
}

#[test]
fn each_form_of_a_field() {
    // RFC 7541, appendix C.2.
    let mut decoder = Decoder::default();
    expect(
        &mut decoder,
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        &[("custom-key", "custom-header")],
    );
    expect(&mut decoder, "be", &[("custom-key", "custom-header")]);
    expect(&mut decoder, "040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")]);
    expect(&mut decoder, "1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")]);
    expect(&mut decoder, "82", &[(":method", "GET")]);
    expect(&mut decoder, "be", &[("custom-key", "custom-header")]);
    assert_eq!(decoded(&mut decoder, &hex("bf")), Err(Malformed), "nothing else has been added");
}

#[test]
fn requests_one_after_the_other_with_and_without_huffman() {
    // RFC 7541, appendices C.3 and C.4.
    for blocks in [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ] {
        let mut decoder = Decoder::default();
        let first =
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        expect(&mut decoder, blocks[0], &first);
        expect(&mut decoder, blocks[1], &[&first[..], &[("cache-control", "no-cache")]].concat());
        let third = [(":method", "GET"), (":scheme", "https"), (":path", "/index.html"), first[3]];
        expect(&mut decoder, blocks[2], &[&third[..], &[("custom-key", "custom-value")]].concat());
    }
}

#[test]
fn responses_that_make_each_other_room() {
    // RFC 7541, appendix C.6, whose table has 256 bytes.
    let mut decoder = Decoder::default();
    let date = |second| format!("Mon, 21 Oct 2013 20:13:2{second} GMT");
    let fields = |status, second: &str| {
        [
            (":status", status),
            ("cache-control", "private"),
            ("date", second),
            ("location", "https://www.example.com"),
        ]
        .map(|(name, value): (&str, &str)| (name.to_owned(), value.to_owned()))
    };
    let first =
        "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e
        919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    assert_eq!(decoded(&mut decoder, &hex(first)).unwrap(), fields("302", &date(1)));
    assert_eq!(decoded(&mut decoder, &hex("4883 640e ffc1 c0bf")).unwrap(), fields("307", &date(1)));
    let third =
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
        e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07";
    let last = decoded(&mut decoder, &hex(third)).unwrap();
    assert_eq!(
        last[..4],
        [
            &fields("200", &date(2))[..1],
            &fields("200", &date(2))[1..2],
            &fields("200", &date(2))[2..3],
            &fields("200", &date(2))[3..],
        ]
        .concat()[..]
    );
    assert_eq!(last[4], ("content-encoding".to_owned(), "gzip".to_owned()));
    assert!(
        last[5].0 == "set-cookie" && last[5].1.starts_with("foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600")
    );
}

#[test]
fn what_is_no_block() {
    for (block, why) in [
        ("80", "the index 0"),
        ("be", "an index beyond the tables"),
        ("7e 00", "a name beyond the tables"),
        ("82 20", "a size behind a field"),
        ("3f e2 1f", "a size above the setting"),
        ("ff ff ff ff ff 01", "an integer of 32 bits"),
        ("ff 80 80 80 80 00", "one that is long without need"),
        ("00 85 f2b2 4a84 ff 84 4950 9fff", "eight ones of padding"),
        ("00 85 f2b2 4a84 ff 83 4950 90", "zeros of padding"),
        ("00 84 ffff ffff 01 61", "the end of the string"),
    ] {
        assert_eq!(decoded(&mut Decoder::default(), &hex(block)), Err(Malformed), "{why}");
    }
    // Half a field is none.
    let whole = hex("3fe11f 40 0161 0162 82 04 0161 00 8161 ff7f 8800");
    let ends: Vec<usize> =
        (0..=whole.len()).filter(|end| decoded(&mut Decoder::default(), &whole[..*end]).is_ok()).collect();
    assert_eq!(ends[..4], [0, 3, 8, 9], "{ends:?}");
}

#[test]
fn sizes_come_first_and_may_come_twice() {
    let mut decoder = Decoder::default();
    expect(&mut decoder, "40 0161 0162 be", &[("a", "b"); 2]);
    expect(&mut decoder, "20 3fe1 1f 40 0163 0164 be", &[("c", "d"); 2]);
    assert_eq!(decoded(&mut decoder, &hex("bf")), Err(Malformed), "the first size has emptied it");
}

#[test]
fn a_block_is_read_to_its_end_though_nobody_keeps_it() {
    let mut decoder = Decoder::default();
    let mut list = DecodedFields::new(100);
    let block = [&b"\x40\x01a\x7f\x21"[..], &[b'v'; 160], &b"\xbe".repeat(1000), b"\x40\x01b\x01c"].concat();
    decoder.decode(&block, &mut list).unwrap();
    assert!(list.is_too_large() && list.iter().next().is_none());
    assert_eq!(decoded(&mut decoder, b"\xbe").unwrap(), [("b".to_owned(), "c".to_owned())]);
    assert_eq!(decoded(&mut decoder, b"\xbf").unwrap()[0].1.len(), 160);
}

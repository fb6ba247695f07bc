//! Properties of the parser and the encoder over random input. The fuzz targets check the same ones.

mod support;

use portico_proto::Limits;
use proptest::prelude::*;
use support::oracle::{Plan, check_head_against_httparse, check_round_trip};
use support::{cut, read};

/// Pieces of which requests are made, well and badly.
const PIECES: [&str; 44] = [
    "GET ",
    "POST ",
    "/ ",
    "/a?b ",
    "http://h/ ",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/1.3",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "Host: a\r\n",
    "Host: ",
    "Content-Length: 3\r\n",
    "Content-Length: ",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: ",
    "chunked",
    "gzip",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "X_Y: z\r\n",
    "X: ",
    ": ",
    " ",
    "\t",
    ",",
    ";",
    "=",
    "\"",
    "0\r\n",
    "0\r\n\r\n",
    "3\r\nabc\r\n",
    "3\r\n",
    "abc",
    "5",
    "ffff",
    "\0",
    "\u{7f}",
    "\u{e4}",
    "%",
    "_",
    "X: y\r\n",
];

const START: &str = "POST /a?b HTTP/1.1\r\nHost: a\r\n";

/// Bytes that look like requests: often a good start, then pieces in any order.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24);
    (0..4, pieces).prop_map(|(start, pieces)| {
        let start = match start {
            0 => String::new(),
            1 => START.into(),
            2 => format!("{START}Transfer-Encoding: chunked\r\n\r\n"),
            _ => format!("{START}Content-Length: 3\r\n\r\nabc{START}"),
        };
        (start + &pieces.concat()).into_bytes()
    })
}

fn plans() -> impl Strategy<Value = Plan> {
    let statuses = prop_oneof![Just(200), Just(204), Just(205), Just(304), 200u16..600];
    let blocks = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5);
    (0usize..6, statuses, prop::option::of(0u64..120), blocks, any::<bool>())
        .prop_map(|(asker, status, length, blocks, close)| Plan { asker, status, length, blocks, close })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// No bytes are read in two ways, however they are cut, also where limits are reached.
    #[test]
    fn events_do_not_depend_on_cuts(bytes in requests(), seed: u64, small in any::<bool>()) {
        let limits = if small {
            Limits {
                request_line_bytes_max: 24,
                fields_max: 3,
                field_bytes_max: 27,
                head_bytes_max: 80,
                body_bytes_max: 4,
                chunk_line_bytes_max: 5,
            }
        } else {
            Limits::default()
        };
        let whole = read([&bytes[..]], &limits);
        prop_assert_eq!(&read(bytes.chunks(1), &limits), &whole);
        prop_assert_eq!(&read(cut(&bytes, seed, 9), &limits), &whole);
    }

    #[test]
    fn heads_are_read_as_httparse_reads_them(bytes in requests()) {
        check_head_against_httparse(&bytes);
    }

    #[test]
    fn responses_are_read_as_they_were_meant(plan in plans()) {
        check_round_trip(&plan);
    }
}

//! Frames as they come, whole and in pieces, and the floods that are bounded.

use super::*;
use crate::http2::tests::frame;

fn new() -> Frames {
    Frames::new(FRAME_BYTES_MAX, 30_000)
}

const FRAME_BYTES_MAX: u32 = 16_384;

/// Looks over all that there is; the header blocks in it.
fn look_over(
    frames: &mut Frames,
    mut bytes: &[u8],
    touched: &mut Vec<Touch>,
) -> Result<Vec<(HeaderBlock, Vec<u8>)>, Http2Violation> {
    let mut blocks = Vec::new();
    while let Some(block) =
        frames.look_over(&mut bytes, &mut OpenStreams::default(), touched, &mut Vec::new())?
    {
        blocks.push((block, frames.block_bytes().to_vec()));
    }
    assert!(bytes.is_empty());
    Ok(blocks)
}

/// The same where nothing but its verdict is asked for.
fn judge(frames: &mut Frames, bytes: &[u8]) -> Result<(), Http2Violation> {
    look_over(frames, bytes, &mut Vec::new()).map(|_| ())
}

fn after_preface() -> Frames {
    let mut frames = new();
    assert_eq!(judge(&mut frames, PREFACE), Ok(()));
    assert_eq!(judge(&mut frames, &frame(SETTINGS, 0, 0, b"")), Ok(()));
    frames.idle.left = IDLE_MAX;
    assert!(!frames.is_partial());
    frames
}

#[test]
fn what_comes_is_seen_alike_however_it_is_cut() {
    let bytes = [
        PREFACE,
        &frame(4, 0, 0, &[0; 12])[..],
        &frame(HEADERS, END_HEADERS, 1, b"block"),
        &frame(DATA, 0, 1, b"body"),
        &frame(DATA, END_STREAM, 1, b""),
        &frame(HEADERS, 0, 3, b"bl"),
        &frame(CONTINUATION, END_HEADERS, 3, b"ock"),
        &frame(HEADERS, END_HEADERS | END_STREAM, 3, b"trailers"),
        &frame(RST_STREAM, 0, 0x8000_0001, &[0; 4]),
        &frame(WINDOW_UPDATE, 0, 3, &[0, 0, 0, 1]),
        &frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        &frame(HEADERS, END_STREAM | PADDED | WITH_PRIORITY, 5, b"\x03\0\0\0\0\xffpad...")[..],
        &frame(CONTINUATION, END_HEADERS, 5, b"ded"),
    ]
    .concat();
    let expected = [Touch::Body(1), Touch::Body(3), Touch::Reset(1), Touch::Frame(3)];
    for step in [1, 2, 7, bytes.len()] {
        let (mut frames, mut touched, mut blocks) = (new(), Vec::new(), Vec::new());
        for piece in bytes.chunks(step) {
            blocks.extend(look_over(&mut frames, piece, &mut touched).unwrap());
        }
        assert_eq!(touched, expected, "{step}");
        let blocks: Vec<_> = blocks
            .iter()
            .map(|(block, bytes)| (block.stream, block.begins, block.ends, &bytes[..]))
            .collect();
        let expected = [
            (1, true, false, &b"block"[..]),
            (3, true, false, b"block"),
            (3, false, true, b"trailers"),
            (5, true, true, b"padded"),
        ];
        assert_eq!(blocks, expected, "{step}");
        assert!(!frames.is_partial());
    }
}

#[test]
fn a_body_is_touched_when_its_frame_is_whole() {
    let mut frames = after_preface();
    let data = frame(DATA, END_STREAM, 1, b"12345");
    for cut in 9..data.len() {
        let mut touched = Vec::new();
        look_over(&mut frames, &data[..cut], &mut touched).unwrap();
        assert_eq!(touched, []);
        look_over(&mut frames, &data[cut..], &mut touched).unwrap();
        assert_eq!(touched, [Touch::Body(1)], "{cut}");
    }
}

#[test]
fn of_half_a_data_frame_is_told_how_much_there_is_and_of_no_other() {
    let mut frames = after_preface();
    for (bytes, expected) in [
        (frame(DATA, END_STREAM, 1, b"12345"), Some(1)),
        (frame(HEADERS, END_HEADERS, 3, b"block"), None),
        (frame(HEADERS, END_HEADERS, 3, b"trail"), None),
        (frame(RST_STREAM, 0, 5, &[0; 4]), None),
    ] {
        for at in 0..bytes.len() {
            let expected =
                expected.filter(|_| at >= HEAD_BYTES).map(|stream| (stream, (at - HEAD_BYTES) as u32));
            assert_eq!(frames.arriving(), expected, "{bytes:?} {at}");
            judge(&mut frames, &bytes[at..=at]).unwrap();
        }
        assert_eq!(frames.arriving(), None);
    }
}

#[test]
fn half_a_preface_a_frame_or_a_header_block_is_partial_and_half_a_body_is_not() {
    let mut frames = new();
    assert!(frames.is_partial());
    frames = after_preface();
    let ping = frame(6, 0, 0, &[0; 8]);
    for cut in 1..ping.len() {
        judge(&mut frames, &ping[..cut]).unwrap();
        assert!(frames.is_partial());
        judge(&mut frames, &ping[cut..]).unwrap();
        assert!(!frames.is_partial());
    }
    judge(&mut frames, &frame(HEADERS, 0, 1, b"x")).unwrap();
    assert!(frames.is_partial());
    judge(&mut frames, &frame(CONTINUATION, END_HEADERS, 1, b"")).unwrap();
    assert!(!frames.is_partial());
    judge(&mut frames, &frame(DATA, 0, 1, b"12345")[..12]).unwrap();
    assert!(!frames.is_partial());
}

#[test]
fn each_kind_of_frame_without_use_runs_out_and_comes_back() {
    for (kind, stream, payload) in
        [(6, 0, &[0; 8][..]), (4, 0, &[]), (8, 0, &[0, 0, 0, 1]), (2, 1, &[0; 5]), (0, 1, &[]), (99, 0, &[])]
    {
        let mut frames = after_preface();
        let bytes = frame(kind, 0, stream, payload);
        let mut sent = 0;
        while judge(&mut frames, &bytes).is_ok() {
            sent += 1;
            assert!(sent <= IDLE_MAX, "{kind}");
        }
        assert_eq!(sent, IDLE_MAX);
        frames = after_preface();
        frames.idle.left = 0;
        frames.refill(Duration::from_secs(1));
        for _ in 0..IDLE_PER_SECOND {
            judge(&mut frames, &bytes).unwrap();
        }
        assert_eq!(judge(&mut frames, &bytes), Err(Http2Violation::IdleFrames));
    }
}

#[test]
fn header_blocks_keep_to_their_place() {
    let begun = |flags: u8| frame(HEADERS, flags, 1, b"block");
    for (name, bytes, expected) in [
        ("DATA within", [begun(0), frame(DATA, 0, 1, b"")].concat(), Http2Violation::FrameOrder),
        ("PING within", [begun(0), frame(PING, 0, 0, &[0; 8])].concat(), Http2Violation::FrameOrder),
        ("another block within", [begun(0), begun(0)].concat(), Http2Violation::FrameOrder),
        ("an unknown frame within", [begun(0), frame(99, 0, 1, b"")].concat(), Http2Violation::FrameOrder),
        (
            "it goes on on another stream",
            [begun(0), frame(CONTINUATION, 0, 3, b"")].concat(),
            Http2Violation::FrameOrder,
        ),
        ("CONTINUATION of none", frame(CONTINUATION, END_HEADERS, 1, b""), Http2Violation::FrameOrder),
        (
            "CONTINUATION of a whole one",
            [begun(END_HEADERS), frame(CONTINUATION, 0, 1, b"")].concat(),
            Http2Violation::FrameOrder,
        ),
        ("on no stream", frame(HEADERS, END_HEADERS, 0, b""), Http2Violation::FrameOrder),
        ("padding longer than it", frame(HEADERS, PADDED, 1, b"\x02."), Http2Violation::FrameOrder),
        (
            "padding longer than its rest",
            frame(HEADERS, PADDED | WITH_PRIORITY, 1, b"\x01\0\0\0\0."),
            Http2Violation::FrameOrder,
        ),
        ("no padding's length", frame(HEADERS, PADDED, 1, b""), Http2Violation::FrameLength),
        ("half a priority", frame(HEADERS, WITH_PRIORITY, 1, b"\0\0\0\0"), Http2Violation::FrameLength),
    ] {
        assert_eq!(judge(&mut after_preface(), &bytes), Err(expected), "{name}");
    }
    let all_padding = frame(HEADERS, END_HEADERS | PADDED, 1, b"\x02..");
    assert_eq!(look_over(&mut after_preface(), &all_padding, &mut Vec::new()).unwrap()[0].1, b"");
}

#[test]
fn a_frame_and_a_header_block_have_a_greatest_length() {
    let long = vec![0; FRAME_BYTES_MAX as usize];
    for kind in [DATA, HEADERS, 99] {
        assert_eq!(judge(&mut after_preface(), &frame(kind, END_HEADERS, 1, &long)), Ok(()));
        let longer = frame(kind, END_HEADERS, 1, &[&long[..], b"x"].concat());
        assert_eq!(judge(&mut after_preface(), &longer), Err(Http2Violation::FrameLength), "{kind}");
    }
    // Twice what a list may have is 60,000.
    let pieces = [frame(HEADERS, 0, 1, &long), frame(CONTINUATION, 0, 1, &long).repeat(2)].concat();
    for (last, expected) in [(10_848, Ok(())), (10_849, Err(Http2Violation::LongBlock))] {
        let bytes = [&pieces[..], &frame(CONTINUATION, END_HEADERS, 1, &vec![0; last])].concat();
        assert_eq!(judge(&mut after_preface(), &bytes), expected);
    }
}

#[test]
fn empty_continuations_run_out() {
    let mut frames = after_preface();
    judge(&mut frames, &frame(HEADERS, 0, 1, b"")).unwrap();
    let bytes = frame(CONTINUATION, 0, 1, b"");
    for _ in 0..IDLE_MAX {
        judge(&mut frames, &bytes).unwrap();
    }
    assert_eq!(judge(&mut frames, &bytes), Err(Http2Violation::IdleFrames));
}

#[test]
fn everything_but_header_blocks_is_passed_on() {
    let others = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[0; 12])[..],
        &frame(DATA, PADDED, 1, b"\x01body."),
        &frame(99, 1, 1, b"unknown"),
    ];
    let bytes = [
        others[0],
        others[1],
        &frame(HEADERS, 0, 1, b"bl"),
        &frame(CONTINUATION, END_HEADERS, 1, b"ock")[..],
    ]
    .concat();
    for step in [1, 5, 100] {
        let (mut frames, mut passed, mut blocks) = (new(), Vec::new(), 0);
        for mut piece in bytes.chunks(step).chain(others[2..].concat().chunks(step)) {
            let mut open = OpenStreams::default();
            while frames.look_over(&mut piece, &mut open, &mut Vec::new(), &mut passed).unwrap().is_some() {
                blocks += 1;
            }
        }
        assert_eq!((blocks, &passed), (1, &others.concat()), "{step}");
    }
}

#[test]
fn what_the_crate_gets_in_place_of_a_block() {
    let block = |begins, ends| HeaderBlock { stream: 7, begins, ends, depends_on_itself: false, flags: 0 };
    let head = |ends, length| {
        let mut out = Vec::new();
        block(true, ends).write_head(length, &mut out);
        out
    };
    assert_eq!(head(true, None), b"\0\0\x03\x01\x05\0\0\0\x07\x82\x86\x84");
    assert_eq!(head(false, Some(0)), b"\0\0\x07\x01\x04\0\0\0\x07\x82\x86\x84\x0f\x0d\x010");
    for length in [9, 10, 99, 100, u64::MAX] {
        let digits = length.to_string();
        let end = [&[0x0f, 0x0d, digits.len() as u8], digits.as_bytes()].concat();
        assert!(head(false, Some(length)).ends_with(&end), "{length}");
    }
    let mut out = Vec::new();
    block(false, true).write_trailers(&mut out);
    assert_eq!(out, b"\0\0\0\x01\x05\0\0\0\x07");
}

#[test]
fn lengths_and_the_first_frame_are_called_by_their_names() {
    for (kind, flags, lengths) in [
        (RST_STREAM, 0, [3, 5]),
        (SETTINGS, 0, [5, 7]),
        (SETTINGS, ACK, [1, 6]),
        (PING, 0, [7, 9]),
        (WINDOW_UPDATE, 0, [3, 5]),
    ] {
        for length in lengths {
            let bytes = frame(kind, flags, 0, &vec![0; length]);
            let looked = judge(&mut after_preface(), &bytes);
            assert_eq!(looked, Err(Http2Violation::FrameLength), "{kind} {length}");
        }
    }
    let mut frames = new();
    let bytes = [PREFACE, &frame(PING, 0, 0, &[0; 8])].concat();
    assert_eq!(judge(&mut frames, &bytes), Err(Http2Violation::NoSettings));
}

#[test]
fn resets_run_out_and_answers_bring_them_back() {
    let mut frames = after_preface();
    let bytes = frame(RST_STREAM, 0, 1, &[0; 4]);
    for _ in 0..RESETS_MAX {
        judge(&mut frames, &bytes).unwrap();
    }
    assert_eq!(judge(&mut frames, &bytes), Err(Http2Violation::Resets));
    frames = after_preface();
    frames.resets.left = 0;
    frames.note_response();
    judge(&mut frames, &bytes).unwrap();
    for _ in 0..90 {
        frames.refill(Duration::from_millis(11)); // 30 of them are worth ten.
    }
    for _ in 0..29 {
        judge(&mut frames, &bytes).unwrap();
    }
}

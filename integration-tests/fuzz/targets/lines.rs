//! A file of any bytes: the reader gives lines in order, without gaps, up to the last line end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logweir::read::{Content, Cursor, Limits, Reader, Step};

fuzz_target!(|input: (u16, bool, Vec<u8>)| {
    let (max, complete, bytes) = input;
    let limits = Limits { max_line_bytes: usize::from(max).max(1) };
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &bytes).expect("room");
    let (mut content, _) = Content::open(file.path()).expect("it is there");
    let (mut reader, mut cursor) = (Reader::default(), Cursor::start());
    let mut reached = 0;
    loop {
        let step = reader
            .step(&mut content, &mut cursor, complete, limits, |line, end| {
                assert_eq!(line.offset, reached);
                assert!(line.bytes.len() <= limits.max_line_bytes);
                reached = end;
                true
            })
            .expect("it can be read");
        match step {
            Step::More { .. } => {}
            Step::End { rest, .. } => {
                assert_eq!(reached + rest, bytes.len() as u64);
                return;
            }
            Step::Replaced => panic!("nobody changed it"),
        }
    }
});

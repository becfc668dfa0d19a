//! Odd files, through the real binary into a real Elasticsearch: each ends as documented, and `verify` proves it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use integration_tests::{Node, Workspace};
use serde_json::{Value, json};

const LINE: &str = "192.0.2.7 - - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"curl/8.5.0\"";
const MAX_LINE_BYTES: usize = 1 << 20;

/// What is expected of a directory of files.
#[derive(Clone, Copy, Default)]
struct Expected<'a> {
    /// Lines that `verify` counts, empty ones included.
    lines: u64,
    /// Empty ones among them, which are no documents.
    skipped: u64,
    /// Documents by tag.
    tags: &'a [(&'a str, u64)],
}

/// Files of one kind, in a place of their own.
struct Dirt {
    node: &'static Node,
    workspace: Workspace,
    target: String,
}

impl Dirt {
    /// `mode` is `tail` or `chunks`.
    fn new(name: &str, mode: &str) -> Self {
        let node = Node::shared();
        let workspace = Workspace::new(node);
        let source =
            format!("  - {{name: web, paths: ['{{logs}}/*'], format: combined, dataset: dirt.{name}, mode: {mode}}}");
        workspace.configure(&source, "read: {settle_time: 100ms}");
        Self { node, workspace, target: format!("logs-dirt.{name}-default") }
    }

    fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) {
        std::fs::write(self.workspace.logs().join(name), bytes).expect("room");
    }

    fn run_once(&self) {
        let _ = self.workspace.run(&["run", "--once"]).ok();
    }

    /// Indexes what is there and compares.
    fn check(&self, expected: Expected<'_>) {
        self.run_once();
        self.compare(expected);
        self.workspace.assert_proven_with(expected.lines, expected.lines - expected.skipped);
    }

    fn compare(&self, expected: Expected<'_>) {
        let documents = expected.lines - expected.skipped;
        assert_eq!(self.node.count(&self.target), documents);
        let tags = if documents == 0 { BTreeMap::new() } else { self.node.counts_by(&self.target, "tags") };
        assert_eq!(tags, expected.tags.iter().map(|(tag, n)| ((*tag).to_owned(), *n)).collect());
        let (report, _) = self.workspace.verify();
        assert_eq!(report["total"]["skipped"], expected.skipped, "{report:#}");
    }

    /// All documents, in the order of the file.
    fn documents(&self) -> Vec<Value> {
        let answer = self.node.search(&self.target, &json!({"size": 1000, "sort": ["log.offset"]}));
        let hits = answer["hits"]["hits"].as_array().cloned().unwrap_or_default();
        hits.into_iter().map(|mut hit| hit["_source"].take()).collect()
    }
}

/// `n` well-formed lines, each another.
fn clean(n: usize) -> String {
    (0..n).map(|i| LINE.replace("/a", &format!("/{i}")) + "\n").collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).expect("memory")
}

#[test]
fn binary_garbage_becomes_documents_that_say_so() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut garbage = Vec::new();
    for _ in 0..64 << 10 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        garbage.push((state >> 32) as u8);
    }
    // A file is followed once its first line is complete, and read to its last line end.
    garbage.push(b'\n');
    let lines: Vec<&[u8]> = garbage[..garbage.len() - 1]
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .collect();
    let empty = lines.iter().filter(|line| line.is_empty()).count() as u64;
    let invalid = lines.iter().filter(|line| std::str::from_utf8(line).is_err()).count() as u64;
    let lines = lines.len() as u64;
    let dirt = Dirt::new("garbage", "tail");
    dirt.write("garbage.log", &garbage);
    dirt.check(Expected {
        lines,
        skipped: empty,
        tags: &[
            ("_invalid_utf8", invalid),
            ("_parse_failure", lines - empty),
            // None of them says when it happened.
            ("_time_assumed", lines - empty),
        ],
    });
}

#[test]
fn nul_bytes_are_kept() {
    let dirt = Dirt::new("nul", "tail");
    let text = format!("{LINE}\na\0b\n\0\0\0\0{LINE}\n{}\n", LINE.replace("curl", "cu\0rl"));
    dirt.write("nul.log", text.as_bytes());
    // What a `copytruncate` leaves in front of a line makes the line none; a NUL inside a field does not.
    dirt.run_once();
    let documents = dirt.documents();
    assert_eq!(documents.len(), 4);
    assert_eq!(documents[1]["message"], "a\0b");
    assert_eq!(documents[3]["user_agent"]["original"], "cu\0rl/8.5.0");
    dirt.workspace.assert_proven(4);
}

#[test]
fn a_five_mebibyte_line_without_an_end_waits_for_its_end_and_is_cut() {
    let dirt = Dirt::new("long.tail", "tail");
    let long = vec![b'x'; 5 << 20];
    dirt.write("long.log", &[clean(2).as_bytes(), &long].concat());
    dirt.run_once();
    dirt.compare(Expected { lines: 2, ..Expected::default() });
    let (report, satisfied) = dirt.workspace.verify();
    assert!(satisfied, "{report:#}");
    assert_eq!(report["total"]["behind"], long.len(), "{report:#}");

    dirt.write("long.log", &[clean(2).as_bytes(), &long, b"\n", clean(1).as_bytes()].concat());
    dirt.check(Expected {
        lines: 4,
        tags: &[("_line_cut", 1), ("_parse_failure", 1), ("_time_assumed", 1)],
        ..Expected::default()
    });
    let message = dirt.documents()[2]["message"].as_str().expect("text").len();
    assert_eq!(message, MAX_LINE_BYTES);
}

#[test]
fn a_file_that_is_one_endless_line_waits_too() {
    let dirt = Dirt::new("long.only", "tail");
    dirt.write("long.log", &vec![b'x'; 5 << 20]);
    dirt.run_once();
    assert_eq!(dirt.node.count(&dirt.target), 0);
    let (report, satisfied) = dirt.workspace.verify();
    assert!(satisfied && report["total"]["behind"] == 5 << 20, "{report:#}");
}

#[test]
fn a_complete_chunk_needs_no_line_end() {
    let dirt = Dirt::new("long.chunk", "chunks");
    dirt.write("long.log", &[clean(2).as_bytes(), &vec![b'x'; 5 << 20]].concat());
    dirt.write("short.log", LINE.as_bytes());
    dirt.check(Expected {
        lines: 4,
        tags: &[("_line_cut", 1), ("_parse_failure", 1), ("_time_assumed", 1)],
        ..Expected::default()
    });
}

#[test]
fn windows_line_ends_are_no_part_of_the_line() {
    let dirt = Dirt::new("crlf", "tail");
    dirt.write("crlf.log", clean(3).replace('\n', "\r\n").as_bytes());
    dirt.check(Expected { lines: 3, ..Expected::default() });
    assert!(dirt.documents().iter().all(|document| document["user_agent"]["original"] == "curl/8.5.0"));
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    let dirt = Dirt::new("bom", "tail");
    dirt.write("bom.log", &[b"\xef\xbb\xbf", clean(3).as_bytes()].concat());
    dirt.check(Expected { lines: 3, ..Expected::default() });
    assert_eq!(dirt.documents()[0]["source"]["address"], "192.0.2.7");
}

#[test]
fn an_empty_file_is_nothing() {
    let dirt = Dirt::new("empty", "tail");
    dirt.write("empty.log", b"");
    dirt.check(Expected::default());
    let chunks = Dirt::new("empty.chunk", "chunks");
    chunks.write("empty.log", b"");
    chunks.check(Expected::default());
}

#[test]
fn empty_lines_are_skipped_and_counted() {
    let dirt = Dirt::new("blank", "tail");
    dirt.write("blank.log", format!("\n{}\r\n\n{}\n\n", clean(2), clean(1)).as_bytes());
    dirt.check(Expected { lines: 8, skipped: 5, ..Expected::default() });
}

#[test]
fn a_line_of_blanks_is_a_document() {
    let dirt = Dirt::new("spaces", "tail");
    dirt.write("spaces.log", b"   \n\t\n");
    dirt.check(Expected { lines: 2, tags: &[("_parse_failure", 2), ("_time_assumed", 2)], ..Expected::default() });
}

#[test]
fn bytes_that_are_not_utf_8_are_replaced_and_the_line_is_tagged() {
    let dirt = Dirt::new("latin1", "tail");
    let mut line = LINE.as_bytes().to_vec();
    let at = LINE.find("curl").expect("the agent");
    line.splice(at..at, *b"caf\xe9 ");
    dirt.write("latin1.log", &[clean(1).as_bytes(), &line, b"\n"].concat());
    dirt.check(Expected { lines: 2, tags: &[("_invalid_utf8", 1)], ..Expected::default() });
    assert_eq!(dirt.documents()[1]["user_agent"]["original"], "caf\u{fffd} curl/8.5.0");
}

#[test]
fn a_file_whose_name_is_not_utf_8_is_read_like_any_other() {
    let dirt = Dirt::new("name", "tail");
    dirt.write(OsStr::from_bytes(b"caf\xe9.log"), clean(3).as_bytes());
    dirt.write("with space, \"quote\" and \n.log", clean(2).replace("192.0.2", "192.0.3").as_bytes());
    dirt.check(Expected { lines: 5, ..Expected::default() });
}

#[test]
fn compressed_files_are_read_decompressed() {
    for mode in ["tail", "chunks"] {
        let dirt = Dirt::new(&format!("packed.{mode}"), mode);
        dirt.write("one.log.gz", &gzip(clean(100).replace("192.0.2", "192.0.3").as_bytes()));
        dirt.write("two.log.zst", &zstd(clean(200).replace("192.0.2", "192.0.4").as_bytes()));
        let (first, second) = (clean(30).replace("192.0.2", "192.0.5"), clean(5).replace("192.0.2", "192.0.6"));
        dirt.write("members.log.gz", &[gzip(first.as_bytes()), gzip(second.as_bytes())].concat());
        dirt.check(Expected { lines: 335, ..Expected::default() });
    }
}

#[test]
fn a_rotated_file_that_was_compressed_is_the_same_file() {
    for (name, pack) in [("gz", gzip as fn(&[u8]) -> Vec<u8>), ("zst", zstd)] {
        let dirt = Dirt::new(&format!("rotated.{name}"), "tail");
        dirt.write("access.log.1", clean(100).as_bytes());
        dirt.check(Expected { lines: 100, ..Expected::default() });
        std::fs::remove_file(dirt.workspace.logs().join("access.log.1")).expect("removed");
        // Ten lines came after the last look.
        dirt.write(format!("access.log.2.{name}"), &pack(clean(110).as_bytes()));
        dirt.check(Expected { lines: 110, ..Expected::default() });
    }
}

#[test]
fn a_copy_beside_the_original_is_indexed_once() {
    let dirt = Dirt::new("copy", "tail");
    dirt.write("access.log", clean(100).as_bytes());
    dirt.write("access.log.gz", &gzip(clean(100).as_bytes()));
    dirt.write("access.log.bak", clean(100).as_bytes());
    dirt.check(Expected { lines: 100, ..Expected::default() });
}

#[test]
fn a_file_that_only_claims_to_be_compressed_is_read_as_it_is() {
    let dirt = Dirt::new("plain.gz", "tail");
    dirt.write("plain.log.gz", clean(4).as_bytes());
    dirt.check(Expected { lines: 4, ..Expected::default() });
}

#[test]
fn a_compressed_file_that_was_cut_off_gives_what_it_has() {
    let dirt = Dirt::new("cut.gz", "tail");
    let whole = clean(20_000);
    let packed = gzip(whole.as_bytes());
    dirt.write("cut.log.gz", &packed[..packed.len() / 2]);
    dirt.run_once();
    let there = dirt.node.count(&dirt.target);
    assert!(there > 1000 && there < 20_000, "{there}");
    let (report, satisfied) = dirt.workspace.verify();
    assert!(satisfied && report["total"]["lines"] == there, "{report:#}");
}

#[test]
fn hard_links_and_symbolic_links_are_second_names() {
    let dirt = Dirt::new("links", "tail");
    let logs = dirt.workspace.logs();
    dirt.write("a.log", clean(10).as_bytes());
    std::fs::hard_link(logs.join("a.log"), logs.join("hard.log")).expect("linked");
    std::os::unix::fs::symlink("a.log", logs.join("soft.log")).expect("linked");
    std::os::unix::fs::symlink(logs.join("soft.log"), logs.join("soft-of-soft.log")).expect("linked");
    let outside = dirt.workspace.path("outside.txt");
    std::fs::write(&outside, clean(5).replace("192.0.2", "192.0.9")).expect("room");
    std::os::unix::fs::symlink(&outside, logs.join("elsewhere.log")).expect("linked");
    dirt.check(Expected { lines: 15, ..Expected::default() });
    std::fs::remove_file(logs.join("a.log")).expect("removed");
    dirt.check(Expected { lines: 15, ..Expected::default() });
}

#[test]
fn what_is_no_file_is_passed_by() {
    let dirt = Dirt::new("nofile", "tail");
    let logs = dirt.workspace.logs();
    std::fs::create_dir(logs.join("directory.log")).expect("made");
    std::os::unix::fs::symlink("nowhere", logs.join("dangling.log")).expect("linked");
    std::os::unix::fs::symlink("circle.log", logs.join("circle.log")).expect("linked");
    let fifo = Command::new("mkfifo").arg(logs.join("pipe.log")).status().expect("mkfifo runs");
    assert!(fifo.success());
    dirt.write(".hidden.log", clean(7).as_bytes());
    dirt.write("a.log", clean(3).as_bytes());
    dirt.run_once();
    assert_eq!(dirt.node.count(&dirt.target), 3);
}

#[test]
fn two_files_with_the_same_content_are_two_files_if_both_grow() {
    let dirt = Dirt::new("equal", "tail");
    // The same first line, then each its own: virtual hosts that were started by one script.
    dirt.write("a.log", (clean(1) + &LINE.replace("/a", "/in-a") + "\n").as_bytes());
    dirt.write("b.log", (clean(1) + &LINE.replace("/a", "/in-b") + "\n").as_bytes());
    dirt.check(Expected { lines: 4, ..Expected::default() });
}

#[test]
fn equal_lines_are_all_there() {
    let dirt = Dirt::new("same", "tail");
    dirt.write("same.log", format!("{LINE}\n").repeat(1000).as_bytes());
    dirt.check(Expected { lines: 1000, ..Expected::default() });
}

#[test]
fn json_of_every_kind_is_a_document_each() {
    let dirt = Dirt::new("json", "tail");
    let source = "  - {name: app, paths: ['{logs}/*'], format: json, dataset: dirt.json}";
    dirt.workspace.configure(source, "");
    let lines = [
        r#"{"@timestamp":"2015-05-17T10:05:03Z","message":"fine","log.level":"info"}"#,
        r#"{"@timestamp":"2015-05-17T10:05:03Z","message":"cut"#,
        r#"{"@timestamp":"2015-05-17T10:05:03Z","message":"\ud800 lone \u0000"}"#,
        r#"{"@timestamp":"yesterday","message":"no time"}"#,
        r#"{"@timestamp":"2015-05-17T10:05:03Z","http":"a text where an object belongs"}"#,
        r#"{"@timestamp":"2015-05-17T10:05:03Z","tags":{"not":"a list"}}"#,
        r#"{"a":{"b":1},"a.b":{"c":2},"a":3}"#,
        "[1,2,3]",
        "\"text\"",
        "17",
        "null",
        "{}",
        "not json",
    ];
    dirt.write("app.json", (lines.join("\n") + "\n").as_bytes());
    dirt.run_once();
    // Each is in Elasticsearch or, where that refuses it, in the dead letters: `verify` accepts both and nothing else.
    let dead = dirt.workspace.run(&["dead-letters", "list", "--output", "json"]).ok().stdout.lines().count() as u64;
    dirt.workspace.assert_proven_with(lines.len() as u64, lines.len() as u64 - dead);
    assert_eq!(dirt.workspace.verify().0["total"]["dead_lettered"], dead);
}

#[test]
fn all_kinds_together_in_one_directory_are_proven() {
    let dirt = Dirt::new("all", "tail");
    dirt.write("a.log", clean(50).as_bytes());
    dirt.write("b.log.gz", &gzip(clean(20).replace("192.0.2", "192.0.3").as_bytes()));
    dirt.write("c.log", clean(10).replace("192.0.2", "192.0.4").replace('\n', "\r\n").as_bytes());
    dirt.write("d.log", b"");
    dirt.write("e.log", b"\xff\xfe\xfd\n");
    dirt.write("f.log", b"\n\n\n");
    dirt.check(Expected {
        lines: 84,
        skipped: 3,
        tags: &[("_invalid_utf8", 1), ("_parse_failure", 1), ("_time_assumed", 1)],
    });
}

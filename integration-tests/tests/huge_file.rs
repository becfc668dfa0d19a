//! Offsets beyond what 32 bits hold.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use integration_tests::{Node, Workspace};
use serde_json::json;

const HOLE: u64 = 4 * (1 << 30) + (100 << 20);

#[test]
fn lines_beyond_four_gibibytes_are_there_once_and_a_restart_goes_on_behind_them() {
    let node = Node::shared();
    let workspace = Workspace::new(node);
    let source = "  - {name: huge, paths: ['{logs}/*.log'], format: text, dataset: files.huge}";
    workspace.configure(source, "read: {max_line_bytes: 4KiB}");
    let path = workspace.logs().join("huge.log");
    fs::write(&path, "the first line\n").expect("room");
    // What a hole reads as is one line of NUL bytes, which is cut.
    OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(HOLE)).expect("a sparse file");
    assert!(fs::metadata(&path).expect("it").blocks() < 1000, "the file system has no sparse files");
    let mut written = 0;
    let mut append = |n: u64, first: &str| {
        let mut text = first.to_owned();
        for _ in 0..n {
            text += &format!("line {written} behind the hole\n");
            written += 1;
        }
        let mut file = OpenOptions::new().append(true).open(&path).expect("the file");
        file.write_all(text.as_bytes()).expect("room");
    };
    append(1000, "\n");
    let _ = workspace.run(&["run", "--once"]).ok();
    append(500, "");
    let _ = workspace.run(&["run", "--once"]).ok();
    let target = "logs-files.huge-default";
    assert_eq!(node.count(target), 1502);
    let query = json!({"query": {"range": {"log.offset": {"gt": u64::from(u32::MAX)}}}, "track_total_hits": true});
    assert_eq!(node.search(target, &query)["hits"]["total"]["value"], 1500);
    workspace.assert_proven(1502);
}

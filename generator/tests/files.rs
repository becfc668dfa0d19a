//! What the writer promises about files: nothing is lost, chunks are whole, and the manifest can be trusted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use flate2::read::GzDecoder;
use logweir_generator::{
    FileEntry, Format, Generator, Layout, Limit, Load, Manifest, Rotation, RotationMethod, Run, RunInfo, Scenario,
    Schedule, Settings, Writer, WriterOptions,
};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

const LINES: u64 = 5000;

fn generator(format: Format, dirty: f64) -> Generator {
    let start = "2026-03-01T10:00:00Z".parse().unwrap();
    let schedule = Schedule { start, load: Load::Virtual, total: Some(LINES), duration: None };
    Generator::new(&Scenario::shop(), &schedule, Settings { seed: 1, format, dirty }).unwrap()
}

fn options(directory: &Path, layout: Layout) -> WriterOptions {
    WriterOptions {
        directory: directory.to_owned(),
        name: "access".to_owned(),
        extension: "log".to_owned(),
        layout,
        gzip: false,
        header: None,
    }
}

fn rotating(limit: Limit, method: RotationMethod, keep: usize) -> Layout {
    Layout::Growing(Rotation { limit: Some(limit), method, keep })
}

fn run(generator: Generator, options: WriterOptions, manifest_path: Option<PathBuf>) -> Manifest {
    let run = Run {
        generator,
        writer: Writer::open(options).unwrap(),
        info: RunInfo {
            scenario: "shop".to_owned(),
            format: "combined".to_owned(),
            seed: 1,
            start: "2026-03-01T10:00:00Z".parse().unwrap(),
        },
        manifest_path,
        in_real_time: false,
    };
    run.execute(&AtomicBool::new(false), |_| {}).unwrap()
}

fn all_lines(mut generator: Generator) -> Vec<u8> {
    let mut lines = Vec::new();
    while generator.next_line(&mut lines).is_some() {}
    lines
}

fn content(path: &Path) -> Vec<u8> {
    let stored = fs::read(path).unwrap();
    if path.extension().is_none_or(|extension| extension != "gz") {
        return stored;
    }
    let mut content = Vec::new();
    GzDecoder::new(stored.as_slice()).read_to_end(&mut content).unwrap();
    content
}

/// All content in the order of writing, each file compared with its entry.
fn checked_content(files: &[FileEntry]) -> Vec<u8> {
    let mut all = Vec::new();
    for (file, generation) in files.iter().zip(1..) {
        let content = content(file.path.as_ref().expect("nothing was deleted"));
        assert_eq!(file.generation, generation);
        assert_eq!(file.bytes, content.len() as u64);
        assert_eq!(file.lines, content.iter().filter(|byte| **byte == b'\n').count() as u64);
        assert_eq!(file.xxh3, format!("{:016x}", xxh3_64(&content)));
        assert!(file.complete);
        all.extend_from_slice(&content);
    }
    all
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_manifest_agrees_with_an_independent_count_of_the_files() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("manifest.json");
    let written = run(
        generator(Format::Combined, 0.0),
        options(&directory.path().join("logs"), Layout::Chunks { lines: 700 }),
        Some(path.clone()),
    );
    let manifest = Manifest::load(&path).unwrap();
    assert_eq!(manifest, written);
    assert!(manifest.complete);

    let content = checked_content(&manifest.files);
    let text = String::from_utf8(content).unwrap();
    let mut statuses = BTreeMap::new();
    let mut methods = BTreeMap::new();
    let mut paths = BTreeMap::new();
    let mut clients = HashSet::new();
    let mut body_bytes = 0;
    for line in text.lines() {
        let quoted: Vec<&str> = line.split('"').collect();
        let request: Vec<&str> = quoted[1].split(' ').collect();
        let numbers: Vec<&str> = quoted[2].split_whitespace().collect();
        clients.insert(line.split(' ').next().unwrap());
        *methods.entry(request[0].to_owned()).or_insert(0) += 1;
        *paths.entry(request[1].split('?').next().unwrap().to_owned()).or_insert(0) += 1;
        *statuses.entry(numbers[0].parse().unwrap()).or_insert(0) += 1;
        body_bytes += numbers[1].parse().unwrap_or(0);
    }
    assert_eq!(manifest.lines, LINES);
    assert_eq!(manifest.clean_lines, LINES);
    assert_eq!(manifest.bytes, text.len() as u64);
    assert_eq!(manifest.files.len(), LINES.div_ceil(700) as usize);
    assert_eq!(manifest.statuses, statuses);
    assert_eq!(manifest.methods, methods);
    assert_eq!(manifest.paths, paths);
    assert_eq!(manifest.distinct_clients, clients.len() as u64);
    assert_eq!(manifest.body_bytes, body_bytes);
    for (line, time) in [(text.lines().next(), manifest.first), (text.lines().last(), manifest.last)] {
        let shown = time.unwrap().strftime("[%d/%b/%Y:%H:%M:%S +0000]").to_string();
        assert!(line.unwrap().contains(&shown), "{shown}");
    }
}

#[test]
fn lines_are_clean_or_header_or_dirty() {
    let directory = TempDir::new().unwrap();
    let header = Format::Csv.header().map(<[u8]>::to_vec);
    let manifest = run(
        generator(Format::Csv, 0.1),
        WriterOptions { header: header.clone(), ..options(directory.path(), Layout::Chunks { lines: 1000 }) },
        None,
    );
    assert_eq!(manifest.header_lines, 5);
    assert_eq!(manifest.lines, LINES + 5);
    assert_eq!(manifest.lines, manifest.clean_lines + manifest.header_lines + manifest.dirty.values().sum::<u64>());
    checked_content(&manifest.files);
    for file in &manifest.files {
        assert!(content(file.path.as_ref().unwrap()).starts_with(&header.clone().unwrap()));
    }
}

#[test]
fn rotation_loses_nothing() {
    let expected = all_lines(generator(Format::Combined, 0.02));
    for method in [RotationMethod::Rename, RotationMethod::Copytruncate] {
        for limit in [Limit::Lines(600), Limit::Bytes(200_000)] {
            for gzip in [false, true] {
                let directory = TempDir::new().unwrap();
                let layout = rotating(limit, method, 0);
                let manifest = run(
                    generator(Format::Combined, 0.02),
                    WriterOptions { gzip, ..options(directory.path(), layout) },
                    None,
                );
                let case = format!("{method:?}, {limit:?}, gzip {gzip}");
                assert!(manifest.files.len() > 5, "{case}");
                assert!(checked_content(&manifest.files) == expected, "{case}");
                // One file each, nothing else is left behind.
                assert_eq!(names(directory.path()).len(), manifest.files.len(), "{case}");
            }
        }
    }
}

#[test]
fn rotation_keeps_as_many_files_as_asked_for_and_counts_the_deleted() {
    let directory = TempDir::new().unwrap();
    let layout = rotating(Limit::Lines(600), RotationMethod::Rename, 3);
    let manifest = run(generator(Format::Combined, 0.0), options(directory.path(), layout), None);
    assert_eq!(names(directory.path()), ["access.log", "access.log.1", "access.log.2", "access.log.3"]);
    assert_eq!(manifest.files.len(), 9);
    assert_eq!(manifest.lines, LINES);
    let (deleted, kept): (Vec<FileEntry>, Vec<FileEntry>) =
        manifest.files.into_iter().partition(|file| file.path.is_none());
    assert_eq!(deleted.len(), 5);
    let expected = all_lines(generator(Format::Combined, 0.0));
    let kept_bytes: Vec<u8> = kept.iter().flat_map(|file| content(file.path.as_ref().unwrap())).collect();
    assert!(expected.ends_with(&kept_bytes));
}

#[test]
fn a_file_of_another_run_is_rotated_away_first() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("access.log"), "from before\n").unwrap();
    let layout = Layout::Growing(Rotation { limit: None, method: RotationMethod::Rename, keep: 0 });
    let manifest = run(generator(Format::Common, 0.0), options(directory.path(), layout), None);
    assert_eq!(content(&directory.path().join("access.log.1")), b"from before\n");
    assert!(checked_content(&manifest.files) == all_lines(generator(Format::Common, 0.0)));
}

#[test]
fn chunk_files_appear_only_complete() {
    for gzip in [false, true] {
        let directory = TempDir::new().unwrap();
        let layout = Layout::Chunks { lines: 100 };
        let mut writer = Writer::open(WriterOptions { gzip, ..options(directory.path(), layout) }).unwrap();
        let mut generator = generator(Format::Combined, 0.0);
        let mut line = Vec::new();
        for written in 1..=350 {
            line.clear();
            generator.next_line(&mut line).unwrap();
            writer.write_line(&line).unwrap();
            writer.flush().unwrap();
            let visible: Vec<String> =
                names(directory.path()).into_iter().filter(|name| !name.starts_with('.')).collect();
            assert_eq!(visible.len(), written / 100, "after {written} lines");
            for name in visible {
                let lines = content(&directory.path().join(name)).split_inclusive(|byte| *byte == b'\n').count();
                assert_eq!(lines, 100);
            }
        }
        let files = writer.finish().unwrap();
        assert_eq!(files.last().unwrap().lines, 50);
        assert_eq!(names(directory.path()).len(), 4);
    }
}

#[test]
fn a_chunk_never_replaces_a_file() {
    let directory = TempDir::new().unwrap();
    let taken = directory.path().join("access-000001.log");
    fs::write(&taken, "from before\n").unwrap();
    let mut writer = Writer::open(options(directory.path(), Layout::Chunks { lines: 1 })).unwrap();
    let error = writer.write_line(b"new\n").unwrap_err();
    assert!(error.to_string().contains("access-000001.log is there already"), "{error}");
    assert_eq!(content(&taken), b"from before\n");
}

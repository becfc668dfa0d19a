//! A line taken for JSON: parsing never panics, and the document is always one.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use logweir::config;
use logweir::parse::{Cache, Format};
use logweir::record::Document;

fuzz_target!(|line: &[u8]| {
    let map = BTreeMap::from([("msg".to_owned(), "message".to_owned())]);
    let Ok(format) = Format::compile(&config::Format::Json, &map) else { unreachable!("json compiles") };
    let mut document = Document::default();
    format.parse(line, &mut document, &mut Cache::default());
});

//! A format string and lines: compiling and parsing never panic, and fields stay within the line.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use logweir::config;
use logweir::parse::{Cache, Format};
use logweir::record::{Document, Field};

fuzz_target!(|input: (bool, String, Vec<Vec<u8>>)| {
    let (apache, text, lines) = input;
    let format = if apache { config::Format::Apache(text) } else { config::Format::Nginx(text) };
    let Ok(format) = Format::compile(&format, &BTreeMap::new()) else { return };
    let (mut document, mut cache) = (Document::default(), Cache::default());
    for line in &lines {
        document.clear();
        format.parse(line, &mut document, &mut cache);
        for field in Field::ALL {
            if document.has(*field) {
                let _ = document.bytes(*field, line);
            }
        }
    }
});

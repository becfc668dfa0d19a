//! The answer to a bulk request: decoding any bytes never panics, and gives as many items as were sent or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logweir::index::reply;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (sent, body) = input;
    let _ = reply::decode(&body, usize::from(sent));
});

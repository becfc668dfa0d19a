//! Bodies packed as gzip. A compressor has tables of hundreds of kilobytes: each thread keeps one.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

/// The widest window that the format has.
const WINDOW_BITS: u8 = 15;

thread_local! {
    static COMPRESSOR: RefCell<Compress> = RefCell::new(Compress::new_gzip(Compression::fast(), WINDOW_BITS));
}

/// `body` as gzip, packed on a thread that may block.
pub(super) async fn pack(body: Bytes) -> Bytes {
    match tokio::task::spawn_blocking(move || packed(&body)).await {
        Ok(packed) => packed.into(),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn packed(body: &[u8]) -> Vec<u8> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        compressor.reset();
        // Log lines become a tenth; what does not fit makes room for itself.
        let mut packed = Vec::with_capacity(body.len() / 8 + 1024);
        loop {
            let taken = usize::try_from(compressor.total_in()).unwrap_or(body.len());
            match compressor.compress_vec(&body[taken..], &mut packed, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => return packed,
                Ok(Status::Ok | Status::BufError) => packed.reserve(packed.len().max(1024)),
                Err(error) => unreachable!("memory is compressed into memory: {error}"),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_is_packed_is_what_was_given_however_well_it_packs_and_whatever_was_packed_before() {
        let mut state = 1_u32;
        let noise: Vec<u8> = (0..300_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        for body in [&b""[..], b"{}", &noise, &vec![b'x'; 3 << 20], &noise[..100]] {
            let packed = packed(body);
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut back).expect("gzip");
            assert!(back == body, "{} bytes", body.len());
        }
    }
}

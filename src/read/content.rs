//! One open file as a sequence of (decompressed) bytes that can be read at an offset.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::filesystem::{FileSystem, OpenFile, Os, Stat};
use crate::record::{TAIL_BYTES, tail_hash};

/// Largest window that a Zstandard frame may ask for, as a power of two: 16 MiB a file being read, enough for all levels
/// below `--ultra` and `--long`.
const ZSTD_WINDOW_LOG: u32 = 24;

/// How the bytes of a file are packed, told from its first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// As they are.
    None,
    /// gzip (RFC 1952), one or more members.
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Compression {
    /// Told from a file name's extension: what is packed is complete when it stops changing.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Self::Gzip,
            Some("zst") => Self::Zstd,
            _ => Self::None,
        }
    }

    fn of_magic(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// The first line of a file (at most 1 KiB of it): what identities are told apart by.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Head {
    /// The bytes, terminator included if it is among them.
    pub bytes: Vec<u8>,
}

impl Head {
    /// Its length and hash, by which files with an equal head are found.
    #[must_use]
    pub fn key(&self) -> (u32, u64) {
        (u32::try_from(self.bytes.len()).unwrap_or(u32::MAX), xxhash_rust::xxh3::xxh3_64(&self.bytes))
    }
}

/// An open file.
pub struct Content {
    file: Arc<dyn OpenFile>,
    compression: Compression,
    /// While it is being read.
    packed: Option<Packed>,
}

/// A compressed stream can only go forward; the last bytes it gave are kept, because every read overlaps the one before.
struct Packed {
    /// How much of the file the decoder was given.
    taken: Arc<AtomicU64>,
    decoder: Box<dyn Read + Send>,
    /// Offset of `kept[0]`.
    kept_at: u64,
    kept: Vec<u8>,
    ended: Option<End>,
}

/// Where a compressed stream ended.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Bytes on disk.
    size: u64,
    /// Whether it broke off in its middle: its writer is not done, or never will be.
    cut: bool,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").field("file", &self.file).field("compression", &self.compression).finish()
    }
}

impl Content {
    /// Opens `path`. A file named `.gz` or `.zst` that starts with that format's magic is read decompressed.
    ///
    /// # Errors
    /// What the system says; also for what is no regular file.
    pub fn open(path: &Path) -> io::Result<(Self, Stat)> {
        Self::open_in(&Os, path)
    }

    /// The same in another file system than this machine's.
    ///
    /// # Errors
    /// As [`Content::open`].
    pub fn open_in(files: &dyn FileSystem, path: &Path) -> io::Result<(Self, Stat)> {
        let file = files.open(path)?;
        let stat = file.stat()?;
        if !stat.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let named = Compression::of(path);
        let mut content = Self { file, compression: Compression::None, packed: None };
        if named != Compression::None {
            let mut magic = [0_u8; 4];
            let n = content.read_fully(0, &mut magic)?;
            if Compression::of_magic(&magic[..n]) == named {
                content.compression = named;
            }
        }
        Ok((content, stat))
    }

    /// An open file without a name, read as it is.
    #[must_use]
    pub fn of(file: File) -> Self {
        Self { file: Arc::new(file), compression: Compression::None, packed: None }
    }

    /// Whether what was read to its end is a compressed stream that breaks off in its middle: what follows its last line
    /// end is no line then, whatever the file's age.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.packed.as_ref().and_then(|packed| packed.ended).is_some_and(|end| end.cut)
    }

    /// Whether offsets count decompressed bytes.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.compression != Compression::None
    }

    /// Lets go of the decoder, which can take megabytes: for a file that is held open and not read for now.
    pub fn rest(&mut self) {
        self.packed = None;
    }

    /// What the system says of the open file, whatever its path means now.
    ///
    /// # Errors
    /// What the system says.
    pub fn stat(&self) -> io::Result<Stat> {
        self.file.stat()
    }

    /// Fills `buf` from `offset`; less than full only at the end of what is there.
    ///
    /// # Errors
    /// What the system or the decompressor says. A compressed stream that ends in its middle gives what it has and then
    /// ends; only damage is an error.
    pub fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if self.is_packed() { self.unpack(offset)?.read_at(offset, buf) } else { self.read_fully(offset, buf) }
    }

    /// A decoder that can give what is at `offset`. It goes forward only, and not on from an end: then what was read is
    /// skipped by decoding it again.
    fn unpack(&mut self, offset: u64) -> io::Result<&mut Packed> {
        let usable = match self.packed.take() {
            Some(packed) if offset < packed.kept_at => None,
            Some(packed) => match packed.ended {
                Some(end) if self.file.stat()?.size != end.size => None,
                _ => Some(packed),
            },
            None => None,
        };
        let packed = match usable {
            Some(packed) => packed,
            None => Packed::open(&self.file, self.packed_kind()?)?,
        };
        Ok(self.packed.insert(packed))
    }

    fn packed_kind(&self) -> io::Result<Compression> {
        let mut magic = [0_u8; 4];
        let n = self.read_fully(0, &mut magic)?;
        Ok(Compression::of_magic(&magic[..n]))
    }

    fn read_fully(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.file.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// The first line or the first 1 KiB, whichever is shorter; `None` while neither is there and more may come.
    ///
    /// # Errors
    /// As [`Content::read_at`].
    pub fn head(&mut self, complete: bool) -> io::Result<Option<Head>> {
        let mut buf = [0_u8; TAIL_BYTES];
        let n = self.read_at(0, &mut buf)?;
        let end = match memchr::memchr(b'\n', &buf[..n]) {
            Some(at) => at + 1,
            None if n == buf.len() || (complete && n > 0 && !self.is_cut()) => n,
            None => return Ok(None),
        };
        Ok(Some(Head { bytes: buf[..end].to_vec() }))
    }

    /// [`tail_hash`] at `offset`; `None` if the content is shorter.
    ///
    /// # Errors
    /// As [`Content::read_at`].
    pub fn hash_at(&mut self, offset: u64) -> io::Result<Option<u64>> {
        let mut buf = [0_u8; TAIL_BYTES];
        let back = usize::try_from(offset).unwrap_or(TAIL_BYTES).min(TAIL_BYTES);
        let n = self.read_at(offset - back as u64, &mut buf[..back])?;
        Ok((n == back).then(|| tail_hash(&buf[..back])))
    }

    /// How many (decompressed) bytes there are; reads a compressed file to its end.
    ///
    /// # Errors
    /// As [`Content::read_at`].
    pub fn length(&mut self) -> io::Result<u64> {
        if !self.is_packed() {
            return Ok(self.file.stat()?.size);
        }
        let packed = self.unpack(u64::MAX)?;
        let mut buf = vec![0_u8; 64 << 10];
        while packed.ended.is_none() {
            let at = packed.kept_at + packed.kept.len() as u64;
            packed.read_at(at, &mut buf)?;
        }
        Ok(packed.kept_at + packed.kept.len() as u64)
    }
}

impl Packed {
    fn open(file: &Arc<dyn OpenFile>, kind: Compression) -> io::Result<Self> {
        let taken = Arc::new(AtomicU64::new(0));
        let input = BufReader::with_capacity(64 << 10, At { file: Arc::clone(file), offset: Arc::clone(&taken) });
        let decoder: Box<dyn Read + Send> = match kind {
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Compression::None => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is no longer compressed"));
            }
        };
        Ok(Self { taken, decoder, kept_at: 0, kept: Vec::new(), ended: None })
    }

    /// `offset` is not before what is kept.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut skip = vec![];
        while self.ended.is_none() && self.kept_at + (self.kept.len() as u64) < offset {
            skip.resize(64 << 10, 0);
            let far = usize::try_from(offset - self.kept_at - self.kept.len() as u64).unwrap_or(usize::MAX);
            let want = far.min(skip.len());
            let n = self.decode(&mut skip[..want])?;
            self.keep(offset, &skip[..n]);
        }
        let from_kept = usize::try_from(offset - self.kept_at).unwrap_or(usize::MAX).min(self.kept.len());
        let mut filled = (self.kept.len() - from_kept).min(buf.len());
        buf[..filled].copy_from_slice(&self.kept[from_kept..from_kept + filled]);
        let fresh = filled;
        while filled < buf.len() && self.ended.is_none() {
            filled += self.decode(&mut buf[filled..])?;
        }
        let new = buf[fresh..filled].to_vec();
        self.keep(offset, &new);
        Ok(filled)
    }

    /// One read of the decoder. A stream cut off in its middle has ended, as far as it is there.
    fn decode(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.decoder.read(buf) {
                Ok(0) => return Ok(self.end(false)),
                Ok(n) => return Ok(n),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(self.end(true)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn end(&mut self, cut: bool) -> usize {
        self.ended = Some(End { size: self.taken.load(Ordering::Relaxed), cut });
        0
    }

    /// Appends what was decoded and lets go of what no later read can ask for.
    fn keep(&mut self, wanted: u64, new: &[u8]) {
        self.kept.extend_from_slice(new);
        let oldest = wanted.saturating_sub(TAIL_BYTES as u64);
        if oldest > self.kept_at {
            let drop = usize::try_from(oldest - self.kept_at).unwrap_or(usize::MAX).min(self.kept.len());
            self.kept.drain(..drop);
            self.kept_at += drop as u64;
        }
    }
}

/// A reader with an offset of its own, so that decoders of one open file do not share a position.
struct At {
    file: Arc<dyn OpenFile>,
    offset: Arc<AtomicU64>,
}

impl Read for At {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.offset.load(Ordering::Relaxed))?;
        self.offset.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn text() -> Vec<u8> {
        (0..40_000).flat_map(|i| format!("line number {i}\n").into_bytes()).collect()
    }

    fn check_reads_like_plain(name: &str, packed: &[u8]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, packed).unwrap();
        let plain = text();
        let (mut content, _) = Content::open(&path).unwrap();
        // Forward with overlap, then back to the start, then far ahead: all that a reader and identification do.
        for (offset, len) in
            [(0, 1000), (500, 3000), (3000, 200_000), (150_000, 10), (10, 100), (400_000, 9000), (5, 5)]
        {
            let mut buf = vec![0; len];
            let n = content.read_at(offset as u64, &mut buf).unwrap();
            assert_eq!(buf[..n], plain[offset..offset + len], "{name} at {offset}");
        }
        assert_eq!(content.length().unwrap(), plain.len() as u64);
        assert_eq!(content.hash_at(5000).unwrap(), Some(tail_hash(&plain[5000 - TAIL_BYTES..5000])));
        assert_eq!(content.hash_at(plain.len() as u64 + 1).unwrap(), None);
        assert_eq!(content.head(false).unwrap().unwrap().bytes, b"line number 0\n");
    }

    #[test]
    fn compressed_files_read_like_plain_ones() {
        let two_members = [gzip(&text()[..300_000]), gzip(&text()[300_000..])].concat();
        check_reads_like_plain("a.log", &text());
        check_reads_like_plain("a.log.gz", &gzip(&text()));
        check_reads_like_plain("members.gz", &two_members);
        check_reads_like_plain("a.log.zst", &zstd::stream::encode_all(&text()[..], 3).unwrap());
    }

    #[test]
    fn a_gz_cut_off_in_its_middle_gives_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.gz");
        let whole = gzip(&text());
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let (mut content, _) = Content::open(&path).unwrap();
        let length = content.length().unwrap();
        assert!(length > 0 && length < text().len() as u64);
    }

    #[test]
    fn a_gz_that_grows_is_read_on_where_it_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("growing.gz");
        let whole = [gzip(&text()[..300_000]), gzip(&text()[300_000..])].concat();
        std::fs::write(&path, &whole[..whole.len() / 3]).unwrap();
        let (mut content, _) = Content::open(&path).unwrap();
        let length = content.length().unwrap();
        assert!(content.is_cut() && length > 2000);
        std::fs::write(&path, &whole).unwrap();
        let mut buf = vec![0; 5000];
        let n = content.read_at(length - 1000, &mut buf).unwrap();
        let at = usize::try_from(length).unwrap() - 1000;
        assert_eq!(buf[..n], text()[at..at + 5000]);
        assert_eq!(content.length().unwrap(), text().len() as u64);
        assert!(!content.is_cut());
        content.rest();
        assert_eq!(content.length().unwrap(), text().len() as u64);
    }

    #[test]
    fn a_plain_file_named_gz_is_read_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plain.gz");
        std::fs::write(&path, b"no gzip\n").unwrap();
        let (mut content, _) = Content::open(&path).unwrap();
        assert_eq!(content.head(false).unwrap().unwrap().bytes, b"no gzip\n");
    }

    #[test]
    fn a_head_waits_for_the_end_of_the_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("growing.log");
        std::fs::write(&path, b"half a li").unwrap();
        let (mut content, _) = Content::open(&path).unwrap();
        assert_eq!(content.head(false).unwrap(), None);
        assert_eq!(content.head(true).unwrap().unwrap().bytes, b"half a li");
        std::fs::write(&path, vec![b'x'; 5000]).unwrap();
        assert_eq!(content.head(false).unwrap().unwrap().bytes.len(), TAIL_BYTES);
    }
}

//! What flows between the stages: a line with its place, the document it becomes, and the batch it travels in.
//!
//! Stages never import each other; they meet here. Nothing in this module does input or output, and nothing here
//! allocates per line: a [`Document`] is a set of reusable slots that point into the line or into its own scratch
//! space, and is cleared, not dropped, between lines.

use std::fmt;
use std::sync::Arc;

use crate::simulated::{Bug, put_back};
use crate::tree::Tree;

/// The version of ECS that documents follow.
pub const ECS_VERSION: &str = "9.2.0";

/// Which file a line came from: eight bytes minted once from host id, inode, birth time and first line.
///
/// It is never derived from a path or a device number, so it survives renames and remounts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub [u8; 8]);

impl FileId {
    /// Parses the sixteen hexadecimal digits that `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 16 && text.is_ascii()).then_some(())?;
        Some(Self(u64::from_str_radix(text, 16).ok()?.to_be_bytes()))
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileId({self})")
    }
}

/// A half-open range of (decompressed) bytes of one file: `start <= end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// One past the last byte, line terminator included.
    pub end: u64,
}

impl Span {
    /// Length in bytes.
    #[must_use]
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether the span holds no byte.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// A place in a file, with the proof that the file is still the one that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Bytes (decompressed) from the start of the file.
    pub offset: u64,
    /// [`tail_hash`] of the bytes before `offset`.
    pub tail_hash: u64,
}

/// How many bytes before an offset its tail hash covers, at most.
pub const TAIL_BYTES: usize = 1024;

/// Hash of the last `min(offset, TAIL_BYTES)` bytes before an offset; `before` must be exactly those bytes.
#[must_use]
pub fn tail_hash(before: &[u8]) -> u64 {
    debug_assert!(before.len() <= TAIL_BYTES);
    xxhash_rust::xxh3::xxh3_64(before)
}

/// One line as it was read, without its terminator (`\n` or `\r\n`).
#[derive(Clone, Copy, Debug)]
pub struct RawLine<'a> {
    /// The bytes of the line; at most `max_line_bytes`.
    pub bytes: &'a [u8],
    /// Where the line starts in its file, in (decompressed) bytes.
    pub offset: u64,
    /// Whether the line was longer than `max_line_bytes`, and only its head is here.
    pub cut: bool,
}

/// Length of a document id as text.
pub const ID_LEN: usize = 24;

/// A document's `_id`: FileId (8 bytes), offset (6 bytes, big-endian), hash of the line (4 bytes), in unpadded base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineId(pub [u8; ID_LEN]);

const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The two characters of every twelve bits.
static BASE64URL_PAIRS: [[u8; 2]; 4096] = {
    let mut pairs = [[0; 2]; 4096];
    let mut bits = 0;
    while bits < 4096 {
        pairs[bits] = [BASE64URL[bits >> 6], BASE64URL[bits & 63]];
        bits += 1;
    }
    pairs
};

impl LineId {
    /// The id of the line that starts at `offset` of `file` and consists of `bytes` (no terminator).
    #[must_use]
    pub fn new(file: FileId, offset: u64, bytes: &[u8]) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the id takes 4 bytes of the hash")]
        let hash = if put_back(Bug::NoLineHash) { 0 } else { xxhash_rust::xxh3::xxh3_64(bytes) as u32 };
        let file = u64::from_be_bytes(file.0);
        // 48 bits are eight characters.
        let thirds = [file >> 16, file << 32 | offset >> 16 & 0xffff_ffff, offset << 32 | u64::from(hash)];
        let mut text = [0_u8; ID_LEN];
        for (bits, eight) in thirds.into_iter().zip(text.chunks_exact_mut(8)) {
            for (two, shift) in eight.chunks_exact_mut(2).zip([36, 24, 12, 0]) {
                two.copy_from_slice(&BASE64URL_PAIRS[(bits >> shift) as usize & 4095]);
            }
        }
        Self(text)
    }

    /// Parses the characters that [`as_str`](Self::as_str) gives.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id = text.as_bytes().try_into().ok()?;
        text.bytes().all(|byte| BASE64URL.contains(&byte)).then_some(Self(id))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for LineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! fields {
    ($($name:ident = $path:literal),* $(,)?) => {
        /// A field that parsing or enriching can fill, named by its ECS path; the order is the order in the document,
        /// and fields of one object are neighbours.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Field { $(#[doc = $path] $name),* }

        impl Field {
            /// Every field, in document order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The dotted ECS path.
            #[must_use]
            pub const fn path(self) -> &'static str {
                match self { $(Self::$name => $path),* }
            }
        }
    };
}

fields! {
    Calendar = "calendar",
    EventKind = "event.kind",
    EventCategory = "event.category",
    EventType = "event.type",
    EventOutcome = "event.outcome",
    EventDuration = "event.duration",
    HttpRequestId = "http.request.id",
    HttpRequestMethod = "http.request.method",
    HttpRequestReferrer = "http.request.referrer",
    HttpRequestBytes = "http.request.bytes",
    HttpResponseStatusCode = "http.response.status_code",
    HttpResponseBodyBytes = "http.response.body.bytes",
    HttpResponseBytes = "http.response.bytes",
    HttpVersion = "http.version",
    UrlOriginal = "url.original",
    UrlScheme = "url.scheme",
    UrlDomain = "url.domain",
    UrlPort = "url.port",
    UrlPath = "url.path",
    UrlExtension = "url.extension",
    UrlQuery = "url.query",
    SourceAddress = "source.address",
    SourceIp = "source.ip",
    SourcePort = "source.port",
    UserName = "user.name",
    UserAgent = "user_agent",
    UserAgentOriginal = "user_agent.original",
    ServiceName = "service.name",
    LogLevel = "log.level",
    Message = "message",
    ErrorType = "error.type",
    ErrorCode = "error.code",
    ErrorMessage = "error.message",
}

impl Field {
    /// How many fields there are.
    pub const COUNT: usize = Self::ALL.len();

    const fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// What a field holds. Ranges are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// These bytes of the line, as they stand: any bytes, escaped and made valid UTF-8 when encoded.
    Line {
        /// First byte, from the start of the line.
        start: u32,
        /// One past the last byte.
        end: u32,
    },
    /// These bytes of the line, in which JSON escapes nothing: ASCII without quotes, backslashes and control characters.
    Plain {
        /// First byte, from the start of the line.
        start: u32,
        /// One past the last byte.
        end: u32,
    },
    /// These bytes of the document's scratch space: any bytes, escaped and made valid UTF-8 when encoded.
    Scratch {
        /// First byte, from the start of the scratch space.
        start: u32,
        /// One past the last byte.
        end: u32,
    },
    /// These bytes of the scratch space are valid JSON already (an object, an array, a string with its quotes).
    Json {
        /// First byte, from the start of the scratch space.
        start: u32,
        /// One past the last byte.
        end: u32,
    },
    /// Text that needs no escape in JSON.
    Text(&'static str),
    /// Valid JSON that is the same for many lines, such as `["web"]`.
    StaticJson(&'static str),
    /// Valid JSON out of a table, often another from line to line.
    Ready(&'static Ready),
    /// A whole number.
    Int(i64),
}

/// JSON that was made when the binary was built, in a block of a fixed size, which is copied in a few instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    block: [u8; Ready::ROOM],
    len: usize,
}

impl Ready {
    /// The longest.
    pub const ROOM: usize = 32;

    /// This text.
    #[must_use]
    pub const fn new(text: &[u8]) -> Self {
        Self { block: [0; Self::ROOM], len: 0 }.and(text)
    }

    /// With `text` behind it.
    #[must_use]
    pub const fn and(mut self, text: &[u8]) -> Self {
        let mut at = 0;
        while at < text.len() {
            self.block[self.len] = text[at];
            self.len += 1;
            at += 1;
        }
        self
    }

    /// The text.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.block[..self.len]
    }

    /// The text with zeros after it, and its length.
    #[must_use]
    pub fn block(&self) -> (&[u8; Self::ROOM], usize) {
        (&self.block, self.len)
    }
}

/// The tags that logweir itself puts on a document: a closed set, kept as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tags(u16);

impl Tags {
    /// The line did not fit its format; `error.code` says why in one word, `error.message` where and how.
    pub const PARSE_FAILURE: Self = Self(1);
    /// The line was longer than `max_line_bytes`.
    pub const LINE_CUT: Self = Self(2);
    /// The line has no time of its own: `@timestamp` is the last time in that file, else when it was read.
    pub const TIME_ASSUMED: Self = Self(4);
    /// The line's own time is outside the accepted window: `@timestamp` is when it was read.
    pub const TIME_REJECTED: Self = Self(8);
    /// The line had bytes that are not UTF-8; each was replaced by U+FFFD.
    pub const INVALID_UTF8: Self = Self(16);

    /// All tags with their text, in document order.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::PARSE_FAILURE, "_parse_failure"),
        (Self::LINE_CUT, "_line_cut"),
        (Self::TIME_ASSUMED, "_time_assumed"),
        (Self::TIME_REJECTED, "_time_rejected"),
        (Self::INVALID_UTF8, "_invalid_utf8"),
    ];

    /// Adds `other`.
    pub fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether all of `other` is in.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The document that a line becomes, as slots to reuse: filled by parsing, added to by enriching, read by encoding.
#[derive(Debug)]
pub struct Document {
    /// When the event happened, in nanoseconds since 1970-01-01T00:00:00Z; `None` where the line does not say.
    pub time: Option<i64>,
    /// What logweir has to remark.
    pub tags: Tags,
    /// Bytes that [`Value::Scratch`] and [`Value::Json`] point into.
    pub scratch: Vec<u8>,
    /// For formats whose lines are trees themselves (JSON): fields beside the slots, nested (no dotted keys).
    /// Slots and static fields win over it.
    pub tree: Tree,
    set: u64,
    values: [Value; Field::COUNT],
}

impl Default for Document {
    fn default() -> Self {
        Self {
            time: None,
            tags: Tags::default(),
            scratch: Vec::with_capacity(1024),
            tree: Tree::default(),
            set: 0,
            values: [Value::Int(0); Field::COUNT],
        }
    }
}

impl Document {
    /// Forgets the previous line.
    pub fn clear(&mut self) {
        self.time = None;
        self.tags = Tags::default();
        self.scratch.clear();
        self.tree.clear();
        self.set = 0;
    }

    /// Sets `field`.
    pub fn put(&mut self, field: Field, value: Value) {
        self.set |= field.bit();
        self.values[field as usize] = value;
    }

    /// Sets `field` to a range of the line.
    pub fn put_line(&mut self, field: Field, start: usize, end: usize) {
        self.put_range(field, start, end, false);
    }

    /// Sets `field` to a range of the line, which is known to be [`Value::Plain`] or is not.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a line is at most max_line_bytes, which is checked to fit u32"
    )]
    pub fn put_range(&mut self, field: Field, start: usize, end: usize, plain: bool) {
        let (start, end) = (start as u32, end as u32);
        self.put(field, if plain { Value::Plain { start, end } } else { Value::Line { start, end } });
    }

    /// Sets `field` to text that is copied to the scratch space.
    #[expect(clippy::cast_possible_truncation, reason = "scratch holds no more than a few copies of a line")]
    pub fn put_text(&mut self, field: Field, text: &[u8]) {
        let start = self.scratch.len() as u32;
        self.scratch.extend_from_slice(text);
        self.put(field, Value::Scratch { start, end: self.scratch.len() as u32 });
    }

    /// Sets `field` to ready-made JSON that is copied to the scratch space.
    #[expect(clippy::cast_possible_truncation, reason = "scratch holds no more than a few copies of a line")]
    pub fn put_json(&mut self, field: Field, json: &[u8]) {
        let start = self.scratch.len() as u32;
        self.scratch.extend_from_slice(json);
        self.put(field, Value::Json { start, end: self.scratch.len() as u32 });
    }

    /// Takes `field` away.
    pub fn remove(&mut self, field: Field) {
        self.set &= !field.bit();
    }

    /// What `field` holds.
    #[must_use]
    pub fn get(&self, field: Field) -> Option<Value> {
        (self.set & field.bit() != 0).then(|| self.values[field as usize])
    }

    /// What `field` holds, if it is set; else anything.
    #[inline]
    #[must_use]
    pub fn value(&self, field: Field) -> Value {
        self.values[field as usize]
    }

    /// Whether `field` is set.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        self.set & field.bit() != 0
    }

    /// The bytes that `field` holds, if it holds text: of `line`, or of the scratch space.
    #[must_use]
    pub fn bytes<'a>(&'a self, field: Field, line: &'a [u8]) -> Option<&'a [u8]> {
        match self.get(field)? {
            Value::Line { start, end } | Value::Plain { start, end } => line.get(start as usize..end as usize),
            Value::Scratch { start, end } | Value::Json { start, end } => {
                self.scratch.get(start as usize..end as usize)
            }
            Value::Text(text) | Value::StaticJson(text) => Some(text.as_bytes()),
            Value::Ready(ready) => Some(ready.bytes()),
            Value::Int(_) => None,
        }
    }

    /// The set fields as bits, lowest first in document order.
    #[must_use]
    pub fn set_bits(&self) -> u64 {
        self.set
    }
}

/// How lines ended; counts that add up (invariant 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcomes {
    /// Lines that Elasticsearch created as documents.
    pub created: u64,
    /// Lines that were in Elasticsearch already, under the same id.
    pub duplicate: u64,
    /// Lines that are durably in the dead letters.
    pub dead_lettered: u64,
    /// Lines that an include or exclude rule left out.
    pub skipped: u64,
}

impl Outcomes {
    /// All of them together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.created + self.duplicate + self.dead_lettered + self.skipped
    }
}

impl std::ops::AddAssign for Outcomes {
    fn add_assign(&mut self, other: Self) {
        self.created += other.created;
        self.duplicate += other.duplicate;
        self.dead_lettered += other.dead_lettered;
        self.skipped += other.skipped;
    }
}

/// One document of a batch: where its two lines (action and source) are in the body, and which line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// First byte of the action line in the body.
    pub start: u32,
    /// First byte of the document in the body; it ends before the next item's `start`, newline included.
    pub source: u32,
    /// Index into [`Batch::runs`].
    pub run: u32,
    /// The line's id.
    pub id: LineId,
    /// Where the line starts in its file.
    pub offset: u64,
}

/// The part of a batch that comes from one stretch of one file.
#[derive(Clone, Debug)]
pub struct Run {
    /// The file.
    pub file: FileId,
    /// Its path when it was read, for messages and dead letters.
    pub path: Arc<std::path::Path>,
    /// The bytes that the run's lines take, skipped lines included.
    pub span: Span,
    /// [`tail_hash`] at `span.end`.
    pub tail_hash: u64,
    /// Lines read, skipped ones included.
    pub lines: u64,
    /// Lines left out by rule.
    pub skipped: u64,
    /// Whether some of these lines may be in Elasticsearch already, so that their ids are looked up before they are sent.
    pub doubtful: bool,
    /// When its first line was read.
    pub read_at: tokio::time::Instant,
}

/// Where a batch goes: batches hold documents of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The data stream, or the pattern of date-named indices.
    pub target: Arc<str>,
    /// The ingest pipeline, if any.
    pub pipeline: Option<Arc<str>>,
}

/// What is sent as one `_bulk` request, and what its answer settles.
#[derive(Debug)]
pub struct Batch {
    /// The data stream or index that documents without an `_index` of their own go to. Where every document has its own:
    /// the pattern that their names come from, as configured or with `*` for what varies.
    pub target: Arc<str>,
    /// The ingest pipeline for all of them.
    pub pipeline: Option<Arc<str>>,
    /// The NDJSON body: an action line and a document line an item.
    pub body: bytes::Bytes,
    /// The documents, in the order of the body.
    pub items: Vec<Item>,
    /// The stretches of files they come from, in the order they were read.
    pub runs: Vec<Run>,
    /// Keeps the batch's share of the memory bound; dropping it gives the share back.
    pub share: Option<crate::budget::Share>,
}

impl Batch {
    /// The two lines of item `index`, newlines included.
    #[must_use]
    pub fn item_bytes(&self, index: usize) -> &[u8] {
        let start = self.items[index].start as usize;
        let end = self.items.get(index + 1).map_or(self.body.len(), |next| next.start as usize);
        &self.body[start..end]
    }

    /// The document line of item `index`, without its newline.
    #[must_use]
    pub fn source_bytes(&self, index: usize) -> &[u8] {
        let whole = self.item_bytes(index);
        let skip = (self.items[index].source - self.items[index].start) as usize;
        whole[skip..].strip_suffix(b"\n").unwrap_or(&whole[skip..])
    }
}

/// What the index stage needs of the checkpoint stage, so that neither imports the other.
pub trait Progress: Send + Sync + 'static {
    /// Returns once a reservation that covers the end of each of `runs` is on disk (invariant 4); never fails, but waits
    /// for as long as the disk refuses. Cancel safe.
    fn reserve<'a>(&'a self, runs: &'a [Run]) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

    /// Every line of `run` has its outcome: `outcomes.total() == run.lines`. Called once a run, in any order.
    fn settle(&self, run: &Run, outcomes: Outcomes);
}

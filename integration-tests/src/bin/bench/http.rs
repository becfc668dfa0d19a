//! As much of HTTP/1.1 as the sink needs: requests with a `Content-Length`, one after the other on a connection, and
//! bodies handed on in the pieces in which they arrive. A body is never held whole, so that a sink costs next to nothing.

use std::io::{self, Read};

/// Fits in a processor's second cache, and is much less to hold than a body.
const BUFFER_BYTES: usize = 128 << 10;

/// The first lines of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Begins with a slash; without the query; as sent.
    pub(crate) path: String,
    /// After the question mark; as sent.
    query: String,
    /// Bytes of the body as sent.
    pub(crate) length: u64,
    pub(crate) gzip: bool,
    /// Whether the client sends the body only after it was asked to go on.
    pub(crate) waits: bool,
    /// Whether the client wants no further request answered here.
    pub(crate) close: bool,
}

impl Head {
    /// The value of a parameter, decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let pair = self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        Some(decode(pair))
    }

    /// Path and query.
    pub(crate) fn target(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split("\r\n");
        let mut request = lines.next()?.split(' ');
        let (method, target) = (request.next()?, request.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut head =
            Self { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), ..Self::default() };
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.parse().ok()?,
                "content-encoding" => match value {
                    "gzip" => head.gzip = true,
                    "identity" => {}
                    _ => return None,
                },
                "expect" => head.waits = value.eq_ignore_ascii_case("100-continue"),
                "connection" => head.close = value.eq_ignore_ascii_case("close"),
                // Nobody who has the whole body in memory sends it in chunks.
                "transfer-encoding" => return None,
                _ => {}
            }
        }
        Some(head)
    }
}

/// The requests on a connection. After [`Requests::head`] comes [`Requests::body`].
#[derive(Debug)]
pub(crate) struct Requests<S> {
    stream: S,
    buffer: Vec<u8>,
    /// What of `buffer` was received and not yet handed on.
    received: std::ops::Range<usize>,
}

impl<S: Read> Requests<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: vec![0; BUFFER_BYTES], received: 0..0 }
    }

    /// The next request; `None` after the last.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        self.buffer.copy_within(self.received.clone(), 0);
        self.received = 0..self.received.len();
        loop {
            let received = &self.buffer[self.received.clone()];
            if let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") {
                let head = std::str::from_utf8(&received[..end]).ok().and_then(Head::parse);
                self.received.start += end + 4;
                return head.map(Some).ok_or_else(|| invalid("not a request that can be read"));
            }
            let room = &mut self.buffer[self.received.end..];
            if room.is_empty() {
                return Err(invalid("the head of a request is too long"));
            }
            match self.stream.read(room)? {
                0 if self.received.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.received.end += count,
            }
        }
    }

    /// Hands the body of `length` bytes to `taker`, piece by piece.
    pub(crate) fn body(&mut self, length: u64, mut taker: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut left = usize::try_from(length).map_err(|_| invalid("a body that long"))?;
        let here = left.min(self.received.len());
        if here > 0 {
            taker(&self.buffer[self.received.start..][..here])?;
            self.received.start += here;
            left -= here;
        }
        while left > 0 {
            let room = left.min(self.buffer.len());
            let count = self.stream.read(&mut self.buffer[..room])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            taker(&self.buffer[..count])?;
            left -= count;
            self.received = 0..0;
        }
        Ok(())
    }
}

pub(crate) fn invalid(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

/// Percent-decoding; what cannot be decoded stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(if byte == b'+' { b' ' } else { byte });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Gives at most `step` bytes at a time, as a network does.
    struct Trickle<'a> {
        bytes: &'a [u8],
        step: usize,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let count = self.step.min(to.len()).min(self.bytes.len());
            to[..count].copy_from_slice(&self.bytes[..count]);
            self.bytes = &self.bytes[count..];
            Ok(count)
        }
    }

    #[test]
    fn requests_follow_each_other_however_they_are_cut() {
        let text = b"POST /a/_bulk?x=1&filter_path=errors%2Citems.*.status HTTP/1.1\r\nContent-Length: 5\r\n\
            Content-Encoding: gzip\r\nExpect: 100-continue\r\n\r\none\n\nGET / HTTP/1.1\r\nhost: x\r\nConnection: close\r\n\r\n";
        for step in 1..=text.len() {
            let mut requests = Requests::new(Trickle { bytes: text, step });
            let head = requests.head().unwrap().unwrap();
            assert_eq!((head.method.as_str(), head.path.as_str(), head.length), ("POST", "/a/_bulk", 5));
            assert_eq!(head.parameter("filter_path").as_deref(), Some("errors,items.*.status"));
            assert_eq!(head.parameter("filter"), None);
            assert_eq!(head.target(), "/a/_bulk?x=1&filter_path=errors%2Citems.*.status");
            assert!(head.gzip && head.waits && !head.close);
            let mut body = Vec::new();
            requests.body(head.length, |piece| body.write_all(piece)).unwrap();
            assert_eq!(body, b"one\n\n");
            let head = requests.head().unwrap().unwrap();
            assert_eq!((head.method.as_str(), head.path.as_str(), head.length), ("GET", "/", 0));
            assert_eq!(head.target(), "/");
            assert!(head.close && !head.gzip && !head.waits);
            assert_eq!(requests.head().unwrap(), None);
        }
    }

    #[test]
    fn half_a_request_is_an_error() {
        for text in [&b"POST / HT"[..], b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\none"] {
            let mut requests = Requests::new(text);
            let result = requests.head().and_then(|head| requests.body(head.map_or(0, |head| head.length), |_| Ok(())));
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        for text in [&b"\r\n\r\n"[..], b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"] {
            assert_eq!(Requests::new(text).head().unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}

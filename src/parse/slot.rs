//! Where a field of a line ends: by its own form if it has one, else where the literal after it stands.

use super::target::Target;

/// What a value looks like: how its end is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Anything.
    Text,
    /// Anything without a space.
    Token,
    /// A number, or `-`.
    Number,
    /// Items separated by `, ` or ` : ` without spaces of their own.
    List,
    /// A time, as its target says.
    Time,
}

/// A field of a plan and the literal after it.
#[derive(Debug)]
pub struct Slot {
    /// The directive, as the format writes it.
    pub name: String,
    /// What it looks like.
    pub shape: Shape,
    /// What it fills.
    pub target: Target,
    /// What stands after it.
    pub until: Literal,
    /// Whether it stands in double quotes.
    pub quoted: bool,
    /// Whether it is the plan's last.
    pub last: bool,
}

/// Bytes that stand in every line.
#[derive(Debug, Default)]
pub struct Literal {
    /// The bytes; none at a format's ends.
    pub bytes: Vec<u8>,
    /// Index of the byte that is searched for.
    anchor: usize,
}

impl Literal {
    /// A literal of `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        // Spaces are the most frequent bytes of a log: anything else is found with fewer false hits.
        let anchor = bytes.iter().position(|byte| *byte != b' ').unwrap_or(0);
        Self { bytes, anchor }
    }

    fn first(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    /// Whether it stands in `line` at byte `at`.
    pub fn stands_at(&self, line: &[u8], at: usize) -> bool {
        match *self.bytes.as_slice() {
            [] => at <= line.len(),
            [only] => line.get(at) == Some(&only),
            [first, second] => line.get(at..at + 2) == Some(&[first, second]),
            _ => line.get(at..).is_some_and(|rest| rest.starts_with(&self.bytes)),
        }
    }

    /// Where it stands first, from byte `from` on.
    fn find(&self, line: &[u8], from: usize) -> Option<usize> {
        let anchor = *self.bytes.get(self.anchor)?;
        let mut at = from + self.anchor;
        loop {
            let hit = at + memchr::memchr(anchor, line.get(at..)?)?;
            let begin = hit - self.anchor;
            if self.stands_at(line, begin) {
                return Some(begin);
            }
            at = hit + 1;
        }
    }
}

impl Slot {
    /// Where the field that starts at `start` ends, not before `from`.
    pub fn end(&self, line: &[u8], start: usize, from: usize, lenient: bool) -> Option<usize> {
        if from == start {
            let own_end = match (self.shape, &self.target) {
                (Shape::Number, _) => {
                    let end = number_end(line, start);
                    // Nothing at all is a missing number only where something other than a space encloses it.
                    let missing = end == start && matches!(self.until.first(), None | Some(b' '));
                    return (!missing && self.until.stands_at(line, end)).then_some(end);
                }
                (Shape::Text | Shape::Token, _) => start + usize::from(line.get(start) == Some(&b'-')),
                (Shape::List, _) => list_end(line, start),
                (Shape::Time, Target::Time(text)) => text.end(line, start).unwrap_or(start),
                // One that another directive has made superfluous.
                (Shape::Time, _) => start,
            };
            if own_end > start && self.until.stands_at(line, own_end) && (!self.last || own_end == line.len()) {
                return Some(own_end);
            }
        }
        if self.last {
            return self.last_end(line, start, lenient);
        }
        let end = self.search(line, start, from, lenient)?;
        // Fields are not stretched over what they never hold.
        let ends_before = match self.shape {
            Shape::Token if self.until.first() == Some(b' ') && end == start => true,
            Shape::Token => self.until.bytes != b" " && memchr::memchr(b' ', &line[start..end]).is_some(),
            _ => self.quoted && from > start && Self::holds_another(&line[start..=end]),
        };
        (!ends_before).then_some(end)
    }

    /// The first place from `from` on where the literal after the field stands.
    fn search(&self, line: &[u8], start: usize, from: usize, lenient: bool) -> Option<usize> {
        let mut end = self.until.find(line, from)?;
        while self.quoted && !lenient && is_escaped(&line[start..end]) {
            end = self.until.find(line, end + 1)?;
        }
        Some(end)
    }

    /// The end of the last field, which is where the line ends, unless a further field seems to follow.
    fn last_end(&self, line: &[u8], start: usize, lenient: bool) -> Option<usize> {
        if self.until.bytes.is_empty() {
            let rest = line.get(start..)?;
            return match self.shape {
                Shape::Token => Some(memchr::memchr(b' ', rest).map_or(line.len(), |at| start + at)),
                _ => Some(line.len()),
            };
        }
        let first = self.search(line, start, start, lenient)?;
        let last = line.len() - self.until.bytes.len();
        let ends = first < last && line.ends_with(&self.until.bytes);
        Some(if ends && !(self.quoted && Self::holds_another(&line[first..=last])) { last } else { first })
    }

    /// Whether `text`, with its closing quote, goes beyond where the next quoted field begins: no server writes `" "`
    /// into a field.
    #[cold]
    fn holds_another(text: &[u8]) -> bool {
        memchr::memmem::find(text, b"\" \"").is_some()
    }

    /// Whether a later end may be the right one.
    pub fn stretches(&self) -> bool {
        match self.shape {
            Shape::Text => true,
            // Ends at the first space, so only something before that can be the wrong end.
            Shape::Token => self.until.first() != Some(b' '),
            Shape::List | Shape::Time => true,
            Shape::Number => false,
        }
    }
}

/// Whether what follows `text` is escaped by a backslash that is not itself escaped.
fn is_escaped(text: &[u8]) -> bool {
    text.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Where a number that starts at `start` ends: there, if none does. A lone `-` is a missing one.
pub fn number_end(line: &[u8], start: usize) -> usize {
    let rest = line.get(start..).unwrap_or_default();
    let sign = usize::from(rest.first() == Some(&b'-'));
    let digits = rest[sign..].iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'.'));
    start + digits.map_or(rest.len(), |digits| sign + digits)
}

/// Where a list as nginx writes one for several upstream servers ends: `a, b : c`.
fn list_end(line: &[u8], start: usize) -> usize {
    let mut end = start;
    loop {
        end += memchr::memchr(b' ', &line[end..]).unwrap_or(line.len() - end);
        let goes_on = end > start && line[end - 1] == b',';
        if goes_on && end < line.len() {
            end += 1;
        } else if line[end..].starts_with(b" : ") {
            end += 3;
        } else {
            return end;
        }
    }
}

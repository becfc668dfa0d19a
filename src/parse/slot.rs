//! Where a field of a line ends: by its own form if it has one, else where the literal after it stands.

use super::target::{Target, TimeText};
use super::time;
use crate::json::{self, LANES};
use crate::record::Field;

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
    /// How it is read where it is as usual.
    pub quick: Option<Quick>,
}

/// Where a field is in its line.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its first byte.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
    /// Whether it is known that JSON escapes nothing in it.
    pub plain: bool,
    /// The number that it is, if that was seen already.
    pub number: Option<i64>,
}

/// How a field is found and what becomes of it, where nothing about the line is unusual.
#[derive(Debug)]
pub struct Quick {
    ends: Ends,
    /// The literal after it as a number, and which bits of that count.
    until: (u64, u64),
    until_len: usize,
    last: bool,
    /// What it fills.
    pub fills: Fills,
}

/// Where a field ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ends {
    /// At the first byte that JSON may escape, or at the first space.
    Token,
    /// At the first byte that JSON may escape.
    Text,
    /// After its digits.
    Digits,
    /// After its digits and points.
    Number,
    /// After so many bytes.
    Length(usize),
}

/// What a field fills, where that is said in a few instructions.
#[derive(Clone, Copy, Debug)]
pub enum Fills {
    /// Nothing.
    Nothing,
    /// This field, as it stands.
    Text(Field),
    /// This field, as a whole number.
    Number(Field),
    /// [`Target::Status`].
    Status,
    /// [`Target::Request`].
    Request,
    /// The time.
    Clf,
    /// What its target says.
    Target,
}

impl Quick {
    fn new(shape: Shape, target: &Target, until: &Literal, last: bool) -> Option<Self> {
        let ends = match (shape, until.first(), target) {
            (Shape::Token, Some(b' ' | b'"') | None, _) | (Shape::Text, Some(b' '), _) => Ends::Token,
            (Shape::Text, Some(b'"') | None, _) => Ends::Text,
            (Shape::Number, _, Target::Number(_) | Target::Status) => Ends::Digits,
            (Shape::Number, ..) => Ends::Number,
            (Shape::Time, _, Target::Time(TimeText::Clf)) if !last => Ends::Length(time::CLF_LEN),
            _ => return None,
        };
        let fills = match *target {
            Target::Ignored => Fills::Nothing,
            Target::Text(field) => Fills::Text(field),
            Target::Number(field) => Fills::Number(field),
            Target::Status => Fills::Status,
            Target::Request => Fills::Request,
            Target::Time(TimeText::Clf) => Fills::Clf,
            _ => Fills::Target,
        };
        Some(Self { ends, until: until.word?, until_len: until.bytes.len(), last, fills })
    }

    /// The field that starts at `start`, and where the next one does, where it is as fields nearly always are: what
    /// [`Slot::end`] finds too, but later.
    #[inline]
    pub fn find(&self, line: &[u8], start: usize) -> Option<(Found, usize)> {
        let mut found = Found { start, end: 0, plain: true, number: None };
        match self.ends {
            Ends::Token => found.end = first_stop(line, start, json::specials_and_spaces)?,
            Ends::Text => found.end = first_stop(line, start, json::specials)?,
            Ends::Digits => match short_number(line, start) {
                Some((number, length)) => {
                    found.number = Some(number);
                    found.end = start + length;
                }
                None => found.end = number_end(line, start),
            },
            Ends::Number => found.end = number_end(line, start),
            Ends::Length(length) => {
                found.end = start + length;
                found.plain = false;
            }
        }
        let rest = line.get(found.end..)?;
        let stands = match rest.first_chunk() {
            Some(next) => u64::from_le_bytes(*next) & self.until.1 == self.until.0,
            None => rest.len() >= self.until_len && first_bytes(rest) & self.until.1 == self.until.0,
        };
        let next = found.end + self.until_len;
        // A field of no bytes is unusual, and a last one that the line does not end with.
        (stands && found.end > start && (!self.last || next == line.len())).then_some((found, next))
    }
}

/// The first bytes of `text`, which has less than eight, as a number.
#[cold]
fn first_bytes(text: &[u8]) -> u64 {
    text.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The whole number of at most seven digits that stands in `line` from `start` on, and how many digits it has; `None` also
/// where the line ends within eight bytes.
#[inline]
fn short_number(line: &[u8], start: usize) -> Option<(i64, usize)> {
    let next = u64::from_le_bytes(*line.get(start..)?.first_chunk()?);
    // Digits are 0 to 9 now; what is above sets the highest bit of its byte, and perhaps of later ones.
    let digits = next ^ 0x3030_3030_3030_3030;
    let others = (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080;
    let length = others.trailing_zeros() as usize / 8;
    if length == 0 || length == 8 {
        return None;
    }
    // As eight digits, with zeros before them: pairs of digits, then all.
    let digits = digits << (64 - 8 * length);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let even = (pairs & 0xff_0000_00ff).wrapping_mul(100 + (1_000_000 << 32));
    let odd = (pairs >> 16 & 0xff_0000_00ff).wrapping_mul(1 + (10_000 << 32));
    Some(((even.wrapping_add(odd) >> 32).cast_signed(), length))
}

/// Bytes that stand in every line.
#[derive(Debug, Default)]
pub struct Literal {
    /// The bytes; none at a format's ends.
    pub bytes: Vec<u8>,
    /// Index of the byte that is searched for.
    anchor: usize,
    /// The bytes as a number, if they are at most eight, and which bits of it count.
    word: Option<(u64, u64)>,
}

impl Literal {
    /// A literal of `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        // Spaces are the most frequent bytes of a log: anything else is found with fewer false hits.
        let anchor = bytes.iter().position(|byte| *byte != b' ').unwrap_or(0);
        let word = (bytes.len() <= 8).then(|| {
            let mut word = [[0; 8]; 2];
            word[0][..bytes.len()].copy_from_slice(&bytes);
            word[1][..bytes.len()].fill(0xff);
            (u64::from_le_bytes(word[0]), u64::from_le_bytes(word[1]))
        });
        Self { bytes, anchor, word }
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
    /// A slot; `quoted` says whether it stands in double quotes, `last` whether it is the plan's last.
    pub fn new(name: String, shape: Shape, target: Target, until: Literal, quoted: bool, last: bool) -> Self {
        let quick = Quick::new(shape, &target, &until, last);
        Self { name, shape, target, until, quoted, last, quick }
    }

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

/// The first byte of `line`, from `from` on, that `stops` finds; its length, if there is none. `None` beyond its end.
#[inline]
fn first_stop(line: &[u8], from: usize, stops: impl Fn(&[u8; LANES]) -> u32) -> Option<usize> {
    let mut rest = line.get(from..)?;
    while let Some((block, after)) = rest.split_first_chunk() {
        let found = stops(block);
        if found != 0 {
            return Some(line.len() - rest.len() + found.trailing_zeros() as usize);
        }
        rest = after;
    }
    // What is left is the end of the line's last block, if it is as long as one.
    let (block, seen) = match line.last_chunk() {
        Some(block) => (*block, LANES - rest.len()),
        None => {
            let mut block = [b'-'; LANES];
            block[..rest.len()].copy_from_slice(rest);
            (block, 0)
        }
    };
    let found = u64::from(stops(&block)) >> seen;
    Some(if found == 0 { line.len() } else { line.len() - rest.len() + found.trailing_zeros() as usize })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slot(shape: Shape, until: &str, quoted: bool, last: bool) -> Slot {
        let target = match shape {
            Shape::Time => Target::Time(TimeText::Clf),
            Shape::Number if quoted => Target::Status,
            _ => Target::Ignored,
        };
        Slot::new(String::new(), shape, target, Literal::new(until.as_bytes().to_vec()), quoted, last)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn the_quick_way_finds_what_the_other_does(
            shape in prop::sample::select(vec![Shape::Text, Shape::Token, Shape::Number, Shape::List, Shape::Time]),
            until in prop::sample::select(vec!["", " ", "\"", " [", "\" ", "\" \"", " - ", "|", "] ", " \"GET / HTTP\" "]),
            (quoted, last) in any::<(bool, bool)>(),
            line in prop_oneof![
                "[ab\"\\\\ ]{0,12}",
                "[a-z0-9.-]{0,40}[ \"|]?[a-z\"\\\\ ]{0,40}",
                "[0-9]{0,9} ?.{0,9}",
                "[0-9.-]{0,4}[ \"\\]|]{1,3}.{0,20}",
                "17/May/2015:10:05:03 \\+0000.{0,9}",
            ],
            start in 0_usize..20,
        ) {
            // Only the last field has nothing after it.
            let last = last || until.is_empty();
            let slot = slot(shape, until, quoted && (until.starts_with('"') || shape == Shape::Number), last);
            let mut line = line.into_bytes();
            if line.len() % 2 == 0 {
                line.extend_from_slice(until.as_bytes());
            }
            if let Some(quick) = &slot.quick
                && start <= line.len()
                && let Some((found, next)) = quick.find(&line, start)
            {
                prop_assert_eq!(next, found.end + until.len());
                prop_assert_eq!(Some(found.end), slot.end(&line, start, start, false));
                prop_assert_eq!(Some(found.end), slot.end(&line, start, start, true));
                let text = &line[found.start..found.end];
                if found.number.is_some() {
                    prop_assert_eq!(found.number, time::number(text));
                }
                prop_assert!(!found.plain || json::is_plain(text), "{:?}", text.escape_ascii());
            }
        }

        #[test]
        fn the_first_stop_is_found_in_lines_of_any_length(line in "[a-z]{0,200}", stop in 0_usize..220, from in 0_usize..200) {
            let mut line = line.into_bytes();
            if let Some(byte) = line.get_mut(stop) {
                *byte = b'"';
            }
            let from = from.min(line.len());
            let expected = line[from..].iter().position(|byte| *byte == b'"').map_or(line.len(), |at| from + at);
            prop_assert_eq!(first_stop(&line, from, json::specials), Some(expected));
            prop_assert_eq!(first_stop(&line, from, json::specials_and_spaces), Some(expected));
        }
    }
}

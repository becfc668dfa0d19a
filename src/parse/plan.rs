//! A log format as a plan: literals and the fields between them, compiled once, walked once a line.
//!
//! A field ends where the literal after it stands. Fields with a form of their own (numbers, times, lists) say where
//! they end; texts end at the first place where the literal stands, and if the rest of the line then does not fit, at
//! the next one, so that quotes inside quotes survive. A quote after a backslash does not close, unless the line fits
//! only if it does. The number of such second thoughts is bounded, so that no line is expensive.
//!
//! Nearly every line is as usual: each field ends at the first byte that could end it. Such a line is read in one go; the
//! rest of what is said here is for the others.
//!
//! Every line becomes a document. A line that breaks keeps the fields before the break; a line that goes on after the
//! last field keeps them all; both are tagged, with `error.code` and `error.message` saying why and where and the line as
//! `message`.

use super::slot::{Fills, Literal, Shape, Slot, number_end};
use super::target::{self, Target, TimeText};
use super::time::{self, Moment, Reason};
use super::{Cache, Failure, FormatError, request};
use crate::record::{Document, Field, Value};

/// How many times a line's earlier fields are stretched before it counts as broken.
const MAX_RETRIES: usize = 64;

/// How many bytes of the line a message shows.
const SHOWN: usize = 24;

/// A piece of a format, as `apache` and `nginx` read it.
#[derive(Debug)]
pub enum Token {
    /// Bytes that stand in every line.
    Literal(Vec<u8>),
    /// A value.
    Directive {
        /// As it is written in the format.
        name: String,
        /// Where it stands in the format, in bytes.
        at: usize,
        /// What it means.
        meaning: Meaning,
    },
}

/// What a directive stands for.
#[derive(Debug)]
pub struct Meaning {
    /// What it looks like.
    pub shape: Shape,
    /// What it fills.
    pub target: Target,
    /// Where two directives fill the same field, the higher rank does.
    pub rank: u8,
}

/// A compiled format.
#[derive(Debug)]
pub struct Plan {
    head: Literal,
    slots: Vec<Slot>,
    json_escapes: bool,
}

/// How a walk over a line ended.
enum Walk {
    Whole,
    /// There is more after the last field.
    Longer {
        at: usize,
    },
    /// `slot` starts at `at` and does not end as it should.
    Broken {
        slot: usize,
        at: usize,
    },
}

impl Plan {
    /// Makes a plan of `tokens`. With `json_escapes`, values are written with the escapes of JSON strings.
    pub fn new(tokens: Vec<Token>, json_escapes: bool) -> Result<Self, FormatError> {
        let mut head = Vec::new();
        let mut slots: Vec<(String, usize, Meaning, Vec<u8>)> = Vec::new();
        for token in tokens {
            match token {
                Token::Literal(bytes) => slots.last_mut().map_or(&mut head, |slot| &mut slot.3).extend(bytes),
                Token::Directive { name, at, meaning } => match slots.last_mut() {
                    Some((before, _, left, literal)) if literal.is_empty() => {
                        let Some(target) = joined(&left.target, &meaning.target, &name) else {
                            return Err(FormatError::Adjacent { first: before.clone(), second: name, at });
                        };
                        *left = Meaning { shape: Shape::Token, target, rank: left.rank.max(meaning.rank) };
                        before.push_str(&name);
                    }
                    _ => slots.push((name, at, meaning, Vec::new())),
                },
            }
        }
        if slots.is_empty() {
            return Err(FormatError::NoFields);
        }
        settle_ranks(slots.iter_mut().map(|slot| &mut slot.2).collect());

        let count = slots.len();
        let mut quote_before = head.ends_with(b"\"");
        let slots = slots.into_iter().enumerate().map(|(index, (name, _, Meaning { shape, target, .. }, until))| {
            let quoted = quote_before && until.starts_with(b"\"");
            quote_before = until.ends_with(b"\"");
            Slot::new(name, shape, target, Literal::new(until), quoted, index + 1 == count)
        });
        Ok(Self { slots: slots.collect(), head: Literal::new(head), json_escapes })
    }

    /// Makes `doc`, which must be clear, the document of `line`.
    pub fn parse(&self, line: &[u8], doc: &mut Document, cache: &mut Cache) {
        if self.parse_quickly(line, doc, cache).is_none() {
            doc.clear();
            self.parse_thoroughly(line, doc, cache);
        }
    }

    /// The document of a line with nothing unusual about it, in one go; `None` where a second thought is needed, or
    /// something is to be said about it. What was put into `doc` by then is worth nothing.
    #[inline]
    fn parse_quickly(&self, line: &[u8], doc: &mut Document, cache: &mut Cache) -> Option<()> {
        if !self.head.stands_at(line, 0) {
            return None;
        }
        put_kind(doc);
        let mut start = self.head.bytes.len();
        let mut moment = Moment::default();
        for slot in &self.slots {
            let quick = slot.quick.as_ref()?;
            let (found, next) = quick.find(line, start)?;
            start = next;
            let text = line.get(found.start..found.end)?;
            if matches!(text, b"-") {
                continue;
            }
            match quick.fills {
                Fills::Nothing => {}
                Fills::Text(field) => doc.put_range(field, found.start, found.end, found.plain),
                Fills::Number(field) => doc.put(field, Value::Int(found.number.or_else(|| time::number(text))?)),
                Fills::Status => target::put_status(found.number.or_else(|| time::number(text))?, doc),
                Fills::Request => request::split(line, found.start, found.end, found.plain, doc),
                Fills::Clf => moment.whole = Some(cache.last_day.clf(text).ok()?),
                Fills::Target => match &slot.target {
                    Target::Time(time) => time.read(text, &mut moment, &mut cache.last_day).ok()?,
                    target => target.fill(line, (found.start, found.end), found.plain, self.json_escapes, doc).ok()?,
                },
            }
        }
        doc.time = moment.finish().ok()?;
        Some(())
    }

    #[inline(never)]
    fn parse_thoroughly(&self, line: &[u8], doc: &mut Document, cache: &mut Cache) {
        if cache.ranges.len() < self.slots.len() {
            cache.ranges.resize(self.slots.len(), (0, 0));
        }
        let mut walk = self.walk(line, false, cache);
        if matches!(walk, Walk::Broken { .. }) && memchr::memchr(b'\\', line).is_some() {
            walk = self.walk(line, true, cache);
            if matches!(walk, Walk::Broken { .. }) {
                walk = self.walk(line, false, cache);
            }
        }
        let filled = match walk {
            Walk::Whole | Walk::Longer { .. } => self.slots.len(),
            Walk::Broken { slot, .. } => {
                std::mem::swap(&mut cache.ranges, &mut cache.furthest);
                slot
            }
        };
        put_kind(doc);
        let mut moment = Moment::default();
        let mut refused: Option<(usize, Reason)> = None;
        let mut time_slot = 0;
        for (index, (slot, &(start, end))) in self.slots[..filled].iter().zip(&cache.ranges).enumerate() {
            let text = &line[start..end];
            if matches!(text, [] | b"-") {
                continue;
            }
            let result = match &slot.target {
                Target::Ignored => continue,
                Target::Time(time) => {
                    time_slot = index;
                    time.read(text, &mut moment, &mut cache.last_day)
                }
                target => target.fill(line, (start, end), false, self.json_escapes, doc),
            };
            if let Err(reason) = result {
                refused = refused.or(Some((index, reason)));
            }
        }
        match moment.finish() {
            Ok(time) => doc.time = time,
            Err(reason) => refused = refused.or(Some((time_slot, reason))),
        }
        match walk {
            Walk::Whole if refused.is_none() => {}
            _ => self.fail(line, &walk, refused, doc, cache),
        }
    }

    /// Finds where each field is and leaves that in `cache.ranges`; of a broken line, in `cache.furthest`.
    fn walk(&self, line: &[u8], lenient: bool, cache: &mut Cache) -> Walk {
        if !self.head.stands_at(line, 0) {
            cache.furthest.clear();
            cache.furthest.resize(self.slots.len(), (0, 0));
            return Walk::Broken { slot: 0, at: 0 };
        }
        let (mut index, mut start) = (0, self.head.bytes.len());
        let mut from = start;
        let mut retries = MAX_RETRIES;
        let mut broken: Option<(usize, usize)> = None;
        while let Some(slot) = self.slots.get(index) {
            if let Some(end) = slot.end(line, start, from, lenient) {
                cache.ranges[index] = (start, end);
                start = end + slot.until.bytes.len();
                from = start;
                index += 1;
                continue;
            }
            if broken.is_none_or(|(furthest, _)| index > furthest) {
                broken = Some((index, start));
                cache.furthest.clone_from(&cache.ranges);
            }
            // Back to the nearest field that can be longer than it was taken for.
            let stretchable = self.slots[..index].iter().rposition(Slot::stretches);
            match stretchable {
                Some(earlier) if retries > 0 => {
                    retries -= 1;
                    index = earlier;
                    start = cache.ranges[index].0;
                    from = cache.ranges[index].1 + 1;
                }
                _ => {
                    let (slot, at) = broken.unwrap_or_default();
                    return Walk::Broken { slot, at };
                }
            }
        }
        if start < line.len() { Walk::Longer { at: start } } else { Walk::Whole }
    }

    #[cold]
    fn fail(&self, line: &[u8], walk: &Walk, refused: Option<(usize, Reason)>, doc: &mut Document, cache: &Cache) {
        let (failure, message) = match (walk, refused) {
            (Walk::Broken { slot, at }, _) => self.describe(line, *slot, *at),
            (_, Some((slot, reason))) => {
                let (start, end) = cache.ranges[slot];
                let Slot { name, target, .. } = &self.slots[slot];
                let failure = match target {
                    Target::Time(_) => Failure::BadTime,
                    Target::Duration(_) | Target::Durations => Failure::BadDuration,
                    _ => Failure::BadNumber,
                };
                (failure, format!("at byte {start}: {name} is {}: {reason}", shown(&line[start..end])))
            }
            (Walk::Longer { at }, None) => {
                let (more, last) = (line.len() - at, self.slots.last().map_or("", |slot| &slot.name));
                let more =
                    format!("{more} more bytes after the last field ({last}) at byte {at}: {}", shown(&line[*at..]));
                (Failure::TrailingData, more)
            }
            (Walk::Whole, None) => return,
        };
        failure.put(line, doc, &message);
        doc.put(Field::EventKind, Value::Text("pipeline_error"));
    }

    /// Why the field at `index`, which starts at `at`, does not end as it should.
    fn describe(&self, line: &[u8], index: usize, at: usize) -> (Failure, String) {
        if index == 0 && !self.head.stands_at(line, 0) {
            let message = format!("at byte 0: expected {}, found {}", shown(&self.head.bytes), shown(line));
            return (Failure::WrongStart, message);
        }
        let slot = &self.slots[index];
        let name = &slot.name;
        if at >= line.len() {
            return (Failure::Truncated, format!("at byte {at}: expected {name}, the line ends"));
        }
        let until = shown(&slot.until.bytes);
        let number_end = number_end(line, at);
        if slot.shape != Shape::Number {
            let message = format!("at byte {at}: {name} is not followed by {until}: {}", shown(&line[at..]));
            (Failure::MissingSeparator, message)
        } else if number_end == at {
            (Failure::BadNumber, format!("at byte {at}: expected a number for {name}, found {}", shown(&line[at..])))
        } else {
            let found = &line[number_end..];
            let failure = if found.is_empty() { Failure::Truncated } else { Failure::MissingSeparator };
            (failure, format!("at byte {number_end}: expected {until} after {name}, found {}", shown(found)))
        }
    }

    /// Every piece of the format with what becomes of it.
    pub fn explain(&self) -> Vec<(String, String)> {
        let literal = |bytes: &[u8]| (String::from_utf8_lossy(bytes).into_owned(), "literal".to_owned());
        let mut pieces = Vec::new();
        if !self.head.bytes.is_empty() {
            pieces.push(literal(&self.head.bytes));
        }
        for slot in &self.slots {
            pieces.push((slot.name.clone(), slot.target.describe()));
            if !slot.until.bytes.is_empty() {
                pieces.push(literal(&slot.until.bytes));
            }
        }
        pieces
    }
}

/// What kind of event a line of a web server's log is.
#[inline]
fn put_kind(doc: &mut Document) {
    doc.put(Field::EventKind, Value::Text("event"));
    doc.put(Field::EventCategory, Value::StaticJson("[\"web\"]"));
    doc.put(Field::EventType, Value::StaticJson("[\"access\"]"));
}

/// The beginning of `text`, quoted and escaped, or the end of the line.
fn shown(text: &[u8]) -> String {
    match text.get(..SHOWN) {
        Some(head) if text.len() > SHOWN => format!("`{}…`", String::from_utf8_lossy(head)),
        _ if text.is_empty() => "the end of the line".to_owned(),
        _ => format!("`{}`", String::from_utf8_lossy(text)),
    }
}

/// Two directives with nothing between are one field where they make up a URL together.
fn joined(left: &Target, right: &Target, right_name: &str) -> Option<Target> {
    let is_target = |target: &Target| matches!(target, Target::Text(Field::UrlPath | Field::UrlOriginal));
    let is_tail = matches!(right, Target::Query) || right_name.trim_matches(['$', '{', '}']) == "is_args";
    match left {
        Target::Host if is_target(right) => Some(Target::UrlWithHost),
        Target::UrlWithHost if is_tail => Some(Target::UrlWithHost),
        left if is_target(left) && is_tail => Some(Target::Text(Field::UrlOriginal)),
        _ => None,
    }
}

/// Leaves each field to the directive that knows best; the others are matched and ignored.
fn settle_ranks(mut slots: Vec<&mut Meaning>) {
    // Stable: of equal ranks, the first in the format.
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.rank));
    let begins =
        slots.iter().any(|slot| matches!(&slot.target, Target::Time(text) if !matches!(text, TimeText::End(_))));
    let mut taken: Vec<Field> = Vec::new();
    let mut whole_time = false;
    for slot in &mut slots {
        if let Target::Time(TimeText::End(_)) = slot.target
            && let Target::Time(TimeText::End(inner)) = std::mem::replace(&mut slot.target, Target::Ignored)
            && !begins
        {
            slot.target = Target::Time(*inner);
        }
        let drop = match &slot.target {
            Target::Time(TimeText::Clf | TimeText::Iso | TimeText::Epoch(_)) => {
                std::mem::replace(&mut whole_time, true)
            }
            Target::Time(TimeText::Pattern(_)) => whole_time,
            // A path that the server made of the target must not contradict it.
            Target::Text(Field::UrlPath) | Target::Query if taken.contains(&Field::UrlOriginal) => true,
            target => target.fields().iter().any(|field| taken.contains(field)),
        };
        if drop {
            slot.target = Target::Ignored;
        } else {
            taken.extend_from_slice(slot.target.fields());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{apache, nginx};
    use super::*;

    const LINE: &str = concat!(
        r#"83.149.9.216 - frank [17/May/2015:10:05:03 +0000] "GET /a/b.png?c=d HTTP/1.1" 200 203023 "#,
        r#""http://example.org/x y" "Mozilla/5.0 (X11; Linux x86_64) \"quoted\" Gecko/20100101" 0.012"#
    );

    fn plans() -> Vec<Plan> {
        let nginx = concat!(
            r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "#,
            r#""$http_referer" "$http_user_agent" $request_time"#
        );
        let mut plans: Vec<Plan> = [apache::COMMON, apache::COMBINED, "%h|%u|%t|%r|%s|%b", "\"%h\" \"%b\" \"%{%s}t\""]
            .iter()
            .map(|format| apache::compile(format).unwrap())
            .collect();
        plans.push(nginx::compile(nginx).unwrap());
        plans.push(nginx::compile("$remote_addr $msec \"$request\" $upstream_response_time $status").unwrap());
        plans
    }

    fn said(doc: &Document, line: &[u8]) -> Vec<(Field, Option<i64>, Vec<u8>)> {
        let values = Field::ALL.iter().filter_map(|&field| Some((field, doc.get(field)?)));
        let said = values.map(|(field, value)| {
            let number = if let Value::Int(number) = value { Some(number) } else { None };
            (field, number, doc.bytes(field, line).unwrap_or_default().to_vec())
        });
        said.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn a_line_that_is_read_in_one_go_says_what_it_says_otherwise(
            cut in 0..LINE.len(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3, prop_oneof![any::<u8>(), prop::sample::select(b" \"\\-|019".to_vec())]), 0..4),
        ) {
            // Sometimes without the end that only some of the formats have.
            let end = if cut % 3 == 0 { LINE.len() } else { LINE.rfind(' ').unwrap() };
            let mut line = LINE.as_bytes()[if cut % 7 == 0 { cut.min(end) } else { 0 }..end].to_vec();
            for (at, kind, byte) in changes {
                if line.is_empty() {
                    break;
                }
                let at = at.index(line.len());
                match kind {
                    0 => line[at] = byte,
                    1 => line.insert(at, byte),
                    _ => drop(line.remove(at)),
                }
            }
            for plan in plans() {
                let (mut quick, mut thorough) = (Document::default(), Document::default());
                plan.parse(&line, &mut quick, &mut Cache::default());
                plan.parse_thoroughly(&line, &mut thorough, &mut Cache::default());
                prop_assert_eq!(said(&quick, &line), said(&thorough, &line), "{}", line.escape_ascii());
                prop_assert_eq!((quick.time, quick.tags), (thorough.time, thorough.tags));
            }
        }
    }

    #[test]
    fn usual_lines_are_read_in_one_go() {
        let line = LINE.replace("\\\"quoted\\\"", "quoted");
        let end = line.rfind(' ').unwrap();
        let quick = |plan: &Plan, line: &str| {
            plan.parse_quickly(line.as_bytes(), &mut Document::default(), &mut Cache::default()).is_some()
        };
        let plans = plans();
        assert!(quick(&plans[1], &line[..end]));
        assert!(quick(&plans[4], &line));
        let common = &line[..line.find(" \"http").unwrap()];
        assert!(quick(&plans[0], common));
        assert!(quick(&plans[0], &common.replace("203023", "-")));
        assert!(!quick(&plans[1], &LINE[..LINE.rfind(' ').unwrap()]), "a backslash asks for a second thought");
    }
}

//! `calendar`: the day of the week and the hour of `@timestamp` in UTC, so that a heat map of a week needs no script.
//!
//! A week has 168 hours, so all objects are made when the binary is built. Neighbouring lines share one: a line costs a
//! comparison, and the copy when it is encoded.

use std::ops::Range;

use crate::keep::Keep;
use crate::record::{Document, Field, Ready, Value};

const NANOS_PER_HOUR: i64 = 3_600_000_000_000;
const HOURS: usize = 7 * 24;

/// The objects of a week, from Monday at 0.
type Week = [Ready; HOURS];

static BOTH: Week = week(true, true);
static WEEKDAYS: Week = week(true, false);
static HOURS_OF_DAY: Week = week(false, true);

const NAMES: [&[u8; 5]; 7] = [b"1 Mon", b"2 Tue", b"3 Wed", b"4 Thu", b"5 Fri", b"6 Sat", b"7 Sun"];

#[derive(Debug)]
pub(super) struct Calendar {
    week: &'static Week,
    /// The hour of `now`, in ns since 1970.
    hour: Range<i64>,
    now: &'static Ready,
}

impl Calendar {
    /// `None` if neither field is kept.
    pub(super) fn new(keep: &Keep) -> Option<Self> {
        let week = match (keep.keeps("calendar.weekday"), keep.keeps("calendar.hour")) {
            (true, true) => &BOTH,
            (true, false) => &WEEKDAYS,
            (false, true) => &HOURS_OF_DAY,
            (false, false) => return None,
        };
        Some(Self { week, hour: 0..NANOS_PER_HOUR, now: hour_of(week, 0) })
    }

    /// `time`: `@timestamp` in ns since 1970.
    #[inline]
    pub(super) fn apply(&mut self, time: i64, doc: &mut Document) {
        if !self.hour.contains(&time) {
            self.turn(time);
        }
        doc.put(Field::Calendar, Value::Ready(self.now));
    }

    #[cold]
    fn turn(&mut self, time: i64) {
        let hour = time.div_euclid(NANOS_PER_HOUR);
        // An i64 does not say all of its first and its last hour.
        self.hour = hour.saturating_mul(NANOS_PER_HOUR)..(hour + 1).saturating_mul(NANOS_PER_HOUR);
        self.now = hour_of(self.week, hour);
    }
}

/// The object of an hour, counted from the first of 1970.
fn hour_of(week: &'static Week, hour: i64) -> &'static Ready {
    // 1970-01-01 was a Thursday.
    &week[(hour + 3 * 24).rem_euclid(HOURS as i64) as usize]
}

const fn week(weekday: bool, hour: bool) -> Week {
    let mut week = [Ready::new(b"{}"); HOURS];
    let mut at = 0;
    while at < HOURS {
        let mut object = Ready::new(b"{");
        if weekday {
            object = object.and(b"\"weekday\":\"").and(NAMES[at / 24]).and(b"\"");
        }
        if weekday && hour {
            object = object.and(b",");
        }
        if hour {
            let digits = [b'0' + (at % 24 / 10) as u8, b'0' + (at % 24 % 10) as u8];
            object = object.and(b"\"hour\":").and(if at % 24 < 10 { digits.split_at(1).1 } else { &digits });
        }
        week[at] = object.and(b"}");
        at += 1;
    }
    week
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: &[&str] = &[];

    fn calendar(keep: &[&str]) -> Option<Calendar> {
        Calendar::new(&Keep::new(&keep.iter().map(ToString::to_string).collect::<Vec<_>>()))
    }

    fn object(calendar: &mut Calendar, time: i64) -> String {
        let mut doc = Document::default();
        calendar.apply(time, &mut doc);
        String::from_utf8(doc.bytes(Field::Calendar, b"").unwrap().to_vec()).unwrap()
    }

    fn by_jiff(time: i64) -> String {
        let time = jiff::Timestamp::from_nanosecond(time.into()).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        let number = time.weekday().to_monday_one_offset();
        format!(r#"{{"weekday":"{number} {}","hour":{}}}"#, time.strftime("%a"), time.hour())
    }

    #[test]
    fn days_and_hours_of_known_times() {
        let mut calendar = calendar(ALL).unwrap();
        for (time, day, hour) in [
            ("1970-01-01T00:00:00Z", "4 Thu", 0),
            ("1969-12-31T23:59:59.999999999Z", "3 Wed", 23),
            ("1969-07-20T20:17:40Z", "7 Sun", 20),
            ("1900-02-28T12:00:00Z", "3 Wed", 12),
            ("1900-03-01T12:00:00Z", "4 Thu", 12),
            ("2000-02-29T09:59:59Z", "2 Tue", 9),
            ("2000-02-29T10:00:00Z", "2 Tue", 10),
            ("2024-02-29T23:59:59Z", "4 Thu", 23),
            ("2024-03-01T00:00:00Z", "5 Fri", 0),
            ("2100-02-28T23:00:00Z", "7 Sun", 23),
            ("2100-03-01T00:00:00Z", "1 Mon", 0),
            ("2026-11-21T07:00:00+09:00", "5 Fri", 22),
            ("2026-11-21T00:00:00Z", "6 Sat", 0),
        ] {
            let nanos = i64::try_from(time.parse::<jiff::Timestamp>().unwrap().as_nanosecond()).unwrap();
            assert_eq!(object(&mut calendar, nanos), format!(r#"{{"weekday":"{day}","hour":{hour}}}"#), "{time}");
        }
    }

    #[test]
    fn the_ends_of_time_have_a_day_too() {
        let mut calendar = calendar(ALL).unwrap();
        for hours in [0, 1, 2] {
            for time in [i64::MIN, i64::MAX, i64::MIN + hours * NANOS_PER_HOUR, i64::MAX - hours * NANOS_PER_HOUR] {
                assert_eq!(object(&mut calendar, time), by_jiff(time), "{time}");
            }
        }
    }

    #[test]
    fn only_what_is_kept_is_made() {
        for (keep, expected) in [
            (ALL, Some(r#"{"weekday":"4 Thu","hour":0}"#)),
            (&["calendar"], Some(r#"{"weekday":"4 Thu","hour":0}"#)),
            (&["calendar.weekday", "url"], Some(r#"{"weekday":"4 Thu"}"#)),
            (&["calendar.hour"], Some(r#"{"hour":0}"#)),
            (&["url"], None),
        ] {
            let made = calendar(keep).map(|mut calendar| object(&mut calendar, 0));
            assert_eq!(made.as_deref(), expected, "{keep:?}");
        }
    }

    proptest! {
        #[test]
        fn every_time_has_the_day_and_hour_that_jiff_says(
            times in prop::collection::vec((any::<i64>(), -2 * NANOS_PER_HOUR..2 * NANOS_PER_HOUR), 1..9)
        ) {
            let mut calendar = calendar(ALL).unwrap();
            for (time, step) in times {
                for time in [time, time.saturating_add(step), time] {
                    prop_assert_eq!(object(&mut calendar, time), by_jiff(time));
                }
            }
        }
    }
}

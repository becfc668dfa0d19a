//! When events happen. Time is cut into short slots; how many events fall into a slot follows the load, exactly and
//! without chance, and inside a slot they are evenly spaced. No real clock is read here, so a run can be repeated.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::phase::Phase;
use crate::scenario::Scenario;

/// When a run begins, how dense its events are, and when it ends.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The time from which events are laid out.
    pub start: Timestamp,
    /// How dense events are.
    pub load: Load,
    /// Ends the run after this many events.
    pub total: Option<u64>,
    /// Ends the run after this much of the events' own time.
    pub duration: Option<Duration>,
}

/// How dense events are.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// The scenario's `virtual_rate`, all the time.
    Virtual,
    /// This many events per second, all the time.
    Steady(f64),
    /// This many events per second on average over a day without episodes; more or less as day curve and episodes
    /// have it.
    Varying(f64),
    /// As many as the schedule's `total` needs to fill its `duration`, following day curve and episodes.
    Filling,
}

/// Length of a slot: fine enough for the phases of a cycle.
fn slot_ns(cycle_ns: u64) -> u64 {
    (cycle_ns / 1000).clamp(1_000_000, 1_000_000_000)
}

impl Schedule {
    /// The length of a cycle of episodes: the whole run where its length is known.
    fn cycle_ns(&self, scenario: &Scenario) -> Result<u64> {
        let seconds_per_event = match self.load {
            Load::Virtual => 1.0 / scenario.virtual_rate,
            Load::Steady(rate) | Load::Varying(rate) => 1.0 / rate,
            Load::Filling => 0.0,
        };
        let cycle = match (self.duration, self.total) {
            (Some(duration), _) => duration,
            (None, Some(total)) => Duration::try_from_secs_f64(total as f64 * seconds_per_event)?,
            (None, None) => scenario.cycle,
        };
        let cycle_ns = u64::try_from(cycle.as_nanos()).context("the run is longer than 500 years")?;
        Ok(cycle_ns.max(1))
    }
}

/// How busy each moment of a cycle is.
#[derive(Clone, Debug)]
struct Profile {
    /// Mean 1.
    day_curve: [f64; 24],
    /// End as a fraction of the cycle, and intensity.
    phases: Vec<(f64, f64)>,
}

/// Hands out the times of events.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    start_ns: i64,
    pub(crate) cycle_ns: u64,
    end_ns: Option<u64>,
    remaining: Option<u64>,
    /// Events per second at weight 1.
    rate: f64,
    /// None: the weight is always 1.
    profile: Option<Profile>,
    /// All remaining events must fall before `end_ns`.
    fills: bool,
    slot_begin_ns: u64,
    slot_ns: u64,
    slot_events: u64,
    slot_next: u64,
    /// The fraction of an event that is due but not yet handed out.
    due: f64,
}

impl Clock {
    pub(crate) fn new(schedule: &Schedule, scenario: &Scenario, phases: &[Phase]) -> Result<Self> {
        if let Load::Steady(rate) | Load::Varying(rate) = schedule.load {
            ensure!((0.001..=1e9).contains(&rate), "the rate must be between 0.001 and 1e9 events/s");
        }
        let fills = matches!(schedule.load, Load::Filling);
        let cycle_ns = schedule.cycle_ns(scenario)?;
        let mean = scenario.day_curve.iter().sum::<f64>() / 24.0;
        let profile = Profile {
            day_curve: scenario.day_curve.map(|weight| weight / mean),
            phases: phases.iter().map(|phase| (phase.end, phase.intensity)).collect(),
        };
        let varies = fills || matches!(schedule.load, Load::Varying(_));
        let mut clock = Self {
            start_ns: i64::try_from(schedule.start.as_nanosecond()).context("the start is beyond the year 2262")?,
            cycle_ns,
            end_ns: schedule.duration.map(|_| cycle_ns),
            remaining: schedule.total,
            rate: 0.0,
            profile: varies.then_some(profile),
            fills,
            slot_begin_ns: 0,
            slot_ns: 0,
            slot_events: 0,
            slot_next: 0,
            due: 0.0,
        };
        clock.rate = match (schedule.load, schedule.total) {
            (Load::Virtual, _) => scenario.virtual_rate,
            (Load::Steady(rate) | Load::Varying(rate), _) => rate,
            (Load::Filling, Some(total)) if clock.end_ns.is_some() => {
                let seconds = clock.weighted_seconds();
                ensure!(seconds > 0.0, "the day curve has no traffic in this span");
                total as f64 / seconds
            }
            (Load::Filling, _) => anyhow::bail!("a filling load needs a total and a duration"),
        };
        Ok(clock)
    }

    /// The time of an offset from the start, both in nanoseconds.
    pub(crate) fn time_ns(&self, offset_ns: u64) -> i64 {
        self.start_ns.saturating_add_unsigned(offset_ns)
    }

    /// The offset of the next event from the start, in nanoseconds; never less than the one before.
    pub(crate) fn next_offset_ns(&mut self) -> Option<u64> {
        if self.remaining == Some(0) {
            return None;
        }
        while self.slot_next == self.slot_events {
            if !self.open_next_slot() {
                return None;
            }
        }
        let position = u128::from(self.slot_ns) * u128::from(2 * self.slot_next + 1) / u128::from(2 * self.slot_events);
        self.slot_next += 1;
        if let Some(remaining) = &mut self.remaining {
            *remaining -= 1;
        }
        Some(self.slot_begin_ns + position as u64)
    }

    /// False at the end of the run.
    fn open_next_slot(&mut self) -> bool {
        let begin_ns = self.slot_begin_ns + self.slot_ns;
        let left_ns = self.end_ns.map_or(u64::MAX, |end_ns| end_ns - begin_ns);
        if left_ns == 0 {
            return false;
        }
        self.slot_begin_ns = begin_ns;
        self.slot_ns = slot_ns(self.cycle_ns).min(left_ns);
        self.due += self.rate * self.weight(begin_ns) * self.slot_ns as f64 * 1e-9;
        // Sums of floats fall short of whole numbers by less than this.
        let events = (self.due + 1e-6).floor();
        self.due -= events;
        self.slot_events = events as u64;
        self.slot_next = 0;
        if let Some(remaining) = self.remaining
            && self.fills
            && self.slot_ns == left_ns
        {
            self.slot_events = remaining;
        }
        true
    }

    fn weight(&self, offset_ns: u64) -> f64 {
        let Some(profile) = &self.profile else { return 1.0 };
        let fraction = (offset_ns % self.cycle_ns) as f64 / self.cycle_ns as f64;
        let intensity = profile.phases.iter().find(|(end, _)| fraction < *end).map_or(1.0, |(_, intensity)| *intensity);
        let second_of_day = self.time_ns(offset_ns).div_euclid(1_000_000_000).rem_euclid(86_400);
        let (hour, second) = (second_of_day / 3600, second_of_day % 3600);
        let (this, next) = (profile.day_curve[hour as usize], profile.day_curve[(hour as usize + 1) % 24]);
        intensity * (this + (next - this) * second as f64 / 3600.0)
    }

    /// Seconds until the end, each counted by its weight.
    fn weighted_seconds(&self) -> f64 {
        let end_ns = self.end_ns.unwrap_or(0);
        let step_ns = slot_ns(self.cycle_ns);
        let mut sum = 0.0;
        let mut begin_ns = 0;
        while begin_ns < end_ns {
            let width_ns = step_ns.min(end_ns - begin_ns);
            sum += self.weight(begin_ns) * width_ns as f64 * 1e-9;
            begin_ns += width_ns;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Load, Schedule};
    use crate::phase::phases;
    use crate::scenario::Scenario;
    use jiff::Timestamp;
    use std::time::Duration;

    fn offsets_ns(load: Load, total: Option<u64>, duration: Option<Duration>) -> Vec<u64> {
        let start: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let scenario = Scenario::shop();
        let schedule = Schedule { start, load, total, duration };
        let mut clock = Clock::new(&schedule, &scenario, &phases(&scenario).unwrap()).unwrap();
        std::iter::from_fn(|| clock.next_offset_ns()).collect()
    }

    #[test]
    fn a_steady_load_gives_rate_times_duration_events() {
        for (rate, seconds, expected) in [(3.0, 30, 90), (0.1, 60, 6), (1234.5, 10, 12_345)] {
            let offsets = offsets_ns(Load::Steady(rate), None, Some(Duration::from_secs(seconds)));
            assert_eq!(offsets.len(), expected, "{rate} events/s for {seconds} s");
        }
    }

    #[test]
    fn a_filling_load_spreads_exactly_its_total_over_the_span_in_order() {
        let day = Duration::from_secs(86_400);
        let offsets = offsets_ns(Load::Filling, Some(50_000), Some(day));
        assert_eq!(offsets.len(), 50_000);
        assert!(offsets.is_sorted());
        assert!(offsets[49_999] < day.as_nanos() as u64);
        let in_hour = |hour: u64| offsets.iter().filter(|offset| **offset / 3_600_000_000_000 == hour).count();
        assert!(in_hour(13) > 2 * in_hour(3), "the day is busier than the night");
    }

    #[test]
    fn a_total_ends_a_run_without_a_duration() {
        assert_eq!(offsets_ns(Load::Virtual, Some(12_345), None).len(), 12_345);
    }
}

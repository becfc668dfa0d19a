//! A figure beside what was expected of it.

use serde::Serialize;

use crate::stats::{mib, thousands};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    PerSecond,
    Microseconds,
    Milliseconds,
    Bytes,
    Mebibytes,
    Percent,
    Count,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond | Self::Count => thousands(value),
            Self::Microseconds => format!("{value:.2} µs"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::Bytes => format!("{value:.1} B"),
            Self::Mebibytes => format!("{value:.1} MiB"),
            // Of a core in an idle process, a tenth counts.
            Self::Percent => format!("{value:.*} %", if value < 10.0 { 3 } else { 1 }),
        }
    }
}

/// From which side a figure is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast,
    AtMost,
}

/// What is expected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Goal {
    bound: Bound,
    /// On the reference machine.
    value: f64,
    /// Whether a machine that finds newlines twice as fast has to do twice as well.
    scales: bool,
}

impl Goal {
    pub(crate) const fn at_least(value: f64) -> Self {
        Self { bound: Bound::AtLeast, value, scales: false }
    }

    pub(crate) const fn at_most(value: f64) -> Self {
        Self { bound: Bound::AtMost, value, scales: false }
    }

    /// The same, for work that a faster machine does faster.
    pub(crate) const fn scaled(self) -> Self {
        Self { scales: true, ..self }
    }

    /// What can be expected of a machine that is `scale` times as fast as the reference machine.
    fn here(self, scale: f64) -> f64 {
        match self.bound {
            _ if !self.scales => self.value,
            Bound::AtLeast => self.value * scale,
            Bound::AtMost => self.value / scale,
        }
    }
}

/// A measured figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    what: String,
    unit: Unit,
    goal: Option<Goal>,
    /// The goal on this machine.
    here: Option<f64>,
    measured: f64,
    met: Option<bool>,
}

impl Figure {
    /// Without a goal.
    pub(crate) fn new(what: impl Into<String>, unit: Unit, measured: f64) -> Self {
        Self { what: what.into(), unit, goal: None, here: None, measured, met: None }
    }

    /// The most memory that any round had at once.
    pub(crate) fn peak_memory(rounds: impl Iterator<Item = u64>) -> Self {
        Self::new("memory, peak", Unit::Mebibytes, mib(rounds.max().unwrap_or(0)))
    }

    /// With a goal, on a machine that is `scale` times as fast as the reference machine. What is not a number meets none.
    pub(crate) fn judged(self, goal: Goal, scale: f64) -> Self {
        let here = goal.here(scale);
        let met = match goal.bound {
            Bound::AtLeast => self.measured >= here,
            Bound::AtMost => self.measured <= here,
        };
        Self { goal: Some(goal), here: Some(here), met: Some(met), ..self }
    }

    /// The same with more before its name.
    pub(crate) fn renamed(self, before: &str) -> Self {
        Self { what: format!("{before}{}", self.what), ..self }
    }

    /// Whether it has a goal that was missed.
    pub(crate) fn missed(&self) -> bool {
        self.met == Some(false)
    }

    /// Name, goal, goal here, measured, verdict.
    pub(crate) fn cells(&self) -> [String; 5] {
        let sign = |bound| if bound == Bound::AtLeast { '≥' } else { '≤' };
        let bounded = |value: Option<f64>| match self.goal.zip(value) {
            Some((goal, value)) => format!("{} {}", sign(goal.bound), self.unit.show(value)),
            None => "-".to_owned(),
        };
        let verdict = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "no goal",
        };
        [
            self.what.clone(),
            bounded(self.goal.map(|goal| goal.value)),
            bounded(self.here),
            self.unit.show(self.measured),
            verdict.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(goal: Goal, scale: f64, measured: f64) -> bool {
        Figure::new("x", Unit::Count, measured).judged(goal, scale).missed()
    }

    #[test]
    fn speed_has_a_floor_and_cost_a_ceiling() {
        for (goal, measured, expected) in [
            (Goal::at_least(10.0), 11.0, false),
            (Goal::at_least(10.0), 10.0, false),
            (Goal::at_least(10.0), 9.0, true),
            (Goal::at_most(1.6), 1.5, false),
            (Goal::at_most(1.6), 1.7, true),
            (Goal::at_most(1.6), f64::NAN, true),
            (Goal::at_least(1.6), f64::NAN, true),
        ] {
            assert_eq!(missed(goal, 1.0, measured), expected, "{goal:?} {measured}");
        }
        assert!(!Figure::new("x", Unit::Count, 1.0).missed());
    }

    #[test]
    fn a_goal_scales_with_the_machine_only_where_it_says_so() {
        assert!(missed(Goal::at_least(10.0).scaled(), 2.0, 19.0));
        assert!(!missed(Goal::at_least(10.0).scaled(), 0.5, 5.0));
        assert!(missed(Goal::at_most(10.0).scaled(), 2.0, 6.0));
        assert!(!missed(Goal::at_most(10.0).scaled(), 0.5, 20.0));
        assert!(missed(Goal::at_most(10.0), 0.5, 20.0));
    }

    #[test]
    fn both_goals_are_shown() {
        let figure = Figure::new("events/s", Unit::PerSecond, 1_500_000.0).judged(Goal::at_least(2e6).scaled(), 0.5);
        assert_eq!(figure.cells(), ["events/s", "≥ 2,000,000", "≥ 1,000,000", "1,500,000", "met"].map(str::to_owned));
    }
}

//! A history: what is configured, and what happens when. Drawn from a seed, each with a part of all kinds of faults, so
//! that rare ones meet; and made smaller once it fails.

use std::fmt;

use super::cluster::Trap;
use super::dice::Dice;
use super::lines::Sort;

#[derive(Clone, Debug)]
pub struct History {
    pub seed: u64,
    pub setup: Setup,
    pub steps: Vec<Step>,
}

/// What one history has from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Setup {
    pub mode: Mode,
    /// Whether the file system knows when a file was made.
    pub births: bool,
    /// Whether it gives the numbers of files that are gone to new ones.
    pub reuse: bool,
    pub hints: Hints,
    /// Whether files begin with an equal line, and how many bytes it has beside its number.
    pub header: Option<usize>,
    pub max_docs: usize,
    pub max_bytes: u64,
    pub shares: u64,
    pub reserve_ahead: u64,
    pub max_in_flight: usize,
    pub max_open_files: usize,
    pub pumps: usize,
    pub refresh_ms: u64,
    /// The longest time between two looks of the follower, the pumps and the committer, in ms.
    pub slice_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Mode {
    Tail,
    ChunksKept,
    ChunksDeleted,
    ChunksArchived,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hints {
    Prompt,
    Late,
    Some,
    None,
}

#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// When, in ms.
    pub at: u64,
    pub what: What,
}

/// What can happen. Logs and their rotated files are known by number.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// Lines are appended; with `half`, the last one only begins and is finished next time.
    Append {
        log: usize,
        lines: u64,
        sort: Sort,
        padding: usize,
        half: bool,
    },
    /// The log gets the name `.1`; with `lingers`, its writer notices only after the next lines.
    Rename {
        log: usize,
        lingers: bool,
    },
    /// The log is copied to `.1` in so many steps, then truncated; with `between`, lines are written that only the log had.
    CopyTruncate {
        log: usize,
        parts: u64,
        between: bool,
    },
    Truncate {
        log: usize,
    },
    /// A rotated file is removed.
    Remove {
        log: usize,
        number: usize,
    },
    /// A rotated file is packed, then removed.
    Pack {
        log: usize,
        number: usize,
    },
    /// A second name for the log.
    Link {
        log: usize,
    },
    /// A file that arrives as a whole, or is written in its place in parts; with `again`, under a name used before.
    Chunk {
        lines: u64,
        padding: usize,
        moved_in: bool,
        again: bool,
        unended: bool,
    },
    RollOver,
    Trouble {
        trouble: Trouble,
        lasts: u64,
        percent: u64,
    },
    StoreFull {
        lasts: u64,
    },
    LettersFull {
        lasts: u64,
    },
    /// The process dies, and starts again after so many ms.
    Kill {
        down: u64,
    },
    /// It dies at the next time that this is reached.
    KillAt {
        trap: Trap,
        down: u64,
    },
    /// The machine dies: what is not synced is forgotten.
    PowerCut {
        down: u64,
    },
    /// The process is asked to end.
    Stop {
        down: u64,
    },
    /// It dies, and the store is deleted.
    LoseStore {
        down: u64,
    },
}

/// What can be wrong between us and the cluster, or in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Trouble {
    Unreachable,
    NeverArrives,
    ReplyLost,
    HalfReply,
    Late,
    Page,
    Gateway,
    Busy,
    TooLarge,
    Forbidden,
    ItemsBusy,
    ItemsBroken,
    Blocked,
}

const TROUBLES: [Trouble; 13] = [
    Trouble::Unreachable,
    Trouble::NeverArrives,
    Trouble::ReplyLost,
    Trouble::HalfReply,
    Trouble::Late,
    Trouble::Page,
    Trouble::Gateway,
    Trouble::Busy,
    Trouble::TooLarge,
    Trouble::Forbidden,
    Trouble::ItemsBusy,
    Trouble::ItemsBroken,
    Trouble::Blocked,
];

const TRAPS: [Trap; 4] = [Trap::BeforeSend, Trap::BeforeApply, Trap::AfterApply, Trap::BeforeReply];

/// How many logs there are at most.
pub const LOGS: usize = 3;

impl History {
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let setup = Setup::draw(&mut dice);
        // What is not among these does not happen in this history.
        let each = dice.pick(&[20, 40, 70]);
        let troubles: Vec<Trouble> = TROUBLES.into_iter().filter(|_| dice.chance(each)).collect();
        let mut deaths = Vec::new();
        let mut rotations = Vec::new();
        for kind in 0..5 {
            if dice.chance(each) {
                deaths.push(kind);
            }
        }
        for kind in 0..6 {
            if dice.chance(each) {
                rotations.push(kind);
            }
        }
        let rolls = dice.chance(60);
        let full = dice.chance(20);
        let logs = usize::try_from(dice.range(1, LOGS as u64)).unwrap_or(1);
        let pace = dice.pick(&[50, 200, 600]);
        let mut steps = Vec::new();
        let mut at = 0;
        for _ in 0..dice.range(6, 30) {
            at += dice.range(0, pace);
            let log = usize::try_from(dice.range(0, logs as u64 - 1)).unwrap_or(0);
            let number = usize::try_from(dice.range(1, 3)).unwrap_or(1);
            let what = match dice.range(0, 99) {
                0..50 if setup.mode == Mode::Tail => What::Append {
                    log,
                    lines: dice.range(1, 12),
                    sort: dice.pick(&[Sort::Plain, Sort::Plain, Sort::Plain, Sort::Refused, Sort::Skipped]),
                    padding: dice.pick(&[0, 5, 30, 400]),
                    half: dice.chance(15),
                },
                0..60 if setup.mode != Mode::Tail => What::Chunk {
                    lines: dice.range(0, 15),
                    padding: dice.pick(&[0, 5, 30, 400]),
                    moved_in: dice.chance(50),
                    again: dice.chance(20),
                    unended: dice.chance(20),
                },
                50..68 if setup.mode == Mode::Tail && !rotations.is_empty() => match dice.pick(&rotations) {
                    0 => What::Rename { log, lingers: dice.chance(40) },
                    1 => What::CopyTruncate { log, parts: dice.range(1, 3), between: false },
                    2 => What::Truncate { log },
                    3 => What::Remove { log, number },
                    4 => What::Pack { log, number },
                    _ => What::Link { log },
                },
                68..76 if rolls => What::RollOver,
                76..88 if !troubles.is_empty() => What::Trouble {
                    trouble: dice.pick(&troubles),
                    lasts: dice.pick(&[200, 1000, 4000]),
                    percent: dice.pick(&[30, 70, 100]),
                },
                88..90 if full => What::StoreFull { lasts: dice.range(200, 3000) },
                90..92 if full => What::LettersFull { lasts: dice.range(200, 3000) },
                92..100 if !deaths.is_empty() => {
                    let down = dice.pick(&[100, 300, 1500]);
                    match dice.pick(&deaths) {
                        0 => What::Kill { down },
                        1 => What::PowerCut { down },
                        2 => What::Stop { down },
                        3 => What::LoseStore { down },
                        _ => What::KillAt { trap: dice.pick(&TRAPS), down },
                    }
                }
                _ => continue,
            };
            steps.push(Step { at, what });
        }
        Self { seed, setup, steps }
    }

    /// The fewest steps with which it still fails.
    pub fn shrink(mut self, fails: impl Fn(&Self) -> bool) -> Self {
        let mut part = self.steps.len().div_ceil(2);
        while part > 0 {
            let mut start = 0;
            while start < self.steps.len() {
                let mut fewer = self.clone();
                fewer.steps.drain(start..(start + part).min(self.steps.len()));
                if fails(&fewer) {
                    self = fewer;
                } else {
                    start += part;
                }
            }
            part /= 2;
        }
        self
    }
}

impl Setup {
    fn draw(dice: &mut Dice) -> Self {
        Self {
            mode: dice.pick(&[
                Mode::Tail,
                Mode::Tail,
                Mode::Tail,
                Mode::Tail,
                Mode::Tail,
                Mode::ChunksKept,
                Mode::ChunksDeleted,
                Mode::ChunksArchived,
            ]),
            births: dice.chance(70),
            reuse: dice.chance(50),
            hints: dice.pick(&[Hints::Prompt, Hints::Late, Hints::Some, Hints::None]),
            header: dice.pick(&[None, None, None, None, Some(10), Some(1500)]),
            max_docs: dice.pick(&[1, 4, 20]),
            max_bytes: dice.pick(&[1_000, 4_000]),
            shares: dice.pick(&[1, 2, 6]),
            reserve_ahead: dice.pick(&[0, 100, 1_000, 100_000]),
            max_in_flight: dice.pick(&[1, 2, 4]),
            max_open_files: dice.pick(&[4, 64]),
            pumps: dice.pick(&[1, 2]),
            refresh_ms: dice.pick(&[300, 1_000, 60_000]),
            slice_ms: dice.pick(&[20, 60, 120]),
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "  {:?}", self.setup)?;
        for step in &self.steps {
            writeln!(f, "  {:>6} ms  {:?}", step.at, step.what)?;
        }
        Ok(())
    }
}

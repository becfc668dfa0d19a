//! What is done to the daemon and to what it depends on. Every fault ends by itself; what is told apart in the report is
//! one kind each.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration_tests::dice::Dice;
use integration_tests::proxy::{Fault as Spoil, Response, Times, Which};
use serde::Serialize;

use crate::world::{TARGET, World};

/// Longer than any fault should need to be met by a request.
const PATIENCE: Duration = Duration::from_secs(30);

/// A kind of fault that is drawn. (Rotation by rename and by copytruncate comes with the traffic.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    DaemonKilled,
    DaemonStopped,
    NodeKilled,
    NodePaused,
    ConnectionCut,
    ReplyLost,
    HalfReply,
    Rollover,
    TooManyRequests,
    DiskFull,
    IndexBlocked,
}

impl Kind {
    pub(crate) const ALL: [Self; 11] = [
        Self::DaemonKilled,
        Self::DaemonStopped,
        Self::NodeKilled,
        Self::NodePaused,
        Self::ConnectionCut,
        Self::ReplyLost,
        Self::HalfReply,
        Self::Rollover,
        Self::TooManyRequests,
        Self::DiskFull,
        Self::IndexBlocked,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DaemonKilled => "daemon killed",
            Self::DaemonStopped => "daemon stopped",
            Self::NodeKilled => "node killed",
            Self::NodePaused => "node paused",
            Self::ConnectionCut => "connection cut",
            Self::ReplyLost => "reply lost",
            Self::HalfReply => "half a reply",
            Self::Rollover => "rollover",
            Self::TooManyRequests => "429 storm",
            Self::DiskFull => "disk full",
            Self::IndexBlocked => "index blocked",
        }
    }

    /// Does it, and ends it.
    pub(crate) fn strike(self, world: &mut World, dice: &mut Dice) -> Result<()> {
        match self {
            Self::DaemonKilled => {
                world.kill_daemon()?;
                sleep(dice.between(0, 800));
                world.start_daemon();
            }
            Self::DaemonStopped => {
                world.stop_daemon()?;
                sleep(dice.between(0, 800));
                world.start_daemon();
            }
            Self::NodeKilled => {
                world.node.control("kill");
                sleep(dice.between(0, 1000));
                world.restart_node();
            }
            Self::NodePaused => {
                world.node.control("pause");
                // Some of them longer than a request may take.
                sleep(dice.between(500, 10_000));
                world.node.control("resume");
            }
            Self::ConnectionCut => {
                let mut cut = 0;
                let began = Instant::now();
                // One at least while a request is on its way or could be.
                while cut == 0 {
                    ensure!(began.elapsed() < PATIENCE, "there was no connection to cut");
                    cut = world.proxy.cut();
                    sleep(dice.between(5, 100));
                }
            }
            Self::ReplyLost => spoil_replies(world, dice, Spoil::LoseReply)?,
            Self::HalfReply => spoil_replies(world, dice, Spoil::HalfReply)?,
            Self::Rollover => {
                world.node.ok("POST", &format!("{TARGET}/_rollover"), None);
            }
            Self::TooManyRequests => {
                let before = world.proxy.count("say");
                let body = r#"{"error":{"type":"es_rejected_execution_exception","reason":"soak"},"status":429}"#;
                let refusal = Spoil::Say(Response::new(429, "application/json", body));
                let rule = world.proxy.inject(Which::Bulk, refusal, Times::Always);
                sleep(dice.between(500, 2500));
                met(world, "say", before + 1)?;
                world.proxy.lift(rule);
            }
            Self::DiskFull => world.fill_disk(|| sleep(dice.between(500, 2500)))?,
            Self::IndexBlocked => {
                let block = ["write", "read_only_allow_delete"][usize::from(dice.below(2) == 0)];
                world.block_index(block, true);
                sleep(dice.between(300, 2000));
                world.block_index(block, false);
            }
        }
        Ok(())
    }
}

/// The next one to three bulk requests are passed on, but not their replies.
fn spoil_replies(world: &mut World, dice: &mut Dice, fault: Spoil) -> Result<()> {
    let times = 1 + dice.below(3);
    let (name, before) = (fault.name(), world.proxy.count(fault.name()));
    let rule = world.proxy.inject(Which::Bulk, fault, Times::Next(times));
    met(world, name, before + times)?;
    world.proxy.lift(rule);
    Ok(())
}

/// Waits until so many requests met a fault.
fn met(world: &World, name: &str, times: u64) -> Result<()> {
    let began = Instant::now();
    while world.proxy.count(name) < times {
        ensure!(began.elapsed() < PATIENCE, "no request came to meet: {name}");
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

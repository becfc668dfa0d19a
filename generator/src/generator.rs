//! Draws events from a scenario, one after the other, and renders each as a line. Equal arguments give equal bytes;
//! a dirty fraction spoils lines but leaves the traffic underneath as it is.

use anyhow::{Result, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::catalog::Catalog;
use crate::dirty::Dirty;
use crate::event::Event;
use crate::format::{Format, Renderer, push_number};
use crate::sample::{draw_normals, draw_rank};
use crate::scenario::{ErrorText, Scenario};
use crate::schedule::{Clock, Schedule};

/// Separates the draws of dirt from those of traffic, which begin at the bare seed.
const DIRT_STREAM: u64 = 0x6469_7274;
/// Pages about errors are short, whatever the endpoint.
const ERROR_BODY_MAX_BYTES: u64 = 600;

/// What, beside scenario and schedule, decides which bytes are written.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Equal seeds give equal traffic.
    pub seed: u64,
    /// The format of the lines.
    pub format: Format,
    /// The share of lines that are spoilt, 0 to 1; each way of [`Dirty`] is equally likely.
    pub dirty: f64,
}

/// Renders events line by line, until the schedule ends.
#[derive(Clone, Debug)]
pub struct Generator {
    catalog: Catalog,
    clock: Clock,
    renderer: Renderer,
    settings: Settings,
    dirty_ways: Vec<Dirty>,
    /// For the traffic; dirt has its own, so that it leaves the traffic as it is.
    rng: SmallRng,
    dirt_rng: SmallRng,
    next_offset_ns: Option<u64>,
    phase: usize,
    /// The offsets between which `phase` holds.
    phase_ns: std::ops::Range<u64>,
    query: Vec<u8>,
    general_error: ErrorText,
}

impl Generator {
    /// Checks the scenario and prepares the first event.
    ///
    /// # Errors
    /// If scenario, schedule or settings make no sense.
    pub fn new(scenario: &Scenario, schedule: &Schedule, settings: Settings) -> Result<Self> {
        ensure!((0.0..=1.0).contains(&settings.dirty), "the dirty fraction must be between 0 and 1");
        let catalog = Catalog::new(scenario, settings.seed)?;
        let mut clock = Clock::new(schedule, scenario, &catalog.phases)?;
        let next_offset_ns = clock.next_offset_ns();
        Ok(Self {
            catalog,
            clock,
            renderer: Renderer::new(settings.format),
            settings,
            dirty_ways: Dirty::ALL.into_iter().filter(|way| way.applies_to(settings.format)).collect(),
            rng: SmallRng::seed_from_u64(settings.seed),
            dirt_rng: SmallRng::seed_from_u64(settings.seed ^ DIRT_STREAM),
            next_offset_ns,
            phase: 0,
            phase_ns: 0..0,
            query: Vec::new(),
            general_error: ErrorText { kind: "InternalError".to_owned(), message: "the request failed".to_owned() },
        })
    }

    /// All clients, methods and paths that events refer to.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// How far after the schedule's start the next event happens, in nanoseconds; `None` at the end.
    #[must_use]
    pub fn next_offset_ns(&self) -> Option<u64> {
        self.next_offset_ns
    }

    /// Appends the next line, newline included, and returns its event; `None` at the end, with nothing appended.
    pub fn next_line(&mut self, lines: &mut Vec<u8>) -> Option<Event<'_>> {
        let offset_ns = self.next_offset_ns?;
        self.next_offset_ns = self.clock.next_offset_ns();
        if !self.phase_ns.contains(&offset_ns) {
            self.enter_phase(offset_ns);
        }
        let begin = lines.len();
        let dirty = (self.settings.dirty > 0.0 && self.dirt_rng.random_bool(self.settings.dirty))
            .then(|| self.dirty_ways[self.dirt_rng.random_range(0..self.dirty_ways.len())]);

        let rng = &mut self.rng;
        let phase = &self.catalog.phases[self.phase];
        let (target_index, group_index) = phase.flows[phase.flow.draw(rng)];
        let target = &self.catalog.targets[target_index];
        let effect = &phase.effects[target_index];
        let group = &self.catalog.groups[group_index];

        let client = &self.catalog.clients[group.first_client + draw_rank(rng, group.clients)];
        let path = &self.catalog.paths[target.first_path + draw_rank(rng, target.paths)];
        self.query.clear();
        if !target.queries.is_empty() {
            let query = &target.queries[rng.random_range(0..target.queries.len())];
            self.query.extend_from_slice(query.head.as_bytes());
            if let Some(tail) = &query.tail {
                push_number(rng.random_range(1..=50), &mut self.query);
                self.query.extend_from_slice(tail.as_bytes());
            }
        }
        let method = &self.catalog.methods[target.methods[target.method.draw(rng)]];
        let failure = effect.failure.as_ref().filter(|failure| rng.random_bool(failure.share));
        let status = match failure {
            Some(failure) => failure.statuses[failure.status.draw(rng)],
            None => target.statuses[target.status.draw(rng)],
        };
        let (for_latency, for_size) = draw_normals(rng);
        let size = target.size.at(for_size) as u64;
        let has_referrer = group.referrer_share > 0.0 && rng.random_bool(group.referrer_share);
        let event = Event {
            time_ns: self.clock.time_ns(offset_ns),
            client,
            service: &target.service,
            method,
            path,
            // Made of valid UTF-8 and digits only.
            query: std::str::from_utf8(&self.query).unwrap_or_default(),
            status,
            body_bytes: match status {
                _ if method.text == "HEAD" => 0,
                ..200 | 204 | 304 => 0,
                400.. => size.min(ERROR_BODY_MAX_BYTES),
                _ => size,
            },
            duration_us: (target.latency_us.at(for_latency) * effect.latency_factor) as u64,
            referrer: has_referrer.then(|| self.catalog.referrers[self.catalog.referrer.draw(rng)].as_str()),
            error: (status >= 500).then(|| self.catalog.errors.get(&status).unwrap_or(&self.general_error)),
            dirty,
        };
        self.renderer.render(&event, lines);
        if let Some(way) = dirty {
            way.spoil(self.settings.format, lines, begin, &mut self.dirt_rng);
        }
        Some(event)
    }

    fn enter_phase(&mut self, offset_ns: u64) {
        let cycle_ns = self.clock.cycle_ns;
        let cycle_begin = offset_ns - offset_ns % cycle_ns;
        let mut begin = cycle_begin;
        for (index, phase) in self.catalog.phases.iter().enumerate() {
            // Rounded up, so that the clock, which compares fractions, agrees.
            let end = cycle_begin + (phase.end * cycle_ns as f64).ceil() as u64;
            if offset_ns < end {
                self.phase = index;
                self.phase_ns = begin..end;
                return;
            }
            begin = end;
        }
    }
}

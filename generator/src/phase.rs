//! Episodes, laid out in time: a cycle is cut wherever an episode begins or ends, and in each phase between two cuts
//! the mix of traffic, latencies and failures stays the same.

use anyhow::{Context, Result, ensure};

use crate::catalog::{check_statuses, share};
use crate::sample::Choice;
use crate::scenario::{Episode, Scenario};

/// A stretch of a cycle during which the same episodes are on.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    /// Where it ends, as a fraction of the cycle; it begins where the one before ends.
    pub(crate) end: f64,
    /// Traffic, relative to a phase without episodes.
    pub(crate) intensity: f64,
    /// What `flow` chooses from: (target, client group), as indices.
    pub(crate) flows: Vec<(usize, usize)>,
    pub(crate) flow: Choice,
    /// By target.
    pub(crate) effects: Vec<Effect>,
}

/// What the episodes of a phase do to a target.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub(crate) latency_factor: f64,
    pub(crate) failure: Option<Failure>,
}

/// The share of requests that fail, and how.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) share: f64,
    pub(crate) status: Choice,
    pub(crate) statuses: Vec<u16>,
}

/// The phases of the scenario's cycle, in order; the last ends at 1.
pub(crate) fn phases(scenario: &Scenario) -> Result<Vec<Phase>> {
    let targets: Vec<(&str, &str)> = scenario
        .services
        .iter()
        .flat_map(|service| {
            let paths = service.endpoints.iter().map(|endpoint| endpoint.path.as_str());
            paths.map(|path| (service.name.as_str(), path))
        })
        .collect();
    for episode in &scenario.episodes {
        check(episode, &targets).with_context(|| format!("episode {:?}", episode.name))?;
    }
    let ordinary = ordinary_flows(scenario)?;
    let ordinary_weight: f64 = ordinary.iter().map(|flow| flow.weight).sum();

    let mut cuts: Vec<f64> = scenario.episodes.iter().flat_map(|episode| [episode.from, episode.to]).collect();
    cuts.push(1.0);
    cuts.retain(|cut| *cut > 0.0);
    cuts.sort_by(f64::total_cmp);
    cuts.dedup();

    let mut phases = Vec::new();
    let mut begin = 0.0;
    for end in cuts {
        let mut flows = ordinary.clone();
        let mut effects = vec![Effect { latency_factor: 1.0, failure: None }; targets.len()];
        for episode in &scenario.episodes {
            if episode.from >= end || episode.to <= begin {
                continue;
            }
            for (index, target) in targets.iter().enumerate() {
                if touches(episode, target) {
                    apply(episode, index, scenario, &mut flows, &mut effects[index])?;
                }
            }
        }
        let weights: Vec<f64> = flows.iter().map(|flow| flow.weight).collect();
        phases.push(Phase {
            end,
            intensity: weights.iter().sum::<f64>() / ordinary_weight,
            flow: Choice::new("the traffic of all endpoints", &weights)?,
            flows: flows.iter().map(|flow| (flow.target, flow.group)).collect(),
            effects,
        });
        begin = end;
    }
    Ok(phases)
}

#[derive(Clone, Debug)]
struct Flow {
    target: usize,
    group: usize,
    weight: f64,
}

/// Each endpoint's weight, shared out among the client groups that ask it.
fn ordinary_flows(scenario: &Scenario) -> Result<Vec<Flow>> {
    let mut flows = Vec::new();
    let endpoints = scenario.services.iter().flat_map(|service| &service.endpoints);
    for (target, endpoint) in endpoints.enumerate() {
        let mut asking = Vec::new();
        if endpoint.clients.is_empty() {
            let groups = scenario.client_groups.values().enumerate();
            asking.extend(groups.map(|(group, settings)| (group, settings.weight)));
        } else {
            for name in &endpoint.clients {
                asking.push((group_index(scenario, name)?, 1.0));
            }
        }
        let sum: f64 = asking.iter().map(|(_, weight)| weight).sum();
        ensure!(sum > 0.0, "endpoint {:?} has no clients: every group has weight 0", endpoint.path);
        flows.extend(asking.into_iter().filter(|(_, weight)| *weight > 0.0).map(|(group, weight)| Flow {
            target,
            group,
            weight: endpoint.weight * weight / sum,
        }));
    }
    ensure!(flows.iter().map(|flow| flow.weight).sum::<f64>() > 0.0, "no endpoint has a weight above 0");
    Ok(flows)
}

fn apply(
    episode: &Episode,
    target: usize,
    scenario: &Scenario,
    flows: &mut Vec<Flow>,
    effect: &mut Effect,
) -> Result<()> {
    effect.latency_factor *= episode.latency_factor;
    if episode.failure_share > 0.0 {
        let weights: Vec<f64> = episode.failure_statuses.values().copied().collect();
        effect.failure = Some(Failure {
            share: episode.failure_share,
            status: Choice::new("failure_statuses", &weights)?,
            statuses: episode.failure_statuses.keys().copied().collect(),
        });
    }
    let of_target = flows.iter_mut().filter(|flow| flow.target == target);
    match &episode.clients {
        None => of_target.for_each(|flow| flow.weight *= episode.traffic_factor),
        Some(name) => {
            let usual: f64 = of_target.map(|flow| flow.weight).sum();
            flows.push(Flow {
                target,
                group: group_index(scenario, name)?,
                weight: usual * (episode.traffic_factor - 1.0),
            });
        }
    }
    Ok(())
}

fn group_index(scenario: &Scenario, name: &str) -> Result<usize> {
    scenario
        .client_groups
        .keys()
        .position(|key| key == name)
        .with_context(|| format!("there is no client group {name:?}"))
}

fn touches(episode: &Episode, (service, path): &(&str, &str)) -> bool {
    episode.service.as_ref().is_none_or(|wanted| wanted == service)
        && episode.path.as_ref().is_none_or(|wanted| wanted == path)
}

fn check(episode: &Episode, targets: &[(&str, &str)]) -> Result<()> {
    share("from", episode.from)?;
    share("to", episode.to)?;
    ensure!(episode.from < episode.to, "from must be before to");
    share("failure_share", episode.failure_share)?;
    check_statuses(&episode.failure_statuses)?;
    ensure!(episode.latency_factor.is_finite() && episode.latency_factor > 0.0, "latency_factor must be above 0");
    ensure!(episode.traffic_factor.is_finite() && episode.traffic_factor >= 0.0, "traffic_factor must be at least 0");
    ensure!(
        episode.clients.is_none() || episode.traffic_factor > 1.0,
        "clients cause the traffic above the ordinary, so traffic_factor must be above 1"
    );
    ensure!(targets.iter().any(|target| touches(episode, target)), "no endpoint has this service and path");
    Ok(())
}

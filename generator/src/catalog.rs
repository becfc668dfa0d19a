//! A checked scenario, ready to draw from: every client, path and method once, in order, under an id, so that an
//! event refers to them and a tally counts them without looking anything up. Bad scenarios end here, with an error
//! that names the place.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::phase::{Phase, phases};
use crate::sample::{Choice, LogNormal};
use crate::scenario::{ClientGroup, Endpoint, ErrorText, Scenario, Weighted};

/// Separates the draws of clients from those of traffic, which begin at the bare seed.
const CLIENTS_STREAM: u64 = 0x636c_6965_6e74_7321;

/// A text under an id: ids of one kind are `0..n` without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The index in the list of its kind.
    pub id: usize,
    /// The text.
    pub text: String,
}

/// A client. No two clients share an address.
#[derive(Clone, Debug)]
pub struct Client {
    /// The index in [`Catalog::clients`].
    pub id: usize,
    /// Its address, v4 or v6, as text.
    pub address: String,
    /// Its host name, for those that the format `common` shows by name.
    pub host: Option<String>,
    /// Its user name, for those that logged in.
    pub user: Option<String>,
    /// Its user agent.
    pub user_agent: String,
    /// Its protocol, such as `HTTP/2.0`.
    pub protocol: String,
}

/// All that the events of a scenario refer to.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// All clients, by id.
    pub clients: Vec<Client>,
    /// All methods, by id.
    pub methods: Vec<Term>,
    /// All paths, by id.
    pub paths: Vec<Term>,
    pub(crate) targets: Vec<Target>,
    pub(crate) groups: Vec<Group>,
    pub(crate) referrers: Vec<String>,
    pub(crate) referrer: Choice,
    pub(crate) errors: BTreeMap<u16, ErrorText>,
    pub(crate) phases: Vec<Phase>,
}

/// A client group: a run of [`Catalog::clients`].
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) first_client: usize,
    pub(crate) clients: usize,
    pub(crate) referrer_share: f64,
}

/// An endpoint, ready to draw from.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) service: String,
    pub(crate) first_path: usize,
    pub(crate) paths: usize,
    pub(crate) queries: Vec<Query>,
    pub(crate) method: Choice,
    pub(crate) methods: Vec<usize>,
    pub(crate) status: Choice,
    pub(crate) statuses: Vec<u16>,
    pub(crate) latency_us: LogNormal,
    pub(crate) size: LogNormal,
}

/// A query string; with a tail, a number stands between head and tail.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) head: String,
    pub(crate) tail: Option<String>,
}

impl Catalog {
    /// Checks a scenario and draws its clients. Equal scenarios and seeds give equal catalogs.
    ///
    /// # Errors
    /// If a weight, share, range, reference or text makes no sense; the error names where.
    pub fn new(scenario: &Scenario, seed: u64) -> Result<Self> {
        ensure!(scenario.virtual_rate.is_finite() && scenario.virtual_rate > 0.0, "virtual_rate must be above 0");
        ensure!(!scenario.cycle.is_zero(), "cycle must be above 0");
        // Used as a choice only to be checked: the curve itself is interpolated.
        Choice::new("day_curve", &scenario.day_curve)?;

        let mut clients = Vec::new();
        let mut groups = Vec::new();
        let mut rng = SmallRng::seed_from_u64(seed ^ CLIENTS_STREAM);
        let mut taken = HashSet::new();
        for (name, group) in &scenario.client_groups {
            let first_client = clients.len();
            draw_clients(group, &scenario.user_agents, &mut clients, &mut taken, &mut rng)
                .with_context(|| format!("client group {name:?}"))?;
            groups.push(Group {
                first_client,
                clients: group.clients,
                referrer_share: share("referrer_share", group.referrer_share)?,
            });
        }
        let mut methods = Terms::default();
        let mut paths = Terms::default();
        let mut targets = Vec::new();
        for service in &scenario.services {
            plain_text("service", &service.name)?;
            for endpoint in &service.endpoints {
                let target = target(&service.name, endpoint, &mut methods, &mut paths)
                    .with_context(|| format!("service {:?}, endpoint {:?}", service.name, endpoint.path))?;
                targets.push(target);
            }
        }
        for referrer in &scenario.referrers {
            plain_text("referrer", &referrer.text)?;
        }
        let referrer = Choice::new("referrers", &weights(&scenario.referrers))?;
        Ok(Self {
            clients,
            methods: methods.list,
            paths: paths.list,
            targets,
            groups,
            referrers: scenario.referrers.iter().map(|referrer| referrer.text.clone()).collect(),
            referrer,
            errors: scenario.errors.clone(),
            phases: phases(scenario)?,
        })
    }
}

fn target(service: &str, endpoint: &Endpoint, methods: &mut Terms, paths: &mut Terms) -> Result<Target> {
    plain_text("path", &endpoint.path)?;
    ensure!(
        endpoint.path.starts_with('/') && !endpoint.path.contains([' ', '?']),
        "a path begins with a slash and holds neither space nor question mark"
    );
    let first_path = paths.list.len();
    if let Some((head, tail)) = endpoint.path.split_once("{id}") {
        ensure!(endpoint.ids > 0, "a path with {{id}} needs ids above 0");
        for rank in 0..endpoint.ids {
            paths.push_new(format!("{head}{}{tail}", 1000 + rank))?;
        }
    } else {
        ensure!(endpoint.ids == 0, "ids has no meaning without {{id}} in the path");
        paths.push_new(endpoint.path.clone())?;
    }
    let mut queries = Vec::new();
    for query in &endpoint.queries {
        plain_text("query", query)?;
        ensure!(!query.contains(' '), "a query holds no space");
        queries.push(match query.split_once("{n}") {
            Some((head, tail)) => Query { head: head.to_owned(), tail: Some(tail.to_owned()) },
            None => Query { head: query.clone(), tail: None },
        });
    }
    for method in endpoint.methods.keys() {
        ensure!(
            !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase()),
            "{method:?} is not a method: upper-case letters only"
        );
    }
    check_statuses(&endpoint.statuses)?;
    let method_weights: Vec<f64> = endpoint.methods.values().copied().collect();
    let status_weights: Vec<f64> = endpoint.statuses.values().copied().collect();
    let median_us = endpoint.latency.median.as_secs_f64() * 1e6;
    Ok(Target {
        service: service.to_owned(),
        first_path,
        paths: endpoint.ids.max(1),
        queries,
        method: Choice::new("methods", &method_weights)?,
        methods: endpoint.methods.keys().map(|method| methods.id_of(method)).collect(),
        status: Choice::new("statuses", &status_weights)?,
        statuses: endpoint.statuses.keys().copied().collect(),
        latency_us: LogNormal::new("latency", median_us, endpoint.latency.sigma)?,
        size: LogNormal::new("size", endpoint.size.median, endpoint.size.sigma)?,
    })
}

fn draw_clients(
    group: &ClientGroup,
    user_agents: &BTreeMap<String, Vec<Weighted>>,
    clients: &mut Vec<Client>,
    taken: &mut HashSet<IpAddr>,
    rng: &mut SmallRng,
) -> Result<()> {
    ensure!(group.clients > 0, "clients must be above 0");
    let ranges: Vec<(IpAddr, u32)> =
        group.ranges.iter().map(|range| parse_range(&range.range)).collect::<Result<_>>()?;
    let range_weights: Vec<f64> = group.ranges.iter().map(|range| range.weight).collect();
    let range_choice = Choice::new("ranges", &range_weights)?;

    // One list of agents, where a list's weight is spread over its agents.
    let mut agents: Vec<&str> = Vec::new();
    let mut agent_weights = Vec::new();
    for (name, weight) in &group.user_agents {
        let list = user_agents.get(name).with_context(|| format!("user_agents has no list {name:?}"))?;
        let sum: f64 = weights(list).iter().sum();
        for agent in list {
            plain_text("user agent", &agent.text)?;
            agents.push(&agent.text);
            agent_weights.push(weight * agent.weight / sum);
        }
    }
    let agent_choice = Choice::new("user_agents", &agent_weights)?;
    let protocols: Vec<&String> = group.protocols.keys().collect();
    for protocol in &protocols {
        ensure!(
            protocol.starts_with("HTTP/") && !protocol.contains([' ', '"']),
            "{protocol:?} is not a protocol such as HTTP/1.1"
        );
    }
    let protocol_weights: Vec<f64> = group.protocols.values().copied().collect();
    let protocol_choice = Choice::new("protocols", &protocol_weights)?;
    let user_share = share("user_share", group.user_share)?;
    let host_share = share("host_share", group.host_share)?;

    for _ in 0..group.clients {
        let mut misses = 0;
        let address = loop {
            let (base, prefix) = ranges[range_choice.draw(rng)];
            let candidate = draw_address(base, prefix, rng);
            if taken.insert(candidate) {
                break candidate;
            }
            // The ranges are full, or so nearly that the search might not end.
            misses += 1;
            ensure!(misses < 100_000, "the ranges have too few addresses for {} clients", group.clients);
        };
        let id = clients.len();
        let address = address.to_string();
        clients.push(Client {
            id,
            host: rng.random_bool(host_share).then(|| format!("host-{}.example.net", address.replace(['.', ':'], "-"))),
            user: rng.random_bool(user_share).then(|| format!("user{id:05}")),
            user_agent: agents[agent_choice.draw(rng)].to_owned(),
            protocol: protocols[protocol_choice.draw(rng)].clone(),
            address,
        });
    }
    Ok(())
}

fn parse_range(text: &str) -> Result<(IpAddr, u32)> {
    let parsed = text
        .split_once('/')
        .and_then(|(address, prefix)| Some((address.parse::<IpAddr>().ok()?, prefix.parse::<u32>().ok()?)));
    match parsed {
        Some((IpAddr::V4(address), prefix)) if prefix <= 32 => Ok((IpAddr::V4(address), prefix)),
        Some((IpAddr::V6(address), prefix)) if prefix <= 128 => Ok((IpAddr::V6(address), prefix)),
        _ => bail!("{text:?} is not a range such as 198.51.100.0/24 or 2001:db8::/32"),
    }
}

fn draw_address(base: IpAddr, prefix: u32, rng: &mut SmallRng) -> IpAddr {
    match base {
        IpAddr::V4(address) => {
            let host_bits = u32::MAX.checked_shr(prefix).unwrap_or(0);
            let bits = (address.to_bits() & !host_bits) | (rng.random::<u32>() & host_bits);
            IpAddr::V4(Ipv4Addr::from_bits(bits))
        }
        IpAddr::V6(address) => {
            let host_bits = u128::MAX.checked_shr(prefix).unwrap_or(0);
            let bits = (address.to_bits() & !host_bits) | (rng.random::<u128>() & host_bits);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
    }
}

/// Terms in the order of their first mention.
#[derive(Default)]
struct Terms {
    list: Vec<Term>,
    seen: BTreeMap<String, usize>,
}

impl Terms {
    fn id_of(&mut self, text: &str) -> usize {
        let next = self.list.len();
        let id = *self.seen.entry(text.to_owned()).or_insert(next);
        if id == next {
            self.list.push(Term { id, text: text.to_owned() });
        }
        id
    }

    fn push_new(&mut self, text: String) -> Result<()> {
        let next = self.list.len();
        let id = self.id_of(&text);
        ensure!(id == next, "the path {text:?} belongs to another endpoint already");
        Ok(())
    }
}

fn weights(list: &[Weighted]) -> Vec<f64> {
    list.iter().map(|weighted| weighted.weight).collect()
}

/// A share, if it is one.
pub(crate) fn share(what: &str, value: f64) -> Result<f64> {
    ensure!((0.0..=1.0).contains(&value), "{what} must be between 0 and 1");
    Ok(value)
}

pub(crate) fn check_statuses(statuses: &BTreeMap<u16, f64>) -> Result<()> {
    for status in statuses.keys() {
        ensure!((100..=599).contains(status), "{status} is not a status: 100 to 599");
    }
    Ok(())
}

/// Clean lines must read back without doubt, in every format: no quotes, backslashes, control characters.
fn plain_text(what: &str, text: &str) -> Result<()> {
    ensure!(
        !text.contains(|character: char| character.is_control() || character == '"' || character == '\\'),
        "the {what} {text:?} holds a quote, a backslash or a control character"
    );
    Ok(())
}

//! What a scenario file says: services and their endpoints, who asks, how fast they answer, and what goes wrong when.
//! Only the shape is held here; [`crate::Catalog`] checks what the fields mean to each other.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::units::duration_from_text;

/// Traffic, described. Weights are relative to the others in the same list, whatever they sum up to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Shown in the manifest.
    pub name: String,
    /// Events per second of the virtual clock, for a run without a rate.
    pub virtual_rate: f64,
    /// The length of a cycle of episodes in a run without an end; otherwise the run is one cycle.
    #[serde(deserialize_with = "duration_from_text")]
    pub cycle: Duration,
    /// How busy each hour of the day (UTC) is, relative to the others; between the hours it is interpolated.
    pub day_curve: [f64; 24],
    /// Who asks, by the name of the group.
    pub client_groups: BTreeMap<String, ClientGroup>,
    /// Lists of user agents that client groups refer to.
    pub user_agents: BTreeMap<String, Vec<Weighted>>,
    /// Referrers, for those requests that have one.
    pub referrers: Vec<Weighted>,
    /// Who answers.
    pub services: Vec<Service>,
    /// What a failure (status 500 and above) says, by status. Statuses not named have a general text.
    #[serde(default)]
    pub errors: BTreeMap<u16, ErrorText>,
    /// What is out of the ordinary, and when.
    #[serde(default)]
    pub episodes: Vec<Episode>,
}

/// A text and its weight.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// The text.
    pub text: String,
    /// Its weight in the list.
    pub weight: f64,
}

/// Clients of one kind. A client keeps its address, user agent, protocol and user name for the whole run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientGroup {
    /// The group's weight in ordinary traffic; 0: it asks only in episodes and where an endpoint names it.
    pub weight: f64,
    /// The number of distinct clients.
    pub clients: usize,
    /// Where their addresses come from.
    pub ranges: Vec<Range>,
    /// The names of the lists of user agents to draw from, each with its weight.
    pub user_agents: BTreeMap<String, f64>,
    /// Protocols, such as `HTTP/1.1`, each with its weight.
    pub protocols: BTreeMap<String, f64>,
    /// The share of requests with a referrer, 0 to 1.
    #[serde(default)]
    pub referrer_share: f64,
    /// The share of clients with a user name, 0 to 1.
    #[serde(default)]
    pub user_share: f64,
    /// The share of clients that the format `common` shows by host name, 0 to 1.
    #[serde(default)]
    pub host_share: f64,
}

/// A range of addresses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The range as address and prefix length: `198.51.100.0/24`, `2001:db8::/32`.
    pub range: String,
    /// Its weight in the list.
    pub weight: f64,
}

/// A service: the owner of endpoints.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The name, as in `service.name`.
    pub name: String,
    /// What can be asked of it.
    pub endpoints: Vec<Endpoint>,
}

/// One path, or a family of paths that differ in a number.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The path; `{id}` in it stands for a number.
    pub path: String,
    /// How many numbers `{id}` takes; low ranks are asked for more often.
    #[serde(default)]
    pub ids: usize,
    /// Query strings, equally likely; `{n}` in one stands for a small number, an empty one is a request without.
    #[serde(default)]
    pub queries: Vec<String>,
    /// The endpoint's weight among all endpoints of all services.
    pub weight: f64,
    /// The client groups that ask; empty: all.
    #[serde(default)]
    pub clients: Vec<String>,
    /// Methods, each with its weight.
    pub methods: BTreeMap<String, f64>,
    /// Statuses, each with its weight.
    pub statuses: BTreeMap<u16, f64>,
    /// How long an answer takes.
    pub latency: Latency,
    /// How large the body of an answer is.
    pub size: Size,
}

/// A log-normal distribution of durations.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Half of the answers are faster.
    #[serde(deserialize_with = "duration_from_text")]
    pub median: Duration,
    /// The standard deviation of the logarithm: 0.5 is common, above 1 has a long tail.
    pub sigma: f64,
}

/// A log-normal distribution of body sizes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Half of the bodies are smaller, in bytes.
    pub median: f64,
    /// The standard deviation of the logarithm.
    pub sigma: f64,
}

/// What an application says about a failure.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorText {
    /// As in `error.type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// As in `error.message`.
    pub message: String,
}

/// A part of a cycle in which something is different.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Episode {
    /// Says what happens, for people.
    pub name: String,
    /// When it begins, as a fraction of the cycle.
    pub from: f64,
    /// When it ends, as a fraction of the cycle.
    pub to: f64,
    /// Only endpoints of this service.
    pub service: Option<String>,
    /// Only the endpoint with this path, `{id}` included.
    pub path: Option<String>,
    /// Latencies are multiplied by this.
    #[serde(default = "one")]
    pub latency_factor: f64,
    /// The share of requests that fail, 0 to 1.
    #[serde(default)]
    pub failure_share: f64,
    /// The statuses of those that fail, each with its weight.
    #[serde(default)]
    pub failure_statuses: BTreeMap<u16, f64>,
    /// Traffic is multiplied by this.
    #[serde(default = "one")]
    pub traffic_factor: f64,
    /// The client group that causes the traffic above the ordinary; without it: the usual clients.
    pub clients: Option<String>,
}

fn one() -> f64 {
    1.0
}

impl Scenario {
    /// The text of the built-in scenario `shop`: an example of the file format.
    pub const SHOP: &str = include_str!("../scenarios/shop.json");

    /// The built-in scenario: a shop of several services, with a slow deploy, an outage, a crawler and a burst.
    #[must_use]
    pub fn shop() -> Self {
        serde_json::from_str(Self::SHOP).expect("the embedded scenario is tested")
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    /// If the file cannot be read, is not JSON, lacks a field or has an unknown one; the error names file and line.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("cannot read scenario {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("scenario {} is not valid", path.display()))
    }
}

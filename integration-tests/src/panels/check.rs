//! Checks every panel of a set: what it means is read, its fields are asked for, its requests are sent for each period, and the
//! answers compared with the records. A panel that had no value in any period fails, and so does one of whose metrics none had.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::ask::{Ask, Cluster};
use super::compare::{Findings, compare};
use super::interval::Period;
use super::query::Query;
use super::read::{Meaning, meaning};
use super::record::{Record, is_like};
use super::saved::{Panel, Set};
use crate::Node;

/// A cluster that was filled, and what is known of what is in it.
#[derive(Debug)]
pub struct World<'a> {
    /// The cluster.
    pub node: &'a Node,
    /// What it can be asked.
    pub cluster: Cluster,
    /// What each document must be, by index.
    records: BTreeMap<String, Vec<Record>>,
    /// The times that are looked at.
    pub periods: Vec<Period>,
    /// Instead of the indices that an index pattern names, by the pattern.
    pub instead: BTreeMap<String, String>,
    /// Filters and metrics that cannot have a value in this cluster, by their names in reports.
    pub never: BTreeSet<String>,
    /// What was asked before: other panels, and the other set, ask the same.
    asked: RefCell<BTreeMap<String, Findings>>,
    capabilities: RefCell<BTreeMap<String, Value>>,
}

/// What checking a panel came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Of which set, dashboard and panel.
    pub set: String,
    /// The dashboard's title.
    pub dashboard: String,
    /// The panel's title.
    pub title: String,
    /// The object's id.
    pub id: String,
    /// What was compared, or what is wrong.
    pub result: Result<String, Vec<String>>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dashboard = if self.dashboard.is_empty() { "(on no dashboard)" } else { &self.dashboard };
        write!(f, "{} | {dashboard} | {} ({}): ", self.set, self.title, self.id)?;
        match &self.result {
            Ok(how) => write!(f, "{how}"),
            Err(errors) => write!(f, "WRONG: {}", errors.join("; ")),
        }
    }
}

impl<'a> World<'a> {
    /// A cluster with these documents.
    #[must_use]
    pub fn new(node: &'a Node, cluster: Cluster, records: Vec<Record>, periods: Vec<Period>) -> Self {
        let (asked, capabilities) = (RefCell::default(), RefCell::default());
        let mut by_index: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for record in records {
            by_index.entry(record.index.clone()).or_default().push(record);
        }
        Self {
            node,
            cluster,
            records: by_index,
            periods,
            instead: BTreeMap::new(),
            never: BTreeSet::new(),
            asked,
            capabilities,
        }
    }

    /// Checks every panel of a set.
    ///
    /// # Errors
    /// If the set itself is not understood.
    pub fn check(&self, set: &Set) -> Result<Vec<Report>> {
        Ok(set.panels()?.iter().map(|panel| self.report(set, panel)).collect())
    }

    fn report(&self, set: &Set, panel: &Panel) -> Report {
        let result = match self.panel(set, panel) {
            Ok((how, errors)) if errors.is_empty() => Ok(how),
            Ok((_, errors)) => Err(errors),
            Err(error) => Err(vec![format!("{error:#}")]),
        };
        Report {
            set: set.name.clone(),
            dashboard: panel.dashboard.clone(),
            title: panel.title.clone(),
            id: panel.object.id.clone(),
            result,
        }
    }

    fn panel(&self, set: &Set, panel: &Panel) -> Result<(String, Vec<String>)> {
        let asks = match meaning(set, &panel.object)? {
            Meaning::Text(links) => {
                for link in &links {
                    ensure!(set.get("dashboard", link).is_ok(), "a link to {link}, which is no dashboard");
                }
                return Ok((format!("text with {} links, all of dashboards", links.len()), Vec::new()));
            }
            Meaning::Asks(asks) => asks,
        };
        let mut all = Findings::default();
        let mut compared = BTreeMap::new();
        for ask in &asks {
            all.errors.extend(self.fields(ask)?);
        }
        for ask in all.errors.is_empty().then_some(&asks).into_iter().flatten() {
            for period in &self.periods {
                let findings = self.ask(ask, period)?;
                *compared.entry(period.name.as_str()).or_insert(0) += findings.numbers;
                all.errors.extend(findings.errors.iter().map(|error| format!("{} {}: {error}", period.name, ask.name)));
                all.seen.extend(findings.seen);
                all.wanted.extend(findings.wanted);
            }
        }
        let never: Vec<&String> = all.wanted.difference(&all.seen).filter(|name| !self.never.contains(*name)).collect();
        if !never.is_empty() {
            all.errors.push(format!("never had a value: {never:?}"));
        }
        let compared: Vec<String> = compared.iter().map(|(period, numbers)| format!("{numbers} in {period}")).collect();
        let how = format!("{} requests; numbers compared: {}", asks.len(), compared.join(", "));
        Ok((how, all.errors))
    }

    /// What is wrong with the fields that a request names.
    fn fields(&self, ask: &Ask) -> Result<Vec<String>> {
        let pattern = self.indices(&ask.pattern);
        let mut known = self.capabilities.borrow_mut();
        let known = known.entry(pattern.clone()).or_insert_with(|| {
            self.node.ask("GET", &format!("{pattern}/_field_caps?fields=*"), None).1["fields"].clone()
        });
        ensure!(known.as_object().is_some_and(|fields| !fields.is_empty()), "{pattern} has no fields");
        let fields = ask.fields();
        let all: BTreeSet<&String> = fields.searched.iter().chain(&fields.aggregated).chain(&fields.shown).collect();
        let mut errors = Vec::new();
        for field in all {
            let Some(types) = known[field].as_object() else {
                errors.push(format!("there is no field {field}"));
                continue;
            };
            let every = |ability: &str| types.values().all(|one| one[ability] == true);
            if types.len() != 1 {
                errors.push(format!("{field} has several types: {:?}", types.keys().collect::<Vec<_>>()));
            }
            if fields.aggregated.contains(field) && !every("aggregatable") {
                errors.push(format!("{field} cannot be aggregated"));
            }
            if fields.searched.contains(field) && !every("searchable") {
                errors.push(format!("{field} cannot be searched"));
            }
        }
        Ok(errors)
    }

    fn indices(&self, pattern: &str) -> String {
        self.instead.get(pattern).map_or_else(|| pattern.to_owned(), Clone::clone)
    }

    fn ask(&self, ask: &Ask, period: &Period) -> Result<Findings> {
        let (ask, body) = self.prepare(ask, period)?;
        let pattern = self.indices(&ask.pattern);
        let key = format!("{pattern} {} {body} {ask:?}", period.name);
        if let Some(findings) = self.asked.borrow().get(&key) {
            return Ok(findings.clone());
        }
        let (status, answer) = self.node.ask("POST", &format!("{pattern}/_search"), Some(&body));
        ensure!(status == 200, "{status} {answer}: {body}");
        ensure!(answer["_shards"]["failed"] == 0 && answer["timed_out"] == false, "not all shards: {answer}");
        let page = period.shifted(ask.shift);
        let in_time = |record: &&Record| !ask.timed || (page.from..=page.to).contains(&record.time());
        let is_meant = |name: &str| pattern.split(',').any(|form| is_like(name, form));
        let of_indices = self.records.iter().filter(|(name, _)| is_meant(name)).flat_map(|(_, records)| records);
        let meant: Vec<&Record> = of_indices.filter(in_time).filter(|record| ask.query.matches(record)).collect();
        let findings = compare(&ask, &answer, &meant, self.cluster);
        self.asked.borrow_mut().insert(key, findings.clone());
        Ok(findings)
    }

    /// The request for a period, with every interval chosen as Kibana does.
    ///
    /// # Errors
    /// If an interval makes no sense, or the cluster does not say what a field spans.
    pub fn prepare(&self, ask: &Ask, period: &Period) -> Result<(Ask, Value)> {
        prepare(self.node, &self.indices(&ask.pattern), ask, period, self.cluster)
    }
}

/// The request for a period, with every interval chosen as Kibana does.
///
/// # Errors
/// If an interval makes no sense, or the cluster does not say what a field spans.
pub fn prepare(node: &Node, indices: &str, ask: &Ask, period: &Period, cluster: Cluster) -> Result<(Ask, Value)> {
    let mut ask = ask.clone();
    let range = match ask.bounds_wanted() {
        Some(field) => {
            let condition = if ask.query == Query::All { json!([]) } else { json!([ask.query.dsl()]) };
            let mut body = json!({"size": 0, "query": {"bool": {"filter": condition}}});
            if let (true, Some(filter)) = (ask.timed, body["query"]["bool"]["filter"].as_array_mut()) {
                filter.push(period.dsl());
            }
            body["aggs"] = json!({"maxAgg": {"max": {"field": field}}, "minAgg": {"min": {"field": field}}});
            let answer = node.ask("POST", &format!("{indices}/_search"), Some(&body)).1;
            let of = |name: &str| answer["aggregations"][name]["value"].as_f64().unwrap_or(0.0);
            Some(of("maxAgg") - of("minAgg"))
        }
        None => None,
    };
    ask.choose(&period.shifted(ask.shift), range)?;
    let body = ask.request(period, cluster)?;
    Ok((ask, body))
}

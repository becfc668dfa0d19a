//! What a saved object asks: visualizations of every type in the built files, saved searches, controls. Whatever is not known
//! here (a type, an aggregation, a key of its params) is an error: it would not be compared.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::ask::{Ask, Bucket, By, Hits, Level, Metric, Terms};
use super::interval::Every;
use super::query::Query;
use super::saved::{Object, Set};
use super::series;

/// What a panel is about.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// Text, with the ids of the dashboards that it links to.
    Text(Vec<String>),
    /// Requests.
    Asks(Vec<Ask>),
}

/// How many rows Discover and a saved search on a dashboard ask for.
const SAMPLE: usize = 500;
/// How many choices a control of Kibana 8 shows.
const CHOICES: usize = 10;

/// Reads a panel's object.
///
/// # Errors
/// If something of it is not known.
pub fn meaning(set: &Set, object: &Object) -> Result<Meaning> {
    match object.kind.as_str() {
        "visualization" => visualization(set, object),
        "search" => Ok(Meaning::Asks(vec![search(set, object)?])),
        "control" => Ok(Meaning::Asks(vec![control(set, object)?])),
        other => bail!("a panel of a kind that is not known: {other}"),
    }
}

fn visualization(set: &Set, object: &Object) -> Result<Meaning> {
    let state = object.json("visState")?;
    let kind = state["type"].as_str().context("no type")?;
    match kind {
        "markdown" => Ok(Meaning::Text(links(state["params"]["markdown"].as_str().context("no text")?))),
        "metrics" => Ok(Meaning::Asks(series::asks(set, object, &state["params"])?)),
        "input_control_vis" => Ok(Meaning::Asks(controls(set, object, &state["params"])?)),
        "area" | "line" | "histogram" | "horizontal_bar" | "pie" | "heatmap" | "table" | "metric" | "tagcloud" => {
            let (pattern, query) = source(set, object)?;
            // These show the numbers of inner buckets' parents too.
            let every_level = kind == "pie"
                || (kind == "table"
                    && (state["params"]["showMetricsAtAllLevels"] == true
                        || state["params"]["showPartialRows"] == true));
            let level = aggregations(&state["aggs"], every_level)?;
            Ok(Meaning::Asks(vec![ask(String::new(), pattern, query, level)]))
        }
        other => bail!("a visualization of a type that is not known: {other}"),
    }
}

fn ask(name: String, pattern: String, query: Query, level: Level) -> Ask {
    Ask { name, pattern, query, shift: 0, timed: true, level, hits: None, maths: Vec::new() }
}

/// The ids in links such as `#/view/ID`.
fn links(markdown: &str) -> Vec<String> {
    let ends = |character: char| !character.is_alphanumeric() && character != '-';
    let after = markdown.split("#/view/").skip(1);
    after.map(|text| text.split(ends).next().unwrap_or_default().to_owned()).collect()
}

/// Index pattern and query of an object.
fn source(set: &Set, object: &Object) -> Result<(String, Query)> {
    let source = object.json("kibanaSavedObjectMeta.searchSourceJSON")?;
    let name = source["indexRefName"].as_str().context("no index pattern")?;
    let (kind, id) = object.reference(name)?;
    ensure!(kind == "index-pattern", "{name} is no index pattern");
    let mut all = vec![Query::read(&source["query"])?];
    for filter in source["filter"].as_array().context("no filters")? {
        all.push(Query::filter(filter)?);
    }
    all.retain(|query| *query != Query::All);
    let query = match all.len() {
        0 => Query::All,
        1 => all.remove(0),
        _ => Query::And(all),
    };
    Ok((set.pattern(id)?, query))
}

fn search(set: &Set, object: &Object) -> Result<Ask> {
    let (pattern, query) = source(set, object)?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a text was expected");
    let list = |key: &str| object.attributes[key].as_array().with_context(|| format!("no {key}"));
    let columns: Vec<String> = list("columns")?.iter().map(text).collect::<Result<_>>()?;
    ensure!(!columns.is_empty(), "a search without columns shows whole documents");
    let mut sort = Vec::new();
    for one in list("sort")? {
        let descending = match one[1].as_str() {
            Some("desc") => true,
            Some("asc") => false,
            other => bail!("an order that is not known: {other:?}"),
        };
        sort.push((text(&one[0])?, descending));
    }
    ensure!(!sort.is_empty(), "a search without an order");
    let mut ask = ask(String::new(), pattern, query, Level::default());
    ask.hits = Some(Hits { size: SAMPLE, sort, columns });
    Ok(ask)
}

fn control(set: &Set, object: &Object) -> Result<Ask> {
    let (_, id) = object.reference("dataView")?;
    let field = object.attributes["field"].as_str().context("no field")?;
    choices(set.pattern(id)?, object.attributes["control"] == "options", field, CHOICES, true)
}

fn controls(set: &Set, object: &Object, params: &Value) -> Result<Vec<Ask>> {
    let mut asks = Vec::new();
    for control in params["controls"].as_array().context("no controls")? {
        let text = |key: &str| control[key].as_str().with_context(|| format!("a control without {key}"));
        let (_, id) = object.reference(text("indexPatternRefName")?)?;
        let list = match text("type")? {
            "list" => true,
            "range" => false,
            other => bail!("a control that is not known: {other}"),
        };
        let size = control["options"]["size"].as_u64().unwrap_or(0);
        let timed = params["useTimeFilter"] == true;
        asks.push(choices(set.pattern(id)?, list, text("fieldName")?, usize::try_from(size)?, timed)?);
    }
    Ok(asks)
}

/// What a control asks for: the most frequent values, or the least and the greatest.
fn choices(pattern: String, list: bool, field: &str, size: usize, timed: bool) -> Result<Ask> {
    let mut level = Level::default();
    if list {
        ensure!(size > 0, "a list of no choices");
        let terms = Terms { field: field.to_owned(), size, by: By::Count, descending: true, missing: None };
        level.below = Some(Box::new(("termsAgg".to_owned(), Bucket::Terms(terms), Level::default())));
    } else {
        for (id, operation) in [("minAgg", "min"), ("maxAgg", "max")] {
            level.metrics.push((id.to_owned(), Metric::Of(operation, field.to_owned())));
        }
    }
    let mut ask = ask(format!("control of {field}"), pattern, Query::All, level);
    ask.timed = timed;
    Ok(ask)
}

/// One of `visState.aggs`.
struct Aggregation<'a> {
    id: &'a str,
    kind: &'a str,
    params: &'a Value,
}

impl<'a> Aggregation<'a> {
    fn read(saved: &'a Value) -> Result<Self> {
        let text = |key: &str| saved[key].as_str().with_context(|| format!("an aggregation without {key}: {saved}"));
        Ok(Self { id: text("id")?, kind: text("type")?, params: &saved["params"] })
    }

    /// That it has no params but these.
    fn knows(&self, keys: &[&str]) -> Result<()> {
        // How it is called, and how dates are shown.
        const SHOWN: [&str; 1] = ["customLabel"];
        for (key, value) in self.params.as_object().context("no params")? {
            let known = keys.contains(&key.as_str()) || SHOWN.contains(&key.as_str());
            ensure!(known, "{}: not known: {key}: {value}", self.kind);
        }
        Ok(())
    }

    fn field(&self) -> Result<String> {
        self.params["field"].as_str().map(str::to_owned).with_context(|| format!("{} without a field", self.kind))
    }
}

/// The tree of `visState.aggs`: buckets within each other in their order, metrics in the innermost, or on every level.
fn aggregations(saved: &Value, every_level: bool) -> Result<Level> {
    let (mut metrics, mut buckets) = (Vec::new(), Vec::new());
    for one in saved.as_array().context("no aggregations")? {
        ensure!(one["enabled"] != false, "an aggregation that is off");
        let aggregation = Aggregation::read(one)?;
        match one["schema"].as_str() {
            Some("metric") => metrics.push((aggregation.id.to_owned(), metric(&aggregation)?)),
            Some("segment" | "group" | "split" | "bucket") => buckets.push(aggregation),
            other => bail!("a schema that is not known: {other:?}"),
        }
    }
    ensure!(!metrics.is_empty(), "no metric");
    let innermost = Level { metrics: metrics.clone(), below: None };
    buckets.iter().rev().try_fold(innermost, |level, aggregation| {
        let found = bucket(aggregation, &metrics)?;
        let shown = if every_level { metrics.clone() } else { Vec::new() };
        Ok(Level { metrics: shown, below: Some(Box::new((aggregation.id.to_owned(), found, level))) })
    })
}

fn metric(aggregation: &Aggregation<'_>) -> Result<Metric> {
    let numbers = |key: &str| -> Result<Vec<f64>> {
        let list = aggregation.params[key].as_array().with_context(|| format!("no {key}"))?;
        list.iter().map(|value| number(value)?.with_context(|| format!("no number in {key}"))).collect()
    };
    Ok(match aggregation.kind {
        "count" => {
            aggregation.knows(&[])?;
            Metric::Count
        }
        kind @ ("avg" | "sum" | "min" | "max" | "cardinality") => {
            aggregation.knows(&["field"])?;
            Metric::Of(operation(kind)?, aggregation.field()?)
        }
        "median" => {
            aggregation.knows(&["field"])?;
            Metric::Percentiles(aggregation.field()?, vec![50.0])
        }
        "percentiles" => {
            aggregation.knows(&["field", "percents"])?;
            Metric::Percentiles(aggregation.field()?, numbers("percents")?)
        }
        "percentile_ranks" => {
            aggregation.knows(&["field", "values"])?;
            Metric::Ranks(aggregation.field()?, numbers("values")?)
        }
        "top_hits" => {
            aggregation.knows(&["field", "aggregate", "size", "sortField", "sortOrder"])?;
            let params = aggregation.params;
            ensure!(params["size"] == 1, "more than one of the top hits is not known: {params}");
            let by = params["sortField"].as_str().context("top hits in no order")?.to_owned();
            Metric::Latest { field: aggregation.field()?, by, descending: params["sortOrder"] == "desc" }
        }
        kind @ ("avg_bucket" | "min_bucket" | "max_bucket" | "sum_bucket") => {
            aggregation.knows(&["customBucket", "customMetric"])?;
            let inner = metric(&Aggregation::read(&aggregation.params["customMetric"])?)?;
            let over = bucket(&Aggregation::read(&aggregation.params["customBucket"])?, &[])?;
            Metric::Over(operation(kind)?, Box::new(over), Box::new(inner))
        }
        other => bail!("a metric that is not known: {other}"),
    })
}

/// The same name, with the life of the program.
pub(super) fn operation(name: &str) -> Result<&'static str> {
    const KNOWN: [&str; 9] =
        ["avg", "sum", "min", "max", "cardinality", "avg_bucket", "min_bucket", "max_bucket", "sum_bucket"];
    KNOWN.into_iter().find(|known| *known == name).with_context(|| format!("a metric that is not known: {name}"))
}

/// A number, also as text; nothing for an empty text.
pub(super) fn number(value: &Value) -> Result<Option<f64>> {
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(number.as_f64()),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => text.parse().map(Some).with_context(|| format!("no number: {text}")),
        other => bail!("no number: {other}"),
    }
}

fn bucket(aggregation: &Aggregation<'_>, metrics: &[(String, Metric)]) -> Result<Bucket> {
    let params = aggregation.params;
    Ok(match aggregation.kind {
        "terms" => Bucket::Terms(terms(aggregation, metrics)?),
        "date_histogram" => {
            aggregation.knows(&[
                "field",
                "interval",
                "min_doc_count",
                "useNormalizedEsInterval",
                "scaleMetricValues",
                "drop_partials",
                "extended_bounds",
            ])?;
            ensure!(params["field"] == "@timestamp", "a date histogram of another time: {}", params["field"]);
            ensure!(params["scaleMetricValues"] != true && params["drop_partials"] != true, "not known: {params}");
            let every = Every::Aggregation(params["interval"].as_str().context("no interval")?.to_owned());
            Bucket::Dates { every, empty: params["min_doc_count"] == 0, step: None }
        }
        "histogram" => {
            aggregation.knows(&[
                "field",
                "interval",
                "maxBars",
                "min_doc_count",
                "has_extended_bounds",
                "extended_bounds",
            ])?;
            let bounds = match (number(&params["extended_bounds"]["min"])?, number(&params["extended_bounds"]["max"])?)
            {
                (Some(min), Some(max)) if params["has_extended_bounds"] == true => Some((min, max)),
                _ => None,
            };
            let saved = if params["interval"] == "auto" { None } else { number(&params["interval"])? };
            let empty = params["min_doc_count"] == true;
            let most_bars = number(&params["maxBars"])?;
            Bucket::Numbers { field: aggregation.field()?, saved, most_bars, empty, bounds, interval: 0.0 }
        }
        "range" => {
            aggregation.knows(&["field", "ranges", "row"])?;
            let ranges = params["ranges"].as_array().context("no ranges")?;
            let bounds = |range: &Value| Ok((number(&range["from"])?, number(&range["to"])?));
            Bucket::Ranges(aggregation.field()?, ranges.iter().map(bounds).collect::<Result<_>>()?)
        }
        "filters" => {
            aggregation.knows(&["filters", "row"])?;
            let mut filters = Vec::new();
            for filter in params["filters"].as_array().context("no filters")? {
                let label = filter["label"].as_str().filter(|label| !label.is_empty());
                let name = label.or_else(|| filter["input"]["query"].as_str()).context("a filter without a name")?;
                ensure!(filters.iter().all(|(other, _)| other != name), "two filters have the name {name}");
                filters.push((name.to_owned(), Query::read(&filter["input"])?));
            }
            Bucket::Filters(filters)
        }
        other => bail!("a bucket that is not known: {other}"),
    })
}

fn terms(aggregation: &Aggregation<'_>, metrics: &[(String, Metric)]) -> Result<Terms> {
    aggregation.knows(&[
        "field",
        "orderBy",
        "orderAgg",
        "order",
        "size",
        "otherBucket",
        "otherBucketLabel",
        "missingBucket",
        "missingBucketLabel",
        "row",
    ])?;
    let params = aggregation.params;
    ensure!(params["otherBucket"] != true, "a bucket for the others is a second request, which is not known");
    let by = match params["orderBy"].as_str().context("terms without an order")? {
        "_key" => By::Key,
        "_count" => By::Count,
        "custom" => {
            let custom = Aggregation::read(&params["orderAgg"])?;
            match metric(&custom)? {
                Metric::Count => By::Count,
                metric => By::Metric(format!("{}-orderAgg", aggregation.id), metric),
            }
        }
        path => {
            let id = path.split('.').next().unwrap_or(path);
            let found = metrics.iter().find(|(metric, _)| metric == id);
            match found.with_context(|| format!("ordered by {path}, which is not there"))?.1.clone() {
                Metric::Count => By::Count,
                metric => By::Metric(path.to_owned(), metric),
            }
        }
    };
    let descending = match params["order"].as_str() {
        Some("desc") => true,
        Some("asc") => false,
        other => bail!("an order that is not known: {other:?}"),
    };
    Ok(Terms {
        field: aggregation.field()?,
        size: usize::try_from(params["size"].as_u64().context("terms without a size")?)?,
        by,
        descending,
        missing: (params["missingBucket"] == true).then(|| "__missing__".to_owned()),
    })
}

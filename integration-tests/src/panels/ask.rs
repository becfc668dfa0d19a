//! What a panel asks: a tree of aggregations, as the saved object means it. From the same tree come the request that Kibana
//! would send and, in [`super::compare`], what the answer has to be.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::interval::{Every, Period, Step, number_interval};
use super::query::Query;

/// One request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The label of a series, or nothing.
    pub name: String,
    /// The indices, as a pattern.
    pub pattern: String,
    /// Which documents, beside the time.
    pub query: Query,
    /// So much later than the page's time; before it where negative.
    pub shift: i64,
    /// Whether the page's time says which documents.
    pub timed: bool,
    /// What is computed.
    pub level: Level,
    /// How many of the documents themselves are wanted, in which order: field, and whether the greatest comes first.
    pub hits: Option<Hits>,
    /// What Kibana computes of the numbers that come back: the script, and the metrics that its variables stand for.
    pub maths: Vec<(String, Vec<(String, String)>)>,
}

/// Documents themselves.
#[derive(Clone, Debug)]
pub struct Hits {
    /// At most so many.
    pub size: usize,
    /// Field, and whether the greatest comes first.
    pub sort: Vec<(String, bool)>,
    /// The fields that are shown.
    pub columns: Vec<String>,
}

/// Metrics of a set of documents, and how these are divided further.
#[derive(Clone, Debug, Default)]
pub struct Level {
    /// By the aggregation's name.
    pub metrics: Vec<(String, Metric)>,
    /// The name, and the division.
    pub below: Option<Box<(String, Bucket, Level)>>,
}

/// A number of a set of documents.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// Their number. Aggregations have it anyway.
    Count,
    /// The same, which TSVB asks for by a script.
    ScriptedCount,
    /// `avg`, `sum`, `min`, `max` or `cardinality` of a field.
    Of(&'static str, String),
    /// Percentiles of a field.
    Percentiles(String, Vec<f64>),
    /// The share of values up to each of these.
    Ranks(String, Vec<f64>),
    /// The field's value in the document that is the last by another field, or the first.
    Latest {
        /// The field that is shown.
        field: String,
        /// What it is sorted by.
        by: String,
        /// Whether the greatest comes first.
        descending: bool,
    },
    /// `avg_bucket` and the like: of the metrics of buckets.
    Over(&'static str, Box<Bucket>, Box<Metric>),
    /// A number of the documents of the first query, divided by that of the second.
    Ratio(Query, Query, Box<Metric>),
}

/// A division of documents.
#[derive(Clone, Debug, PartialEq)]
pub enum Bucket {
    /// By the values of a field.
    Terms(Terms),
    /// By the time.
    Dates {
        /// The interval as it is saved.
        every: Every,
        /// Whether buckets without documents are there too.
        empty: bool,
        /// Chosen when the time is known.
        step: Option<Step>,
    },
    /// All times in one bucket.
    AllTimes,
    /// By intervals of a number.
    Numbers {
        /// The field.
        field: String,
        /// The interval as it is saved.
        saved: Option<f64>,
        /// At most so many.
        most_bars: Option<f64>,
        /// Whether buckets without documents are there too.
        empty: bool,
        /// From where to where there are buckets at least.
        bounds: Option<(f64, f64)>,
        /// Chosen when the values are known.
        interval: f64,
    },
    /// By ranges of a number, each without its end.
    Ranges(String, Vec<(Option<f64>, Option<f64>)>),
    /// By queries, which may overlap; each with its name.
    Filters(Vec<(String, Query)>),
    /// Those of one query.
    Filter(Query),
}

/// The largest terms of a field.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// The field.
    pub field: String,
    /// At most so many.
    pub size: usize,
    /// What decides.
    pub by: By,
    /// Whether the greatest comes first.
    pub descending: bool,
    /// What documents without a value count as.
    pub missing: Option<String>,
}

/// What terms are ordered by.
#[derive(Clone, Debug, PartialEq)]
pub enum By {
    /// The number of documents.
    Count,
    /// The term itself.
    Key,
    /// A metric below: its path, such as `2` or `2.95`, and the metric.
    Metric(String, Metric),
}

/// What a cluster can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// Everything that Kibana asks.
    Whole,
    /// What Elasticsearch's core can: no scripts, and no histogram of dates that chooses its interval. What scripts would compute is
    /// computed here of its parts, and what has to be one bucket is asked for as one.
    Core,
}

const RATIO: &str = "params.numerator != null && params.denominator != null && params.denominator > 0 ? params.numerator / params.denominator : 0";

impl Ask {
    /// The request's body.
    ///
    /// # Errors
    /// If an interval was not chosen before.
    pub fn request(&self, period: &Period, cluster: Cluster) -> Result<Value> {
        let mut must = Vec::new();
        if self.query != Query::All {
            must.push(self.query.dsl());
        }
        if self.timed {
            must.push(period.shifted(self.shift).dsl());
        }
        let mut body = json!({
            "size": 0,
            "track_total_hits": true,
            "query": {"bool": {"must": [], "filter": must, "should": [], "must_not": []}},
        });
        if let Some(hits) = &self.hits {
            let sort = |(field, descending): &(String, bool)| {
                let order = if *descending { "desc" } else { "asc" };
                json!({field: {"order": order, "unmapped_type": "boolean"}})
            };
            body["size"] = json!(hits.size);
            body["sort"] = hits.sort.iter().map(sort).collect();
        }
        let aggregations = self.level.dsl(&period.shifted(self.shift), cluster)?;
        if aggregations.as_object().is_some_and(|object| !object.is_empty()) {
            body["aggs"] = aggregations;
        }
        Ok(body)
    }

    /// What must be asked before the request can be: the least and greatest value of a field.
    #[must_use]
    pub fn bounds_wanted(&self) -> Option<String> {
        let mut level = &self.level;
        while let Some(below) = &level.below {
            if let Bucket::Numbers { field, .. } = &below.1 {
                return Some(field.clone());
            }
            level = &below.2;
        }
        None
    }

    /// Chooses all intervals. `range` is what the field of a histogram of numbers spans.
    ///
    /// # Errors
    /// If what is saved is no interval.
    pub fn choose(&mut self, period: &Period, range: Option<f64>) -> Result<()> {
        self.level.choose(period, range)
    }

    /// Every field it names, with whether it aggregates it.
    #[must_use]
    pub fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        self.query.fields(&mut fields.searched);
        self.level.fields(&mut fields);
        if self.timed {
            fields.searched.insert("@timestamp".to_owned());
        }
        if let Some(hits) = &self.hits {
            fields.aggregated.extend(hits.sort.iter().map(|(field, _)| field.clone()));
            fields.shown.extend(hits.columns.iter().cloned());
        }
        fields
    }
}

/// The fields that a request names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// In queries.
    pub searched: BTreeSet<String>,
    /// In aggregations and orders.
    pub aggregated: BTreeSet<String>,
    /// As columns.
    pub shown: BTreeSet<String>,
}

impl Level {
    fn dsl(&self, period: &Period, cluster: Cluster) -> Result<Value> {
        let mut aggregations = Map::new();
        for (id, metric) in &self.metrics {
            metric.dsl(id, period, cluster, &mut aggregations)?;
        }
        if let Some(below) = &self.below {
            let (id, bucket, level) = &**below;
            let mut body = bucket.dsl(period, cluster)?;
            let mut inner = level.dsl(period, cluster)?;
            // What decides about the order is computed even where it is not shown.
            if let Bucket::Terms(Terms { by: By::Metric(path, metric), .. }) = bucket {
                let mut order = Map::new();
                metric.dsl(path.split('.').next().unwrap_or(path), period, cluster, &mut order)?;
                if let Value::Object(inner) = &mut inner {
                    inner.extend(order);
                }
            }
            if inner.as_object().is_some_and(|inner| !inner.is_empty()) {
                body["aggs"] = inner;
            }
            aggregations.insert(id.clone(), body);
        }
        Ok(Value::Object(aggregations))
    }

    fn choose(&mut self, period: &Period, range: Option<f64>) -> Result<()> {
        for (_, metric) in &mut self.metrics {
            if let Metric::Over(_, bucket, _) = metric {
                bucket.choose(period, range)?;
            }
        }
        if let Some(below) = &mut self.below {
            below.1.choose(period, range)?;
            below.2.choose(period, range)?;
        }
        Ok(())
    }

    /// The level below which there is none.
    pub(super) fn innermost(&self) -> &Self {
        self.below.as_ref().map_or(self, |below| below.2.innermost())
    }

    /// The names of all metrics.
    pub(super) fn names(&self) -> Vec<&str> {
        let below = self.below.iter().flat_map(|below| below.2.names());
        self.metrics.iter().map(|(id, _)| id.as_str()).chain(below).collect()
    }

    /// How long the buckets of its dates are, in milliseconds.
    pub(super) fn interval(&self) -> Option<f64> {
        let below = self.below.as_ref()?;
        match &below.1 {
            Bucket::Dates { step: Some(step), .. } => step.milliseconds(),
            _ => below.2.interval(),
        }
    }

    fn fields(&self, into: &mut Fields) {
        for (_, metric) in &self.metrics {
            metric.fields(into);
        }
        if let Some(below) = &self.below {
            below.1.fields(into);
            below.2.fields(into);
        }
    }
}

impl Metric {
    fn dsl(&self, id: &str, period: &Period, cluster: Cluster, into: &mut Map<String, Value>) -> Result<()> {
        let body = match self {
            Self::Count => return Ok(()),
            Self::ScriptedCount if cluster == Cluster::Core => return Ok(()),
            Self::ScriptedCount => json!({"bucket_script": {
                "buckets_path": {"count": "_count"},
                "script": {"source": "count * 1", "lang": "expression"},
                "gap_policy": "skip",
            }}),
            Self::Of(operation, field) => json!({*operation: {"field": field}}),
            Self::Percentiles(field, percents) => json!({"percentiles": {"field": field, "percents": percents}}),
            Self::Ranks(field, values) => json!({"percentile_ranks": {"field": field, "values": values}}),
            Self::Latest { field, by, descending } => json!({"top_hits": {
                "docvalue_fields": [{"field": field}],
                "_source": field,
                "size": 1,
                "sort": [{by: {"order": if *descending { "desc" } else { "asc" }}}],
            }}),
            Self::Over(operation, bucket, metric) => {
                let (over, of) = (format!("{id}-bucket"), format!("{id}-metric"));
                let mut buckets = bucket.dsl(period, cluster)?;
                let mut inner = Map::new();
                metric.dsl(&of, period, cluster, &mut inner)?;
                let path = if inner.is_empty() { format!("{over}>_count") } else { format!("{over}>{of}") };
                if !inner.is_empty() {
                    buckets["aggs"] = Value::Object(inner);
                }
                into.insert(over, buckets);
                json!({*operation: {"buckets_path": path}})
            }
            Self::Ratio(numerator, denominator, metric) => {
                let mut path = "_count";
                for (part, query) in [("numerator", numerator), ("denominator", denominator)] {
                    let mut filter = json!({"filter": query.dsl()});
                    let mut inner = Map::new();
                    metric.dsl("metric", period, cluster, &mut inner)?;
                    if !inner.is_empty() {
                        filter["aggs"] = Value::Object(inner);
                        path = "metric";
                    }
                    into.insert(format!("{id}-{part}"), filter);
                }
                if cluster == Cluster::Core {
                    return Ok(());
                }
                let path = |part: &str| format!("{id}-{part}>{path}");
                json!({"bucket_script": {
                    "buckets_path": {"numerator": path("numerator"), "denominator": path("denominator")},
                    "script": RATIO,
                }})
            }
        };
        into.insert(id.to_owned(), body);
        Ok(())
    }

    fn fields(&self, into: &mut Fields) {
        match self {
            Self::Count | Self::ScriptedCount => {}
            Self::Of(_, field) | Self::Percentiles(field, _) | Self::Ranks(field, _) => {
                into.aggregated.insert(field.clone());
            }
            Self::Latest { field, by, .. } => {
                into.aggregated.extend([field.clone(), by.clone()]);
            }
            Self::Over(_, bucket, metric) => {
                bucket.fields(into);
                metric.fields(into);
            }
            Self::Ratio(numerator, denominator, metric) => {
                numerator.fields(&mut into.searched);
                denominator.fields(&mut into.searched);
                metric.fields(into);
            }
        }
    }
}

impl Bucket {
    fn dsl(&self, period: &Period, cluster: Cluster) -> Result<Value> {
        Ok(match self {
            Self::Terms(terms) => {
                let key = match &terms.by {
                    By::Count => "_count",
                    By::Key => "_key",
                    By::Metric(path, _) => path,
                };
                let order = if terms.descending { "desc" } else { "asc" };
                let mut body = json!({"field": terms.field, "size": terms.size, "order": {key: order}});
                if let Some(missing) = &terms.missing {
                    body["missing"] = json!(missing);
                }
                json!({"terms": body})
            }
            Self::Dates { empty, step, .. } => {
                let (kind, text) = step.as_ref().context("no interval was chosen")?.dsl();
                let mut body =
                    json!({"field": "@timestamp", kind: text, "time_zone": "UTC", "min_doc_count": i32::from(!empty)});
                if *empty {
                    body["extended_bounds"] = json!({"min": period.from, "max": period.to});
                }
                json!({"date_histogram": body})
            }
            Self::AllTimes if cluster == Cluster::Core => {
                json!({"date_histogram": {"field": "@timestamp", "fixed_interval": "36500d", "min_doc_count": 1}})
            }
            Self::AllTimes => json!({"auto_date_histogram": {"field": "@timestamp", "buckets": 1}}),
            Self::Numbers { field, empty, bounds, interval, .. } => {
                let mut body = json!({"field": field, "interval": interval, "min_doc_count": i32::from(!empty)});
                if let Some((min, max)) = bounds {
                    body["extended_bounds"] = json!({"min": min, "max": max});
                }
                json!({"histogram": body})
            }
            Self::Ranges(field, ranges) => {
                let range = |(from, to): &(Option<f64>, Option<f64>)| {
                    let bounds = [("from", from), ("to", to)];
                    bounds.into_iter().filter_map(|(name, bound)| Some((name.to_owned(), json!((*bound)?)))).collect()
                };
                json!({"range": {"field": field, "ranges": ranges.iter().map(range).collect::<Vec<Value>>(), "keyed": true}})
            }
            Self::Filters(filters) => {
                let all: Map<String, Value> = filters.iter().map(|(name, query)| (name.clone(), query.dsl())).collect();
                json!({"filters": {"filters": all}})
            }
            Self::Filter(query) => json!({"filter": query.dsl()}),
        })
    }

    fn choose(&mut self, period: &Period, range: Option<f64>) -> Result<()> {
        match self {
            Self::Dates { every, step, .. } => *step = Some(every.step(period)?),
            Self::Numbers { saved, most_bars, interval, .. } => {
                // Every number that panels divide is a whole one.
                let Some(range) = range else { bail!("the range of values was not asked for") };
                *interval = number_interval(*saved, *most_bars, range, true);
            }
            _ => {}
        }
        Ok(())
    }

    fn fields(&self, into: &mut Fields) {
        match self {
            Self::Terms(terms) => {
                into.aggregated.insert(terms.field.clone());
                if let By::Metric(_, metric) = &terms.by {
                    metric.fields(into);
                }
            }
            Self::Dates { .. } | Self::AllTimes => {
                into.aggregated.insert("@timestamp".to_owned());
            }
            Self::Numbers { field, .. } | Self::Ranges(field, _) => {
                into.aggregated.insert(field.clone());
            }
            Self::Filters(filters) => filters.iter().for_each(|(_, query)| query.fields(&mut into.searched)),
            Self::Filter(query) => query.fields(&mut into.searched),
        }
    }
}

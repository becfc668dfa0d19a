//! What TSVB asks: a request a series.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::ask::{Ask, Bucket, By, Level, Metric, Terms};
use super::interval::Every;
use super::query::Query;
use super::read::{number, operation};
use super::saved::{Object, Set};

/// The requests of a visualization's series.
///
/// # Errors
/// If something of it is not known.
pub(super) fn asks(set: &Set, object: &Object, params: &Value) -> Result<Vec<Ask>> {
    let kind = params["type"].as_str().context("no type")?;
    ensure!(["timeseries", "metric"].contains(&kind), "TSVB of a type that is not known: {kind}");
    ensure!(params["time_field"] == "@timestamp", "TSVB by another time: {}", params["time_field"]);
    let pattern = match params["index_pattern"].as_str() {
        Some(title) => title.to_owned(),
        None => {
            ensure!(params["use_kibana_indexes"] == true, "TSVB without an index pattern");
            let name = params["index_pattern_ref_name"].as_str().context("TSVB without an index pattern")?;
            set.pattern(&object.reference(name)?.1)?
        }
    };
    for key in ["annotations", "series_index_pattern", "ignore_global_filter"] {
        let off = params[key].as_array().is_none_or(Vec::is_empty) && params[key] != 1;
        ensure!(off, "not known: {key}");
    }
    let all = params["series"].as_array().context("TSVB without series")?;
    let mut asks = Vec::new();
    for series in all.iter().filter(|series| series["hidden"] != true) {
        let label = series["label"].as_str().unwrap_or_default().to_owned();
        let ask = ask(&label, &pattern, params, series).with_context(|| format!("series {label:?}"))?;
        asks.push(ask);
    }
    ensure!(!asks.is_empty(), "TSVB without a series that is shown");
    Ok(asks)
}

fn ask(label: &str, pattern: &str, params: &Value, series: &Value) -> Result<Ask> {
    ensure!(series["override_index_pattern"] != 1, "an index pattern of its own is not known");
    let saved = series["metrics"].as_array().context("no metrics")?;
    let (mut metrics, mut maths) = (Vec::new(), Vec::new());
    for one in saved {
        let id = one["id"].as_str().context("a metric without an id")?;
        if one["type"] == "math" {
            maths.push(math(one)?);
        } else {
            metrics.push((id.to_owned(), metric(one)?));
        }
    }
    let every = if params["time_range_mode"] == "entire_time_range" || series["time_range_mode"] == "entire_time_range"
    {
        Bucket::AllTimes
    } else {
        let interval = params["interval"].as_str().context("no interval")?.to_owned();
        Bucket::Dates { every: Every::Series(interval), empty: true, step: None }
    };
    let split = split(series, &metrics)?;
    let inner = Level { metrics, below: None };
    let times = Level { metrics: Vec::new(), below: Some(Box::new(("timeseries".to_owned(), every, inner))) };
    let id = series["id"].as_str().context("a series without an id")?.to_owned();
    let mut all = Vec::new();
    for filter in [&params["filter"], &series["filter"]] {
        // Kibana applies a series' filter whatever it is split by.
        if !filter.is_null() {
            all.push(Query::read(filter)?);
        }
    }
    all.retain(|query| *query != Query::All);
    let query = match all.len() {
        0 => Query::All,
        1 => all.remove(0),
        _ => Query::And(all),
    };
    Ok(Ask {
        name: label.to_owned(),
        pattern: pattern.to_owned(),
        query,
        shift: offset(series["offset_time"].as_str().unwrap_or_default())?,
        timed: true,
        level: Level { metrics: Vec::new(), below: Some(Box::new((id, split, times))) },
        hits: None,
        maths,
    })
}

/// So much before, such as `1d`: in milliseconds, negative.
fn offset(text: &str) -> Result<i64> {
    if text.is_empty() {
        return Ok(0);
    }
    let unit = match text.chars().last() {
        Some('s') => 1000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        Some('w') => 7 * 86_400_000,
        _ => bail!("no offset: {text}"),
    };
    let number: i64 = text[..text.len() - 1].parse().with_context(|| format!("no offset: {text}"))?;
    Ok(-number * unit)
}

fn split(series: &Value, metrics: &[(String, Metric)]) -> Result<Bucket> {
    Ok(match series["split_mode"].as_str().context("no split")? {
        "everything" => Bucket::Filter(Query::All),
        "filter" => Bucket::Filter(Query::read(&series["filter"])?),
        "filters" => {
            let mut filters = Vec::new();
            for filter in series["split_filters"].as_array().context("no filters")? {
                let id = filter["id"].as_str().context("a filter without an id")?;
                filters.push((id.to_owned(), Query::read(&filter["filter"])?));
            }
            Bucket::Filters(filters)
        }
        "terms" => {
            ensure!(
                series["terms_include"].is_null() && series["terms_exclude"].is_null(),
                "chosen terms are not known"
            );
            let order = series["terms_order_by"].as_str().unwrap_or_default();
            let by = match metrics.iter().find(|(id, _)| id == order) {
                Some((_, metric @ Metric::Of(..))) => By::Metric(format!("{order}-SORT"), metric.clone()),
                None if order == "_key" => By::Key,
                _ => By::Count,
            };
            Bucket::Terms(Terms {
                field: series["terms_field"].as_str().context("terms without a field")?.to_owned(),
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
                size: number(&series["terms_size"])?.unwrap_or(10.0) as usize,
                by,
                descending: series["terms_direction"] != "asc",
                missing: None,
            })
        }
        other => bail!("a split that is not known: {other}"),
    })
}

fn metric(saved: &Value) -> Result<Metric> {
    let field = || saved["field"].as_str().map(str::to_owned).context("a metric without a field");
    Ok(match saved["type"].as_str().context("a metric without a type")? {
        "count" => Metric::ScriptedCount,
        kind @ ("avg" | "sum" | "min" | "max" | "cardinality") => Metric::Of(operation(kind)?, field()?),
        "percentile" => {
            let mut percents = Vec::new();
            for percentile in saved["percentiles"].as_array().context("no percentiles")? {
                ensure!(percentile["mode"] != "band", "a band of percentiles is not known");
                percents.push(number(&percentile["value"])?.unwrap_or(0.0));
            }
            Metric::Percentiles(field()?, percents)
        }
        "percentile_rank" => {
            let values = saved["values"].as_array().context("no values")?;
            let values = values.iter().map(|value| Ok(number(value)?.unwrap_or(0.0))).collect::<Result<_>>()?;
            Metric::Ranks(field()?, values)
        }
        "filter_ratio" => {
            let inner = match saved["metric_agg"].as_str() {
                None | Some("count") => Metric::Count,
                Some(kind) => Metric::Of(operation(kind)?, field()?),
            };
            Metric::Ratio(Query::read(&saved["numerator"])?, Query::read(&saved["denominator"])?, Box::new(inner))
        }
        other => bail!("a metric that is not known: {other}"),
    })
}

/// Script, and which metric each variable stands for.
fn math(saved: &Value) -> Result<(String, Vec<(String, String)>)> {
    let script = saved["script"].as_str().context("math without a script")?.to_owned();
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a variable without name or field");
    let variables = saved["variables"].as_array().context("math without variables")?;
    let variables =
        variables.iter().map(|one| Ok((text(&one["name"])?, text(&one["field"])?))).collect::<Result<_>>()?;
    Ok((script, variables))
}

//! A visualization: aggregations and params over what Kibana writes by default, in the form of each set.

use serde_json::{Map, Value, json};

use crate::Sources;
use crate::object::{INDEX_REFERENCE, Kind, Object, Set, query};
use crate::shapes::merge;
use crate::source::{Error, Node, Source};

/// By which TSVB names its index pattern where it does so by reference.
const TSVB_REFERENCE: &str = "metrics_0_index_pattern";

/// The saved object of a source.
pub(crate) fn object(sources: &Sources, source: &Source, set: Set) -> Result<Object, Error> {
    let root = &source.root;
    let kind = source.text(root, "type")?;
    let mut params =
        sources.shapes.of_type("visualizations", source, root)?.fill(source, root.get("params"), "params.")?;
    let aggs = aggregations(sources, source)?;
    let colors = root.get("colors").map_or_else(|| json!({}), Node::json);
    let mut references = Vec::new();
    let mut search_source = json!({"query": query(source, root)?, "filter": []});
    match kind {
        "markdown" => {}
        "metrics" => {
            let index = sources.index(source)?;
            params["id"] = json!(source.id);
            params["series"] = series(sources, source, &colors)?;
            if root.get("query").is_some() || root.get("lucene").is_some() {
                params["filter"] = search_source["query"].take();
                search_source["query"] = json!({"query": "", "language": "kuery"});
            }
            for (position, rule) in list(&mut params["background_color_rules"]).iter_mut().enumerate() {
                rule["id"] = json!(format!("rule{}", position + 1));
            }
            match set {
                Set::Seven => params["index_pattern"] = json!(index.text(&index.root, "title")?),
                Set::Eight => {
                    params["use_kibana_indexes"] = json!(true);
                    params["index_pattern_ref_name"] = json!(TSVB_REFERENCE);
                    references.push((TSVB_REFERENCE.to_owned(), Kind::IndexPattern, index.id.clone()));
                }
            }
        }
        _ => {
            let index = sources.index(source)?;
            search_source["indexRefName"] = json!(INDEX_REFERENCE);
            references.push((INDEX_REFERENCE.to_owned(), Kind::IndexPattern, index.id.clone()));
            if params.get("seriesParams").is_some() || params.get("valueAxes").is_some_and(|_| kind != "heatmap") {
                axes_and_series(&mut params, &aggs, kind);
            }
        }
    }
    if set == Set::Eight {
        to_eight(kind, &mut params);
    }
    let title = source.text(root, "title")?;
    let description = source.optional_text(root, "description")?.unwrap_or_default();
    let ui_state =
        if kind == "metrics" || colors == json!({}) { json!({}) } else { json!({"vis": {"colors": colors}}) };
    let state = VisualizationState { title, description, kind, params, aggs, ui_state, search_source };
    Ok(Object { kind: Kind::Visualization, id: source.id.clone(), attributes: state.attributes(), references })
}

/// What the attributes of a visualization are made of.
pub(crate) struct VisualizationState<'a> {
    pub(crate) title: &'a str,
    pub(crate) description: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) params: Value,
    pub(crate) aggs: Value,
    pub(crate) ui_state: Value,
    pub(crate) search_source: Value,
}

impl VisualizationState<'_> {
    pub(crate) fn attributes(self) -> Value {
        // Among all that is saved in Kibana, it must be seen whose it is.
        let title = format!("{} [logweir]", self.title);
        let state = json!({"title": title, "type": self.kind, "params": self.params, "aggs": self.aggs});
        json!({
            "title": title,
            "description": self.description,
            "version": 1,
            "visState": state.to_string(),
            "uiStateJSON": self.ui_state.to_string(),
            "kibanaSavedObjectMeta": {"searchSourceJSON": self.search_source.to_string()},
        })
    }
}

/// The aggregations in Kibana's shape; one without an id has its place in the list, from 1.
fn aggregations(sources: &Sources, source: &Source) -> Result<Value, Error> {
    let mut aggs = Vec::new();
    for (position, agg) in source.root.get("aggs").map_or(&[][..], Node::items).iter().enumerate() {
        let crate::source::Kind::Table(entries) = &agg.kind else {
            return Err(source.error(agg.line, "an aggregation is a table of id, type, schema and params"));
        };
        if let Some((key, value)) =
            entries.iter().find(|(key, _)| !["id", "type", "schema", "params", "enabled"].contains(&key.as_str()))
        {
            return Err(source.error(value.line, format!("unknown key `aggs.{key}`")));
        }
        let params = sources.shapes.of_type("aggregations", source, agg)?;
        let id = source.optional_text(agg, "id")?.map_or_else(|| (position + 1).to_string(), str::to_owned);
        if aggs.iter().any(|other: &Value| other["id"] == id) {
            return Err(source.error(agg.line, format!("a second aggregation with the id `{id}`")));
        }
        aggs.push(json!({
            "id": id,
            "enabled": agg.get("enabled").is_none_or(|enabled| enabled.json() != json!(false)),
            "type": source.text(agg, "type")?,
            "schema": source.text(agg, "schema")?,
            "params": params.fill(source, agg.get("params"), "aggs.params.")?,
        }));
    }
    Ok(Value::Array(aggs))
}

/// One entry of `seriesParams` for each metric, and the first metric's label at an axis that has none.
fn axes_and_series(params: &mut Value, aggs: &Value, kind: &str) {
    let metrics = aggs.as_array().into_iter().flatten().filter(|agg| agg["schema"] == "metric");
    let own = list(&mut params["seriesParams"]).clone();
    let mut made = Vec::new();
    for (position, metric) in metrics.enumerate() {
        let label = metric["params"]["customLabel"].as_str().unwrap_or("Count");
        let mut series = json!({
            "show": true,
            "type": if kind == "horizontal_bar" { "histogram" } else { kind },
            "mode": if matches!(kind, "area" | "histogram") { "stacked" } else { "normal" },
            "data": {"label": label, "id": metric["id"]},
            "valueAxis": "ValueAxis-1",
            "drawLinesBetweenPoints": true,
            "lineWidth": 2,
            "interpolate": "linear",
            "showCircles": true,
        });
        if let Some(own) = own.get(position) {
            merge(&mut series, own.clone());
        }
        made.push(series);
    }
    if let Some(first) = made.first() {
        let text = &mut params["valueAxes"][0]["title"]["text"];
        if text == "" {
            *text = first["data"]["label"].clone();
        }
    }
    params["seriesParams"] = Value::Array(made);
}

/// The series of TSVB. A series or metric without an id is named by its place.
fn series(sources: &Sources, source: &Source, colors: &Value) -> Result<Value, Error> {
    let own = source.root.get("params").and_then(|params| params.get("series"));
    let own = own.ok_or_else(|| source.error(source.root.line, "`params.series` is missing here"))?;
    let mut all = Vec::new();
    for (position, one) in own.items().iter().enumerate() {
        let mut one = sources.shapes.of_series().fill(source, Some(one), "params.series.")?;
        let id = format!("s{}", position + 1);
        name(&mut one, &id);
        if let Some(color) = one["label"].as_str().and_then(|label| colors.get(label)) {
            one["color"] = color.clone();
        }
        for (position, metric) in list(&mut one["metrics"]).iter_mut().enumerate() {
            let id = format!("{id}m{}", position + 1);
            name(metric, &id);
            for key in ["percentiles", "variables"] {
                if metric.get(key).is_some() {
                    for (position, part) in list(&mut metric[key]).iter_mut().enumerate() {
                        name(part, &format!("{id}{}{}", &key[..1], position + 1));
                    }
                }
            }
        }
        if one.get("split_filters").is_some() {
            for (position, part) in list(&mut one["split_filters"]).iter_mut().enumerate() {
                name(part, &format!("{id}f{}", position + 1));
                if let Some(color) = part["label"].as_str().and_then(|label| colors.get(label)) {
                    part["color"] = color.clone();
                }
            }
        }
        all.push(one);
    }
    Ok(Value::Array(all))
}

/// Gives a table this id if it has none.
fn name(table: &mut Value, id: &str) {
    if let Value::Object(table) = table {
        table.entry("id").or_insert_with(|| json!(id));
    }
}

/// The list that a value is; what is none becomes an empty one, unless it is absent.
fn list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("it was just made one")
}

/// What Kibana's own migrations from 7.10 to 8.5 make of the params.
fn to_eight(kind: &str, params: &mut Value) {
    let palette = json!({"type": "palette", "name": "kibana_palette"});
    let is_series_over_time = params["type"] == "timeseries";
    let mut set = |key: &str, value: Value| params[key] = value;
    match kind {
        "area" | "line" | "histogram" | "horizontal_bar" => {
            set("palette", palette);
            set("isVislibVis", json!(true));
            set("detailedTooltip", json!(true));
            set("legendSize", json!("auto"));
            if matches!(kind, "area" | "line") {
                set("fittingFunction", json!("linear"));
            }
            for series in list(&mut params["seriesParams"]) {
                series["circlesRadius"] = json!(1);
            }
        }
        "pie" => {
            set("palette", palette);
            set("distinctColors", json!(true));
            set("legendSize", json!("auto"));
            let legend = params.as_object_mut().and_then(|params: &mut Map<_, _>| params.remove("addLegend"));
            params["legendDisplay"] = json!(if legend == Some(json!(true)) { "show" } else { "hide" });
        }
        "heatmap" => set("legendSize", json!("auto")),
        "tagcloud" => set("palette", palette),
        "table" => set("showToolbar", json!(true)),
        "metrics" if !is_series_over_time => set("hide_last_value_indicator", json!(true)),
        _ => {}
    }
}

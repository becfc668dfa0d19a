//! A dashboard: its rows of panels below a head of navigation and controls, which are made for it.
//!
//! In the set for Kibana 7 the controls are a visualization of their own below the navigation; later Kibanas have them
//! above the panels. Controls of the same field have the same id on every dashboard, and in the older set pin what is
//! chosen, so that it is still chosen after a link to another one.

use serde_json::{Map, Value, json};

use crate::Sources;
use crate::object::{Kind, Object, Set};
use crate::source::{Error, Node, Source, nearest};
use crate::visualization::VisualizationState;

/// Columns of Kibana's grid.
const COLUMNS: u64 = 48;
/// Of the head, in rows of the grid.
const NAVIGATION_HEIGHT: u64 = 2;
const CONTROLS_HEIGHT: u64 = 4;

/// A panel and where it stands.
struct Panel {
    kind: Kind,
    id: String,
    title: Option<String>,
    hide_title: bool,
    /// Left, top, width, height.
    place: [u64; 4],
}

/// The dashboard and what is made for it.
pub(crate) fn objects(sources: &Sources, source: &Source, set: Set) -> Result<Vec<Object>, Error> {
    let controls = controls(source)?;
    let mut made = vec![navigation(sources, source)?];
    let head = |object: &Object, place| Panel {
        kind: Kind::Visualization,
        id: object.id.clone(),
        title: None,
        hide_title: true,
        place,
    };
    let mut panels = vec![head(&made[0], [0, 0, COLUMNS, NAVIGATION_HEIGHT])];
    let mut height = NAVIGATION_HEIGHT;
    if set == Set::Seven && !controls.is_empty() {
        let object = control_panel(sources, source, &controls)?;
        panels.push(head(&object, [0, height, COLUMNS, CONTROLS_HEIGHT]));
        height += CONTROLS_HEIGHT;
        made.push(object);
    }
    rows(sources, source, height, &mut panels)?;

    let mut references = Vec::new();
    let mut placed = Vec::new();
    for (position, panel) in panels.iter().enumerate() {
        let index = (position + 1).to_string();
        let reference = format!("panel_{index}");
        placed.push(panel.json(&index, &reference, set));
        let name = if set == Set::Seven { reference } else { format!("{index}:{reference}") };
        references.push((name, panel.kind, panel.id.clone()));
    }
    let mut options = json!({"hidePanelTitles": false, "useMargins": true});
    let mut attributes = json!({
        "title": format!("{} [logweir]", source.text(&source.root, "name")?),
        "hits": 0,
        "description": source.text(&source.root, "description")?,
        "panelsJSON": Value::Array(placed).to_string(),
        "version": 1,
        // A link keeps the time that is looked at.
        "timeRestore": false,
        "kibanaSavedObjectMeta": {
            "searchSourceJSON": json!({"query": {"query": "", "language": "kuery"}, "filter": []}).to_string(),
        },
    });
    if set == Set::Eight {
        options["syncColors"] = json!(false);
        options["syncCursor"] = json!(true);
        options["syncTooltips"] = json!(false);
        if !controls.is_empty() {
            let index = sources.index(source)?;
            attributes["controlGroupInput"] = control_group(&controls);
            for control in &controls {
                let kind = if control.range { "rangeSlider" } else { "optionsList" };
                let name = format!("controlGroup_{}:{kind}DataView", control.field);
                references.push((name, Kind::IndexPattern, index.id.clone()));
            }
        }
    }
    attributes["optionsJSON"] = json!(options.to_string());
    made.push(Object { kind: Kind::Dashboard, id: source.id.clone(), attributes, references });
    Ok(made)
}

impl Panel {
    fn json(&self, index: &str, reference: &str, set: Set) -> Value {
        let [x, y, w, h] = self.place;
        let mut config = json!({});
        if set == Set::Eight {
            config["enhancements"] = json!({});
        }
        if self.hide_title {
            config["hidePanelTitles"] = json!(true);
        }
        let mut panel = json!({
            "version": if set == Set::Seven { "7.9.3" } else { "8.8.0" },
            "type": self.kind.name(),
            "gridData": {"x": x, "y": y, "w": w, "h": h, "i": index},
            "panelIndex": index,
            "embeddableConfig": config,
            "panelRefName": reference,
        });
        if let Some(title) = &self.title {
            panel["title"] = json!(title);
        }
        panel
    }
}

/// The panels of the rows, below the head.
fn rows(sources: &Sources, source: &Source, head: u64, panels: &mut Vec<Panel>) -> Result<(), Error> {
    let mut top = head;
    for row in source.root.get("rows").map_or(&[][..], Node::items) {
        let height = source.number(row, "height")?;
        let mut left = 0;
        for panel in row.get("panels").map_or(&[][..], Node::items) {
            let id = source.text(panel, "id")?;
            let width = source.number(panel, "width")?;
            let (kind, shown) = match (sources.visualizations.get(id), sources.searches.get(id)) {
                (Some(visualization), None) => (Kind::Visualization, visualization),
                (None, Some(search)) => (Kind::Search, search),
                (Some(_), Some(_)) => {
                    return Err(source.error(panel.line, format!("`{id}` is both a visualization and a search")));
                }
                (None, None) => {
                    let known = sources.visualizations.keys().chain(sources.searches.keys()).map(String::as_str);
                    return Err(
                        source.error(panel.line, format!("no visualization or search `{id}`; {}", nearest(id, known)))
                    );
                }
            };
            let title = match source.optional_text(panel, "title")? {
                Some(title) => title,
                None => shown.text(&shown.root, "title")?,
            };
            panels.push(Panel {
                kind,
                id: id.to_owned(),
                title: Some(title.to_owned()),
                hide_title: panel.get("hide_title").is_some_and(|hide| hide.json() == json!(true)),
                place: [left, top, width, height],
            });
            left += width;
        }
        if left != COLUMNS {
            return Err(source.error(row.line, format!("the widths of this row are {left} together, not {COLUMNS}")));
        }
        top += height;
    }
    Ok(())
}

/// Links to all dashboards.
fn navigation(sources: &Sources, source: &Source) -> Result<Object, Error> {
    let mut links = Vec::new();
    for other in &sources.dashboards {
        let name = other.text(&other.root, "name")?;
        let link = format!("[{name}](#/view/{})", other.id);
        links.push(if other.id == source.id { format!("**{name}**") } else { link });
    }
    let params = json!({"fontSize": 12, "openLinksInNewTab": false, "markdown": links.join(" · ")});
    made(source, "navigation", "markdown", params, Vec::new())
}

/// A visualization of this dashboard alone, that asks nothing.
fn made(
    source: &Source,
    what: &str,
    kind: &str,
    params: Value,
    references: Vec<(String, Kind, String)>,
) -> Result<Object, Error> {
    let name = source.text(&source.root, "name")?;
    let state = VisualizationState {
        title: &format!("{name}: {what}"),
        description: "",
        kind,
        params,
        aggs: json!([]),
        ui_state: json!({}),
        search_source: json!({"query": {"query": "", "language": "kuery"}, "filter": []}),
    };
    let id = format!("{}-{what}", source.id);
    Ok(Object { kind: Kind::Visualization, id, attributes: state.attributes(), references })
}

struct Control<'a> {
    field: &'a str,
    label: &'a str,
    range: bool,
    step: u64,
}

fn controls(source: &Source) -> Result<Vec<Control<'_>>, Error> {
    let read = |node: &'_ Node| -> Result<(bool, u64), Error> {
        match source.text(node, "kind")? {
            "options" => Ok((false, 1)),
            "range" => Ok((true, if node.get("step").is_some() { source.number(node, "step")? } else { 1 })),
            other => {
                Err(source.error(node.line, format!("no kind of control `{other}`; there are `options`, `range`")))
            }
        }
    };
    let nodes = source.root.get("controls").map_or(&[][..], Node::items);
    nodes
        .iter()
        .map(|node| {
            let (range, step) = read(node)?;
            Ok(Control { field: source.text(node, "field")?, label: source.text(node, "label")?, range, step })
        })
        .collect()
}

/// The controls as Kibana 7 has them.
fn control_panel(sources: &Sources, source: &Source, controls: &[Control<'_>]) -> Result<Object, Error> {
    let index = sources.index(source)?;
    let mut references = Vec::new();
    let mut list = Vec::new();
    for (position, control) in controls.iter().enumerate() {
        let reference = format!("control_{position}_index_pattern");
        let (kind, options) = if control.range {
            ("range", json!({"decimalPlaces": 0, "step": control.step}))
        } else {
            (
                "list",
                json!({"type": "terms", "multiselect": true, "dynamicOptions": true, "size": 100, "order": "desc"}),
            )
        };
        list.push(json!({
            "id": control.field,
            "indexPatternRefName": reference,
            "fieldName": control.field,
            "parent": "",
            "label": control.label,
            "type": kind,
            "options": options,
        }));
        references.push((reference, Kind::IndexPattern, index.id.clone()));
    }
    let params = json!({"controls": list, "updateFiltersOnChange": true, "useTimeFilter": true, "pinFilters": true});
    made(source, "controls", "input_control_vis", params, references)
}

/// The controls as later Kibanas have them.
fn control_group(controls: &[Control<'_>]) -> Value {
    let panels: Map<String, Value> = controls
        .iter()
        .enumerate()
        .map(|(order, control)| {
            let kind = if control.range { "rangeSliderControl" } else { "optionsListControl" };
            let input =
                json!({"id": control.field, "fieldName": control.field, "title": control.label, "enhancements": {}});
            let panel = json!({"order": order, "width": "medium", "grow": true, "type": kind, "explicitInput": input});
            (control.field.to_owned(), panel)
        })
        .collect();
    let ignore =
        json!({"ignoreFilters": false, "ignoreQuery": false, "ignoreTimerange": false, "ignoreValidations": false});
    json!({
        "controlStyle": "oneLine",
        "chainingSystem": "HIERARCHICAL",
        "panelsJSON": Value::Object(panels).to_string(),
        "ignoreParentSettingsJSON": ignore.to_string(),
    })
}

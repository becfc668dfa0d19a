//! The built files of saved objects, as Kibana would import them: their objects, what each refers to, and which panels
//! each dashboard shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// One built file.
#[derive(Clone, Debug)]
pub struct Set {
    /// What it is called in reports: `7` or `8`.
    pub name: String,
    objects: BTreeMap<(String, String), Object>,
}

/// One saved object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Such as `visualization`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// All attributes; the JSON that some of them hold as text is still text.
    pub attributes: Value,
    /// By the name of the reference: kind and id of what it refers to.
    references: BTreeMap<String, (String, String)>,
}

/// Something on a dashboard that asks for data, or a text that asks for none.
#[derive(Clone, Debug)]
pub struct Panel {
    /// The title of its dashboard; empty for what is on none.
    pub dashboard: String,
    /// Its title as it is shown.
    pub title: String,
    /// What it shows: an object of its own, or a control of the dashboard, as an object made for it.
    pub object: Object,
}

impl Object {
    /// The object that a reference names, as kind and id.
    ///
    /// # Errors
    /// If there is no such reference.
    pub fn reference(&self, name: &str) -> Result<&(String, String)> {
        self.references.get(name).with_context(|| format!("{} has no reference {name:?}", self.id))
    }

    /// An attribute that holds JSON as text.
    ///
    /// # Errors
    /// If it is absent or no JSON.
    pub fn json(&self, attribute: &str) -> Result<Value> {
        let mut value = &self.attributes;
        for key in attribute.split('.') {
            value = &value[key];
        }
        let text = value.as_str().with_context(|| format!("{} has no {attribute}", self.id))?;
        serde_json::from_str(text).with_context(|| format!("{attribute} of {} is no JSON", self.id))
    }
}

impl Set {
    /// Reads a built file.
    ///
    /// # Errors
    /// If it cannot be read, a line is no saved object, or something refers to what is not there.
    pub fn read(name: &str, path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(name, &text).with_context(|| format!("in {}", path.display()))
    }

    /// The same, of its text.
    ///
    /// # Errors
    /// If a line is no saved object, or something refers to what is not there.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut objects = BTreeMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let line: Value = serde_json::from_str(line)?;
            if line.get("exportedCount").is_some() {
                continue;
            }
            let object = object(&line)?;
            let key = (object.kind.clone(), object.id.clone());
            ensure!(objects.insert(key, object).is_none(), "twice: {} {}", line["type"], line["id"]);
        }
        let set = Self { name: name.to_owned(), objects };
        for object in set.objects.values() {
            for (kind, id) in object.references.values() {
                ensure!(set.get(kind, id).is_ok(), "{} refers to {kind} {id}, which is not there", object.id);
            }
        }
        Ok(set)
    }

    /// An object.
    ///
    /// # Errors
    /// If it is not there.
    pub fn get(&self, kind: &str, id: &str) -> Result<&Object> {
        self.objects.get(&(kind.to_owned(), id.to_owned())).with_context(|| format!("there is no {kind} {id}"))
    }

    /// All objects of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Object> {
        self.objects.values().filter(move |object| object.kind == kind)
    }

    /// Which indices the index pattern of this id means, such as `logs-*`.
    ///
    /// # Errors
    /// If there is none, or its time is not `@timestamp`.
    pub fn pattern(&self, id: &str) -> Result<String> {
        let object = self.get("index-pattern", id)?;
        ensure!(object.attributes["timeFieldName"] == "@timestamp", "{id}: the time is not @timestamp");
        Ok(object.title.clone())
    }

    /// Every panel of every dashboard, and what is on no dashboard, in the order of titles and places.
    ///
    /// # Errors
    /// If a dashboard is not understood.
    pub fn panels(&self) -> Result<Vec<Panel>> {
        let mut panels = Vec::new();
        let mut shown = BTreeSet::new();
        for dashboard in self.of_kind("dashboard") {
            let of_dashboard = self.panels_of(dashboard).with_context(|| format!("dashboard {}", dashboard.id))?;
            ensure!(!of_dashboard.is_empty(), "dashboard {} is empty", dashboard.id);
            shown.extend(of_dashboard.iter().map(|panel| panel.object.id.clone()));
            panels.extend(of_dashboard);
        }
        for kind in ["visualization", "search"] {
            for object in self.of_kind(kind).filter(|object| !shown.contains(&object.id)) {
                panels.push(Panel { dashboard: String::new(), title: object.title.clone(), object: object.clone() });
            }
        }
        let known = ["dashboard", "visualization", "search", "index-pattern"];
        for object in self.objects.values() {
            ensure!(
                known.contains(&object.kind.as_str()),
                "{} is of a kind that is not known: {}",
                object.id,
                object.kind
            );
        }
        Ok(panels)
    }

    fn panels_of(&self, dashboard: &Object) -> Result<Vec<Panel>> {
        let mut list = match dashboard.json("panelsJSON")? {
            Value::Array(list) => list,
            other => bail!("panelsJSON is no list: {other}"),
        };
        let place = |panel: &Value| (panel["gridData"]["y"].as_u64(), panel["gridData"]["x"].as_u64());
        list.sort_by_key(place);
        let mut panels = Vec::new();
        for panel in &list {
            panels.push(self.panel(dashboard, panel)?);
        }
        let controls = &dashboard.attributes["controlGroupInput"];
        if !controls.is_null() {
            let text = controls["panelsJSON"].as_str().context("controlGroupInput has no panelsJSON")?;
            let Value::Object(controls) = serde_json::from_str(text)? else { bail!("controls are no object: {text}") };
            for (id, control) in &controls {
                panels.push(control_panel(dashboard, id, control)?);
            }
        }
        Ok(panels)
    }

    fn panel(&self, dashboard: &Object, panel: &Value) -> Result<Panel> {
        ensure!(panel["embeddableConfig"].get("attributes").is_none(), "a panel is not an object of its own: {panel}");
        let name = panel["panelRefName"].as_str().with_context(|| format!("a panel refers to nothing: {panel}"))?;
        // From 8 on, the reference's name begins with the panel's index.
        let index = panel["panelIndex"].as_str().unwrap_or_default();
        let (kind, id) = dashboard.reference(name).or_else(|_| dashboard.reference(&format!("{index}:{name}")))?;
        let object = self.get(kind, id)?;
        let shown = panel["embeddableConfig"]["title"].as_str().or_else(|| panel["title"].as_str());
        Ok(Panel {
            dashboard: dashboard.title.clone(),
            title: shown.filter(|title| !title.is_empty()).unwrap_or(&object.title).to_owned(),
            object: object.clone(),
        })
    }
}

fn object(line: &Value) -> Result<Object> {
    let text = |key: &str| line[key].as_str().map(str::to_owned).with_context(|| format!("no {key}: {line}"));
    let mut references = BTreeMap::new();
    for reference in line["references"].as_array().context("no references")? {
        let part =
            |key: &str| reference[key].as_str().map(str::to_owned).with_context(|| format!("no {key}: {reference}"));
        references.insert(part("name")?, (part("type")?, part("id")?));
    }
    Ok(Object {
        kind: text("type")?,
        id: text("id")?,
        title: line["attributes"]["title"].as_str().context("no title")?.to_owned(),
        attributes: line["attributes"].clone(),
        references,
    })
}

/// A control of Kibana 8, as an object: `{control: options|range, field: …}`.
fn control_panel(dashboard: &Object, id: &str, control: &Value) -> Result<Panel> {
    let input = &control["explicitInput"];
    let (kind, view) = match control["type"].as_str() {
        Some("optionsListControl") => ("options", "optionsListDataView"),
        Some("rangeSliderControl") => ("range", "rangeSliderDataView"),
        other => bail!("control {id} is of a type that is not known: {other:?}"),
    };
    let name = format!("controlGroup_{id}:{view}");
    let pattern = dashboard.reference(&name)?.clone();
    let field = input["fieldName"].as_str().with_context(|| format!("control {id} has no field"))?;
    let title = input["title"].as_str().unwrap_or(field);
    Ok(Panel {
        dashboard: dashboard.title.clone(),
        title: format!("control {title}"),
        object: Object {
            kind: "control".to_owned(),
            id: format!("{}-control-{id}", dashboard.id),
            title: title.to_owned(),
            attributes: json!({"control": kind, "field": field}),
            references: BTreeMap::from([("dataView".to_owned(), pattern)]),
        },
    })
}

/// The two built files.
///
/// # Errors
/// If one cannot be read.
pub fn built() -> Result<Vec<Set>> {
    let dir = crate::node::repository().join("kibana");
    ["7", "8"].iter().map(|name| Set::read(name, &dir.join(format!("logweir-{name}.ndjson")))).collect()
}

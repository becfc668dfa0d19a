//! Every panel of the built dashboards shows what the raw lines say: in both sets, on Elasticsearch and on OpenSearch, which also
//! runs the scripts. `-- --nocapture` lists every panel with how many of its numbers were compared.

use integration_tests::Node;
use integration_tests::panels::{Cluster, Report, Target, World, fill, saved};
use serde_json::{Value, json};

/// Of all panels, in their order.
fn check(world: &World<'_>) -> Vec<Report> {
    let sets = saved::built().expect("the built files");
    sets.iter().flat_map(|set| world.check(set).expect("a set that is understood")).collect()
}

fn assert_all_right(reports: &[Report]) {
    for report in reports {
        println!("{report}");
    }
    let wrong: Vec<String> = reports.iter().filter(|report| report.result.is_err()).map(ToString::to_string).collect();
    assert!(wrong.is_empty(), "{} of {} panels:\n{}", wrong.len(), reports.len(), wrong.join("\n"));
    for set in ["7", "8"] {
        for dashboard in ["Overview", "Traffic", "Errors", "Latency", "Indexer"] {
            let of = |report: &&Report| report.set == set && report.dashboard.starts_with(dashboard);
            let panels = reports.iter().filter(of).count();
            assert!(panels >= 10, "set {set} has {panels} panels on the dashboard {dashboard}");
        }
    }
}

fn filled<'a>(node: &'a Node, cluster: Cluster) -> World<'a> {
    let mut filled = fill::written(node, Target::Streams);
    filled.index_and_report(node);
    fill::take_agents(node, &mut filled.records);
    if cluster == Cluster::Whole {
        // OpenSearch does not name in `_ignored` what is too long.
        filled.records.iter_mut().for_each(|record| record.hide_refused(&fill::TOO_LONG));
    }
    let mut world = World::new(node, cluster, filled.records, filled.periods);
    if cluster == Cluster::Whole {
        world.never = fill::TOO_LONG.into_iter().chain(["any other"]).map(|name| format!("filter {name}")).collect();
    }
    world
}

#[test]
fn every_panel_of_both_sets_shows_what_the_raw_lines_say() {
    assert_all_right(&check(&filled(Node::shared(), Cluster::Core)));
}

#[test]
fn on_opensearch_too_where_the_cluster_computes_ratios_by_scripts() {
    let node = Node::start("opensearch-2.19.1", &[]);
    assert_all_right(&check(&filled(&node, Cluster::Whole)));
}

/// Is in the template, but neither searched nor aggregated.
const NOT_INDEXED: &str = "calendar.weekday";
/// Is not in the template, which takes no other fields.
const ABSENT: &str = "user_agent.name";

#[test]
fn a_field_that_the_mapping_lacks_fails_exactly_the_panels_that_use_it() {
    let node = Node::shared();
    let filled = fill::written(node, Target::Dated("lacking"));
    let _ = filled.workspace.run(&["setup"]).ok();
    let mut mappings = node.ok("GET", "_component_template/logweir-mappings", None)["component_templates"][0]
        ["component_template"]["template"]["mappings"]
        .take();
    let without = json!({"type": "keyword", "index": false, "doc_values": false});
    mappings["properties"]["calendar"]["properties"]["weekday"] = without;
    let agent = mappings["properties"]["user_agent"].as_object_mut().expect("an object");
    agent.insert("dynamic".to_owned(), json!(false));
    let properties = agent.get_mut("properties").and_then(Value::as_object_mut).expect("properties");
    assert!(properties.remove("name").is_some(), "{ABSENT} is not in the template");
    let template = json!({
        "index_patterns": ["lacking-*"],
        "priority": 1000,
        "composed_of": ["logweir-settings"],
        "template": {"mappings": mappings},
    });
    node.ok("PUT", "_index_template/lacking", Some(&template));
    filled.index(node);

    // The terms of a day are in one shard, and so are exact.
    let mut world = World::new(node, Cluster::Core, filled.records, filled.periods[..1].to_vec());
    world.instead.insert("logs-*".to_owned(), "lacking-*".to_owned());
    let sets = saved::built().expect("the built files");
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for set in &sets {
        let reports = world.check(set).expect("a set that is understood");
        let panels = set.panels().expect("panels");
        for (report, panel) in reports.iter().zip(&panels) {
            // Documents about the daemon itself have another mapping.
            let text = panel.object.attributes.to_string();
            if report.dashboard.starts_with("Indexer") {
                continue;
            }
            if text.contains(NOT_INDEXED) || text.contains(ABSENT) {
                expected.push(report.id.clone());
            }
            if let Err(errors) = &report.result {
                let named = |error: &String| error.contains(NOT_INDEXED) || error.contains(ABSENT);
                assert!(errors.iter().all(named), "{report}");
                found.push(report.id.clone());
            }
        }
    }
    assert!(expected.len() >= 4, "hardly a panel uses these fields: {expected:?}");
    assert_eq!(found, expected);
}

//! Every panel of the built dashboards shows what the raw lines say.

use integration_tests::Node;
use integration_tests::panels::{Cluster, Report, Target, World, fill, saved};

fn assert_all_right(reports: &[Report]) {
    for report in reports {
        println!("{report}");
    }
    let wrong: Vec<String> = reports.iter().filter(|report| report.result.is_err()).map(ToString::to_string).collect();
    assert!(wrong.is_empty(), "{} of {} panels:\n{}", wrong.len(), reports.len(), wrong.join("\n"));
}

#[test]
fn every_panel_of_both_sets_shows_what_the_raw_lines_say() {
    let node = Node::shared();
    let mut filled = fill::written(node, Target::Streams);
    filled.index_and_report(node);
    fill::take_agents(node, &mut filled.records);
    let world = World::new(node, Cluster::Core, filled.records, filled.periods);
    let sets = saved::built().expect("the built files");
    let reports: Vec<Report> =
        sets.iter().flat_map(|set| world.check(set).expect("a set that is understood")).collect();
    assert!(reports.len() > 20, "only {} panels", reports.len());
    assert_all_right(&reports);
}

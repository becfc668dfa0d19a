//! `logweir setup`: what Elasticsearch needs before the first document, and with `--dashboards` the boards in Kibana.

use std::io::{self, Write};
use std::sync::Arc;

use clap::Args;

use super::{CliError, ConfigArgs, cannot_print};
use crate::client::Client;
use crate::config::{Config, Loaded};
use crate::setup::dashboards::{DashboardsError, Plan, Site, Standing};
use crate::setup::{self, Change, Difference};

/// Put templates and retention in place, and dashboards if asked; can be repeated, and deletes nothing
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// After the templates (unless elasticsearch.setup is false), import the dashboards into the Kibana at kibana.url
    #[arg(long)]
    pub dashboards: bool,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
}

/// Prints what changed.
///
/// # Errors
/// Where Elasticsearch or Kibana cannot be reached or refuses.
pub fn run(args: &SetupArgs, loaded: &Loaded, out: &mut impl Write) -> Result<(), CliError> {
    loaded.ready()?;
    let config = &loaded.config;
    let url = match &config.kibana.url {
        None if args.dashboards => {
            let words =
                "kibana.url: is not set; the dashboards need the address of Kibana, such as `http://localhost:5601`";
            return Err(DashboardsError::Unable(words.to_owned()).into());
        }
        url => url.as_deref().unwrap_or_default(),
    };
    if args.dashboards && !config.elasticsearch.setup {
        writeln!(out, "templates: left alone, because elasticsearch.setup is false").map_err(cannot_print)?;
    } else {
        templates(args, config, out)?;
    }
    if args.dashboards { dashboards(args, config, url, out) } else { Ok(()) }
}

fn templates(args: &SetupArgs, config: &Config, out: &mut impl Write) -> Result<(), CliError> {
    let elasticsearch = &config.elasticsearch;
    let client = Arc::new(Client::new(elasticsearch, elasticsearch.auth.resolve()?)?);
    let changes = super::runtime()?.block_on(setup::apply(&client, config, args.dry_run))?;
    for change in &changes {
        write_change(change, args.dry_run, out).map_err(cannot_print)?;
    }
    Ok(())
}

fn dashboards(args: &SetupArgs, config: &Config, url: &str, out: &mut impl Write) -> Result<(), CliError> {
    let login = config.kibana_auth().1.resolve()?;
    let client = Client::kibana(url, config.kibana_tls(), login.clone())?;
    let runtime = super::runtime()?;
    let site = runtime.block_on(Site::meet(client, config))?;
    let plan = runtime.block_on(site.plan(config, &login))?;
    if !args.dry_run && !plan.is_settled() {
        // Before it is done, so that what is lost is known even if the rest fails.
        for (name, standing) in plan.standings.iter().filter(|(_, standing)| standing.is_conflict()) {
            writeln!(out, "{name}: will be replaced").and_then(|()| write_loss(standing, out)).map_err(cannot_print)?;
        }
        out.flush().map_err(cannot_print)?;
        for note in runtime.block_on(site.import(&plan))? {
            writeln!(out, "{note}").map_err(cannot_print)?;
        }
    }
    write_plan(&plan, args.dry_run, out).map_err(cannot_print)?;
    let place = config.kibana_space().map(|space| format!(", space {space}")).unwrap_or_default();
    let server = format!("{}{place}", site.server());
    let done = match (plan.is_settled(), args.dry_run) {
        (true, _) => format!("{server}: nothing to change in {} objects", plan.standings.len()),
        (false, true) => format!("{server}: would import {} of {} objects", plan.writes(), plan.standings.len()),
        (false, false) => format!("{server}: imported {} of {} objects", plan.writes(), plan.standings.len()),
    };
    writeln!(out, "{done}").map_err(cannot_print)?;
    let first = plan.standings.iter().find_map(|(name, _)| name.strip_prefix("dashboard/"));
    if let Some(id) = first.filter(|_| plan.is_settled() || !args.dry_run) {
        writeln!(out, "{}/{}", url.trim_end_matches('/'), site.board(id)).map_err(cannot_print)?;
    }
    Ok(())
}

fn write_plan(plan: &Plan, dry_run: bool, out: &mut impl Write) -> io::Result<()> {
    for (name, standing) in &plan.standings {
        let done = match (standing, dry_run) {
            (Standing::Unchanged, _) => "unchanged",
            (Standing::New, false) => "created",
            (Standing::New, true) => "would be created",
            (other, false) if other.is_conflict() => "replaced",
            (other, true) if other.is_conflict() => "would be replaced",
            (_, false) => "updated",
            (_, true) => "would be updated",
        };
        writeln!(out, "{name}: {done}")?;
        if dry_run {
            write_loss(standing, out)?;
        }
        if let Standing::Differs { differences, .. } = standing {
            write_differences(differences, out)?;
        }
    }
    Ok(())
}

/// What of somebody else's work is lost where the object is imported.
fn write_loss(standing: &Standing, out: &mut impl Write) -> io::Result<()> {
    match standing {
        Standing::Touched { at } => writeln!(out, "  it was changed in Kibana at {at}, which is lost"),
        Standing::Foreign => writeln!(
            out,
            "  it is not as `logweir setup` left it (imported otherwise, changed, or somebody else's), which is lost"
        ),
        Standing::Differs { lost, .. } if !lost.is_empty() => {
            writeln!(out, "  lost is what it has in {}", lost.join(", "))
        }
        Standing::New | Standing::Unchanged | Standing::Outdated | Standing::Differs { .. } => Ok(()),
    }
}

fn write_change(change: &Change, dry_run: bool, out: &mut impl Write) -> io::Result<()> {
    let done = match (change.differences.is_empty(), change.new, dry_run) {
        (true, _, _) => "unchanged",
        (false, true, false) => "created",
        (false, true, true) => "would be created",
        (false, false, false) => "updated",
        (false, false, true) => "would be updated",
    };
    writeln!(out, "{}: {done}", change.path)?;
    if change.new && !dry_run {
        return Ok(());
    }
    write_differences(&change.differences, out)
}

fn write_differences(differences: &[Difference], out: &mut impl Write) -> io::Result<()> {
    for difference in differences {
        if let Some(before) = &difference.before {
            writeln!(out, "  - {}: {before}", difference.path)?;
        }
        if let Some(after) = &difference.after {
            writeln!(out, "  + {}: {after}", difference.path)?;
        }
    }
    Ok(())
}

//! Globs as the configuration means them, in one place: `*` does not cross `/`, `**` does, and all are absolute.

use std::path::Path;

use globset::{Glob, GlobBuilder};

use super::Config;
use super::validate::Wrong;

/// Compiles a glob of whole paths.
///
/// # Errors
/// What is wrong with its text.
pub fn compile(glob: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build()
}

/// Resolves relative globs (and `archive_dir`) against the current directory, as a shell would.
pub(super) fn make_absolute(config: &mut Config, problems: &mut Vec<Wrong>) {
    let is_absolute = |source: &super::Source| {
        source.paths.iter().all(|glob| glob.starts_with('/'))
            && source.archive_dir.as_ref().is_none_or(|directory| directory.is_absolute())
    };
    if config.sources.iter().all(is_absolute) {
        return;
    }
    let directory = match std::env::current_dir() {
        Ok(directory) => directory,
        Err(error) => {
            let text = format!("relative paths need the current directory, which cannot be had: {error}");
            problems.push(("sources".to_owned(), text));
            return;
        }
    };
    for source in &mut config.sources {
        for glob in &mut source.paths {
            *glob = absolute(glob, &directory);
        }
        if let Some(archive) = &mut source.archive_dir {
            *archive = directory.join(&archive);
        }
    }
}

/// `glob` below `directory`, whose own name is taken literally.
fn absolute(glob: &str, directory: &Path) -> String {
    if glob.starts_with('/') || glob.is_empty() {
        return glob.to_owned();
    }
    let mut directory = directory;
    let mut rest = glob;
    loop {
        if let Some(tail) = rest.strip_prefix("./") {
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("../") {
            directory = directory.parent().unwrap_or(directory);
            rest = tail;
        } else {
            break;
        }
    }
    let base = globset::escape(&directory.to_string_lossy());
    format!("{}/{rest}", base.trim_end_matches('/'))
}

/// Whether a file that is moved to `directory` under its own name would be matched by `glob` again.
pub(super) fn matches_in(glob: &str, directory: &Path) -> bool {
    let parent = match glob.rsplit_once('/') {
        Some((_, "**")) => glob,
        Some((parent, _)) => parent,
        None => return false,
    };
    let Ok(glob) = compile(&format!("{parent}/_")) else { return false };
    glob.compile_matcher().is_match(directory.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_globs_start_at_the_current_directory() {
        for (glob, expected) in [
            ("/var/log/*.log", "/var/log/*.log"),
            ("logs/*.log", "/home/a/logs/*.log"),
            ("./*.log", "/home/a/*.log"),
            ("../b/**/*.log", "/home/b/**/*.log"),
        ] {
            assert_eq!(absolute(glob, Path::new("/home/a")), expected);
        }
        assert_eq!(absolute("x", Path::new("/we[i]rd")), "/we[[]i[]]rd/x");
        assert_eq!(absolute("x", Path::new("/")), "/x");
    }

    #[test]
    fn a_glob_is_known_to_match_what_is_moved_into_its_directories() {
        for (glob, directory, expected) in [
            ("/data/*.log", "/data", true),
            ("/data/*.log", "/data/done", false),
            ("/data/**/*.log", "/data/done", true),
            ("/data/**", "/data/done/deep", true),
            ("/data/*/x.log", "/data/done", true),
            ("/data/*.log", "/archive", false),
        ] {
            assert_eq!(matches_in(glob, Path::new(directory)), expected, "{glob} {directory}");
        }
    }
}

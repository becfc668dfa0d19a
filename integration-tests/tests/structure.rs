//! The arrows between modules: no stage imports a stage, and each crate that has one user has only that one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use integration_tests::node::repository;
use regex::Regex;

/// What each module in `src/` may import of the others. A stage knows what flows and what is configured, and no stage.
const ARROWS: &[(&str, &[&str])] = &[
    // What flows, and what all share: these know nobody but each other.
    ("budget", &[]),
    ("config", &[]),
    ("filesystem", &[]),
    ("json", &[]),
    ("keep", &[]),
    ("simulated", &[]),
    ("tree", &[]),
    ("record", &["budget", "simulated", "tree"]),
    ("telemetry", &["config", "record"]),
    ("client", &["config"]),
    // Stages.
    ("discover", &["config", "filesystem", "record"]),
    ("read", &["config", "filesystem", "record", "simulated"]),
    ("parse", &["config", "json", "keep", "record", "tree"]),
    ("enrich", &["config", "json", "keep", "record"]),
    ("encode", &["config", "json", "keep", "record", "tree"]),
    ("batch", &["budget", "config", "record"]),
    ("index", &["client", "config", "record", "simulated"]),
    ("checkpoint", &["config", "record", "simulated"]),
    ("setup", &["client", "config", "record"]),
];

/// These know several stages: they put them together, or compare what they did.
const ABOVE_THE_STAGES: &[&str] = &["cli", "pipeline", "verify"];

/// Crates that have one user: any name that starts so, and the files or folders that may use it.
const CRATES: &[(&str, &[&str])] = &[
    ("backoff", &["index/retry.rs"]),
    ("config", &["config/"]),
    ("elasticsearch", &["client/", "setup/", "verify/"]),
    ("governor", &["index/limit.rs"]),
    ("notify", &["discover/watch.rs"]),
    ("opentelemetry", &["telemetry/"]),
    ("rusqlite", &["checkpoint/"]),
];

/// A file of `src/` without its tests and whole-line comments.
struct Source {
    /// Below `src/`.
    path: PathBuf,
    code: String,
}

impl Source {
    /// Its module, from the top: `index/dead_letter/mod.rs` is `[index, dead_letter]`.
    fn module(&self) -> Vec<String> {
        let mut parts: Vec<String> =
            self.path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if parts.last().is_some_and(|last| last == "mod") {
            parts.pop();
        }
        parts
    }

    /// The top-level modules that it names, by `crate::` or by climbing up with `super::`.
    fn imports(&self) -> BTreeSet<String> {
        let climb = "super::".repeat(self.module().len());
        let pattern = format!(r"(?:\bcrate::|(?:^|[^:\w]){climb})(\w+|\{{)");
        let names = captures(&pattern, &self.code);
        assert!(!names.contains("{"), "{}: one `use` a module, so that arrows can be read", self.path.display());
        names
    }

    /// Whether it uses a crate whose name starts with `name`.
    fn uses_crate(&self, name: &str) -> bool {
        // `use crate::config::{self, …}` makes the first name of `config::Source` one of ours.
        let ours = Regex::new(&format!(r"use (?:crate|super)::{name}(?:;|::\{{self\b)")).expect("a pattern");
        let own = Regex::new(&format!(r"(?m)^(?:pub(?:\(\w+\))? )?mod {name}\b")).expect("a pattern");
        let theirs = Regex::new(&format!(r"(?m)(?:^|[^:\w.]|[^\w>]::){name}\w*::")).expect("a pattern");
        let is_ours = ours.is_match(&self.code) || own.is_match(&self.code);
        !is_ours && theirs.is_match(&self.code)
    }
}

fn captures(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).expect("a pattern");
    pattern.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// All of `src/` that is in the binary.
fn sources() -> Vec<Source> {
    let root = repository().join("src");
    let mut folders = vec![root.clone()];
    let (mut texts, mut tests) = (BTreeMap::new(), BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                tests.extend(test_modules(&text).iter().map(|name| home(&path).join(name)));
                texts.insert(path, text);
            }
        }
    }
    let is_test = |path: &Path| tests.iter().any(|test| path.with_extension("") == *test || path.starts_with(test));
    let below = |path: &Path| path.strip_prefix(&root).expect("below src").to_owned();
    texts
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| Source { path: below(&path), code: without_tests(&text) })
        .collect()
}

/// Where the modules of a file lie.
fn home(path: &Path) -> PathBuf {
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "main") => path.with_file_name(""),
        _ => path.with_extension(""),
    }
}

/// Modules in files of their own that only tests have.
fn test_modules(text: &str) -> BTreeSet<String> {
    captures(r"#\[cfg\(test\)\]\n\s*(?:pub(?:\(\w+\))? )?mod (\w+);", text)
}

/// Leaves out each item below `#[cfg(test)]`: formatted code ends it with `}` as far to the right as it began, or on the
/// line where it began.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            let starts = lines.next().unwrap_or_default();
            if !starts.ends_with([';', '}', ',']) {
                lines.find(|line| line.starts_with(&end));
            }
        } else if !line.trim_start().starts_with("//") {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

#[test]
fn no_stage_imports_a_stage() {
    let mut wrong = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for source in sources() {
        let top = source.module().swap_remove(0);
        if matches!(top.as_str(), "lib" | "main") || ABOVE_THE_STAGES.contains(&top.as_str()) {
            continue;
        }
        let allowed = ARROWS.iter().find(|(module, _)| *module == top).map(|(_, allowed)| *allowed);
        let Some(allowed) = allowed else {
            wrong.insert(format!("{}: a module that ARROWS does not know", source.path.display()));
            continue;
        };
        for import in source.imports() {
            if import != top && !allowed.contains(&import.as_str()) {
                wrong.insert(format!("{} imports {import}", source.path.display()));
            }
        }
        seen.insert(top);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen.len() >= 14, "only {seen:?}: is this all?");
}

#[test]
fn nobody_imports_what_stands_above_the_stages() {
    for source in sources() {
        let top = source.module().swap_remove(0);
        let imports = source.imports();
        assert!(top == "cli" || !imports.contains("cli"), "{} imports cli", source.path.display());
        assert!(
            ABOVE_THE_STAGES.contains(&top.as_str()) || !imports.contains("verify"),
            "{} imports verify",
            source.path.display()
        );
    }
}

#[test]
fn each_crate_that_has_one_user_has_only_that_one() {
    let sources = sources();
    let mut wrong = BTreeSet::new();
    for (name, homes) in CRATES {
        let is_home = |source: &Source| homes.iter().any(|home| source.path.to_string_lossy().starts_with(home));
        let users: Vec<&Source> = sources.iter().filter(|source| source.uses_crate(name)).collect();
        wrong.extend(
            users.iter().filter(|user| !is_home(user)).map(|user| format!("{} uses {name}", user.path.display())),
        );
        assert!(users.iter().any(|user| is_home(user)), "{name} is not used at all: is the pattern right?");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The tests above are only as good as what they can see.
#[test]
fn an_arrow_is_seen_however_it_is_written_and_not_where_it_is_a_test() {
    let source = |path: &str, code: &str| Source { path: path.into(), code: without_tests(code) };
    let imports = |path, code| source(path, code).imports().into_iter().collect::<Vec<_>>();
    assert_eq!(imports("a/b.rs", "use crate::c::D;\nfn f() { crate::e::g(); }"), ["c", "e"]);
    assert_eq!(imports("a/b.rs", "use super::super::c::D;\nuse super::e::F;"), ["c"]);
    assert_eq!(imports("a/mod.rs", "use super::c::D;\nuse self::e::F;"), ["c"]);
    let tests = "use crate::c::D;\n#[cfg(test)]\nmod tests {\n    use crate::e::F;\n}\nuse crate::g::H;\n";
    assert_eq!(imports("a.rs", tests), ["c", "g"]);
    assert_eq!(test_modules("#[cfg(test)]\nmod tests;\nmod more;\n"), BTreeSet::from(["tests".to_owned()]));

    assert!(source("a.rs", "use config::Value;").uses_crate("config"));
    assert!(source("a.rs", "fn f() -> ::config::Value {").uses_crate("config"));
    assert!(source("a.rs", "use opentelemetry_sdk::Resource;").uses_crate("opentelemetry"));
    assert!(!source("a.rs", "use crate::config::{self, Config};\nfn f(s: config::Source) {}").uses_crate("config"));
    assert!(!source("a.rs", "use crate::config::Source;").uses_crate("config"));
    assert!(!source("a.rs", "// config::Value is not used\n").uses_crate("config"));
}

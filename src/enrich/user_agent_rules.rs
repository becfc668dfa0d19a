//! What a user agent is, by the rules of uap-core: families of browsers, systems and devices, each an ordered list of
//! regular expressions of which the first that matches counts.
//!
//! Compiling all 1,200 takes a quarter of a second and tens of megabytes, and most never match. So each rule is compiled
//! (by `ua-parser`, which knows what a rule means) when first it could match: when the text has all the literals that the
//! rule's expression cannot match without. Compiled rules are few, and are dropped when they get many. To find these literals
//! all expressions must be parsed, which takes some ten milliseconds: so they are kept beside the rules.
//!
//! One set serves the whole process: it is asked only for agents that no thread's cache knows. Threads compile different
//! rules at the same time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};
use ua_parser::{device, os, user_agent};

#[cfg(test)]
mod conditions;

/// More compiled rules than this are dropped; each takes some tens of kilobytes with its search state.
const MAX_COMPILED: usize = 400;

const RULES_TEXT: &str = include_str!("user_agent_rules.txt");

/// For each line of the rules the literals of which any text that it matches has at least one: a list of such lists.
const CONDITIONS_TEXT: &str = include_str!("user_agent_conditions.txt");

/// Agents that most sites see: with them, most rules that will be needed are compiled.
const COMMON: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
];

static RULES: LazyLock<RwLock<Rules>> = LazyLock::new(|| RwLock::new(Rules::new(RULES_TEXT, CONDITIONS_TEXT)));

/// What is known of a user agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) os_name: Option<String>,
    pub(super) os_version: Option<String>,
    pub(super) device: Option<String>,
}

/// Reads the rules and compiles those that will be needed, so that the first agents need not wait for it.
pub(super) fn prepare() {
    for text in COMMON {
        resolve(text);
    }
}

/// What the rules say of `text`.
pub(super) fn resolve(text: &str) -> Agent {
    // Rules are only ever added to what is compiled, or all dropped, so a panic of another thread leaves them as good as
    // before.
    let rules = RULES.read().unwrap_or_else(PoisonError::into_inner);
    let agent = rules.resolve(text);
    let too_many = rules.are_too_many();
    drop(rules);
    if too_many {
        RULES.write().unwrap_or_else(PoisonError::into_inner).drop_too_many();
    }
    agent
}

enum Compiled {
    Agent(user_agent::Extractor<'static>),
    Os(os::Extractor<'static>),
    Device(device::Extractor<'static>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Agent,
    Os,
    Device,
}

struct Rule {
    list: List,
    /// The conditions that a text must fulfil, as bits; none: it could be any text.
    conditions: u32,
    /// The rule as JSON.
    text: &'static str,
    /// `None` where it cannot be compiled.
    compiled: OnceLock<Option<Box<Compiled>>>,
}

struct Rules {
    /// All rules, list by list.
    rules: Vec<Rule>,
    literals: AhoCorasick,
    /// Which rules ask for the literal of this index, and the bit of their condition that it fulfils.
    wanted_by: Vec<Vec<(u32, u32)>>,
    compiled: AtomicUsize,
}

impl Rules {
    fn new(text: &'static str, conditions_text: &'static str) -> Self {
        let mut list = List::Agent;
        let mut rules = Vec::new();
        let mut conditions_of = conditions_text.lines();
        let mut wanted = BTreeMap::<String, Vec<(u32, u32)>>::new();
        for line in text.lines() {
            match line {
                "[user_agent_parsers]" => list = List::Agent,
                "[os_parsers]" => list = List::Os,
                "[device_parsers]" => list = List::Device,
                _ if line.starts_with('#') => {}
                _ => {
                    let index = rules.len() as u32;
                    let mut conditions = 0;
                    let literals: Vec<Vec<String>> = conditions_of
                        .next()
                        .and_then(|line| serde_json::from_str(line).ok())
                        .unwrap_or_else(|| unreachable!("a test makes a line for each rule"));
                    for (number, literals) in literals.into_iter().take(u32::BITS as usize).enumerate() {
                        conditions |= 1 << number;
                        for literal in literals {
                            wanted.entry(literal).or_default().push((index, 1 << number));
                        }
                    }
                    rules.push(Rule { list, conditions, text: line, compiled: OnceLock::new() });
                }
            }
        }
        let (texts, wanted_by): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
        let literals = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(texts)
            .unwrap_or_else(|error| unreachable!("a few thousand short texts are within all limits: {error}"));
        Self { rules, literals, wanted_by, compiled: AtomicUsize::new(0) }
    }

    fn resolve(&self, text: &str) -> Agent {
        // For each rule the conditions that the text fulfils.
        let mut fulfilled = vec![0; self.rules.len()];
        for found in self.literals.find_overlapping_iter(text) {
            for &(index, condition) in &self.wanted_by[found.pattern().as_usize()] {
                fulfilled[index as usize] |= condition;
            }
        }
        let mut agent = Agent::default();
        // The list that an answer was found in needs no other.
        let mut done = None;
        for (rule, fulfilled) in self.rules.iter().zip(fulfilled) {
            if fulfilled == rule.conditions && done != Some(rule.list) && self.try_rule(rule, text, &mut agent) {
                done = Some(rule.list);
            }
        }
        agent
    }

    fn are_too_many(&self) -> bool {
        self.compiled.load(Ordering::Relaxed) > MAX_COMPILED
    }

    fn drop_too_many(&mut self) {
        if self.are_too_many() {
            self.rules.iter_mut().for_each(|rule| rule.compiled = OnceLock::new());
            self.compiled = AtomicUsize::new(0);
        }
    }

    /// Adds what `rule` says of `text` to `agent`; returns whether it matched.
    fn try_rule(&self, rule: &Rule, text: &str, agent: &mut Agent) -> bool {
        let compiled = rule.compiled.get_or_init(|| {
            self.compiled.fetch_add(1, Ordering::Relaxed);
            compile(rule.list, rule.text).map(Box::new)
        });
        match compiled.as_deref() {
            Some(Compiled::Agent(extractor)) => extractor.extract(text).is_some_and(|found| {
                agent.name = some(&found.family);
                agent.version = version([found.major, found.minor, found.patch, found.patch_minor]);
                true
            }),
            Some(Compiled::Os(extractor)) => extractor.extract(text).is_some_and(|found| {
                agent.os_name = some(&found.os);
                let parts = [&found.major, &found.minor, &found.patch, &found.patch_minor];
                agent.os_version = version(parts.map(Option::as_deref));
                true
            }),
            Some(Compiled::Device(extractor)) => extractor.extract(text).is_some_and(|found| {
                agent.device = some(&found.device);
                true
            }),
            None => false,
        }
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The parts up to the first that is missing.
fn version(parts: [Option<&str>; 4]) -> Option<String> {
    let known: Vec<&str> = parts.into_iter().map_while(|part| part.filter(|part| !part.is_empty())).collect();
    some(&known.join("."))
}

/// Compiles one rule; a rule that `ua-parser` refuses never matches (a test holds that there is none).
fn compile(list: List, text: &'static str) -> Option<Compiled> {
    match list {
        List::Agent => {
            let rule = serde_json::from_str(text).ok()?;
            Some(Compiled::Agent(user_agent::Builder::new().push(rule).ok()?.build().ok()?))
        }
        List::Os => {
            let rule = serde_json::from_str(text).ok()?;
            Some(Compiled::Os(os::Builder::new().push(rule).ok()?.build().ok()?))
        }
        List::Device => {
            let rule = serde_json::from_str(text).ok()?;
            Some(Compiled::Device(device::Builder::new().push(rule).ok()?.build().ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_at_once() -> ua_parser::Extractor<'static> {
        let list = |name: &str| {
            let rules = RULES_TEXT.split_once(&format!("[{name}]\n")).unwrap().1;
            rules.lines().take_while(|line| !line.starts_with('[')).collect::<Vec<_>>().join(",")
        };
        let lists =
            ["user_agent_parsers", "os_parsers", "device_parsers"].map(|name| format!("\"{name}\":[{}]", list(name)));
        let regexes: ua_parser::Regexes<'static> = serde_json::from_str(&format!("{{{}}}", lists.join(","))).unwrap();
        regexes.try_into().unwrap()
    }

    const AGENTS: &[&str] = &[
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/605.1.15",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.6099.43 Mobile Safari/537.36",
        "Mozilla/5.0 (Linux; Android 13; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/23.0 Chrome/115.0.0.0 Mobile Safari/537.36",
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.0; +https://openai.com/gptbot)",
        "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
        "Opera/9.80 (Windows NT 6.1; WOW64) Presto/2.12.388 Version/12.16",
        "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 5.1; Trident/4.0)",
        "Mozilla/5.0 (SMART-TV; Linux; Tizen 5.0) AppleWebKit/538.1 (KHTML, like Gecko) Version/5.0 TV Safari/538.1",
        "MOZILLA/5.0 (LINUX; ANDROID 9; HUAWEI P30) CHROME/90",
        "curl/8.4.0",
        "python-requests/2.31.0",
        "Go-http-client/1.1",
        "kube-probe/1.28",
        "UniversalFeedParser/4.2-pre-314-svn +http://feedparser.org/",
        "my-uptime-monitor é漢",
        "-",
    ];

    #[test]
    fn the_filter_changes_no_answer() {
        let reference = all_at_once();
        for text in AGENTS {
            let (agent, os, device) = reference.extract(text);
            let expected = Agent {
                name: agent.as_ref().and_then(|found| some(&found.family)),
                version: agent.and_then(|found| version([found.major, found.minor, found.patch, found.patch_minor])),
                os_name: os.as_ref().and_then(|found| some(&found.os)),
                os_version: os.as_ref().and_then(|found| {
                    version([&found.major, &found.minor, &found.patch, &found.patch_minor].map(Option::as_deref))
                }),
                device: device.and_then(|found| some(&found.device)),
            };
            assert_eq!(resolve(text), expected, "{text}");
        }
    }

    #[test]
    fn every_rule_compiles_and_few_could_match_any_text() {
        let rules = Rules::new(RULES_TEXT, CONDITIONS_TEXT);
        assert_eq!(rules.rules.len(), 362 + 201 + 633);
        for rule in &rules.rules {
            assert!(compile(rule.list, rule.text).is_some(), "{}", rule.text);
        }
        let always = rules.rules.iter().filter(|rule| rule.conditions == 0).count();
        assert!(always < 40, "{always}");
    }

    #[test]
    fn rules_that_get_many_are_dropped() {
        let mut rules = Rules::new(RULES_TEXT, CONDITIONS_TEXT);
        rules.compiled = AtomicUsize::new(MAX_COMPILED);
        let before = rules.resolve(AGENTS[0]);
        rules.drop_too_many();
        assert!(!rules.are_too_many() && rules.rules.iter().all(|rule| rule.compiled.get().is_none()));
        assert_eq!(rules.resolve(AGENTS[0]), before);
    }
}

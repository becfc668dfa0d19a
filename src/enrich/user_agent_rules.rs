//! What a user agent is, by the rules of uap-core: families of browsers, systems and devices, each an ordered list of
//! regular expressions of which the first that matches counts.
//!
//! Compiling all 1,200 takes a quarter of a second and tens of megabytes, and most never match. So each rule is compiled
//! (by `ua-parser`, which knows what a rule means) when first it could match: when the text has all the literals that the
//! rule's expression cannot match without. Compiled rules are few, and are dropped when they get many.
//!
//! One set serves the whole process, behind a lock: it is asked only for agents that no thread's cache knows.

use std::borrow::Cow;
use std::sync::{LazyLock, Mutex, PoisonError};

use aho_corasick::{AhoCorasick, MatchKind};
use regex_syntax::hir::{Class, Hir, HirKind};
use serde::Deserialize;
use ua_parser::{device, os, user_agent};

/// More compiled rules than this are dropped; each takes some tens of kilobytes with its search state.
const MAX_COMPILED: usize = 400;

/// Shorter literals are in too many texts to tell anything.
const MIN_LITERAL: usize = 2;

static RULES: LazyLock<Mutex<Rules>> = LazyLock::new(|| Mutex::new(Rules::new(include_str!("user_agent_rules.txt"))));

/// What is known of a user agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) os_name: Option<String>,
    pub(super) os_version: Option<String>,
    pub(super) device: Option<String>,
}

/// Reads the rules, so that the first agent need not wait for it.
pub(super) fn prepare() {
    LazyLock::force(&RULES);
}

/// What the rules say of `text`.
pub(super) fn resolve(text: &str) -> Agent {
    // Rules are only ever added to what is compiled, so a panic of another thread leaves them as good as before.
    RULES.lock().unwrap_or_else(PoisonError::into_inner).resolve(text)
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
    compiled: Option<Box<Compiled>>,
}

struct Rules {
    /// All rules, list by list.
    rules: Vec<Rule>,
    literals: AhoCorasick,
    /// Which rules ask for the literal of this index, and the bit of their condition that it fulfils.
    wanted_by: Vec<Vec<(u32, u32)>>,
    /// For each rule the conditions that the text at hand fulfils.
    fulfilled: Vec<u32>,
    compiled: usize,
}

impl Rules {
    fn new(text: &'static str) -> Self {
        let mut list = List::Agent;
        let mut rules = Vec::new();
        let mut wanted = std::collections::BTreeMap::<String, Vec<(u32, u32)>>::new();
        for line in text.lines() {
            match line {
                "[user_agent_parsers]" => list = List::Agent,
                "[os_parsers]" => list = List::Os,
                "[device_parsers]" => list = List::Device,
                _ if line.starts_with('#') => {}
                _ => {
                    let index = rules.len() as u32;
                    let mut conditions = 0;
                    for (number, literals) in conditions_of(line).into_iter().take(u32::BITS as usize).enumerate() {
                        conditions |= 1 << number;
                        for literal in literals {
                            wanted.entry(literal).or_default().push((index, 1 << number));
                        }
                    }
                    rules.push(Rule { list, conditions, text: line, compiled: None });
                }
            }
        }
        let (texts, wanted_by): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
        let literals = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(texts)
            .unwrap_or_else(|error| unreachable!("a few thousand short texts are within all limits: {error}"));
        let fulfilled = vec![0; rules.len()];
        Self { rules, literals, wanted_by, fulfilled, compiled: 0 }
    }

    fn resolve(&mut self, text: &str) -> Agent {
        self.fulfilled.fill(0);
        for found in self.literals.find_overlapping_iter(text) {
            for &(index, condition) in &self.wanted_by[found.pattern().as_usize()] {
                self.fulfilled[index as usize] |= condition;
            }
        }
        let mut agent = Agent::default();
        // The list that an answer was found in needs no other.
        let mut done = None;
        for index in 0..self.rules.len() {
            let Rule { list, conditions, .. } = self.rules[index];
            if self.fulfilled[index] == conditions && done != Some(list) && self.try_rule(index, text, &mut agent) {
                done = Some(list);
            }
        }
        if self.compiled > MAX_COMPILED {
            self.rules.iter_mut().for_each(|rule| rule.compiled = None);
            self.compiled = 0;
        }
        agent
    }

    /// Adds what rule `index` says of `text` to `agent`; returns whether it matched.
    fn try_rule(&mut self, index: usize, text: &str, agent: &mut Agent) -> bool {
        let rule = &mut self.rules[index];
        if rule.compiled.is_none() {
            rule.compiled = compile(rule.list, rule.text).map(Box::new);
            self.compiled += 1;
        }
        match rule.compiled.as_deref() {
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

#[derive(Deserialize)]
struct Expression<'a> {
    #[serde(borrow)]
    regex: Cow<'a, str>,
    regex_flag: Option<&'a str>,
}

/// What any text that the rule matches has: of each of these sets of literals, in lower case, at least one.
fn conditions_of(rule: &str) -> Vec<Vec<String>> {
    let Ok(expression) = serde_json::from_str::<Expression<'_>>(rule) else { return Vec::new() };
    let tree = regex_syntax::ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .case_insensitive(expression.regex_flag == Some("i"))
        .build()
        .parse(&expression.regex);
    let mut conditions = Vec::new();
    if let Ok(tree) = tree {
        collect(&tree, &mut conditions);
    }
    conditions
}

fn collect(expression: &Hir, conditions: &mut Vec<Vec<String>>) {
    let mut offer = |text: String| {
        if text.len() >= MIN_LITERAL {
            conditions.push(vec![text]);
        }
    };
    if let Some(text) = exact(expression) {
        return offer(text);
    }
    match expression.kind() {
        HirKind::Capture(capture) => collect(&capture.sub, conditions),
        HirKind::Repetition(repetition) if repetition.min > 0 => collect(&repetition.sub, conditions),
        HirKind::Alternation(ways) => {
            // Of each way the condition that says most; together they are one.
            let best = |way: &Hir| {
                let mut all = Vec::new();
                collect(way, &mut all);
                all.into_iter().max_by_key(|literals| literals.iter().map(String::len).min())
            };
            if let Some(ways) = ways.iter().map(best).collect::<Option<Vec<_>>>() {
                conditions.push(ways.concat());
            }
        }
        HirKind::Concat(parts) => {
            let mut run = String::new();
            for part in parts {
                match exact(part) {
                    Some(text) => run.push_str(&text),
                    None => {
                        let text = std::mem::take(&mut run);
                        if text.len() >= MIN_LITERAL {
                            conditions.push(vec![text]);
                        }
                        collect(part, conditions);
                    }
                }
            }
            if run.len() >= MIN_LITERAL {
                conditions.push(vec![run]);
            }
        }
        _ => {}
    }
}

/// The text, in lower case, that is all that the expression matches.
fn exact(expression: &Hir) -> Option<String> {
    match expression.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(String::new()),
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok().map(str::to_ascii_lowercase),
        HirKind::Class(Class::Bytes(class)) => {
            let mut letters = class.ranges().iter().flat_map(|range| range.start()..=range.end());
            let first = letters.next()?.to_ascii_lowercase();
            (first.is_ascii() && letters.all(|letter| letter.to_ascii_lowercase() == first))
                .then(|| char::from(first).to_string())
        }
        HirKind::Capture(capture) => exact(&capture.sub),
        HirKind::Concat(parts) => parts.iter().map(exact).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES_TEXT: &str = include_str!("user_agent_rules.txt");

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
        let rules = Rules::new(RULES_TEXT);
        assert_eq!(rules.rules.len(), 362 + 201 + 633);
        for rule in &rules.rules {
            assert!(compile(rule.list, rule.text).is_some(), "{}", rule.text);
        }
        let always = rules.rules.iter().filter(|rule| rule.conditions == 0).count();
        assert!(always < 40, "{always}");
    }

    #[test]
    fn rules_that_get_many_are_dropped() {
        let mut rules = Rules::new(RULES_TEXT);
        rules.compiled = MAX_COMPILED;
        let before = rules.resolve(AGENTS[0]);
        assert_eq!(rules.compiled, 0);
        assert_eq!(rules.resolve(AGENTS[0]), before);
    }
}

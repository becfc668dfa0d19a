//! What is kept beside the rules: for each, the literals that its expression cannot match without.

use std::borrow::Cow;
use std::fmt::Write;

use regex_syntax::hir::{Class, Hir, HirKind};
use serde::Deserialize;

use super::{CONDITIONS_TEXT, RULES_TEXT};

/// Shorter literals are in too many texts to tell anything.
const MIN_LITERAL: usize = 2;

/// With `LOGWEIR_TEST_WRITE=1` they are written anew.
#[test]
fn the_conditions_are_those_of_the_rules() {
    let mut text = String::new();
    for rule in RULES_TEXT.lines().filter(|line| line.starts_with('{')) {
        writeln!(text, "{}", serde_json::to_string(&conditions_of(rule)).unwrap()).unwrap();
    }
    if std::env::var_os("LOGWEIR_TEST_WRITE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/enrich/user_agent_conditions.txt"), &text).unwrap();
        return;
    }
    assert!(
        text == CONDITIONS_TEXT,
        "user_agent_conditions.txt is not what the rules say: make it with LOGWEIR_TEST_WRITE=1"
    );
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

//! Which lines are indexed at all: the include and exclude rules of a source.

use regex::bytes::RegexSet;

use super::FormatError;
use crate::config::Source;

/// A source's rules on lines, compiled. Exclusion wins; without include rules everything not excluded is kept.
#[derive(Debug)]
pub struct LineFilter {
    include: Option<RegexSet>,
    exclude: Option<RegexSet>,
}

impl LineFilter {
    /// Compiles the rules of `source`.
    pub fn compile(source: &Source) -> Result<Self, FormatError> {
        let set = |key: &'static str, patterns: &[String]| {
            if patterns.is_empty() {
                return Ok(None);
            }
            RegexSet::new(patterns).map(Some).map_err(|error| FormatError::Rule { key, reason: error.to_string() })
        };
        Ok(Self {
            include: set("include_lines", &source.include_lines)?,
            exclude: set("exclude_lines", &source.exclude_lines)?,
        })
    }

    /// Whether `line` is indexed.
    #[must_use]
    pub fn keeps(&self, line: &[u8]) -> bool {
        self.include.as_ref().is_none_or(|rules| rules.is_match(line))
            && self.exclude.as_ref().is_none_or(|rules| !rules.is_match(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Result<LineFilter, FormatError> {
        let source = serde_json::json!({
            "name": "a", "paths": [], "dataset": "a", "include_lines": include, "exclude_lines": exclude,
        });
        LineFilter::compile(&serde_json::from_value(source).expect("source"))
    }

    fn check(include: &[&str], exclude: &[&str], line: &[u8], kept: bool) {
        assert_eq!(filter(include, exclude).expect("rules").keeps(line), kept, "{include:?} {exclude:?}");
    }

    #[test]
    fn exclusion_wins_over_inclusion() {
        check(&[], &[], b"anything", true);
        check(&["GET", "POST"], &[], b"a GET b", true);
        check(&["GET", "POST"], &[], b"a PUT b", false);
        check(&[], &["^#"], b"# comment", false);
        check(&[], &["^#"], b"line # comment", true);
        check(&["GET"], &["/health"], b"GET /health", false);
        check(&[r"(?-u)\xFF"], &[], b"raw \xFF byte", true);
    }

    #[test]
    fn a_rule_that_does_not_compile_is_named_with_its_key() {
        let error = filter(&[], &["a(b"]).expect_err("rule").to_string();
        assert!(error.starts_with("exclude_lines: ") && error.contains("a(b"), "{error}");
    }
}

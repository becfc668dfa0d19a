//! What documents a panel asks for: the subset of KQL and Lucene that the saved objects use. A text outside of it is an
//! error. From one tree come both the request, as Kibana words it, and the choice among records.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::record::{Datum, Record};

/// A condition on a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// No condition.
    All,
    /// The field has a value.
    Exists(String),
    /// The field has this value.
    Is(String, String),
    /// The field has a value of this form; `*` stands for anything.
    Like(String, String),
    /// The field has a value on this side of a number: the operator as in Elasticsearch (`gte`), and the number.
    Range(String, &'static str, f64),
    /// Not so.
    Not(Box<Query>),
    /// All of them.
    And(Vec<Query>),
    /// At least one of them.
    Or(Vec<Query>),
    /// Lucene's language, which Elasticsearch reads itself: as it was written, and what is meant.
    Lucene(String, Box<Query>),
}

impl Query {
    /// Reads what a saved object holds: `{"query": …, "language": …}`.
    ///
    /// # Errors
    /// If it is outside of what is known.
    pub fn read(saved: &Value) -> Result<Self> {
        let text = match &saved["query"] {
            Value::String(text) => text,
            Value::Null => return Ok(Self::All),
            other => bail!("a query that is no text: {other}"),
        };
        match saved["language"].as_str() {
            Some("kuery") => kql(text).with_context(|| format!("KQL {text:?}")),
            Some("lucene") => lucene(text).with_context(|| format!("Lucene {text:?}")),
            other => bail!("a query language that is not known: {other:?}"),
        }
    }

    /// Reads one filter of a search source.
    ///
    /// # Errors
    /// If it is outside of what is known.
    pub fn filter(saved: &Value) -> Result<Self> {
        ensure!(saved["meta"]["disabled"] != true, "a filter that is off: {saved}");
        let query = &saved["query"];
        let one = |kind: &str| query[kind].as_object().and_then(|object| object.iter().next());
        let found = if let Some((field, value)) = one("match_phrase") {
            Self::Is(field.clone(), plain(value)?)
        } else if let Some((_, field)) = one("exists") {
            Self::Exists(field.as_str().context("exists of no field")?.to_owned())
        } else {
            bail!("a filter that is not known: {saved}");
        };
        Ok(if saved["meta"]["negate"] == true { Self::Not(Box::new(found)) } else { found })
    }

    /// As Kibana writes it in a request.
    #[must_use]
    pub fn dsl(&self) -> Value {
        let should = |list: Vec<Value>| json!({"bool": {"should": list, "minimum_should_match": 1}});
        match self {
            Self::All => json!({"match_all": {}}),
            Self::Exists(field) => should(vec![json!({"exists": {"field": field}})]),
            Self::Is(field, value) => should(vec![json!({"match_phrase": {field: value}})]),
            Self::Like(field, form) => {
                let escaped: String = form
                    .chars()
                    .flat_map(|character| {
                        let special = !character.is_alphanumeric() && character != '*' && character != '_';
                        special.then_some('\\').into_iter().chain([character])
                    })
                    .collect();
                should(vec![json!({"query_string": {"fields": [field], "query": escaped}})])
            }
            Self::Range(field, operator, number) => should(vec![json!({"range": {field: {*operator: number}}})]),
            Self::Not(query) => json!({"bool": {"must_not": [query.dsl()]}}),
            Self::And(list) => json!({"bool": {"filter": list.iter().map(Self::dsl).collect::<Vec<_>>()}}),
            Self::Or(list) => should(list.iter().map(Self::dsl).collect()),
            Self::Lucene(text, _) => {
                json!({"query_string": {"query": text, "analyze_wildcard": true, "time_zone": "UTC"}})
            }
        }
    }

    /// Whether a record is meant.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        match self {
            Self::All => true,
            Self::Exists(field) => record.exists(field),
            Self::Is(field, value) => record.values(field).iter().any(|datum| datum.is(value)),
            Self::Like(field, form) => record.values(field).iter().any(|datum| datum.is_like(form)),
            Self::Range(field, operator, number) => record.values(field).iter().any(|datum| match (datum, *operator) {
                (Datum::Text(_), _) => false,
                (Datum::Number(value), "gte") => value >= number,
                (Datum::Number(value), "gt") => value > number,
                (Datum::Number(value), "lte") => value <= number,
                (Datum::Number(value), _) => value < number,
            }),
            Self::Not(query) => !query.matches(record),
            Self::And(list) => list.iter().all(|query| query.matches(record)),
            Self::Or(list) => list.iter().any(|query| query.matches(record)),
            Self::Lucene(_, meant) => meant.matches(record),
        }
    }

    /// The fields it names.
    pub fn fields(&self, into: &mut BTreeSet<String>) {
        match self {
            Self::All => {}
            Self::Exists(field) | Self::Is(field, _) | Self::Like(field, _) | Self::Range(field, ..) => {
                into.insert(field.clone());
            }
            Self::Not(query) | Self::Lucene(_, query) => query.fields(into),
            Self::And(list) | Self::Or(list) => list.iter().for_each(|query| query.fields(into)),
        }
    }
}

fn plain(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Object(object) if object.contains_key("query") => plain(&object["query"]),
        other => bail!("a value that is not known: {other}"),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    /// `(`, `)`, `:`, or a comparison.
    Mark(&'static str),
}

/// Reads tokens. A dialect is KQL, or Lucene, whose words begin with `+`, `-` and the like for what is not known here.
struct Reader {
    tokens: Vec<Token>,
    at: usize,
    /// How the language writes `and`, `or`, `not`, where case does not matter to it.
    words: [&'static str; 3],
    any_case: bool,
}

const MARKS: [&str; 7] = ["<=", ">=", "<", ">", "(", ")", ":"];

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(mark) = MARKS.iter().find(|mark| rest.starts_with(**mark)) {
            tokens.push(Token::Mark(mark));
            rest = &rest[mark.len()..];
        } else if first == '"' {
            let end = rest[1..].find('"').context("a quote without its end")? + 1;
            ensure!(!rest[..end].contains('\\'), "an escape, which is not known here");
            tokens.push(Token::Quoted(rest[1..end].to_owned()));
            rest = &rest[end + 1..];
        } else {
            let ends = |character: char| character.is_whitespace() || "():<>\"".contains(character);
            let end = rest.find(ends).unwrap_or(rest.len());
            let word = &rest[..end];
            ensure!(!word.contains(['\\', '{', '}', '[', ']', '~', '^', '?']), "not known here: {word}");
            tokens.push(Token::Word(word.to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

/// Reads KQL.
///
/// # Errors
/// If it is outside of the known subset: `field: value`, `field: "value"`, `field: *`, `field: val*`, `field: (a or b)`,
/// `field >= 5`, `and`, `or`, `not` and parentheses.
pub fn kql(text: &str) -> Result<Query> {
    read(text, ["and", "or", "not"], true)
}

/// Reads Lucene's query language.
///
/// # Errors
/// If it is outside of the known subset: `_exists_:field`, `field:value`, `field:"value"`, `field:(a OR b)`, `AND`, `OR`,
/// `NOT` and parentheses.
pub fn lucene(text: &str) -> Result<Query> {
    let query = read(text, ["AND", "OR", "NOT"], false)?;
    if query == Query::All {
        return Ok(query);
    }
    Ok(Query::Lucene(text.to_owned(), Box::new(named_exists(query)?)))
}

/// In Lucene the field `_exists_` has the names of those that exist.
fn named_exists(query: Query) -> Result<Query> {
    let all = |list: Vec<Query>| list.into_iter().map(named_exists).collect::<Result<Vec<_>>>();
    Ok(match query {
        Query::Is(field, named) if field == "_exists_" => Query::Exists(named),
        Query::Not(inner) => Query::Not(Box::new(named_exists(*inner)?)),
        Query::And(list) => Query::And(all(list)?),
        Query::Or(list) => Query::Or(all(list)?),
        Query::Like(..) | Query::Range(..) => bail!("not known of Lucene here"),
        other => other,
    })
}

fn read(text: &str, words: [&'static str; 3], any_case: bool) -> Result<Query> {
    let mut reader = Reader { tokens: tokens(text)?, at: 0, words, any_case };
    if reader.tokens.is_empty() {
        return Ok(Query::All);
    }
    let query = reader.any_of()?;
    ensure!(reader.at == reader.tokens.len(), "what is {:?} here?", reader.tokens[reader.at]);
    Ok(query)
}

impl Reader {
    fn next(&mut self) -> Option<Token> {
        self.at += 1;
        self.tokens.get(self.at - 1).cloned()
    }

    fn takes(&mut self, mark: &str) -> bool {
        let is = self.tokens.get(self.at)
            == Some(&Token::Mark(MARKS.into_iter().find(|known| *known == mark).unwrap_or("")));
        self.at += usize::from(is);
        is
    }

    fn takes_word(&mut self, which: usize) -> bool {
        let wanted = self.words[which];
        let is = match self.tokens.get(self.at) {
            Some(Token::Word(word)) if self.any_case => word.eq_ignore_ascii_case(wanted),
            Some(Token::Word(word)) => word == wanted,
            _ => false,
        };
        self.at += usize::from(is);
        is
    }

    fn any_of(&mut self) -> Result<Query> {
        let mut list = vec![self.all_of()?];
        while self.takes_word(1) {
            list.push(self.all_of()?);
        }
        Ok(one_or(list, Query::Or))
    }

    fn all_of(&mut self) -> Result<Query> {
        let mut list = vec![self.negated()?];
        while self.takes_word(0) {
            list.push(self.negated()?);
        }
        Ok(one_or(list, Query::And))
    }

    fn negated(&mut self) -> Result<Query> {
        if self.takes_word(2) {
            return Ok(Query::Not(Box::new(self.negated()?)));
        }
        if self.takes("(") {
            let inner = self.any_of()?;
            ensure!(self.takes(")"), "a parenthesis without its end");
            return Ok(inner);
        }
        let Some(Token::Word(field)) = self.next() else { bail!("a field was expected") };
        let named = |character: char| character.is_ascii_alphanumeric() || "._@".contains(character);
        ensure!(field.chars().all(named), "not the name of a field: {field}");
        if self.takes(":") {
            return self.value(&field);
        }
        for (mark, operator) in [("<=", "lte"), (">=", "gte"), ("<", "lt"), (">", "gt")] {
            if self.takes(mark) {
                let Some(Token::Word(number) | Token::Quoted(number)) = self.next() else {
                    bail!("a number was expected")
                };
                let number = number.parse().with_context(|| format!("{number} is no number"))?;
                return Ok(Query::Range(field, operator, number));
            }
        }
        bail!("{field} without a field is not known here");
    }

    fn value(&mut self, field: &str) -> Result<Query> {
        if self.takes("(") {
            let mut list = vec![self.value(field)?];
            while self.takes_word(1) {
                list.push(self.value(field)?);
            }
            ensure!(self.takes(")"), "only `or` is known between values");
            return Ok(one_or(list, Query::Or));
        }
        let query = match self.next() {
            Some(Token::Quoted(text)) => Query::Is(field.to_owned(), text),
            Some(Token::Word(text)) if text == "*" => Query::Exists(field.to_owned()),
            Some(Token::Word(text)) if text.contains('*') => Query::Like(field.to_owned(), text),
            Some(Token::Word(text)) => Query::Is(field.to_owned(), text),
            other => bail!("a value was expected, not {other:?}"),
        };
        // KQL takes several words as one value that any of them matches.
        if let Some(Token::Word(word)) = self.tokens.get(self.at) {
            ensure!(
                self.words.iter().any(|known| known.eq_ignore_ascii_case(word)),
                "a value of several words is not known here: … {word}"
            );
        }
        Ok(query)
    }
}

fn one_or(mut list: Vec<Query>, many: fn(Vec<Query>) -> Query) -> Query {
    if list.len() == 1 { list.remove(0) } else { many(list) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(field: &str, value: &str) -> Query {
        Query::Is(field.to_owned(), value.to_owned())
    }

    #[test]
    fn kql_binds_not_before_and_before_or() {
        let expected = Query::Or(vec![
            Query::And(vec![Query::Not(Box::new(is("a", "1"))), is("b", "x y")]),
            Query::Range("c.d".to_owned(), "gte", 500.0),
        ]);
        assert_eq!(kql("not a: 1 and b:\"x y\" or c.d >= 500").unwrap(), expected);
        let grouped = Query::Not(Box::new(Query::Or(vec![is("a", "1"), is("a", "2")])));
        assert_eq!(kql("NOT (a: (1 or 2))").unwrap(), grouped);
    }

    #[test]
    fn a_star_alone_asks_for_existence_and_within_a_word_for_its_form() {
        assert_eq!(kql("a: *").unwrap(), Query::Exists("a".to_owned()));
        assert_eq!(kql("a: GET*").unwrap(), Query::Like("a".to_owned(), "GET*".to_owned()));
        let Query::Lucene(_, meant) = lucene("_exists_:_ignored").unwrap() else { panic!("not Lucene") };
        assert_eq!(*meant, Query::Exists("_ignored".to_owned()));
        assert_eq!(kql("").unwrap(), Query::All);
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for text in ["word", "a: b c", "a:", "(a: 1", "a: 1 b: 2", "a > x", "a*: 1", "a: {b: 1}", "a: \"x", "and"] {
            assert!(kql(text).is_err(), "{text}");
        }
        for text in ["a:[1 TO 2]", "+a:1", "a:x*", "a:1 && b:2", "a and b"] {
            assert!(lucene(text).is_err(), "{text}");
        }
    }
}

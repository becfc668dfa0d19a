//! nginx's `log_format` strings.
//!
//! A pasted directive (`log_format main escape=json '...' '...';`) is taken apart first, as nginx's configuration is
//! written: strings in single or double quotes that follow each other are one. Variables that name no field of ours are
//! matched and ignored.

use super::FormatError;
use super::plan::{Meaning, Plan, Token};
use super::slot::Shape;
use super::target::{Target, TimeText};
use super::time::NANOS;
use crate::record::Field;

/// Compiles `format`.
pub fn compile(format: &str) -> Result<Plan, FormatError> {
    let (text, json_escapes) = unwrap(format)?;
    Plan::new(tokens(&text)?, json_escapes)
}

/// The format that a whole `log_format` directive holds, and whether it escapes as JSON does; a string that is none is
/// the format itself.
fn unwrap(text: &str) -> Result<(String, bool), FormatError> {
    let trimmed = text.trim();
    let rest = trimmed.strip_prefix("log_format").filter(|rest| rest.starts_with(char::is_whitespace));
    if rest.is_none() && !trimmed.starts_with('\'') {
        // Alone, only the look of it can tell how values are escaped.
        return Ok((text.to_owned(), trimmed.starts_with('{')));
    }
    let words = words(rest.unwrap_or(trimmed))
        .map_err(|reason| FormatError::Syntax { at: text.len(), reason: reason.to_owned() })?;
    // The first word of a whole directive is the format's name.
    let words = words.get(usize::from(rest.is_some())..).unwrap_or_default();
    let (escape, pieces) = match words.split_first() {
        Some((first, pieces)) if first.starts_with("escape=") => (first.as_str(), pieces),
        _ => ("", words),
    };
    Ok((pieces.concat(), escape == "escape=json"))
}

/// The words of a directive, without their quotes, up to the semicolon.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quote = match chars.peek() {
            None | Some(';') => return Ok(words),
            Some(quote @ ('\'' | '"')) => Some(*quote),
            Some(_) => None,
        };
        if quote.is_some() {
            chars.next();
        }
        let mut word = String::new();
        loop {
            match chars.next_if(|c| quote.is_some() || !(c.is_whitespace() || *c == ';')) {
                None if quote.is_some() => return Err("a quote of log_format is not closed"),
                None => break,
                Some(c) if Some(c) == quote => break,
                Some('\\') => match chars.next() {
                    Some('t') => word.push('\t'),
                    Some('n') => word.push('\n'),
                    Some('r') => word.push('\r'),
                    Some(c @ ('\'' | '"' | '\\')) => word.push(c),
                    other => {
                        word.push('\\');
                        word.extend(other);
                    }
                },
                Some(c) => word.push(c),
            }
        }
        words.push(word);
    }
}

fn tokens(format: &str) -> Result<Vec<Token>, FormatError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(length) = format[at..].find('$') {
        if length > 0 {
            tokens.push(Token::Literal(format[at..at + length].into()));
        }
        let start = at + length;
        let rest = &format[start + 1..];
        let braced = rest.strip_prefix('{');
        let name = braced.unwrap_or(rest);
        let name = &name[..name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(name.len())];
        let closed = braced.is_none_or(|inner| inner[name.len()..].starts_with('}'));
        if name.is_empty() || !closed {
            let reason = "`$` is not followed by a variable's name".to_owned();
            return Err(FormatError::Syntax { at: start, reason });
        }
        at = start + 1 + name.len() + if braced.is_some() { 2 } else { 0 };
        tokens.push(Token::Directive { name: format[start..at].to_owned(), at: start, meaning: meaning(name) });
    }
    if at < format.len() {
        tokens.push(Token::Literal(format[at..].into()));
    }
    Ok(tokens)
}

fn meaning(name: &str) -> Meaning {
    use Target::{Duration, Durations, Host, Ignored, Number, Protocol, Query, Request, Status, Text, Time};
    let (shape, target, rank) = match name {
        "remote_addr" => (Shape::Token, Text(Field::SourceAddress), 2),
        // The peer may be a proxy: the client only if nothing else says who that is.
        "realip_remote_addr" => (Shape::Token, Text(Field::SourceAddress), 1),
        "remote_port" => (Shape::Number, Number(Field::SourcePort), 1),
        "remote_user" => (Shape::Text, Text(Field::UserName), 1),
        "time_local" => (Shape::Time, Time(TimeText::Clf), 2),
        "time_iso8601" => (Shape::Time, Time(TimeText::Iso), 3),
        "msec" => (Shape::Time, Time(TimeText::Epoch(NANOS)), 4),
        "request" => (Shape::Text, Request, 9),
        "request_method" => (Shape::Token, Text(Field::HttpRequestMethod), 1),
        "request_uri" => (Shape::Text, Text(Field::UrlOriginal), 2),
        "uri" | "document_uri" => (Shape::Text, Text(Field::UrlPath), 1),
        "args" | "query_string" => (Shape::Text, Query, 1),
        "server_protocol" => (Shape::Token, Protocol, 1),
        "status" => (Shape::Number, Status, 1),
        "body_bytes_sent" => (Shape::Number, Number(Field::HttpResponseBodyBytes), 1),
        "bytes_sent" => (Shape::Number, Number(Field::HttpResponseBytes), 1),
        "request_length" => (Shape::Number, Number(Field::HttpRequestBytes), 1),
        "request_time" => (Shape::Number, Duration(NANOS), 2),
        "upstream_response_time" => (Shape::List, Durations, 1),
        "http_referer" => (Shape::Text, Text(Field::HttpRequestReferrer), 1),
        "http_user_agent" => (Shape::Text, Text(Field::UserAgentOriginal), 1),
        "http_host" => (Shape::Token, Host, 3),
        "host" => (Shape::Token, Host, 2),
        "server_name" => (Shape::Token, Host, 1),
        "server_port" => (Shape::Number, Number(Field::UrlPort), 1),
        "scheme" => (Shape::Token, Text(Field::UrlScheme), 1),
        "request_id" => (Shape::Token, Text(Field::HttpRequestId), 2),
        "http_x_request_id" => (Shape::Text, Text(Field::HttpRequestId), 1),
        "http_x_forwarded_for" | "proxy_add_x_forwarded_for" => (Shape::List, Ignored, 0),
        name if name.starts_with("upstream_") => (Shape::List, Ignored, 0),
        _ => (Shape::Text, Ignored, 0),
    };
    Meaning { shape, target, rank }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::tests::sample;

    fn check(format: &str, line: &str, expected: &[(&str, &str)]) {
        let found = sample(&compile(format).expect(format), line.as_bytes());
        assert!(!found.failed(), "{format}: {found:?}");
        for (field, value) in expected {
            let value = (!value.is_empty()).then_some(*value);
            assert_eq!(found.get(field), value, "{field} of {format}");
        }
    }

    fn refused(format: &str) -> String {
        compile(format).expect_err(format).to_string()
    }

    const MAIN: &str = r#"log_format  main  '$remote_addr - $remote_user [$time_local] "$request" '
                      '$status $body_bytes_sent "$http_referer" '
                      '"$http_user_agent" "$http_x_forwarded_for"';"#;

    #[test]
    fn the_packaged_main_format_can_be_pasted_whole() {
        check(
            MAIN,
            r#"192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/2.0" 304 0 "-" "curl/8.1" "10.0.0.1, 10.0.0.2""#,
            &[
                ("@timestamp", "1431857103000000000"),
                ("source.address", "192.0.2.1"),
                ("user.name", ""),
                ("http.version", "2.0"),
                ("http.response.status_code", "304"),
                ("http.request.referrer", ""),
                ("user_agent.original", "curl/8.1"),
            ],
        );
    }

    #[test]
    fn each_variable_fills_its_field() {
        for (variable, text, field, value) in [
            ("$remote_addr", "2001:db8::1", "source.address", "2001:db8::1"),
            ("${remote_addr}", "192.0.2.1", "source.address", "192.0.2.1"),
            ("$realip_remote_addr", "192.0.2.1", "source.address", "192.0.2.1"),
            ("$remote_port", "50000", "source.port", "50000"),
            ("$remote_user", "frank", "user.name", "frank"),
            ("$time_local", "17/May/2015:10:05:03 +0000", "@timestamp", "1431857103000000000"),
            ("$time_iso8601", "2015-05-17T10:05:03+00:00", "@timestamp", "1431857103000000000"),
            ("$msec", "1431857103.120", "@timestamp", "1431857103120000000"),
            ("$request", "GET /a HTTP/1.1", "url.original", "/a"),
            ("$request_method", "GET", "http.request.method", "GET"),
            ("$request_uri", "/a?b", "url.original", "/a?b"),
            ("$uri", "/a", "url.path", "/a"),
            ("$args", "a=b", "url.query", "a=b"),
            ("$query_string", "a=b", "url.query", "a=b"),
            ("$uri$is_args$args", "/a?b", "url.original", "/a?b"),
            ("$host$request_uri", "example.org/a?b", "url.original", "/a?b"),
            ("$host$uri$is_args$args", "example.org/a?b", "url.domain", "example.org"),
            ("$scheme://$host$request_uri", "https://example.org:8443/a?b", "url.port", "8443"),
            ("$scheme", "https", "url.scheme", "https"),
            ("$server_protocol", "HTTP/2.0", "http.version", "2.0"),
            ("$status", "502", "event.outcome", "failure"),
            ("$status", "000", "event.outcome", ""),
            ("$body_bytes_sent", "12", "http.response.body.bytes", "12"),
            ("$bytes_sent", "12", "http.response.bytes", "12"),
            ("$request_length", "12", "http.request.bytes", "12"),
            ("$request_time", "1.045", "event.duration", "1045000000"),
            ("$upstream_response_time", "0.045", "event.duration", "45000000"),
            ("$upstream_response_time", "0.1, 0.2 : 0.3", "event.duration", "600000000"),
            ("$upstream_response_time", "0.1, -", "event.duration", "100000000"),
            ("$upstream_response_time", "-", "event.duration", ""),
            ("$request_time $upstream_response_time", "1.000 0.100", "event.duration", "1000000000"),
            ("$upstream_response_time $request_time", "0.1, 0.2 1.000", "event.duration", "1000000000"),
            ("$upstream_addr", "10.0.0.1:80, 10.0.0.2:80", "source.address", ""),
            ("$http_referer", "http://a/", "http.request.referrer", "http://a/"),
            ("$http_user_agent", "curl/8", "user_agent.original", "curl/8"),
            ("$http_host", "example.org:80", "url.domain", "example.org"),
            ("$host", "example.org", "url.domain", "example.org"),
            ("$server_name", "example.org", "url.domain", "example.org"),
            ("$server_port", "443", "url.port", "443"),
            ("$request_id", "0a1b", "http.request.id", "0a1b"),
            ("$http_x_request_id", "0a1b", "http.request.id", "0a1b"),
            ("$http_x_forwarded_for", "10.0.0.1, 10.0.0.2", "source.address", ""),
            ("$connection", "17", "message", ""),
            ("$gzip_ratio", "-", "message", ""),
            ("$cookie_a", "b c", "message", ""),
        ] {
            check(&format!("[{variable}] end"), &format!("[{text}] end"), &[(field, value)]);
            check(&format!("\"{variable}\""), &format!("\"{text}\""), &[(field, value)]);
        }
    }

    #[test]
    fn a_list_ends_where_its_items_do() {
        let format = "$upstream_addr $upstream_response_time $status";
        check(
            format,
            "a:80, b:80 0.1, 0.2 200",
            &[("event.duration", "300000000"), ("http.response.status_code", "200")],
        );
        check(format, "- - 499", &[("event.duration", ""), ("http.response.status_code", "499")]);
        check(format, "a:80 : b:80 0.1 : 0.2 200", &[("event.duration", "300000000")]);
    }

    #[test]
    fn a_format_that_writes_json_is_read_with_its_escapes() {
        let format = r#"log_format json escape=json '{"time":"$msec","ip":"$remote_addr",'
            '"request":"$request","status":$status,"bytes":"$body_bytes_sent","ua":"$http_user_agent"}';"#;
        let line = r#"{"time":"1431857103.120","ip":"192.0.2.1","request":"GET /\"q\" HTTP/1.1","status":200,"bytes":"","ua":"a \"b\" \\ \u0001"}"#;
        check(
            format,
            line,
            &[
                ("@timestamp", "1431857103120000000"),
                ("http.response.status_code", "200"),
                ("http.response.body.bytes", ""),
                ("url.original", r#"/\"q\""#),
                ("user_agent.original", "a \"b\" \\ \u{1}"),
            ],
        );
        // The same without its wrapping, as the look of it tells.
        check(r#"{"ua":"$http_user_agent"}"#, r#"{"ua":"a\\b"}"#, &[("user_agent.original", "a\\b")]);
        check(
            r#"log_format x escape=none '$status "$http_user_agent"'"#,
            r#"200 "a\\b""#,
            &[("user_agent.original", r"a\\b")],
        );
    }

    #[test]
    fn escapes_of_the_server_stay_as_they_are() {
        check(r#""$http_user_agent""#, r#""a \x22b\x22""#, &[("user_agent.original", r"a \x22b\x22")]);
    }

    #[test]
    fn a_format_that_cannot_work_is_refused_with_the_place() {
        assert_eq!(
            refused("$status$remote_addr"),
            "$status and $remote_addr stand with nothing between at byte 7: where one ends cannot be told"
        );
        assert!(refused("a $ b").contains("at byte 2: `$` is not followed by a variable's name"));
        assert!(refused("a ${b c").contains("at byte 2"));
        assert!(refused("log_format main '$status").contains("not closed"));
        assert_eq!(refused("log_format main;"), "the format has no fields");
    }
}

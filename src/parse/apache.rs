//! Apache's `LogFormat` strings, as `mod_log_config` reads them.
//!
//! A pasted configuration line (`LogFormat "..." name`) is taken apart first; `\"`, `\\`, `\t`, `\n` and `\r` mean what
//! they mean to Apache. Directives that name no field of ours are matched and ignored.

use super::FormatError;
use super::plan::{Meaning, Plan, Token};
use super::slot::Shape;
use super::target::{Target, TimeText};
use super::time::{NANOS, Pattern};
use crate::record::Field;

/// The common log format.
pub const COMMON: &str = "%h %l %u %t \"%r\" %>s %b";
/// The combined log format.
pub const COMBINED: &str = "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"";

/// Compiles `format`.
pub fn compile(format: &str) -> Result<Plan, FormatError> {
    Plan::new(tokens(unwrap(format)?)?, false)
}

/// What stands between the quotes of a whole `LogFormat` line; anything else is the format itself.
fn unwrap(text: &str) -> Result<&str, FormatError> {
    let trimmed = text.trim();
    let keyword = trimmed.get(..9).filter(|word| word.eq_ignore_ascii_case("LogFormat"));
    let Some(rest) = keyword.map(|_| trimmed[9..].trim_start()) else { return Ok(text) };
    let Some(quoted) = rest.strip_prefix('"') else {
        return Ok(rest.split_whitespace().next().unwrap_or_default());
    };
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(&quoted[..at]),
            _ => {}
        }
    }
    Err(FormatError::Syntax { at: text.len(), reason: "the quote of LogFormat is not closed".to_owned() })
}

fn tokens(format: &str) -> Result<Vec<Token>, FormatError> {
    let bytes = format.as_bytes();
    let mut tokens = Vec::new();
    let mut literal = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        match (byte, next) {
            (b'\\', Some(b'"' | b'\\')) => literal.extend(next),
            (b'\\', Some(b't')) => literal.push(b'\t'),
            (b'\\', Some(b'n')) => literal.push(b'\n'),
            (b'\\', Some(b'r')) => literal.push(b'\r'),
            (b'%', Some(b'%')) => literal.push(b'%'),
            (b'%', _) => {
                let (end, meaning) = directive(format, at)?;
                // Apache writes its plain time in brackets of its own.
                let bracketed = matches!(meaning.target, Target::Time(TimeText::Clf));
                if bracketed {
                    literal.push(b'[');
                }
                if !literal.is_empty() {
                    tokens.push(Token::Literal(std::mem::take(&mut literal)));
                }
                tokens.push(Token::Directive { name: format[at..end].to_owned(), at, meaning });
                if bracketed {
                    literal.push(b']');
                }
                at = end;
                continue;
            }
            _ => {
                literal.push(byte);
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    if !literal.is_empty() {
        tokens.push(Token::Literal(literal));
    }
    Ok(tokens)
}

/// The directive that starts at `start`: `%`, conditions (`!200,304`), `<` or `>`, `{parameter}`, name.
fn directive(format: &str, start: usize) -> Result<(usize, Meaning), FormatError> {
    let bytes = format.as_bytes();
    let error = |reason: String| FormatError::Syntax { at: start, reason };
    let (mut parameter, mut last) = (None, false);
    let mut at = start + 1;
    loop {
        match bytes.get(at) {
            Some(b'!' | b',' | b'0'..=b'9' | b'<') => at += 1,
            Some(b'>') => {
                last = true;
                at += 1;
            }
            Some(b'{') => {
                let length = format[at..].find('}').ok_or_else(|| error("`{` is not closed by `}`".to_owned()))?;
                parameter = Some(&format[at + 1..at + length]);
                at += length + 1;
            }
            Some(b'^') => {
                // Two letters: `%{name}^ti`, `^to`, `^FB`.
                let end = at + 3;
                return match format.get(at + 1..end) {
                    Some(name) if name.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                        Ok((end, ignored(Shape::Text)))
                    }
                    _ => Err(error("`^` is not followed by two letters".to_owned())),
                };
            }
            Some(letter) if letter.is_ascii_alphabetic() => {
                let meaning = meaning(char::from(*letter), parameter, last).map_err(error)?;
                return Ok((at + 1, meaning));
            }
            _ => return Err(error("`%` is not followed by a directive (a percent sign is written `%%`)".to_owned())),
        }
    }
}

fn ignored(shape: Shape) -> Meaning {
    Meaning { shape, target: Target::Ignored, rank: 0 }
}

fn meaning(letter: char, parameter: Option<&str>, last: bool) -> Result<Meaning, String> {
    use Target::{Duration, Host, Number, Protocol, Query, Request, Status, Text};
    let (shape, target, rank) = match (letter, parameter) {
        // What the client's address is known to be beats its name.
        ('h', _) => (Shape::Token, Text(Field::SourceAddress), 2),
        ('a', None) => (Shape::Token, Text(Field::SourceAddress), 3),
        // The peer may be a proxy: the client only if nothing else says who that is.
        ('a', Some(_)) => (Shape::Token, Text(Field::SourceAddress), 1),
        ('u', _) => (Shape::Text, Text(Field::UserName), 1),
        ('r', _) => (Shape::Text, Request, 9),
        ('m', _) => (Shape::Token, Text(Field::HttpRequestMethod), 1),
        ('U', _) => (Shape::Text, Text(Field::UrlPath), 1),
        ('q', _) => (Shape::Text, Query, 1),
        ('H', _) => (Shape::Token, Protocol, 1),
        ('s', _) => (Shape::Number, Status, if last { 2 } else { 1 }),
        ('b' | 'B', _) => (Shape::Number, Number(Field::HttpResponseBodyBytes), 1),
        ('O', _) => (Shape::Number, Number(Field::HttpResponseBytes), 1),
        ('I', _) => (Shape::Number, Number(Field::HttpRequestBytes), 1),
        ('D', _) | ('T', Some("us")) => (Shape::Number, Duration(1000), 3),
        ('T', Some("ms")) => (Shape::Number, Duration(1_000_000), 2),
        ('T', None | Some("s")) => (Shape::Number, Duration(NANOS), 1),
        ('v', _) => (Shape::Token, Host, 1),
        ('V', _) => (Shape::Token, Host, 2),
        ('p', Some("remote")) => (Shape::Number, Number(Field::SourcePort), 1),
        ('p', _) => (Shape::Number, Number(Field::UrlPort), 1),
        ('L', _) => (Shape::Token, Text(Field::HttpRequestId), 1),
        ('t', format) => return time(format.unwrap_or_default()),
        ('i', Some(header)) => match header.to_ascii_lowercase().as_str() {
            "referer" => (Shape::Text, Text(Field::HttpRequestReferrer), 1),
            "user-agent" => (Shape::Text, Text(Field::UserAgentOriginal), 1),
            "host" => (Shape::Token, Host, 3),
            "x-request-id" => (Shape::Text, Text(Field::HttpRequestId), 3),
            "x-forwarded-for" => return Ok(ignored(Shape::List)),
            _ => return Ok(ignored(Shape::Text)),
        },
        ('e', Some("UNIQUE_ID")) => (Shape::Token, Text(Field::HttpRequestId), 2),
        ('k' | 'S' | 'P', _) => return Ok(ignored(Shape::Number)),
        ('l' | 'X' | 'A', _) => return Ok(ignored(Shape::Token)),
        _ => return Ok(ignored(Shape::Text)),
    };
    Ok(Meaning { shape, target, rank })
}

fn time(format: &str) -> Result<Meaning, String> {
    let (format, ended) = match (format.strip_prefix("end:"), format.strip_prefix("begin:")) {
        (Some(format), _) => (format, true),
        (_, Some(format)) => (format, false),
        _ => (format, false),
    };
    let (text, rank) = match format {
        "" => (TimeText::Clf, 2),
        "sec" => (TimeText::Epoch(NANOS), 3),
        "msec" => (TimeText::Epoch(1_000_000), 4),
        "usec" => (TimeText::Epoch(1000), 5),
        "msec_frac" => (TimeText::Fraction(1_000_000), 1),
        "usec_frac" => (TimeText::Fraction(1000), 1),
        pattern => {
            let pattern = Pattern::compile(pattern).map_err(|unknown| format!("`{unknown}` in a time is not known"))?;
            (TimeText::Pattern(pattern), 1)
        }
    };
    let text = if ended { TimeText::End(Box::new(text)) } else { text };
    Ok(Meaning { shape: Shape::Time, target: Target::Time(text), rank })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::tests::sample;

    fn check(format: &str, line: &str, expected: &[(&str, &str)]) {
        let found = sample(&compile(format).expect(format), line.as_bytes());
        found.expect_fields(expected);
    }

    fn refused(format: &str) -> String {
        compile(format).expect_err(format).to_string()
    }

    const LINE: &str = r#"203.0.113.9 - frank [17/May/2015:10:05:03 +0000] "GET /a?b HTTP/1.1" 200 2326 "http://x/" "Mozilla/5.0 (X)""#;

    #[test]
    fn combined_fills_its_fields() {
        check(
            COMBINED,
            LINE,
            &[
                ("@timestamp", "1431857103000000000"),
                ("event.kind", "event"),
                ("event.category", "[\"web\"]"),
                ("event.type", "[\"access\"]"),
                ("event.outcome", "success"),
                ("http.request.method", "GET"),
                ("http.request.referrer", "http://x/"),
                ("http.response.status_code", "200"),
                ("http.response.body.bytes", "2326"),
                ("http.version", "1.1"),
                ("url.original", "/a?b"),
                ("source.address", "203.0.113.9"),
                ("user.name", "frank"),
                ("user_agent.original", "Mozilla/5.0 (X)"),
            ],
        );
    }

    fn check_some(format: &str, line: &str, expected: &[(&str, &str)]) {
        let found = sample(&compile(format).expect(format), line.as_bytes());
        assert!(!found.failed(), "{format}: {found:?}");
        for (field, value) in expected {
            let value = (!value.is_empty()).then_some(*value);
            assert_eq!(found.get(field), value, "{field} of {format}");
        }
    }

    #[test]
    fn a_whole_configuration_line_can_be_pasted() {
        let pasted = r#"  LogFormat "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"" combined"#;
        check_some(pasted, LINE, &[("user_agent.original", "Mozilla/5.0 (X)"), ("http.response.status_code", "200")]);
        check_some(r#"%h\t%>s\t%%\t\"%U\""#, "a\t200\t%\t\"/x\"", &[("url.path", "/x"), ("source.address", "a")]);
        check_some("logformat %h,%s x", "a,404", &[("source.address", "a"), ("event.outcome", "failure")]);
        assert_eq!(
            refused(r#"LogFormat "%h"#),
            "the format cannot be read at byte 13: the quote of LogFormat is not closed"
        );
    }

    #[test]
    fn each_directive_fills_its_field() {
        for (directive, text, field, value) in [
            ("%h", "host.name", "source.address", "host.name"),
            ("%a", "2001:db8::1", "source.address", "2001:db8::1"),
            ("%{c}a", "192.0.2.1", "source.address", "192.0.2.1"),
            ("%l", "-", "user.name", ""),
            ("%u", "John Doe", "user.name", "John Doe"),
            ("%m", "PUT", "http.request.method", "PUT"),
            ("%U", "/a b", "url.path", "/a b"),
            ("%q", "?a=b", "url.query", "a=b"),
            ("%U%q", "/a?a=b", "url.original", "/a?a=b"),
            ("%H", "HTTP/1.0", "http.version", "1.0"),
            ("%s", "404", "event.outcome", "failure"),
            ("%<s", "404", "http.response.status_code", "404"),
            ("%>s", "302", "event.outcome", "success"),
            ("%b", "-", "http.response.body.bytes", ""),
            ("%B", "0", "http.response.body.bytes", "0"),
            ("%O", "512", "http.response.bytes", "512"),
            ("%I", "300", "http.request.bytes", "300"),
            ("%D", "1500", "event.duration", "1500000"),
            ("%T", "2", "event.duration", "2000000000"),
            ("%{s}T", "2", "event.duration", "2000000000"),
            ("%{ms}T", "15", "event.duration", "15000000"),
            ("%{us}T", "15", "event.duration", "15000"),
            ("%D", "-15", "event.duration", ""),
            ("%v", "www.example.org", "url.domain", "www.example.org"),
            ("%V", "www.example.org", "url.domain", "www.example.org"),
            ("%{Host}i", "www.example.org:8080", "url.domain", "www.example.org"),
            ("%{Host}i", "[::1]:8080", "url.port", "8080"),
            ("%{Host}i", "2001:db8::1", "url.domain", "2001:db8::1"),
            ("%p", "443", "url.port", "443"),
            ("%{remote}p", "50000", "source.port", "50000"),
            ("%{local}p", "443", "url.port", "443"),
            ("%{Referer}i", "http://a/", "http.request.referrer", "http://a/"),
            ("%400,501{User-agent}i", "curl/8", "user_agent.original", "curl/8"),
            ("%!200,304,302{referer}i", "-", "http.request.referrer", ""),
            ("%{X-Request-Id}i", "abc", "http.request.id", "abc"),
            ("%{UNIQUE_ID}e", "abc", "http.request.id", "abc"),
            ("%L", "abc", "http.request.id", "abc"),
            ("%{X-Forwarded-For}i", "192.0.2.1, 192.0.2.2", "source.address", ""),
            ("%{VAR}^ti", "x", "message", ""),
            ("%k", "0", "message", ""),
            ("%X", "+", "message", ""),
            ("%f", "/srv/a b", "message", ""),
            ("%P", "17", "message", ""),
            ("%{cookie}C", "x", "message", ""),
        ] {
            check_some(&format!("[{directive}] end"), &format!("[{text}] end"), &[(field, value)]);
            check_some(&format!("\"{directive}\""), &format!("\"{text}\""), &[(field, value)]);
        }
    }

    #[test]
    fn of_two_directives_for_one_field_the_better_one_fills_it() {
        check_some("%h %a", "name 192.0.2.1", &[("source.address", "192.0.2.1")]);
        check_some("%{c}a %h", "192.0.2.1 name", &[("source.address", "name")]);
        check_some("%s %>s", "401 200", &[("http.response.status_code", "200"), ("event.outcome", "success")]);
        check_some("%T/%D", "0/1500", &[("event.duration", "1500000")]);
        check_some("%v %{Host}i", "a b", &[("url.domain", "b")]);
        check_some("\"%r\" %U", "\"GET /a HTTP/1.1\" /b", &[("url.original", "/a"), ("url.path", "")]);
        check_some("%h %h", "a b", &[("source.address", "a")]);
    }

    #[test]
    fn times_are_read_as_the_directive_writes_them() {
        let times = [
            ("%t", "[17/May/2015:10:05:03 +0000]", "1431857103000000000"),
            (
                "[%{%d/%b/%Y:%H:%M:%S}t.%{usec_frac}t %{%z}t]",
                "[17/May/2015:12:05:03.000120 +0200]",
                "1431857103000120000",
            ),
            ("%{%Y-%m-%dT%H:%M:%S}t.%{msec_frac}t%{%z}t", "2015-05-17T10:05:03.120+0000", ""),
            ("%{%Y-%m-%d %T}t %h", "2015-05-17 10:05:03 a", "1431857103000000000"),
            ("%{begin:%F %T}t %{end:%F %T}t", "2015-05-17 10:05:03 2015-05-17 10:05:04", "1431857103000000000"),
            ("%{end:sec}t %h", "1431857103 a", "1431857103000000000"),
            ("%{sec}t", "1431857103", "1431857103000000000"),
            ("%{msec}t", "1431857103120", "1431857103120000000"),
            ("%{usec}t", "1431857103120456", "1431857103120456000"),
            ("%{sec}t.%{msec_frac}t", "1431857103.120", "1431857103120000000"),
            ("%t %{usec_frac}t", "[17/May/2015:10:05:03 +0000] 7", "1431857103000007000"),
            ("%t %{usec}t", "[17/May/2015:10:05:03 +0000] 1431857103120456", "1431857103120456000"),
            ("%{%T}t", "10:05:03", ""),
        ];
        for (format, line, time) in times {
            if format.contains("t%{%z") {
                assert!(refused(format).contains("nothing between"));
            } else {
                check_some(format, line, &[("@timestamp", time)]);
            }
        }
    }

    #[test]
    fn a_format_that_cannot_work_is_refused_with_the_place() {
        assert_eq!(refused("%h%l"), "%h and %l stand with nothing between at byte 2: where one ends cannot be told");
        assert_eq!(refused("plain"), "the format has no fields");
        assert_eq!(refused(""), "the format has no fields");
        assert!(refused("%h %").starts_with("the format cannot be read at byte 3: `%` is not followed by a directive"));
        assert!(refused("%h %{Referer").contains("at byte 3: `{` is not closed"));
        assert!(refused("%h %{%Q}t").contains("at byte 3: `%Q` in a time is not known"));
        assert!(refused("%h %^x").contains("at byte 3"));
    }
}

//! What the generator promises about lines: they can be repeated, read back, and show what the scenario says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::time::Duration;

use logweir_generator::{Dirty, Event, Format, Generator, Load, Scenario, Schedule, Settings};
use serde_json::{Value, json};

const ALL_FORMATS: [Format; 6] =
    [Format::Combined, Format::CombinedLatency, Format::NginxLatency, Format::Json, Format::Common, Format::Csv];

fn schedule(total: u64) -> Schedule {
    let start = "2026-03-01T09:59:58Z".parse().unwrap();
    Schedule { start, load: Load::Virtual, total: Some(total), duration: None }
}

fn a_day(total: u64) -> Schedule {
    let start = "2026-03-01T00:00:00Z".parse().unwrap();
    Schedule { start, load: Load::Filling, total: Some(total), duration: Some(Duration::from_secs(86_400)) }
}

fn generator(schedule: &Schedule, format: Format, seed: u64, dirty: f64) -> Generator {
    Generator::new(&Scenario::shop(), schedule, Settings { seed, format, dirty }).unwrap()
}

fn all_bytes(mut generator: Generator) -> Vec<u8> {
    let mut lines = Vec::new();
    while generator.next_line(&mut lines).is_some() {}
    lines
}

fn for_each(mut generator: Generator, mut seen: impl FnMut(&Event<'_>, &[u8])) {
    let mut line = Vec::new();
    while let Some(event) = generator.next_line(&mut line) {
        seen(&event, &line);
        // The borrow of the event ends here, so the buffer can be used again.
        line.clear();
    }
}

#[test]
fn equal_arguments_give_equal_bytes_and_another_seed_gives_others() {
    for format in ALL_FORMATS {
        let first = all_bytes(generator(&schedule(5000), format, 7, 0.05));
        assert!(first == all_bytes(generator(&schedule(5000), format, 7, 0.05)), "{format:?}");
        assert!(first != all_bytes(generator(&schedule(5000), format, 8, 0.05)), "{format:?}");
    }
}

#[test]
fn combined_lines_average_about_246_bytes() {
    let lines = 50_000;
    let average = all_bytes(generator(&schedule(lines), Format::Combined, 1, 0.0)).len() as f64 / lines as f64;
    assert!((241.0..251.0).contains(&average), "{average}");
}

#[test]
fn dirt_spoils_lines_but_not_the_traffic_underneath() {
    let clean = all_bytes(generator(&schedule(5000), Format::Combined, 3, 0.0));
    let mut clean_lines = clean.split_inclusive(|byte| *byte == b'\n');
    let mut spoilt = 0;
    for_each(generator(&schedule(5000), Format::Combined, 3, 0.2), |event, line| {
        let same = clean_lines.next() == Some(line);
        assert_eq!(same, event.dirty.is_none(), "{:?}", event.dirty);
        spoilt += u32::from(!same);
    });
    assert!((900..1100).contains(&spoilt), "{spoilt}");
}

#[test]
fn every_way_of_dirt_comes_up_as_often_as_asked_for_and_keeps_lines_countable() {
    for format in ALL_FORMATS {
        let mut counts: BTreeMap<Dirty, u32> = BTreeMap::new();
        for_each(generator(&schedule(20_000), format, 5, 0.09), |event, line| {
            assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "{:?}", event.dirty);
            let Some(way) = event.dirty else { return };
            *counts.entry(way).or_default() += 1;
            let looks_dirty = match way {
                Dirty::NoProtocol => !contains(line, b"HTTP/"),
                Dirty::QuoteInQuotes => contains(line, b" \"quoted\", \" again\""),
                Dirty::NonUtf8 => std::str::from_utf8(line).is_err(),
                Dirty::Cut => line.len() < 400,
                Dirty::Garbage => (21..=200).contains(&line.len()),
                Dirty::Empty => line == b"\n",
                Dirty::CarriageReturn => line.ends_with(b"\r\n"),
                Dirty::Missing => contains(line, b"-\"") || contains(line, b",-"),
                Dirty::VeryLong => line.len() > 16_000,
            };
            assert!(looks_dirty, "{way:?}: {}", String::from_utf8_lossy(line));
        });
        let ways: Vec<Dirty> = Dirty::ALL.into_iter().filter(|way| way.applies_to(format)).collect();
        assert!(counts.keys().eq(&ways), "{format:?}: {counts:?}");
        let each = 1800 / ways.len() as u32;
        assert!(counts.values().all(|count| (each * 7 / 10..each * 13 / 10).contains(count)), "{counts:?}");
    }
}

fn contains(line: &[u8], wanted: &[u8]) -> bool {
    line.windows(wanted.len()).any(|window| window == wanted)
}

/// The mean latency in ms and the share of failures, for a path in a part of the day.
fn latency_and_failures(path: &str, hours: std::ops::Range<f64>) -> (f64, f64) {
    let schedule = a_day(100_000);
    let (mut requests, mut failures, mut sum_us) = (0, 0, 0);
    for_each(generator(&schedule, Format::Combined, 2, 0.0), |event, _| {
        let hour = (i128::from(event.time_ns) - schedule.start.as_nanosecond()) as f64 / 3.6e12;
        if event.path.text == path && hours.contains(&hour) {
            requests += 1;
            failures += u32::from(event.status >= 500);
            sum_us += event.duration_us;
        }
    });
    (sum_us as f64 / 1000.0 / f64::from(requests), f64::from(failures) / f64::from(requests))
}

#[test]
fn a_deploy_slows_its_endpoint_and_no_other() {
    let deploy = 4.0..5.5;
    let ordinary = 7.0..9.0;
    let slow = latency_and_failures("/search", deploy.clone()).0;
    let usual = latency_and_failures("/search", ordinary.clone()).0;
    assert!(slow > 4.0 * usual, "{slow} ms against {usual} ms");
    let other = latency_and_failures("/", deploy).0 / latency_and_failures("/", ordinary).0;
    assert!((0.8..1.2).contains(&other), "{other}");
}

#[test]
fn an_outage_fails_most_requests_of_its_service() {
    let (_, during) = latency_and_failures("/checkout", 9.7..11.0);
    let (_, before) = latency_and_failures("/checkout", 7.0..9.5);
    assert!(during > 0.6 && before < 0.01, "{during} against {before}");
}

#[test]
fn crawler_and_burst_are_traffic_above_the_ordinary() {
    let mut crawled_in_hour = [0u32; 24];
    let mut home_in_hour = [0u32; 24];
    for_each(generator(&a_day(100_000), Format::Combined, 2, 0.0), |event, _| {
        let hour = (event.time_ns / 3_600_000_000_000 % 24) as usize;
        crawled_in_hour[hour] += u32::from(event.client.user_agent.contains("PriceScout"));
        home_in_hour[hour] += u32::from(event.path.text == "/");
    });
    // The crawler is there from 13:12 to 16:05, the burst from 19:12 to 20:24.
    assert!(crawled_in_hour[14] > 250, "{crawled_in_hour:?}");
    assert_eq!(crawled_in_hour[..13].iter().sum::<u32>(), 0);
    assert!(home_in_hour[19] > 2 * home_in_hour[18], "{home_in_hour:?}");
}

#[test]
fn access_lines_read_back_as_their_events() {
    for format in [Format::Common, Format::Combined, Format::CombinedLatency, Format::NginxLatency] {
        for_each(generator(&schedule(3000), format, 4, 0.0), |event, line| {
            let line = std::str::from_utf8(line).unwrap().trim_end();
            let quoted: Vec<&str> = line.split('"').collect();
            let client = event.client;
            let address = client.host.as_ref().filter(|_| format == Format::Common).unwrap_or(&client.address);
            let time = jiff::Timestamp::from_nanosecond(i128::from(event.time_ns)).unwrap();
            let user = client.user.as_deref().unwrap_or("-");
            assert_eq!(quoted[0], format!("{address} - {user} [{}] ", time.strftime("%d/%b/%Y:%H:%M:%S +0000")));
            let query = if event.query.is_empty() { String::new() } else { format!("?{}", event.query) };
            assert_eq!(quoted[1], format!("{} {}{query} {}", event.method.text, event.path.text, client.protocol));
            let mut numbers = quoted[2].split_whitespace();
            assert_eq!(numbers.next().unwrap().parse(), Ok(event.status));
            assert_eq!(numbers.next().unwrap().replace('-', "0").parse(), Ok(event.body_bytes));
            if format == Format::Common {
                assert_eq!(quoted.len(), 3);
                return;
            }
            assert_eq!(quoted[3], event.referrer.unwrap_or("-"));
            assert_eq!(quoted[5], client.user_agent);
            match format {
                Format::CombinedLatency => assert_eq!(quoted[6], format!(" {}", event.duration_us)),
                Format::NginxLatency => {
                    let milliseconds: u64 = quoted[6].trim().replace('.', "").parse().unwrap();
                    assert_eq!(milliseconds, event.duration_us / 1000);
                }
                _ => assert_eq!(quoted[6], ""),
            }
        });
    }
}

#[test]
fn json_lines_read_back_as_their_events() {
    let mut failures = 0;
    for_each(generator(&schedule(20_000), Format::Json, 4, 0.0), |event, line| {
        let read: Value = serde_json::from_slice(line).unwrap();
        let time: jiff::Timestamp = read["@timestamp"].as_str().unwrap().parse().unwrap();
        assert_eq!(time.as_millisecond(), event.time_ns / 1_000_000);
        assert_eq!(read["service.name"], event.service);
        assert_eq!(read["http.request.method"], event.method.text);
        assert_eq!(read["url.path"], event.path.text);
        assert_eq!(read["http.response.status_code"], event.status);
        assert_eq!(read["event.duration"], event.duration_us * 1000);
        assert_eq!(read["error.message"].as_str(), event.error.map(|error| error.message.as_str()));
        assert_eq!(read["log.level"] == "ERROR", event.error.is_some());
        failures += u32::from(event.error.is_some());
    });
    assert!(failures > 0);
}

#[test]
fn csv_lines_read_back_as_their_events() {
    for_each(generator(&schedule(20_000), Format::Csv, 4, 0.0), |event, line| {
        let line = std::str::from_utf8(line).unwrap().trim_end();
        let fields = csv_fields(line);
        let [_, level, message, address, service, path] = fields.as_slice() else { panic!("{line}") };
        assert_eq!(level == "ERROR", event.status >= 500);
        assert!(event.error.is_none_or(|error| message.ends_with(&error.message)), "{message}");
        assert_eq!(address, &event.client.address);
        assert_eq!(service, event.service);
        assert_eq!(path, &event.path.text);
    });
}

fn csv_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut in_quotes = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if in_quotes && characters.next_if_eq(&'"').is_some() => fields.last_mut().unwrap().push('"'),
            '"' => in_quotes = !in_quotes,
            ',' if !in_quotes => fields.push(String::new()),
            other => fields.last_mut().unwrap().push(other),
        }
    }
    fields
}

#[test]
fn scenarios_without_sense_are_refused_with_the_place() {
    for (pointer, value, expected) in [
        ("/virtual_rate", json!(0), "virtual_rate must be above 0"),
        ("/client_groups/offices/clients", json!(9_000_000), "client group \"offices\": the ranges have too few"),
        ("/client_groups/offices/ranges/0/range", json!("198.19.0.0/33"), "is not a range"),
        ("/client_groups/robots/user_agents", json!({"toasters": 1}), "no list \"toasters\""),
        ("/services/1/endpoints/0/weight", json!(-1), "every weight must be a number of at least 0"),
        ("/services/1/endpoints/0/path", json!("search"), "a path begins with a slash"),
        ("/services/1/endpoints/0/path", json!("/cart"), "belongs to another endpoint already"),
        ("/services/1/endpoints/0/statuses", json!({"999": 1}), "999 is not a status"),
        ("/services/1/endpoints/0/latency/median", json!("0ms"), "the median must be above 0"),
        ("/episodes/0/to", json!(0.01), "episode \"a deploy slows the search\": from must be before to"),
        ("/episodes/0/path", json!("/nowhere"), "no endpoint has this service and path"),
        ("/episodes/2/clients", json!("martians"), "no client group \"martians\""),
        ("/episodes/2/traffic_factor", json!(0.5), "traffic_factor must be above 1"),
    ] {
        let mut text: Value = serde_json::from_str(Scenario::SHOP).unwrap();
        *text.pointer_mut(pointer).unwrap() = value;
        let scenario: Scenario = serde_json::from_value(text).unwrap();
        let settings = Settings { seed: 1, format: Format::Common, dirty: 0.0 };
        let error = format!("{:#}", Generator::new(&scenario, &schedule(1), settings).unwrap_err());
        assert!(error.contains(expected), "{pointer}: {error}");
    }
}

//! `user_agent`: browser, system and device from the agent's own text, as one ready-made JSON object.
//!
//! A site sees few different agents, so the objects are kept by the agent's text: a line costs a hash, a comparison and a
//! copy. The cache has a bound in entries and in bytes; agents that are all different cost time, never memory.

use xxhash_rust::xxh3::xxh3_64;

use super::user_agent_rules::{self as rules, Agent};
use crate::json;
use crate::keep::Keep;
use crate::record::{Document, Field, Tags};

/// Entries that share their place; the one that was put there first goes first.
const WAYS: usize = 4;
const SETS: usize = 1024;

/// All entries together; beyond this the cache starts anew.
const MAX_CACHED_BYTES: usize = 2 << 20;

/// Longer agents are nobody's: they are not kept, and only this much of them is looked at.
const MAX_AGENT_BYTES: usize = 4 << 10;

/// What Elasticsearch's own user agent processor calls what no rule knows.
const UNKNOWN: &str = "Other";

#[derive(Debug)]
pub(super) struct UserAgent {
    members: Members,
    /// Low hash bits of the entries, apart from them so that a miss touches little memory.
    tags: Vec<[u32; WAYS]>,
    entries: Vec<[Option<Entry>; WAYS]>,
    /// Which way of each set is replaced next.
    next: Vec<u8>,
    bytes: usize,
    /// Where the last agent that was asked for is, which is often asked for again.
    last: (usize, usize),
    /// Where the object of an agent that is not kept is made.
    made: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    text: Box<[u8]>,
    json: Box<[u8]>,
    /// Whether the text was UTF-8.
    valid: bool,
}

/// Which members of the object are kept.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one for each member, which are kept or not independently")]
struct Members {
    original: bool,
    name: bool,
    version: bool,
    os_name: bool,
    os_version: bool,
    device: bool,
}

impl UserAgent {
    /// `None` if nothing that is derived here is kept.
    pub(super) fn new(keep: &Keep) -> Option<Self> {
        let kept = |member: &str| keep.keeps(&format!("user_agent.{member}"));
        let members = Members {
            original: kept("original"),
            name: kept("name"),
            version: kept("version"),
            os_name: kept("os.name"),
            os_version: kept("os.version"),
            device: kept("device.name"),
        };
        let Members { name, version, os_name, os_version, device, .. } = members;
        if !(name || version || os_name || os_version || device) {
            return None;
        }
        Some(Self {
            members,
            tags: vec![[0; WAYS]; SETS],
            entries: std::iter::repeat_with(Default::default).take(SETS).collect(),
            next: vec![0; SETS],
            bytes: 0,
            last: (0, 0),
            made: Vec::new(),
        })
    }

    pub(super) fn apply(&mut self, line: &[u8], doc: &mut Document) {
        let Some(text) = doc.bytes(Field::UserAgentOriginal, line) else { return };
        if text.is_empty() || doc.has(Field::UserAgent) {
            return;
        }
        if let Some(entry) = &self.entries[self.last.0][self.last.1]
            && *entry.text == *text
        {
            entry.put(doc);
            return;
        }
        let hash = xxh3_64(text);
        #[expect(clippy::cast_possible_truncation, reason = "the place takes some bits of the hash, the tag others")]
        let (set, tag) = ((hash >> 32) as usize % SETS, hash as u32);
        for way in 0..WAYS {
            if self.tags[set][way] == tag
                && let Some(entry) = &self.entries[set][way]
                && *entry.text == *text
            {
                entry.put(doc);
                self.last = (set, way);
                return;
            }
        }
        self.made.clear();
        let valid = object(&mut self.made, text, self.members);
        if text.len() <= MAX_AGENT_BYTES {
            let entry = Entry { text: text.into(), json: self.made.as_slice().into(), valid };
            self.insert(set, tag, entry);
        }
        if !valid {
            doc.tags.add(Tags::INVALID_UTF8);
        }
        doc.put_json(Field::UserAgent, &self.made);
    }

    fn insert(&mut self, set: usize, tag: u32, entry: Entry) {
        if self.bytes + entry.len() > MAX_CACHED_BYTES {
            self.entries.iter_mut().for_each(|ways| *ways = Default::default());
            self.bytes = 0;
        }
        let way = usize::from(self.next[set]) % WAYS;
        self.next[set] = self.next[set].wrapping_add(1);
        self.bytes += entry.len();
        self.tags[set][way] = tag;
        if let Some(replaced) = self.entries[set][way].replace(entry) {
            self.bytes -= replaced.len();
        }
    }
}

impl Entry {
    #[inline]
    fn put(&self, doc: &mut Document) {
        if !self.valid {
            doc.tags.add(Tags::INVALID_UTF8);
        }
        doc.put_json(Field::UserAgent, &self.json);
    }

    fn len(&self) -> usize {
        self.text.len() + self.json.len()
    }
}

/// Writes the object of the agent with this text; returns whether the text was UTF-8.
fn object(out: &mut Vec<u8>, text: &[u8], members: Members) -> bool {
    let mut start = text.len().min(MAX_AGENT_BYTES);
    while start < text.len() && text[start] & 0xc0 == 0x80 {
        start -= 1;
    }
    let Agent { name, version, os_name, os_version, device } = rules::resolve(&String::from_utf8_lossy(&text[..start]));
    let or_unknown = |name: Option<String>| Some(name.unwrap_or_else(|| UNKNOWN.to_owned()));
    out.push(b'{');
    let mut valid = true;
    if members.original {
        out.extend_from_slice(b"\"original\":");
        valid = json::push_string(out, text);
    }
    push_member(out, "name", or_unknown(name).filter(|_| members.name));
    push_member(out, "version", version.filter(|_| members.version));
    push_object(out, "os", os_name.filter(|_| members.os_name), os_version.filter(|_| members.os_version));
    push_object(out, "device", or_unknown(device).filter(|_| members.device), None);
    out.push(b'}');
    valid
}

fn push_object(out: &mut Vec<u8>, key: &str, name: Option<String>, version: Option<String>) {
    if name.is_none() && version.is_none() {
        return;
    }
    push_key(out, key);
    out.push(b'{');
    push_member(out, "name", name);
    push_member(out, "version", version);
    out.push(b'}');
}

fn push_member(out: &mut Vec<u8>, key: &str, value: Option<String>) {
    if let Some(value) = value {
        push_key(out, key);
        json::push_string(out, value.as_bytes());
    }
}

fn push_key(out: &mut Vec<u8>, key: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    json::push_string(out, key.as_bytes());
    out.push(b':');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CHROME: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/32.0.1700.77 Safari/537.36";

    fn enriched(enricher: &mut UserAgent, text: &[u8]) -> (serde_json::Value, Tags) {
        let mut doc = Document::default();
        doc.put_line(Field::UserAgentOriginal, 0, text.len());
        enricher.apply(text, &mut doc);
        (serde_json::from_slice(doc.bytes(Field::UserAgent, text).unwrap()).unwrap(), doc.tags)
    }

    #[test]
    fn an_agent_becomes_an_object_and_is_the_same_from_the_cache() {
        let mut enricher = UserAgent::new(&Keep::all()).unwrap();
        for _ in 0..2 {
            let expected = json!({
                "original": CHROME, "name": "Chrome", "version": "32.0.1700.77",
                "os": {"name": "Mac OS X", "version": "10.9.1"}, "device": {"name": "Mac"},
            });
            assert_eq!(enriched(&mut enricher, CHROME.as_bytes()), (expected, Tags::default()));
        }
    }

    #[test]
    fn an_agent_that_no_rule_knows_is_other() {
        let mut enricher = UserAgent::new(&Keep::all()).unwrap();
        let expected = json!({"original": "\"\u{1}", "name": "Other", "device": {"name": "Other"}});
        assert_eq!(enriched(&mut enricher, b"\"\x01").0, expected);
    }

    #[test]
    fn only_kept_members_are_made() {
        let keep = |names: &[&str]| Keep::new(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert!(UserAgent::new(&keep(&["user_agent.original"])).is_none());
        assert!(UserAgent::new(&keep(&["url"])).is_none());
        let mut enricher = UserAgent::new(&keep(&["user_agent.os.version", "user_agent.name"])).unwrap();
        let expected = json!({"name": "Chrome", "os": {"version": "10.9.1"}});
        assert_eq!(enriched(&mut enricher, CHROME.as_bytes()).0, expected);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_tagged_every_time() {
        let mut enricher = UserAgent::new(&Keep::all()).unwrap();
        for _ in 0..2 {
            let (object, tags) = enriched(&mut enricher, b"curl/8.4.0 \xff");
            assert_eq!((&object["original"], &object["name"]), (&json!("curl/8.4.0 \u{FFFD}"), &json!("curl")));
            assert!(tags.has(Tags::INVALID_UTF8));
        }
    }

    #[test]
    fn agents_that_are_all_different_do_not_grow_the_cache() {
        let mut enricher = UserAgent::new(&Keep::all()).unwrap();
        let long = "x".repeat(2000);
        for number in 0..3000 {
            enriched(&mut enricher, format!("{number} {long}").as_bytes());
        }
        let entries: Vec<&Entry> = enricher.entries.iter().flatten().flatten().collect();
        assert_eq!(enricher.bytes, entries.iter().map(|entry| entry.len()).sum::<usize>());
        assert!(enricher.bytes <= MAX_CACHED_BYTES);
        let bytes = enricher.bytes;
        enriched(&mut enricher, "é".repeat(4000).as_bytes());
        assert_eq!(enricher.bytes, bytes);
    }
}

//! What the sink answers to a bulk request in which everything was created: an item for each document, in the form in
//! which Elasticsearch writes it, left to what `filter_path` selects.
//!
//! One thing is missing: `_id`. To say it, the sink would have to read the body.

/// The parts of an item's answer, in Elasticsearch's order; `{index}` stands for the index.
const ITEM: [(&str, &str); 7] = [
    ("_index", r#""{index}""#),
    ("_version", "1"),
    ("result", r#""created""#),
    ("_shards", r#"{"total":1,"successful":1,"failed":0}"#),
    ("_seq_no", "0"),
    ("_primary_term", "1"),
    ("status", "201"),
];

/// Makes answers; what is the same in all of them is kept.
#[derive(Debug, Default)]
pub(crate) struct BulkReply {
    /// The `filter_path` and target for which the rest was made.
    made_for: Option<(Option<String>, String)>,
    before_items: String,
    after_items: String,
    item_bytes: usize,
    /// A comma and an item, as often as was needed yet.
    items: Vec<u8>,
}

impl BulkReply {
    /// The body of the answer to `documents` documents sent to `target`.
    pub(crate) fn body(&mut self, filter_path: Option<String>, target: &str, documents: usize) -> Vec<u8> {
        let key = Some((filter_path, target.to_owned()));
        if self.made_for != key {
            self.made_for = key;
            self.make();
        }
        let needed = documents * self.item_bytes;
        while self.items.len() < needed {
            // Never empty: `make` left one item there, or nothing is needed.
            self.items.extend_from_within(..self.item_bytes);
        }
        let mut body = Vec::with_capacity(self.before_items.len() + needed + self.after_items.len());
        body.extend_from_slice(self.before_items.as_bytes());
        body.extend_from_slice(self.items[..needed].get(1..).unwrap_or_default());
        body.extend_from_slice(self.after_items.as_bytes());
        body
    }

    fn make(&mut self) {
        let Some((filter_path, target)) = &self.made_for else { return };
        let wanted = |path: &[&str]| {
            filter_path.as_ref().is_none_or(|list| list.split(',').any(|pattern| selects(pattern, path)))
        };
        let index = if target.is_empty() { "index" } else { target };
        let item: Vec<String> = ITEM
            .iter()
            .filter(|(name, _)| wanted(&["items", "create", name]))
            .map(|(name, value)| {
                format!(r#""{name}":{}"#, value.replace("{index}", &format!(".ds-{index}-2026.01.01-000001")))
            })
            .collect();
        let mut members = Vec::new();
        if wanted(&["errors"]) {
            members.push(r#""errors":false"#);
        }
        if wanted(&["took"]) {
            members.push(r#""took":1"#);
        }
        self.items.clear();
        if item.is_empty() {
            self.item_bytes = 0;
            (self.before_items, self.after_items) = (format!("{{{}", members.join(",")), "}".to_owned());
        } else {
            members.push(r#""items":["#);
            self.items.extend_from_slice(format!(r#",{{"create":{{{}}}}}"#, item.join(",")).as_bytes());
            self.item_bytes = self.items.len();
            (self.before_items, self.after_items) = (format!("{{{}", members.join(",")), "]}".to_owned());
        }
    }
}

/// Whether a pattern of `filter_path` selects what is at `path`: what it names, and all below that.
fn selects(pattern: &str, path: &[&str]) -> bool {
    fn from(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern, path) {
            ([], _) => true,
            (["**", rest @ ..], _) => (0..=path.len()).any(|skipped| from(rest, &path[skipped..])),
            ([first, rest @ ..], [here, below @ ..]) => (*first == "*" || first == here) && from(rest, below),
            (_, []) => false,
        }
    }
    from(&pattern.split('.').collect::<Vec<_>>(), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(filter_path: Option<&str>, documents: usize) -> String {
        let body = BulkReply::default().body(filter_path.map(str::to_owned), "logs-web-default", documents);
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn an_answer_has_what_filter_path_selects() {
        let created = r#"{"create":{"status":201}}"#;
        for (filter_path, documents, expected) in [
            ("errors,items.*.status", 1, format!(r#"{{"errors":false,"items":[{created}]}}"#)),
            ("errors,items.*.status,items.*.error", 2, format!(r#"{{"errors":false,"items":[{created},{created}]}}"#)),
            ("items.create.status", 1, format!(r#"{{"items":[{created}]}}"#)),
            ("**.status,took", 1, format!(r#"{{"took":1,"items":[{created}]}}"#)),
            ("items.*.error", 3, "{}".to_owned()),
            ("errors,items.*.error", 3, r#"{"errors":false}"#.to_owned()),
            (
                "items.*._index,items.*.status",
                1,
                r#"{"items":[{"create":{"_index":".ds-logs-web-default-2026.01.01-000001","status":201}}]}"#.to_owned(),
            ),
        ] {
            assert_eq!(body(Some(filter_path), documents), expected, "{filter_path}");
        }
    }

    #[test]
    fn without_filter_path_an_answer_is_whole() {
        let answer: serde_json::Value = serde_json::from_str(&body(None, 3)).unwrap();
        assert_eq!(answer["errors"], false);
        assert_eq!(answer["took"], 1);
        let items = answer["items"].as_array().unwrap();
        assert_eq!(items.len(), 3);
        for item in items {
            assert_eq!(item["create"]["status"], 201);
            assert_eq!(item["create"]["result"], "created");
        }
    }

    #[test]
    fn what_is_kept_serves_larger_and_smaller_answers_and_other_filters() {
        let mut reply = BulkReply::default();
        for documents in [3, 1, 7, 2] {
            for filter in [Some("items.*.status"), None] {
                let again = reply.body(filter.map(str::to_owned), "logs-web-default", documents);
                assert_eq!(String::from_utf8(again).unwrap(), body(filter, documents));
            }
        }
    }
}

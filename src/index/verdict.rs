//! What an answer means, as pure functions: for each item by its `error.type` before its status, and for a request that
//! was not answered item by item. A request is never judged by its first or its worst item (invariant 5).

use super::reply::{Failure, ItemReply};

/// What becomes of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the index now.
    Created,
    /// It was there already, under the same id.
    Duplicate,
    /// The cluster cannot take it now; the same item again after a delay.
    Retry {
        /// Whether it may have been applied all the same, so that it is looked up first.
        doubtful: bool,
    },
    /// The cluster would refuse any document: somebody has to act, and the item waits.
    Hold,
    /// The document itself is refused: to the dead letters.
    DeadLetter,
    /// Refused for a reason that is not known to be about the document: [`unclear`] decides with the others in view.
    Unclear,
}

/// Types of errors that pass by themselves, whatever their status.
const PASSING: &[&str] = &[
    "circuit_breaking_exception",
    "es_rejected_execution_exception",
    "rejected_execution_exception",
    "illegal_index_shard_state_exception",
    "index_shard_not_started_exception",
    "master_not_discovered_exception",
    "no_longer_primary_shard_exception",
    "node_closed_exception",
    "node_disconnected_exception",
    "node_not_connected_exception",
    "not_master_exception",
    "primary_missing_action_exception",
    "process_cluster_event_timeout_exception",
    "shard_not_found_exception",
    "shard_not_in_primary_mode_exception",
    "timeout_exception",
    "unavailable_shards_exception",
];

/// Types of errors that somebody has to act on: no document would be taken.
const HOLDING: &[&str] = &[
    "alias_not_found_exception",
    "cluster_block_exception",
    "index_closed_exception",
    "index_not_found_exception",
    "invalid_index_name_exception",
    "no_shard_available_action_exception",
    "security_exception",
    "validation_exception",
];

/// Types of errors about the document alone.
const ABOUT_THE_DOCUMENT: &[&str] = &[
    "document_parsing_exception",
    "document_too_large_exception",
    "fail_processor_exception",
    "ingest_processor_exception",
    "mapper_exception",
    "mapper_parsing_exception",
    "max_bytes_length_exceeded_exception",
    "parsing_exception",
    "strict_dynamic_mapping_exception",
    "x_content_parse_exception",
];

/// Reasons of `illegal_argument_exception` and its like that nobody can mend in the document.
const HOLDING_REASONS: &[&str] = &[
    "no write index is defined for alias",
    "has more than one ind", // "more than one index associated with it", "more than one indices"
    "no matching index template found for data stream",
    "only write ops with an op_type of create are allowed in data streams",
    "pipeline with id [",
    "maximum shards open",
    "maximum normal shards open",
];

/// Reasons of `illegal_argument_exception` and its like that are about the document.
const DOCUMENT_REASONS: &[&str] = &[
    "Limit of total fields",
    "Limit of mapping depth",
    "Limit of nested",
    "immense term",
    "cannot be changed from type",
    "mapper [",
    "data stream timestamp field [@timestamp]",
    "failed to parse",
    "The number of nested documents has exceeded",
    "number of documents in the index cannot exceed", // of one document's nested ones
    "document is too large",
];

/// What becomes of the item that was answered so.
#[must_use]
pub fn of_item(item: &ItemReply) -> Verdict {
    let Some(error) = &item.error else {
        return match item.status {
            // It is in the failure store, not where it belongs.
            200..=299 if item.failure_store.as_deref() == Some("used") => Verdict::DeadLetter,
            200..=299 => Verdict::Created,
            429 => Verdict::Retry { doubtful: false },
            500.. => Verdict::Retry { doubtful: true },
            _ => Verdict::Unclear,
        };
    };
    of_failure(item.status, error)
}

fn of_failure(status: u16, error: &Failure) -> Verdict {
    let kind = error.kind.as_str();
    let says = |reasons: &[&str]| reasons.iter().any(|&part| error.reason.contains(part));
    // A 5xx may have been applied; a refusal for want of room (429) was not.
    let retry = Verdict::Retry { doubtful: status != 429 };
    match kind {
        "version_conflict_engine_exception" => Verdict::Duplicate,
        _ if ABOUT_THE_DOCUMENT.contains(&kind) => Verdict::DeadLetter,
        _ if HOLDING.contains(&kind) => Verdict::Hold,
        _ if PASSING.contains(&kind) => retry,
        _ if status == 429 || status == 408 || status >= 500 => retry,
        _ if says(HOLDING_REASONS) => Verdict::Hold,
        _ if says(DOCUMENT_REASONS) => Verdict::DeadLetter,
        _ => Verdict::Unclear,
    }
}

/// What becomes of the items of one request that were refused for a reason not known to be about the document.
/// `others_pass`: some other document passed there, in this request or since. If none did, the cause is likely the
/// target, and dropping documents into the dead letters one by one would be wrong.
#[must_use]
pub fn unclear(others_pass: bool) -> Verdict {
    if others_pass { Verdict::DeadLetter } else { Verdict::Hold }
}

/// What an answer's status means for the whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// Every item has an answer of its own.
    Items,
    /// Too large: halves, until one document is alone.
    TooLarge,
    /// Not taken now, and not applied: the same again after a delay.
    Retry,
    /// No whole answer: any of it may have been applied.
    Doubtful,
    /// Somebody has to act.
    Hold,
}

/// What this HTTP status means for the whole request.
#[must_use]
pub fn of_request(status: u16) -> Whole {
    match status {
        200..=299 => Whole::Items,
        413 => Whole::TooLarge,
        429 => Whole::Retry,
        // From a proxy's timeout to a node that dies half-way.
        408 | 500.. => Whole::Doubtful,
        _ => Whole::Hold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, kind: &str, reason: &str, expected: Verdict) {
        let error = (!kind.is_empty()).then(|| Failure { kind: kind.to_owned(), reason: reason.to_owned() });
        let item = ItemReply { status, error, ..ItemReply::default() };
        assert_eq!(of_item(&item), expected, "{status} {kind} {reason}");
    }

    const REFUSED: Verdict = Verdict::Retry { doubtful: false };
    const BROKEN: Verdict = Verdict::Retry { doubtful: true };

    #[test]
    fn every_item_is_judged_by_its_type_before_its_status() {
        use Verdict::{Created, DeadLetter, Duplicate, Hold, Unclear};
        let no_shard =
            "this action would add [2] shards, but this cluster currently has [1000]/[1000] maximum normal shards open";
        let auto_create = "no such index [x] and [action.auto_create_index] ([-x]) doesn't match";
        for (status, kind, reason, expected) in [
            (201, "", "", Created),
            (200, "", "", Created),
            (409, "version_conflict_engine_exception", "[a]: version conflict, document already exists", Duplicate),
            (409, "resource_already_exists_exception", "", Unclear),
            (409, "", "", Unclear),
            (429, "es_rejected_execution_exception", "rejected execution of primary operation", REFUSED),
            (429, "circuit_breaking_exception", "[parent] Data too large", REFUSED),
            (429, "something_new_exception", "", REFUSED),
            (429, "", "", REFUSED),
            (503, "unavailable_shards_exception", "primary shard is not active Timeout: [1m]", BROKEN),
            (503, "process_cluster_event_timeout_exception", "failed to process cluster event", BROKEN),
            (503, "circuit_breaking_exception", "", BROKEN),
            (500, "node_closed_exception", "node closed", BROKEN),
            (404, "illegal_index_shard_state_exception", "operations only allowed when shard state is", BROKEN),
            (404, "shard_not_found_exception", "no such shard", BROKEN),
            (500, "something_new_exception", "", BROKEN),
            (502, "", "", BROKEN),
            (403, "security_exception", "action [indices:data/write/bulk[s]] is unauthorized", Hold),
            (404, "index_not_found_exception", auto_create, Hold),
            (400, "index_closed_exception", "closed", Hold),
            (403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/8/index write (api)];", Hold),
            (429, "cluster_block_exception", "[TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark]", Hold),
            (503, "cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/2/no master];", Hold),
            (400, "validation_exception", no_shard, Hold),
            (400, "illegal_argument_exception", no_shard, Hold),
            (503, "no_shard_available_action_exception", "", Hold),
            (400, "illegal_argument_exception", "no write index is defined for alias [logs].", Hold),
            (400, "illegal_argument_exception", "pipeline with id [mine] does not exist", Hold),
            (400, "illegal_argument_exception", "no matching index template found for data stream [x]", Hold),
            (400, "document_parsing_exception", "[1:5] failed to parse field [a] of type [long]", DeadLetter),
            (400, "mapper_parsing_exception", "failed to parse", DeadLetter),
            (400, "strict_dynamic_mapping_exception", "introduction of [a] is not allowed", DeadLetter),
            (400, "illegal_argument_exception", "Limit of total fields [1000] has been exceeded", DeadLetter),
            (
                400,
                "illegal_argument_exception",
                "Document contains at least one immense term in field=\"a\"",
                DeadLetter,
            ),
            (400, "illegal_argument_exception", "mapper [a] cannot be changed from type [long] to [text]", DeadLetter),
            (400, "illegal_argument_exception", "data stream timestamp field [@timestamp] is missing", DeadLetter),
            (500, "fail_processor_exception", "not this one", DeadLetter),
            (400, "ingest_processor_exception", "field [a] not present", DeadLetter),
            (400, "illegal_argument_exception", "something new", Unclear),
            (400, "something_new_exception", "", Unclear),
            (404, "", "", Unclear),
        ] {
            check(status, kind, reason, expected);
        }
    }

    #[test]
    fn what_went_to_the_failure_store_is_a_dead_letter() {
        let item = |failure_store: &str, status, error| ItemReply {
            status,
            error,
            failure_store: Some(failure_store.to_owned()),
            ..ItemReply::default()
        };
        assert_eq!(of_item(&item("used", 201, None)), Verdict::DeadLetter);
        assert_eq!(of_item(&item("not_applicable_or_unknown", 201, None)), Verdict::Created);
        let error = |kind: &str| Some(Failure { kind: kind.to_owned(), reason: String::new() });
        assert_eq!(of_item(&item("failed", 429, error("es_rejected_execution_exception"))), REFUSED);
        assert_eq!(of_item(&item("not_enabled", 400, error("document_parsing_exception"))), Verdict::DeadLetter);
    }

    #[test]
    fn what_hits_every_document_is_held_and_what_hits_some_is_about_them() {
        assert_eq!(unclear(false), Verdict::Hold);
        assert_eq!(unclear(true), Verdict::DeadLetter);
    }

    #[test]
    fn a_whole_request_is_judged_by_its_status() {
        for (status, expected) in [
            (200, Whole::Items),
            (413, Whole::TooLarge),
            (429, Whole::Retry),
            (400, Whole::Hold),
            (401, Whole::Hold),
            (403, Whole::Hold),
            (404, Whole::Hold),
            (405, Whole::Hold),
            (302, Whole::Hold),
            (408, Whole::Doubtful),
            (500, Whole::Doubtful),
            (502, Whole::Doubtful),
            (503, Whole::Doubtful),
            (504, Whole::Doubtful),
        ] {
            assert_eq!(of_request(status), expected, "{status}");
        }
    }
}

//! What can be done with dead letters: list, show, drop, and replay. Segments are rewritten aside, synced and renamed,
//! so that a crash leaves the old one or the new one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::{Letter, lock, segments, sync_directory};
use crate::client::{Client, Kind, Method, Request};
use crate::index::lookup::{Lookup, LookupError};
use crate::index::verdict::{self, Verdict};
use crate::index::{bulk_path, reply};
use crate::record::LineId;

/// Letters sent in one request.
const AT_ONCE: usize = 500;

/// What became of replayed letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Created now; no letters any more.
    pub created: u64,
    /// There already; no letters any more.
    pub duplicate: u64,
    /// Refused again; still letters.
    pub refused: u64,
    /// Why: how many by `error.type`.
    pub reasons: BTreeMap<String, u64>,
}

/// Hands every letter to `each`, oldest first, a segment in memory at a time.
pub fn list(dir: &Path, mut each: impl FnMut(Letter)) -> io::Result<()> {
    for segment in segments(dir)? {
        segment.letters()?.into_iter().for_each(&mut each);
    }
    Ok(())
}

/// The letter with this id.
pub fn show(dir: &Path, id: &str) -> io::Result<Option<Letter>> {
    for segment in segments(dir)? {
        if let Some(letter) = segment.letters()?.into_iter().find(|letter| letter.id == id) {
            return Ok(Some(letter));
        }
    }
    Ok(None)
}

/// Drops the letters with these ids, or all of them; returns how many that were.
pub fn drop(dir: &Path, ids: Option<&BTreeSet<String>>) -> io::Result<u64> {
    let _lock = lock(dir)?;
    let mut dropped = 0;
    for segment in segments(dir)? {
        let letters = segment.letters()?;
        let kept: Vec<_> = letters.iter().filter(|letter| ids.is_some_and(|ids| !ids.contains(&letter.id))).collect();
        if kept.len() == letters.len() {
            continue;
        }
        if kept.is_empty() {
            fs::remove_file(&segment.path)?;
        } else {
            let aside = segment.path.with_extension("tmp");
            let mut file = File::create(&aside)?;
            for letter in &kept {
                let mut line = serde_json::to_vec(letter)?;
                line.push(b'\n');
                file.write_all(&line)?;
            }
            file.sync_all()?;
            fs::rename(&aside, &segment.path)?;
        }
        sync_directory(dir)?;
        dropped += (letters.len() - kept.len()) as u64;
    }
    Ok(dropped)
}

/// Sends the letters with these ids, or all of them, again: what is found by look-up or created is no letter any more.
/// Waits for no cause to pass: what is refused, for whatever reason, stays.
pub async fn replay(
    client: &Client,
    dir: &Path,
    ids: Option<&BTreeSet<String>>,
    deadline: Duration,
) -> Result<Replayed, ReplayError> {
    let mut replayed = Replayed::default();
    for segment in segments(dir)? {
        let mut groups: BTreeMap<(String, Option<String>), Vec<Letter>> = BTreeMap::new();
        for letter in segment.letters()? {
            if ids.is_none_or(|ids| ids.contains(&letter.id)) {
                groups.entry((letter.target.clone(), letter.pipeline.clone())).or_default().push(letter);
            }
        }
        for ((target, pipeline), letters) in groups {
            for part in letters.chunks(AT_ONCE) {
                let done = send(client, &target, pipeline.as_deref(), part, deadline, &mut replayed).await?;
                drop(dir, Some(&done))?;
            }
        }
    }
    Ok(replayed)
}

/// Why a replay ended early; what was done before stays done.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The look-up or the request failed.
    #[error(transparent)]
    Cluster(#[from] LookupError),
    /// The directory cannot be read or changed.
    #[error("cannot change the dead letters: {0}")]
    Io(#[from] io::Error),
}

/// Returns the ids that are in the cluster now.
async fn send(
    client: &Client,
    target: &str,
    pipeline: Option<&str>,
    letters: &[Letter],
    deadline: Duration,
    replayed: &mut Replayed,
) -> Result<BTreeSet<String>, ReplayError> {
    let lookup = Lookup::new(client, target, deadline);
    let ids: Vec<_> = letters.iter().filter_map(|letter| LineId::parse(&letter.id)).collect();
    let places = lookup.find(&ids).await?;
    lookup.delete_younger(&places).await?;
    let found: HashSet<&str> = places.keys().map(LineId::as_str).collect();
    let (there, missing): (Vec<_>, Vec<_>) = letters.iter().partition(|letter| found.contains(letter.id.as_str()));
    replayed.duplicate += there.len() as u64;
    let mut done: BTreeSet<String> = there.iter().map(|letter| letter.id.clone()).collect();
    if missing.is_empty() {
        return Ok(done);
    }

    let mut body = String::new();
    for letter in &missing {
        let mut meta = serde_json::json!({"create": {"_id": letter.id}});
        if let Some(index) = &letter.index {
            meta["create"]["_index"] = index.as_str().into();
        }
        body.push_str(&format!("{meta}\n{}\n", letter.document));
    }
    let path = bulk_path(target);
    let mut query = vec![("filter_path", reply::FILTER_PATH)];
    query.extend(pipeline.map(|pipeline| ("pipeline", pipeline)));
    let request = Request {
        query: &query,
        body: Some(Bytes::from(body)),
        kind: Kind::Ndjson,
        ..Request::new(Method::Post, &path, deadline)
    };
    let answer = client.send(request).await.map_err(LookupError::Send)?;
    let refused = |words| LookupError::Refused { what: "the replay", status: answer.status, words };
    let alike = match reply::decode(&answer.body, missing.len()) {
        Ok(alike) if answer.status == 200 => alike,
        _ => return Err(refused(crate::index::lookup::words(&answer.body)).into()),
    };
    let replies = alike.iter().flat_map(|alike| std::iter::repeat_n(&alike.reply, alike.count));
    for (letter, item) in missing.iter().zip(replies) {
        match verdict::of_item(item) {
            Verdict::Created => replayed.created += 1,
            Verdict::Duplicate => replayed.duplicate += 1,
            _ => {
                let kind = item.error.as_ref().map(|error| error.kind.clone());
                *replayed.reasons.entry(kind.unwrap_or_else(|| format!("status_{}", item.status))).or_default() += 1;
                replayed.refused += 1;
                continue;
            }
        }
        done.insert(letter.id.clone());
    }
    Ok(done)
}

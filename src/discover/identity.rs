//! Whether a file that was found is one that is known: decisions only, from values to values.
//!
//! A file is told by its first line and by the bytes before the offset that was read to, never by its path or device
//! number. Two files that agree in all that was read so far are one file with two names until they differ; the moment
//! they differ, the second becomes a file of its own and is read from its start. A file too short to be judged against one
//! that is gone is waited for, briefly: it may be a copy in the making. No answer loses a line; only the loss of the
//! store, or twins that were equal so far, can repeat one.

use crate::record::FileId;

/// What is known of a file that was read earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub id: FileId,
    /// The inode it was last seen under.
    pub inode: u64,
    /// Its birth, 0 if unknown.
    pub birth_ns: i64,
    /// How far it was read.
    pub offset: u64,
    /// Whether a physical file other than the one in question carries this identity right now.
    pub attached_elsewhere: bool,
}

/// A file in question, whose first line equals that of the known one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its inode.
    pub inode: u64,
    /// Its birth, 0 if unknown.
    pub birth_ns: i64,
    /// Whether it was first seen longer ago than the settle time, so that a copy has had its chance to grow.
    pub waited: bool,
}

/// How the bytes of the two compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The found file is shorter than the known offset (where no other file carries the identity now).
    Shorter,
    /// The bytes before the point of comparison differ, or the found file is longer than the one that carries the identity.
    Different,
    /// The bytes before the point of comparison are equal. The point is the known offset, or, where another file carries
    /// the identity now, the end of the found one, which is no longer than that.
    Equal,
}

/// What the found file is, as far as this known one goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is this one, the physical file included: reading goes on where it stood.
    Itself,
    /// It is this one in another physical file: reading goes on where it stood.
    Same,
    /// It is a second name or copy of this one, which another physical file carries: nothing to read, to be looked at
    /// again when that one has been read further.
    Copy,
    /// Not this one.
    Other,
    /// Cannot be told yet.
    Wait,
}

/// Compares a found file with one known file of the same first line.
#[must_use]
pub fn compare(known: &Known, found: &Found, evidence: Evidence) -> Answer {
    // Without a birth time on either side, an equal inode is taken for the same physical file.
    let same_physical =
        known.inode == found.inode && (known.birth_ns == found.birth_ns || known.birth_ns == 0 || found.birth_ns == 0);
    match evidence {
        Evidence::Equal if known.attached_elsewhere => Answer::Copy,
        Evidence::Equal if same_physical => Answer::Itself,
        Evidence::Equal => Answer::Same,
        Evidence::Different => Answer::Other,
        // The very same physical file became shorter: it was truncated and is new. Any other may be a copy being made.
        Evidence::Shorter if same_physical || found.waited => Answer::Other,
        Evidence::Shorter => Answer::Wait,
    }
}

/// The best of several answers. Of twins that were read no further than they are equal each goes on as itself; what is a
/// copy to its last byte is no other file that merely began so; going on with a known file beats waiting, and waiting beats
/// reading it all anew.
#[must_use]
pub fn best(answers: &[(FileId, Answer)]) -> Option<(FileId, Answer)> {
    let rank = |answer: Answer| match answer {
        Answer::Itself => 0,
        Answer::Copy => 1,
        Answer::Same => 2,
        Answer::Wait => 3,
        Answer::Other => 4,
    };
    answers.iter().copied().filter(|(_, answer)| *answer != Answer::Other).min_by_key(|(_, answer)| rank(*answer))
}

/// Mints the id of a new file: a hash of host id, inode, birth time where known and first line, and of an ordinal only if
/// all of these were there before (`taken` says so).
#[must_use]
pub fn mint(host: &str, inode: u64, birth_ns: i64, head: &[u8], taken: impl Fn(FileId) -> bool) -> (FileId, u32) {
    let mut material = Vec::with_capacity(host.len() + head.len() + 32);
    material.extend_from_slice(&(host.len() as u64).to_be_bytes());
    material.extend_from_slice(host.as_bytes());
    material.extend_from_slice(&inode.to_be_bytes());
    material.extend_from_slice(&birth_ns.to_be_bytes());
    material.extend_from_slice(head);
    let base = material.len();
    for ordinal in 0.. {
        if ordinal > 0 {
            material.truncate(base);
            material.extend_from_slice(&u32::to_be_bytes(ordinal));
        }
        let id = FileId(xxhash_rust::xxh3::xxh3_64(&material).to_be_bytes());
        if !taken(id) {
            return (id, ordinal);
        }
    }
    unreachable!("fewer than 2^32 files are known")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known { id: FileId([1; 8]), inode: 7, birth_ns: 100, offset: 5000, attached_elsewhere: false };
    const FOUND: Found = Found { inode: 7, birth_ns: 100, waited: false };

    #[test]
    fn decisions() {
        let moved = Found { inode: 8, birth_ns: 200, waited: false };
        let carried = Known { attached_elsewhere: true, ..KNOWN };
        let reused = Found { birth_ns: 300, waited: true, ..FOUND };
        let cases = [
            ("a file that grew goes on", KNOWN, FOUND, Evidence::Equal, Answer::Itself),
            ("a truncated file is new at once", KNOWN, FOUND, Evidence::Shorter, Answer::Other),
            ("a file overwritten in place is new", KNOWN, FOUND, Evidence::Different, Answer::Other),
            ("a copy whose original is gone or truncated goes on", KNOWN, moved, Evidence::Equal, Answer::Same),
            ("a copy beside its original is not read twice", carried, moved, Evidence::Equal, Answer::Copy),
            ("a copy being made is waited for", KNOWN, moved, Evidence::Shorter, Answer::Wait),
            (
                "but not for long: it may be a new file with the same first line",
                KNOWN,
                Found { waited: true, ..moved },
                Evidence::Shorter,
                Answer::Other,
            ),
            ("twins that differ are two files", carried, moved, Evidence::Different, Answer::Other),
            ("a reused inode with other content is new", KNOWN, reused, Evidence::Shorter, Answer::Other),
            (
                "no birth time: an equal inode is the same physical file",
                Known { birth_ns: 0, ..KNOWN },
                FOUND,
                Evidence::Shorter,
                Answer::Other,
            ),
        ];
        for (claim, known, found, evidence, expected) in cases {
            assert_eq!(compare(&known, &found, evidence), expected, "{claim}");
        }
    }

    #[test]
    fn going_on_beats_waiting_and_waiting_beats_starting_anew() {
        let (a, b) = (FileId([1; 8]), FileId([2; 8]));
        assert_eq!(best(&[(a, Answer::Wait), (b, Answer::Same)]), Some((b, Answer::Same)));
        assert_eq!(best(&[(a, Answer::Copy), (b, Answer::Itself)]), Some((b, Answer::Itself)));
        assert_eq!(best(&[(a, Answer::Same), (b, Answer::Copy)]), Some((b, Answer::Copy)));
        assert_eq!(best(&[(a, Answer::Other), (b, Answer::Wait)]), Some((b, Answer::Wait)));
        assert_eq!(best(&[(a, Answer::Other)]), None);
    }

    #[test]
    fn ids_differ_by_host_inode_birth_and_first_line_and_by_ordinal_only_if_all_repeat() {
        let free = |_| false;
        let first = mint("h", 1, 2, b"line\n", free);
        assert_eq!(first, mint("h", 1, 2, b"line\n", free), "equal facts, equal id: also after the store was lost");
        for other in [
            mint("g", 1, 2, b"line\n", free),
            mint("h", 3, 2, b"line\n", free),
            mint("h", 1, 3, b"line\n", free),
            mint("h", 1, 2, b"lime\n", free),
        ] {
            assert_ne!(first.0, other.0);
        }
        let second = mint("h", 1, 2, b"line\n", |id| id == first.0);
        assert_eq!(second.1, 1);
        assert_ne!(second.0, first.0);
    }
}

//! The names that leave the process: the closed sets attributes come from, and the gauges.
//!
//! Dashboards and alerts are built on these words. Renaming one is a breaking change.

macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum $name { $($(#[$variant_doc])* $variant),* }

        impl $name {
            /// Every member, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// How many members there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The word that is exported.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

closed_set! {
    /// What became of lines: `outcome` of `logweir.lines`.
    LineOutcome {
        /// Elasticsearch created the document.
        Created = "created",
        /// The document was there already, under the same id.
        Duplicate = "duplicate",
        /// Durably in the dead letters.
        DeadLettered = "dead_lettered",
        /// Left out by an include or exclude rule.
        Skipped = "skipped",
        /// Read from a file; each line read has exactly one of the other outcomes, or is in flight.
        Read = "read",
    }
}

closed_set! {
    /// What became of documents sent: `outcome` of `logweir.documents`. A document is counted each time it is judged.
    DocumentOutcome {
        /// Created.
        Created = "created",
        /// There already, under the same id.
        Duplicate = "duplicate",
        /// Refused for good, and kept in the dead letters.
        DeadLettered = "dead_lettered",
        /// Refused for now, and to be sent again.
        Retried = "retried",
    }
}

closed_set! {
    /// Why documents are sent again: `cause` of `logweir.bulk.retries`.
    RetryCause {
        /// No connection, or it broke.
        Connection = "connection",
        /// No whole answer within the deadline.
        Timeout = "timeout",
        /// 429: the cluster has too much to do.
        TooManyRequests = "too_many_requests",
        /// 5xx.
        ServerError = "server_error",
        /// 413: the request was halved.
        TooLarge = "too_large",
        /// The answer could not be understood or was cut short.
        BadAnswer = "bad_answer",
        /// Held (see [`HoldCause`]) and tried again since.
        Held = "held",
    }
}

closed_set! {
    /// What indexing waits for: `cause` of `logweir.holds`. While one of these holds, standing still is no fault of ours.
    HoldCause {
        /// No node of Elasticsearch answers.
        Unreachable = "elasticsearch_unreachable",
        /// Elasticsearch answers 429 or 5xx.
        Overloaded = "elasticsearch_overloaded",
        /// 401 or 403.
        Login = "elasticsearch_login",
        /// The target is missing, closed, blocked, or at its shard limit.
        Target = "elasticsearch_target",
        /// Every document of a request was refused alike: rather our mistake than theirs.
        Refused = "everything_refused",
        /// Templates are not in place yet.
        Setup = "setup",
        /// The checkpoint store cannot be written.
        Store = "checkpoint_store",
        /// The dead letters are full or cannot be written.
        DeadLetters = "dead_letters",
    }
}

impl HoldCause {
    /// What is waited for, as `STATUS=` and the progress line say it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unreachable => "elasticsearch",
            Self::Overloaded => "elasticsearch to have room",
            Self::Login => "a login that elasticsearch accepts",
            Self::Target => "the target in elasticsearch",
            Self::Refused => "elasticsearch to accept documents",
            Self::Setup => "setup",
            Self::Store => "the checkpoint store",
            Self::DeadLetters => "room for dead letters",
        }
    }
}

closed_set! {
    /// What went wrong while work went on: `cause` of `logweir.faults`.
    FaultCause {
        /// A directory could not be listed or a file not looked at.
        Scan = "scan",
        /// A file could not be opened or read.
        Read = "read",
        /// A file was gone before all its bytes were read.
        Lost = "lost",
        /// No more file descriptors.
        Descriptors = "descriptors",
        /// The system refused change notifications; listing goes on.
        Watches = "watches",
        /// The checkpoint store refused to read or write.
        Store = "store",
        /// A file that is done could not be deleted or archived.
        Done = "done",
        /// Lines read and their outcomes do not add up: a defect.
        Conservation = "conservation",
        /// Telemetry itself: a push or a notification failed.
        Telemetry = "telemetry",
    }
}

closed_set! {
    /// What happens to files: `event` of `logweir.file.events`.
    FileEvent {
        /// Seen for the first time.
        Discovered = "discovered",
        /// Goes on under another name.
        Rotated = "rotated",
        /// Truncated, or its bytes are no longer those that were read: a new file at the old place.
        Replaced = "replaced",
        /// No longer there.
        Gone = "gone",
        /// All settled, and deleted.
        Deleted = "deleted",
        /// All settled, and moved to the archive.
        Archived = "archived",
    }
}

closed_set! {
    /// A number that is what it is now; its text is the instrument's name.
    Gauge {
        /// Bytes of request bodies on their way.
        InFlight = "logweir.in_flight",
        /// Requests that may be on their way.
        Window = "logweir.bulk.window",
        /// Bytes that are in files and not settled.
        Lag = "logweir.checkpoint.lag",
        /// Memory taken by batches, in bytes.
        MemoryUsage = "logweir.memory.usage",
        /// The most that batches may take, in bytes.
        MemoryLimit = "logweir.memory.limit",
        /// Files held open.
        OpenFiles = "logweir.files.open",
        /// Files known.
        WatchedFiles = "logweir.files.watched",
        /// Unread bytes of deleted files that are held open.
        HeldDeleted = "logweir.files.deleted",
        /// Size of the dead letters, in bytes.
        DeadLetters = "logweir.dead_letters.size",
    }
}

impl Gauge {
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::OpenFiles | Self::WatchedFiles => "{file}",
            Self::Window => "{request}",
            Self::InFlight
            | Self::Lag
            | Self::MemoryUsage
            | Self::MemoryLimit
            | Self::HeldDeleted
            | Self::DeadLetters => "By",
        }
    }

    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::InFlight => "Bytes of request bodies on their way",
            Self::Window => "Bulk requests that may be on their way at once, as many as make it faster",
            Self::Lag => "Bytes that are in files and not settled",
            Self::MemoryUsage => "Memory taken by batches",
            Self::MemoryLimit => "The most memory that batches may take",
            Self::OpenFiles => "Files held open",
            Self::WatchedFiles => "Files known",
            Self::HeldDeleted => "Unread bytes of deleted files that are held open",
            Self::DeadLetters => "Size of the dead letters",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_stands_for_two_members() {
        let sets: [Vec<&str>; 7] = [
            LineOutcome::ALL.iter().map(|m| m.as_str()).collect(),
            DocumentOutcome::ALL.iter().map(|m| m.as_str()).collect(),
            RetryCause::ALL.iter().map(|m| m.as_str()).collect(),
            HoldCause::ALL.iter().map(|m| m.as_str()).collect(),
            FaultCause::ALL.iter().map(|m| m.as_str()).collect(),
            FileEvent::ALL.iter().map(|m| m.as_str()).collect(),
            Gauge::ALL.iter().map(|m| m.as_str()).collect(),
        ];
        for set in sets {
            let distinct: std::collections::BTreeSet<_> = set.iter().collect();
            assert_eq!(distinct.len(), set.len(), "{set:?}");
        }
    }
}

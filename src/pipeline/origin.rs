//! What a new store can know of the target: whether anything that it does not know may be there.

use std::path::Path;
use std::time::Duration;

use crate::client::Cluster;
use crate::index::lookup::{Lookup, LookupError};
use crate::record::Destination;
use crate::setup::{self, SetupError};

/// For each request.
const DEADLINE: Duration = Duration::from_secs(10);

/// Names this installation in the cluster's tasks. It is the same after a restart, and also after the loss of the store:
/// requests of the process before are to be known as ours then too.
#[must_use]
pub fn instance(host: &str, store: &Path) -> String {
    let store = std::path::absolute(store).unwrap_or_else(|_| store.to_owned());
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(format!("{host}\0{}", store.display()).as_bytes()))
}

/// Whether no document is in any target, and none of an earlier process of this installation is still on its way there.
/// What was written last is made visible first.
///
/// # Errors
/// Where the cluster cannot be reached or refuses to say.
pub async fn targets_are_empty(
    client: &dyn Cluster,
    destinations: &[Destination],
    instance: &str,
) -> Result<bool, SetupError> {
    let ours = crate::index::installation(instance);
    for destination in destinations {
        let lookup = Lookup::new(client, &destination.target, DEADLINE);
        lookup.quiet(None, |id| id.starts_with(&ours)).await.map_err(refused)?;
        lookup.refresh().await.map_err(refused)?;
    }
    setup::targets_are_empty(client, destinations).await
}

fn refused(error: LookupError) -> SetupError {
    match error {
        LookupError::Send(error) => SetupError::Unreachable(error),
        LookupError::Refused { what, status, words } => {
            let hint = if matches!(status, 401 | 403) {
                "; look-ups need the privileges read, view_index_metadata, maintenance and delete on the target"
            } else {
                ""
            };
            SetupError::Refused { method: "POST", path: what.to_owned(), status, reason: words, hint }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_is_known_by_its_host_and_where_its_store_is() {
        let one = instance("a", Path::new("/var/lib/logweir"));
        assert_eq!(one, instance("a", Path::new("/var/lib/logweir")), "whatever became of the store");
        assert_ne!(one, instance("b", Path::new("/var/lib/logweir")));
        assert_ne!(one, instance("a", Path::new("/var/lib/other")));
    }
}

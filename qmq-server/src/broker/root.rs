//! Whose store a folder is: a broker's lies in `store.root` itself, a delay server's in `log` and `index` below it.

use std::path::Path;

use super::BrokerError;
use crate::membership::NodeKind;

/// Whether a node of this kind may have its store there: not where one of the other kind has.
pub(crate) fn check(folder: &Path, kind: NodeKind) -> Result<(), BrokerError> {
    // The file that each store begins with.
    let is_store = |folder: &Path| folder.join("store").is_file();
    let (taken, owner) = match kind {
        NodeKind::Broker => (is_store(&folder.join("log")), NodeKind::Delay),
        NodeKind::Delay => (is_store(folder), NodeKind::Broker),
    };
    match taken {
        false => Ok(()),
        true => Err(BrokerError::OtherStore {
            path: folder.to_owned(),
            owner,
            this: kind,
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn neither_kind_opens_the_store_of_the_other() {
        for (kind, below) in [(NodeKind::Broker, ""), (NodeKind::Delay, "log")] {
            let folder = tempfile::tempdir().unwrap();
            let other = match kind {
                NodeKind::Broker => NodeKind::Delay,
                NodeKind::Delay => NodeKind::Broker,
            };
            for kind in [kind, other] {
                check(folder.path(), kind).unwrap();
            }
            let options = qmq_store::Options::default();
            let store = super::super::open(folder.path().join(below), options).await;
            drop(store.unwrap());
            check(folder.path(), kind).unwrap();
            let refused = check(folder.path(), other).unwrap_err().to_string();
            assert!(refused.starts_with("store.root: "), "{refused}");
            assert!(refused.contains(kind.word()), "{refused}");
        }
    }
}

//! UDP between a client and a broker, of which the way back can be cut.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// For one client. It ends when it is dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    deaf: Arc<AtomicBool>,
    _ways: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn to(broker: SocketAddr) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let near = Arc::new(UdpSocket::bind(any).await.unwrap());
        let far = Arc::new(UdpSocket::bind(any).await.unwrap());
        far.connect(broker).await.unwrap();
        let address = near.local_addr().unwrap();
        let deaf = Arc::<AtomicBool>::default();
        let mut ways = JoinSet::new();
        let (client, known) = tokio::sync::watch::channel(None);
        let (from, to) = (Arc::clone(&near), Arc::clone(&far));
        ways.spawn(async move {
            let mut packet = [0; 65_536];
            while let Ok((len, sender)) = from.recv_from(&mut packet).await {
                client.send_replace(Some(sender));
                let _ = to.send(&packet[..len]).await;
            }
        });
        let lost = Arc::clone(&deaf);
        ways.spawn(async move {
            let mut packet = [0; 65_536];
            while let Ok(len) = far.recv(&mut packet).await {
                let client = *known.borrow();
                if let (Some(client), false) = (client, lost.load(Ordering::SeqCst)) {
                    let _ = near.send_to(&packet[..len], client).await;
                }
            }
        });
        Self {
            address,
            deaf,
            _ways: ways,
        }
    }

    /// Nothing comes back to the client any more; what it sends still arrives.
    pub(crate) fn deafen(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }
}

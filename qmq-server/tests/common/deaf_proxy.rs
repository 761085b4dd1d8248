//! Between a client and a broker: passes datagrams on, and loses what the broker sends while it is told to.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Its threads end with the test's process.
pub(crate) struct DeafProxy {
    /// Where clients find it.
    pub(crate) address: SocketAddr,
    deaf: Arc<AtomicBool>,
}

impl DeafProxy {
    pub(crate) fn before(broker: SocketAddr) -> Self {
        let here = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let address = here.local_addr().unwrap();
        let deaf = Arc::new(AtomicBool::new(false));
        let lose = Arc::clone(&deaf);
        thread::spawn(move || {
            let mut there: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
            let mut datagram = [0; 1 << 16];
            loop {
                let Ok((len, client)) = here.recv_from(&mut datagram) else {
                    continue;
                };
                let there = there.entry(client).or_insert_with(|| {
                    let there = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
                    back(&there, &here, client, &lose);
                    there
                });
                // With nobody there it is lost, as on any network.
                let _ = there.send_to(&datagram[..len], broker);
            }
        });
        Self { address, deaf }
    }

    /// Whether all that the broker sends is lost from now on.
    pub(crate) fn lose_answers(&self, lose: bool) {
        self.deaf.store(lose, Ordering::SeqCst);
    }
}

fn back(there: &Arc<UdpSocket>, here: &Arc<UdpSocket>, client: SocketAddr, deaf: &Arc<AtomicBool>) {
    let (there, here, deaf) = (Arc::clone(there), Arc::clone(here), Arc::clone(deaf));
    thread::spawn(move || {
        let mut datagram = [0; 1 << 16];
        loop {
            if let Ok((len, _)) = there.recv_from(&mut datagram)
                && !deaf.load(Ordering::SeqCst)
            {
                let _ = here.send_to(&datagram[..len], client);
            }
        }
    });
}

//! Handshakes that nobody ends.

use std::collections::HashMap;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::test_broker::TestBroker;
use super::wire_client::within;

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
/// Where the id of a connection begins in its first datagram; its length is in front of it.
const ID_AT: usize = 6;
/// Form and type of a long header; those of a Retry are all set.
const TYPE: u8 = 0xf0;

/// The first datagrams of so many connections, which go no further.
async fn first_datagrams(broker: &TestBroker, count: usize) -> Vec<Vec<u8>> {
    let nobody = UdpSocket::bind(SocketAddr::from(LOOPBACK)).await.unwrap();
    let endpoint = broker.dial().endpoint();
    let address = nobody.local_addr().unwrap();
    let mut begun = Vec::new();
    let mut first = HashMap::new();
    for n in 1..=count {
        begun.push(endpoint.connect(address, "localhost").unwrap());
        while first.len() < n {
            let mut datagram = vec![0; 2_000];
            let got = within("a first datagram", nobody.recv(&mut datagram)).await;
            datagram.truncate(got.unwrap());
            let id_len = usize::from(datagram[ID_AT - 1]);
            let id = datagram[ID_AT..ID_AT + id_len].to_vec();
            first.entry(id).or_insert(datagram);
        }
    }
    first.into_values().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_from_addresses_where_nobody_is_keep_nobody_out() {
    let sets = [("connection.max", "100"), ("handshake.timeout.ms", "60000")];
    let broker = TestBroker::start(&sets).await;
    let datagrams = first_datagrams(&broker, 150).await;
    let mut senders = Vec::new();
    let mut asked_to_prove = 0;
    for datagram in &datagrams {
        let sender = UdpSocket::bind(SocketAddr::from(LOOPBACK)).await.unwrap();
        sender
            .send_to(datagram, broker.broker.address())
            .await
            .unwrap();
        let mut answer = [0; 2_000];
        let got = within("an answer", sender.recv(&mut answer)).await.unwrap();
        assert!(got > 0);
        asked_to_prove += usize::from(answer[0] & TYPE == TYPE);
        senders.push(sender);
    }
    // A quarter of what may be open is let in as it comes.
    assert_eq!(asked_to_prove, 125);
    let peer = broker.dial().peer().await.unwrap();
    peer.publish("order", 1, 1).await;
}

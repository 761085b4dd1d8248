//! A broker within a program, as a test of a service would have one; a producer and a consumer that talk to it.
//!
//! ```sh
//! cargo run -p qmq-examples --example broker
//! ```

use std::error::Error;
use std::time::Duration;

use qmq_client::{Client, Message, Pem, Start, Subscription};
use qmq_server::dev::{Dev, DevOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    // On loopback, at any free port, with certificates of its own. `qmq dev` starts the same.
    let dev = Dev::start(&DevOptions::in_folder(folder.path())).await?;
    let address = dev.broker().address();
    println!("a broker at {address}");

    let client = Client::builder()
        .broker(address.to_string())
        .authorities(Pem::File(folder.path().join("tls/ca.pem")))
        .application("example")
        .connect()
        .await?;

    // A report comes when the broker has the message on its disk.
    let producer = client.producer().build()?;
    for order in 0..3 {
        let message = Message::new("order.changed", format!("order {order}")).tag("paid");
        let report = producer.send(message).await?;
        assert_eq!(report.sequence, order);
    }
    println!("sent 3 messages");

    // A group that is new begins where it is told to. What is received is acknowledged one by one, in any order; what is dropped comes again.
    let ticket = Subscription::new("order.changed", "ticket").start(Start::Earliest);
    let mut consumer = client.subscribe(ticket)?;
    for order in 0..3 {
        let received = consumer.next().await?;
        println!("got {}", String::from_utf8_lossy(received.body()));
        assert_eq!(received.sequence(), order);
        received.ack().await?;
    }

    consumer.close().await?;
    producer.close().await?;
    client.close(Duration::from_secs(1)).await;
    dev.drain().await?;
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}

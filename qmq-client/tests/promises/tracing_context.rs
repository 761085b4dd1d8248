use qmq_client::{Attributes, Message, TRACEPARENT, TraceContext};

use crate::fake::FakeBroker;

const CURRENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

struct Current;

impl TraceContext for Current {
    fn inject(&self) -> Option<String> {
        Some(CURRENT.to_owned())
    }
}

#[tokio::test]
async fn a_message_carries_the_trace_in_which_it_is_sent_or_its_own() {
    let broker = FakeBroker::start();
    let client = broker
        .builder()
        .trace_context(Current)
        .connect()
        .await
        .unwrap();
    let producer = client.producer().build().unwrap();
    producer.send(Message::new("a", "")).await.unwrap();
    let own = Message::new("a", "").property(TRACEPARENT, "mine");
    producer.send(own).await.unwrap();
    let state = broker.state();
    let context = |asked: usize| {
        let attributes = Attributes::decode(&state.asked[asked].attributes[0]).unwrap();
        attributes.property(TRACEPARENT).unwrap().to_owned()
    };
    assert_eq!(
        (context(0).as_str(), context(1).as_str()),
        (CURRENT, "mine")
    );
}

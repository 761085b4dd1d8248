use std::fmt::{Debug, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;
use qmq_client::{Attributes, Message, Subscription, TRACEPARENT, TraceContext};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes as Fields, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::fake::{FakeBroker, within};

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

/// What an application's own tracing sees: spans with their fields, and in which of them its events happen.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Spans>>);

#[derive(Default)]
struct Spans {
    spans: Vec<String>,
    entered: Vec<usize>,
    events: Vec<(String, String)>,
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Seen {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Fields<'_>) -> Id {
        let mut text = Text(span.metadata().name().to_owned());
        span.record(&mut text);
        let mut seen = self.0.lock();
        seen.spans.push(text.0);
        Id::from_u64(seen.spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().target().to_owned());
        event.record(&mut text);
        let mut seen = self.0.lock();
        let within = seen.entered.last().map_or("", |at| &seen.spans[*at]);
        let within = within.to_owned();
        seen.events.push((within, text.0));
    }

    fn enter(&self, span: &Id) {
        self.0.lock().entered.push(span.into_u64() as usize - 1);
    }

    fn exit(&self, _: &Id) {
        self.0.lock().entered.pop();
    }
}

#[tokio::test]
async fn sending_and_handling_are_spans_and_a_handler_works_within_its_own() {
    let seen = Seen::default();
    let _default = tracing::subscriber::set_default(seen.clone());
    let broker = FakeBroker::start();
    let client = broker.client().await;
    let producer = client.producer().build().unwrap();
    let sent = producer.send(Message::new("order.changed", ""));
    within("a report", sent).await.unwrap();
    let subscription = Subscription::new("order.changed", "billing");
    let consumer = client.subscribe(subscription).unwrap();
    let listening = consumer.listen(|received| async move {
        let context = received.attributes().property(TRACEPARENT);
        tracing::info!(context, "handled");
        Ok(())
    });
    broker.publish(["a"]);
    broker.until("an ack", |state| state.acked.len() == 1).await;
    within("close", listening.close()).await.unwrap();
    let seen = seen.0.lock();
    let has = |span: &str| seen.spans.iter().any(|seen| seen == span);
    assert!(
        has("qmq.produce subject=\"order.changed\""),
        "{:?}",
        seen.spans
    );
    let handle = "qmq.handle subject=\"order.changed\" sequence=0 attempt=0";
    assert!(has(handle), "{:?}", seen.spans);
    let handled = seen
        .events
        .iter()
        .find(|(_, text)| text.contains("handled"));
    assert_eq!(handled.map(|(within, _)| within.as_str()), Some(handle));
}

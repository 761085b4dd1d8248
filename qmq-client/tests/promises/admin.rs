use qmq_client::AdminError;
use qmq_wire::{Code, ResetTo};

use crate::fake::FakeBroker;

#[tokio::test]
async fn an_operator_asks_and_is_answered_or_told_why_not() {
    let broker = FakeBroker::start();
    let client = broker.client().await;
    let admin = client.admin(&broker.address).unwrap();
    assert_eq!(admin.status().await.unwrap().node, "fake-1");
    assert!(admin.subjects("", "", 10).await.unwrap().is_empty());
    assert_eq!(admin.reset("a", "g", ResetTo::Latest).await, Ok(7));
    let refused = admin.drop_group("a", "g").await;
    assert!(
        matches!(
            refused,
            Err(AdminError::Refused {
                code: Code::UnknownGroup,
                ..
            })
        ),
        "{refused:?}"
    );
    assert!(client.admin("elsewhere:1").is_none());
}

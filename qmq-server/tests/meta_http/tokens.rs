//! Who may do what.

use crate::door::{TOKEN, open};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const REFUSED: &str = "{\"status\":-1,\"message\":\"没有提供合法的 Api Token\",\"data\":null}\n";

const LISTS: [&str; 5] = [
    "action=ListBrokers",
    "action=ListBrokerGroups",
    "action=ListSubjectRoutes",
    "action=QuerySubjectRoute&subject=s",
    "action=ClusterStatus",
];
const CHANGES: [&str; 14] = [
    "action=AddBroker",
    "action=ReplaceBroker",
    "action=AddSubjectBrokerGroup",
    "action=RemoveSubjectBrokerGroup",
    "action=AddNewSubject",
    "action=ExtendSubjectRoute",
    "action=AddDb",
    "action=MarkReadonlyBrokerGroup",
    "action=UnMarkReadonlyBrokerGroup",
    "action=ResetOffset",
    "action=Rebalance",
    "action=Decommission",
    "action=Recommission",
    "action=DropGroup",
];

#[tokio::test(flavor = "multi_thread")]
async fn changes_need_a_token_that_is_known() {
    for compat in [true, false] {
        let door = open(compat).await;
        for action in CHANGES {
            for token in [
                "",
                "X-Api-Token: \r\n",
                "X-Api-Token: <token-2>\r\n",
                "X-Api-Token: \u{e9}\r\n",
            ] {
                let answer = door
                    .post("/management", &format!("{FORM}{token}"), action)
                    .await;
                assert_eq!(
                    (answer.status, answer.body.as_str()),
                    (200, REFUSED),
                    "{action}"
                );
            }
            let token = format!("{FORM}x-api-token: {TOKEN}\r\n");
            let answer = door.post("/management", &token, action).await;
            assert_ne!(answer.body, REFUSED, "{action}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_switches_need_a_token_unless_it_is_as_with_qmq() {
    let token = format!("X-Api-Token: {TOKEN}\r\n");
    let pages = [
        "/onoffline?operation=query&clientId=c&subject=s&consumerGroup=g&state=0",
        "/subject/consumers?subject=s",
    ];
    for compat in [true, false] {
        let door = open(compat).await;
        for list in LISTS {
            let bare = door.post("/management", FORM, list).await;
            assert_eq!(bare.body == REFUSED, !compat, "{list}: {}", bare.body);
            let known = door
                .post("/management", &format!("{FORM}{token}"), list)
                .await;
            assert_ne!(known.body, REFUSED, "{list}");
        }
        for page in pages {
            assert_eq!(door.get(page, "").await.body == REFUSED, !compat, "{page}");
            assert_ne!(door.get(page, &token).await.body, REFUSED, "{page}");
        }
        let slave = door.get("/slave/meta?groupName=g", "").await;
        assert_eq!((slave.status, slave.body.as_str()), (200, ""));
    }
}

//! What is not taken.

use std::fmt::Write as _;

use crate::door::{TOKEN, open};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn management_is_posted_and_the_others_are_got() {
    let door = open(true).await;
    let answer = door.get("/management?action=ListBrokers", "").await;
    assert_eq!(answer.status, 405);
    assert!(answer.body.contains("POST"), "{}", answer.body);
    for page in ["/onoffline", "/subject/consumers", "/slave/meta"] {
        assert_eq!(door.post(page, FORM, "").await.status, 405, "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_is_missing_or_unknown_is_told_in_plain_text() {
    let door = open(true).await;
    let missing = door.post("/management", FORM, "a=b").await;
    assert_eq!(
        (missing.status, missing.body.as_str()),
        (200, "need provide action param\n")
    );
    assert!(missing.head.contains("text/plain"), "{}", missing.head);
    let unknown = door.post("/management", FORM, "action=listbrokers").await;
    assert_eq!(unknown.body, "不支持的 action: listbrokers\n");
    // A body that is no form has no parameters, as with servlets.
    let json = "Content-Type: application/json\r\n";
    let other = door.post("/management", json, "action=ListBrokers").await;
    assert_eq!(other.body, "need provide action param\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_may_stand_in_the_line_or_in_the_body() {
    let door = open(true).await;
    let empty = "{\"status\":0,\"message\":\"\",\"data\":[]}\n";
    let line = door.post("/management?action=ListBrokers", "", "").await;
    assert_eq!(line.body, empty);
    assert!(line.head.contains("application/json"), "{}", line.head);
    let both = door
        .post("/management?action=ListBrokers", FORM, "action=Nothing")
        .await;
    assert_eq!(both.body, empty);
    let charset = "Content-Type: application/x-www-form-urlencoded; charset=\"UTF-8\"\r\n";
    let named = door
        .post("/management", charset, "action=ListBrokers")
        .await;
    assert_eq!(named.body, empty);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_have_a_size() {
    let door = open(true).await;
    let with = |bytes: usize| format!("action=ListBrokers&x={}", "y".repeat(bytes - 21));
    let fits = door.post("/management", FORM, &with(64 << 10)).await;
    assert_eq!(fits.status, 200, "{}", fits.body);
    let large = door.post("/management", FORM, &with((64 << 10) + 1)).await;
    assert_eq!(large.status, 413, "{}", large.body);
    let mut many = "action=ListBrokers".to_owned();
    for n in 0..64 {
        write!(many, "&p{n}=1").unwrap();
    }
    let many = door.post("/management", FORM, &many).await;
    assert_eq!(many.status, 400);
    assert!(many.body.contains("64 parameters"), "{}", many.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let door = open(true).await;
    let request = format!(
        "POST /management HTTP/1.1\r\nHost: meta\r\nContent-Length: 9\r\n{FORM}\r\naction="
    );
    let answer = door.ask(request.as_bytes()).await;
    assert_eq!(answer.status, 408, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn encodings_that_would_change_a_name_are_refused() {
    let door = open(true).await;
    for (headers, body, status) in [
        (FORM, "action=%", 400),
        (FORM, "action=%zz", 400),
        // GBK.
        (FORM, "action=ListBrokers&brokerGroup=%D6%F7", 400),
        (
            "Content-Type: application/x-www-form-urlencoded; charset=GBK\r\n",
            "action=ListBrokers",
            415,
        ),
    ] {
        let answer = door.post("/management", headers, body).await;
        assert_eq!(answer.status, status, "{headers}{body}: {}", answer.body);
    }
    assert_eq!(door.get("/onoffline?operation=%ff", "").await.status, 400);
    let headers = format!("{FORM}X-Api-Token: {TOKEN}\r\n");
    let form = "action=AddNewSubject&subject=%E4%B8%BB%E9%A2%98&tag=t";
    let answer = door.post("/management", &headers, form).await;
    assert_eq!(answer.json()["data"]["name"], "主题");
}

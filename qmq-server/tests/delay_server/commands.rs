//! `qmq produce --delay` and `qmq delayed`, as somebody types them.

use std::path::Path;
use std::process::{Command, Output};

use super::cluster::Cluster;
use super::kill::{Broker, Delay};
use super::wire_client::until;

fn qmq(client: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qmq"));
    command.args(args).arg("--client").arg(client);
    command.output().unwrap()
}

fn done(client: &Path, args: &[&str]) -> String {
    let output = qmq(client, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_for_later_are_sent_listed_moved_and_cancelled() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let broker = Broker::start(&cluster, &meta).await;
    let delay = Delay::start(&cluster, &meta).await;
    delay.ready().await;
    let client = cluster.home.path("client.properties");
    let authority = cluster.home.path("tls/ca.pem");
    // A meta server tells no stranger where a group is.
    let own = cluster.tls().own;
    let lines = [
        format!("meta.server.endpoint={}", meta.endpoint()),
        format!("tls.ca={}", authority.display()),
        format!("tls.cert={}", own.certificate.display()),
        format!("tls.key={}", own.key.display()),
    ];
    std::fs::write(&client, lines.join("\n")).unwrap();
    let send = |body: &str| {
        let args = [
            "produce", "order", "--delay", "1h", "--json", "--body", body,
        ];
        let line: serde_json::Value = serde_json::from_str(&done(&client, &args)).unwrap();
        line["delayed"].as_str().unwrap().to_owned()
    };
    let (first, second) = (send("one"), send("two"));
    assert!(first.starts_with("delay-1/"), "{first}");
    let list = done(
        &client,
        &["delayed", "list", "delay-1", "--subject", "order"],
    );
    let listed: Vec<&str> = list
        .lines()
        .map(|line| line.split('\t').next().unwrap())
        .collect();
    assert_eq!(listed, [&first, &second]);
    let shown = done(&client, &["delayed", "get", &first]);
    assert!(shown.contains("order\t3 bytes\tpending"), "{shown}");
    done(&client, &["delayed", "cancel", &first]);
    let gone = qmq(&client, &["delayed", "get", &first]);
    assert!(!gone.status.success());
    done(
        &client,
        &["delayed", "reschedule", &second, "--due", "+10ms"],
    );
    until("the message", || broker.recorder.count() == 1).await;
    let late = qmq(&client, &["delayed", "cancel", &second]);
    assert_eq!(late.status.code(), Some(1));
    let said = String::from_utf8_lossy(&late.stderr);
    assert!(said.contains("handed out already"), "{said}");
    assert_eq!(done(&client, &["delayed", "dead-letters", "delay-1"]), "");
    assert_eq!(
        done(&client, &["delayed", "drop", "delay-1", "--all"]),
        "0 dropped\n"
    );
}

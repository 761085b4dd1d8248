//! On a database that a Java metaserver has filled.

use crate::common::{code, qmq, stderr, stdout};
use crate::mariadb_server::Server;
use crate::nodes::{Cluster, TOKEN, typed};
use crate::states::told;
use crate::user::run_bounded;

/// As operators wrote it down.
const BROKERS: &str = r#"{"status":0,"message":"","data":[{"group":"qmq_group01","role":"MASTER","hostname":"qmq-server01","ip":"172.168.2.27","servePort":20881,"syncPort":20882},{"group":"qmq_group01","role":"SLAVE","hostname":"qmq-server02","ip":"172.168.2.28","servePort":20881,"syncPort":20882},{"group":"qmq_group02","role":"SLAVE","hostname":"qmq-server01","ip":"172.168.2.27","servePort":20891,"syncPort":20892},{"group":"qmq_group02","role":"MASTER","hostname":"qmq-server02","ip":"172.168.2.28","servePort":20891,"syncPort":20892},{"group":"qmq_delayserver_group01","role":"DELAY_MASTER","hostname":"qmq-server01","ip":"172.168.2.27","servePort":20801,"syncPort":20802},{"group":"qmq_delayserver_group01","role":"DELAY_SLAVE","hostname":"qmq-server02","ip":"172.168.2.28","servePort":20801,"syncPort":20802}]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_of_the_operators_document_is_shown_and_served() {
    let cluster = Cluster::on(Server::shared().database().await);
    let filled = include_str!("../../../qmq-meta/tests/data/java_metaserver.sql");
    cluster.scratch.run(filled).await;
    let url = cluster.scratch.admin_url();
    let made = run_bounded(&mut qmq(["meta", "migrate", "--url", &url]), b"");
    assert_eq!(code(&made), Some(0), "{}", stderr(&made));
    let meta = cluster.meta("meta-1").await;
    let at = format!("--metaserver=127.0.0.1:{}", meta.http);
    let listed = typed(&format!("qmq tools ListBrokers {at}"));
    assert_eq!(stdout(&listed), BROKERS, "{}", stderr(&listed));
    let states = told(meta.http).await.unwrap();
    assert_eq!(states["qmq_group01"], "RW");

    // A broker in the place of the Java one, under its name and port.
    let port = crate::nodes::free_port();
    cluster
        .scratch
        .run(&format!(
            "UPDATE broker SET ip = INET_ATON('127.0.0.1'), serve_port = {port} WHERE group_name = 'qmq_group02' AND role = 0"
        ))
        .await;
    let host = format!("qmq.host=qmq-server02\nbroker.port={port}\n");
    let mut broker = cluster.broker_to_be("broker-2", &[&meta], &host);
    broker.start().await;
    broker
        .until_logged("the meta server has this node online")
        .await;
    crate::states::until_state(&meta, "qmq_group02", "RW").await;
    let groups = cluster
        .rows(
            "SELECT group_name, master_address FROM broker_group WHERE group_name = 'qmq_group02'",
        )
        .await;
    let expected = ("qmq_group02".to_owned(), format!("127.0.0.1:{port}"));
    assert_eq!(groups, [expected]);
    // A group of which only the Java metaserver hears is its own to judge.
    assert_eq!(told(meta.http).await.unwrap()["qmq_group01"], "RW");
    let routes = typed(&format!("qmq tools ListSubjectRoutes {at} --token={TOKEN}"));
    assert!(stdout(&routes).contains("qmq_group02"), "{routes:?}");
}

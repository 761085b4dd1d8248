//! The tables: who makes them, and what a meta server does without them.

use crate::common::{code, qmq, stderr, stdout};
use crate::mariadb_server::Server;
use crate::nodes::Cluster;
use crate::user::run_bounded;

const OWN: &str = "made qmqx_broker, qmqx_clock, qmqx_group, qmqx_readonly, qmqx_schema\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_meta_server_without_tables_prints_the_command_and_with_them_it_serves() {
    let cluster = Cluster::on(Server::shared().database().await);
    let mut meta = cluster.meta_to_be("meta-1");
    meta.launch();
    assert_eq!(meta.ended().await, Some(1), "{}", meta.log());
    let place = cluster.scratch.url().to_string();
    let place = place.replace("jdbc:mysql://", "");
    let command =
        format!("qmq meta migrate --url 'mysql://ADMIN:PASSWORD@{place}' --with-qmq-tables");
    assert!(meta.log().contains(&command), "{}\n{command}", meta.log());

    // The line as it was printed, with a user who may.
    let typed = command
        .replace("mysql://ADMIN:PASSWORD@", "")
        .replace('\'', "");
    let typed = typed.replace(&place, &cluster.scratch.admin_url());
    let made = run_bounded(&mut qmq(typed.split(' ').skip(1)), b"");
    assert_eq!(code(&made), Some(0), "{}", stderr(&made));
    let said = stdout(&made);
    assert!(
        said.contains("broker_group") && said.contains("qmqx_schema"),
        "{said}"
    );
    let again = run_bounded(&mut qmq(typed.split(' ').skip(1)), b"");
    assert!(
        stdout(&again).starts_with("all tables were there\n"),
        "{again:?}"
    );
    meta.start().await;
    let (status, text) = meta.get("/health?verbose").await.unwrap();
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("database: up\n"), "{text}");
    let broker = cluster.broker("broker-1", &[&meta], "group-1").await;
    crate::states::until_state(&meta, "group-1", "RW").await;
    drop(broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_qmqs_tables_only_ours_are_made_and_by_hand_too() {
    let cluster = Cluster::on(Server::shared().database().await);
    cluster
        .scratch
        .run(include_str!(
            "../../../qmq-meta/tests/data/java_metaserver.sql"
        ))
        .await;
    let mut meta = cluster.meta_to_be("meta-1");
    meta.launch();
    assert_eq!(meta.ended().await, Some(1), "{}", meta.log());
    let log = meta.log();
    assert!(log.contains("qmq meta migrate --url "), "{log}");
    assert!(!log.contains("--with-qmq-tables"), "{log}");

    let printed = run_bounded(&mut qmq(["meta", "migrate", "--print-sql"]), b"");
    let sql = stdout(&printed);
    assert!(
        sql.contains("qmqx_schema") && !sql.contains("subject_info"),
        "{sql}"
    );
    let url = cluster.scratch.admin_url();
    // Printed even where a URL is given; nothing is made by that.
    let both = [
        "meta",
        "migrate",
        "--print-sql",
        "--with-qmq-tables",
        "--url",
        &url,
    ];
    let whole = stdout(&run_bounded(&mut qmq(both), b""));
    assert!(
        whole.contains("subject_info") && whole.contains("qmqx_schema"),
        "{whole}"
    );
    let made = run_bounded(&mut qmq(["meta", "migrate", "--url", &url]), b"");
    assert!(stdout(&made).starts_with(OWN), "{made:?}");
    meta.start().await;

    let by_hand = Cluster::on(Server::shared().database().await);
    by_hand.scratch.run(&whole).await;
    by_hand.meta("meta-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_make_no_tables_is_told_so_without_the_password() {
    let scratch = Server::shared().database().await;
    let options = scratch.options();
    let place = scratch.url().to_string().replace("jdbc:mysql://", "");
    let (user, secret) = (options.user.as_str(), options.password.replace('@', "%40"));
    for (user, secret, told) in [
        (user, secret.as_str(), "denied"),
        (user, "wrong-secret", "denied"),
    ] {
        let url = format!("mysql://{user}:{secret}@{place}");
        let args = ["meta", "migrate", "--with-qmq-tables", "--url", &url];
        let refused = run_bounded(&mut qmq(args), b"");
        assert_eq!(code(&refused), Some(1), "{refused:?}");
        let said = stderr(&refused);
        assert!(said.starts_with("error: no tables were made: "), "{said}");
        assert!(said.contains(told) && said.contains(user), "{said}");
        assert!(
            !said.contains(secret) && !said.contains(&options.password),
            "{said}"
        );
    }
    let refused = run_bounded(&mut qmq(["meta", "migrate", "--url", "db:3306"]), b"");
    assert_eq!(code(&refused), Some(2), "{refused:?}");
    assert!(
        stderr(&refused).contains("mysql://ADMIN:PASSWORD@HOST"),
        "{refused:?}"
    );
}

//! The commands of `qmq tools`: how they find a meta server and a token, and how they end.

use std::process::Output;

use crate::common::{code, qmq, run, stderr, stdout};
use crate::door::{Door, TOKEN, open};

fn tools(door: &Door, args: &[&str]) -> Output {
    let metaserver = format!("--metaserver={}", door.address);
    let mut all = vec!["tools"];
    all.extend_from_slice(args);
    all.push(&metaserver);
    run(&all, b"")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_does_what_it_says() {
    let door = open(false).await;
    door.group("group-1", 20881).await;
    door.group("group-2", 20891).await;
    let token = format!("--token={TOKEN}");
    let expect = |args: &[&str], part: &str| {
        let mut all = args.to_vec();
        all.push(&token);
        let output = tools(&door, &all);
        assert_eq!(code(&output), Some(0), "{args:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{args:?}");
        let text = stdout(&output);
        assert!(text.contains(part), "{args:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    };
    expect(
        &["AddNewSubject", "--subject", "s", "--tag", "_default_"],
        "\"name\":\"s\"",
    );
    expect(
        &[
            "AddSubjectBrokerGroup",
            "--subject=s",
            "--brokerGroup=group-1",
        ],
        "[\"group-1\"]",
    );
    let extend = [
        "ExtendSubjectRoute",
        "--relatedSubject=*",
        "--relatedBrokerGroup=group-1",
        "--newBrokerGroup=group-2",
    ];
    expect(&extend, "成功更新1个subject的路由");
    expect(&["ListSubjectRoutes"], "[\"group-1\",\"group-2\"]");
    expect(
        &[
            "RemoveSubjectBrokerGroup",
            "--subject=s",
            "--brokerGroup=group-2",
        ],
        "\"data\":{}",
    );
    expect(&["ListBrokerGroups"], "\"groupName\":\"group-2\"");
    let reset = ["ResetOffset", "--subject=s", "--group=ticket", "--action=2"];
    expect(&reset, "success");
    let database = [
        "AddDb",
        "--host=db",
        "--port=3306",
        "--username=u",
        "--password=p",
    ];
    expect(&database, "register success");
    let sources = door.meta.data_sources("default").await.unwrap();
    assert_eq!(sources[0].url, "mmm://db:3306");
    let replace = [
        "ReplaceBroker",
        "--brokerGroup=group-2",
        "--role=0",
        "--hostname=h9",
        "--ip=10.0.0.9",
        "--servePort=20891",
        "--syncPort=20892",
    ];
    expect(&replace, "\"hostname\":\"h1\"");
    expect(
        &["ListBrokers", "--brokerGroup=group-2"],
        "\"hostname\":\"h9\"",
    );
    let backup = [
        "AddBroker",
        "--brokerGroup=group-2",
        "--role=4",
        "--hostname=b",
        "--ip=10.0.0.8",
        "--servePort=20881",
    ];
    let mut all = backup.to_vec();
    all.push(&token);
    // Whether a backup may come before its slave is for the rules to say; it is not refused for its port.
    assert!(!stdout(&tools(&door, &all)).contains("port"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_read_only_for_all_subjects_unless_one_is_named() {
    let door = open(true).await;
    door.group("group-1", 20881).await;
    let token = format!("--token={TOKEN}");
    let plain = ["MarkReadonly", "--brokerGroup=group-1", &token];
    let one = [
        "MarkReadonly",
        "--brokerGroup=group-1",
        "--subject=s",
        &token,
    ];
    assert!(stdout(&tools(&door, &plain)).contains("success"));
    assert!(door.meta.unmark_readonly("*", "group-1").await.unwrap());
    assert!(stdout(&tools(&door, &one)).contains("success"));
    assert!(!door.meta.unmark_readonly("*", "group-1").await.unwrap());
    let un = [
        "UnMarkReadonly",
        "--brokerGroup=group-1",
        "--subject=s",
        &token,
    ];
    assert!(stdout(&tools(&door, &un)).contains("success"));
    assert!(!door.meta.unmark_readonly("s", "group-1").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_comes_from_a_file_or_the_environment_too() {
    let door = open(false).await;
    let file = door.folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let from_file = format!("--token-file={}", file.display());
    let output = tools(&door, &["ListBrokers", &from_file]);
    assert!(stdout(&output).contains("\"status\":0"), "{output:?}");
    let output = qmq(["tools", "ListBrokers"])
        .env(
            "QMQ_METASERVER",
            format!("http://{}/meta/address", door.address),
        )
        .env("QMQ_API_TOKEN", TOKEN)
        .output()
        .unwrap();
    assert!(stdout(&output).contains("\"status\":0"), "{output:?}");
    // What is typed counts more than the environment.
    let output = qmq(["tools", "ListBrokers", "--token=other"])
        .env("QMQ_METASERVER", door.address.to_string())
        .env("QMQ_API_TOKEN", TOKEN)
        .output()
        .unwrap();
    assert!(stdout(&output).contains("\"status\":-1"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_says_no_is_printed_with_what_to_do() {
    let door = open(false).await;
    let refused = "{\"status\":-1,\"message\":\"没有提供合法的 Api Token\",\"data\":null}\n";
    let output = tools(&door, &["ListBrokers"]);
    assert_eq!(
        (code(&output), stdout(&output).as_str()),
        (Some(0), refused)
    );
    assert!(
        stderr(&output).contains("--token-file"),
        "{}",
        stderr(&output)
    );
    let output = tools(&door, &["ListBrokers", "--check"]);
    assert_eq!(
        (code(&output), stdout(&output).as_str()),
        (Some(1), refused)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_that_is_wrong_ends_with_2_and_no_answer_with_1() {
    let door = open(true).await;
    let add = [
        "AddBroker",
        "--brokerGroup=g",
        "--role=0",
        "--hostname=h",
        "--ip=1.1.1.1",
        "--servePort=1",
    ];
    let mut no_port = add.to_vec();
    no_port.push("--token=t");
    let mut no_token = add.to_vec();
    no_token.push("--syncPort=2");
    for args in [
        no_port.as_slice(),
        no_token.as_slice(),
        // Names of commands and flags are QMQ's, to the letter.
        &["listbrokers"],
        &["ListBrokers", "--brokergroup=g"],
        &["AddNewSubject", "--subject=s", "--token=t"],
        &["ListBrokers", "--token=a", "--token-file=b"],
    ] {
        let output = tools(&door, args);
        assert_eq!(code(&output), Some(2), "{args:?}: {output:?}");
        assert_eq!(stdout(&output), "");
        assert_ne!(stderr(&output), "");
    }
    let mut bare = qmq(["tools", "ListBrokers"]);
    let output = bare.env_remove("QMQ_METASERVER").output().unwrap();
    assert_eq!(code(&output), Some(2));
    assert!(
        stderr(&output).contains("--metaserver"),
        "{}",
        stderr(&output)
    );
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let output = run(
        &["tools", "ListBrokers", &format!("--metaserver={nobody}")],
        b"",
    );
    assert_eq!((code(&output), stdout(&output).as_str()), (Some(1), ""));
    assert!(
        stderr(&output).contains(&nobody.to_string()),
        "{}",
        stderr(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_cluster_is_a_table_or_lines() {
    let door = open(false).await;
    door.group("group-1", 20881).await;
    let metaserver = format!("--metaserver={}", door.address);
    let token = format!("--token={TOKEN}");
    let output = run(&["status", &metaserver, &token], b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for part in [
        "database up",
        "group-1",
        "RW",
        "MASTER",
        "h1:20881",
        "10.0.0.1:20881",
        "s ago",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let output = run(&["status", &metaserver, &token, "--json"], b"");
    let lines = crate::common::json_lines(&output);
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["meta", "broker_group", "member"]);
    assert_eq!(lines[0]["database_up"], true);
    assert_eq!(lines[1]["state"], "RW");
    assert!(lines[1]["last_seen_ms"].as_u64().is_some());
    // A client that is told of meta servers only asks them.
    let client = door.folder.path().join("client.properties");
    let address = door.address;
    std::fs::write(
        &client,
        format!("meta.server.endpoint=http://{address}/meta/address\n"),
    )
    .unwrap();
    let file = format!("--client={}", client.display());
    let output = run(&["status", &file, &token], b"");
    assert!(stdout(&output).contains("group-1"), "{output:?}");
    let refused = run(&["status", &metaserver], b"");
    assert_eq!(code(&refused), Some(1));
    assert!(stderr(&refused).contains("--token"), "{}", stderr(&refused));
}

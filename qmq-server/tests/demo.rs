//! The demo holds the store and the broker to their word.

mod common;

use common::{code, json_lines, run, stderr, stdout};

const CHECKS: [&str; 26] = [
    "every_flight_stored",
    "bodies_identical",
    "sequences_dense",
    "order_kept",
    "stored_once",
    "group_all_1_complete",
    "group_all_2_complete",
    "tag_group_exact",
    "killed_consumer_work_finished",
    "hung_consumer_work_finished",
    "nothing_lost_after_unclean_close",
    "progress_kept",
    "handed_out_twice_only_by_kills",
    "store_verifies",
    "reminders_on_time",
    "reminders_in_order",
    "reminders_exact",
    "reminders_answers_exact",
    "reminders_survive_restart",
    "reminders_delivered",
    "reminders_settled",
    "delayed_none_early",
    "delayed_none_lost",
    "delayed_cancelled_exactly",
    "replica_identical",
    "failover_nothing_lost",
];

#[test]
fn every_check_of_the_demo_holds() {
    let output = run(&["demo", "--json"], b"");
    let lines = json_lines(&output);
    let last = lines.last().unwrap();
    for check in CHECKS {
        assert_eq!(last[check], true, "{check}\n{}", stderr(&output));
    }
    assert_eq!(last["flights"], 6_760);
    assert_eq!(last["ok"], true);
    assert_eq!(code(&output), Some(0));
    let again = lines
        .iter()
        .filter_map(|line| line["handed_out_again"].as_u64())
        .sum::<u64>();
    assert!(
        again > 0,
        "a consumer was killed and another hung, so some messages came again"
    );
    let reminders = lines.iter().find(|line| line["stage"] == "reminders");
    let of = |field: &str| reminders.unwrap()[field].as_u64().unwrap();
    assert_eq!(of("scheduled"), 6_760);
    assert_eq!(of("fired"), of("scheduled") - of("cancelled"));
    for field in ["cancelled", "retimed", "too_late", "fired_again"] {
        assert!(of(field) > 0, "{field}");
    }
}

#[test]
fn the_demo_takes_another_file_and_keeps_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("few.csv");
    let week = include_str!("../../examples/data/flights-2013-week.csv");
    let few: Vec<&str> = week.lines().take(41).collect();
    std::fs::write(&data, few.join("\n")).unwrap();
    let kept = dir.path().join("kept");
    let args = [
        "demo",
        "--data",
        data.to_str().unwrap(),
        "--dir",
        kept.to_str().unwrap(),
    ];
    let output = run(&args, b"");
    assert_eq!(
        code(&output),
        Some(0),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    assert!(stdout(&output).contains("40 of 40"), "{}", stdout(&output));
    assert!(kept.read_dir().unwrap().count() > 0);
    let output = run(&args, b"");
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("not empty") && stderr(&output).contains("--dir"));
}

#[test]
fn a_file_that_has_no_flights_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("f.csv");
    std::fs::write(&data, "a,b\n1,2\n").unwrap();
    let output = run(&["demo", "--data", data.to_str().unwrap()], b"");
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).starts_with("error: ") && stderr(&output).contains("f.csv"));
    let output = run(&["demo", "--data", "/no/such/file"], b"");
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("/no/such/file"));
}

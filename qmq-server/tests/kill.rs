//! A printed line survives a kill -9. `cargo run --release --example kill_loop -- --kills 1000` does more of it.

#[path = "common/kill.rs"]
mod kill;
#[path = "common/sudden.rs"]
mod sudden;

use kill::KillLoop;

#[test]
fn every_printed_line_is_there_after_fifty_kills() {
    let dir = tempfile::tempdir().unwrap();
    let seed = u64::from(std::process::id());
    let kills = KillLoop {
        qmq: env!("CARGO_BIN_EXE_qmq").into(),
        dir: dir.path().join("store"),
        kills: 50,
        seed,
    };
    let tally = kills
        .run(|_| {})
        .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    println!("seed {seed}: {tally:?}");
    assert_eq!(tally.kills, 50);
    assert!(tally.printed > 50, "{tally:?}");
    assert!(tally.stored >= tally.printed, "{tally:?}");
    assert!(tally.unclean_opens > 0, "{tally:?}");
}

//! Files of another store under names of this one's.

use std::fs;
use std::path::{Path, PathBuf};

use qmq_store::{DamageKind, Message, Store, offline};

use super::support::files_in;
use super::{MESSAGES, a_store, fill, kinds, options, served};

fn copy_of_another(of: &Path, from: &Path, prefix: &str, at: usize) -> PathBuf {
    let target = files_in(of, prefix)[at].clone();
    let name = target.file_name().unwrap();
    fs::copy(from.join(name), &target).unwrap();
    target
}

#[test]
fn a_segment_of_another_store_is_damage_and_is_neither_served_nor_removed() {
    let (alice, bobby) = (a_store(1, "alice"), a_store(2, "bobby"));
    let path = alice.path();
    let segment = copy_of_another(path, bobby.path(), "log-", 1);
    let foreign = fs::read(&segment).unwrap();
    assert!(kinds(path).contains(&DamageKind::Foreign));
    let store = Store::open(path, options(1)).unwrap();
    let (good, damaged) = served(&store, "alice");
    assert!(!damaged.is_empty() && damaged.windows(2).all(|two| two[0] + 1 == two[1]));
    assert_eq!((good.len() + damaged.len()) as u64, MESSAGES);
    let copy = tempfile::tempdir().unwrap();
    let report = store.backup(copy.path(), &mut |_, _| {}).unwrap();
    assert!(
        report
            .verified
            .damages
            .iter()
            .any(|damage| damage.kind == DamageKind::Foreign)
    );
    store.close().unwrap();
    // Nor does it pass for ours where only the segments tell whose they are.
    fs::remove_file(path.join("store")).unwrap();
    offline::repair(path, &mut |_, _| {}).unwrap();
    let store = Store::open(path, options(1)).unwrap();
    assert_eq!(served(&store, "alice").0, good);
    store.close().unwrap();
    // An index made anew does not lead there either.
    fs::remove_file(&files_in(path, "index-")[1]).unwrap();
    let report = offline::repair(path, &mut |_, _| {}).unwrap();
    assert!(
        report
            .remaining
            .iter()
            .any(|damage| damage.kind == DamageKind::Foreign)
    );
    assert!(fs::read(&segment).unwrap() == foreign);
    let mut retiring = options(1);
    retiring.retention.max_bytes = Some(100_000);
    let store = Store::open(path, retiring).unwrap();
    store.maintain().unwrap();
    assert!(!segment.exists(), "retired");
    assert!(fs::read(segment.with_extension("foreign")).unwrap() == foreign);
}

#[test]
fn an_unsealed_segment_of_another_store_is_set_aside() {
    let (alice, bobby) = (a_store(1, "alice"), a_store(2, "bobby"));
    let path = alice.path();
    let last = files_in(path, "log-").len() - 1;
    let segment = copy_of_another(path, bobby.path(), "log-", last);
    let beyond = path.join(format!("log-{:020}", 99_999_992));
    fs::copy(&segment, &beyond).unwrap();
    let foreign = fs::read(&segment).unwrap();
    for _ in 0..2 {
        assert!(!kinds(path).is_empty());
        let store = Store::open(path, options(1)).unwrap();
        let (good, damaged) = served(&store, "alice");
        assert!(!damaged.is_empty());
        assert_eq!((good.len() + damaged.len()) as u64, MESSAGES);
        store.close().unwrap();
        for file in [&segment, &beyond] {
            assert!(fs::read(file.with_extension("foreign")).unwrap() == foreign);
        }
    }
}

#[test]
fn an_index_of_another_store_is_made_anew() {
    let (alice, bobby) = (a_store(1, "alice"), a_store(2, "bobby"));
    let path = alice.path();
    copy_of_another(path, bobby.path(), "index-", 1);
    assert_eq!(kinds(path), [DamageKind::Index]);
    let report = offline::repair(path, &mut |_, _| {}).unwrap();
    assert_eq!((report.indexes_rebuilt, report.remaining.len()), (1, 0));
    assert_eq!(kinds(path), []);
}

#[test]
fn a_checkpoint_of_another_store_is_set_aside_and_the_one_before_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let store = Store::open(path, options(1)).unwrap();
    fill(&store, "alice", 1_000);
    store.checkpoint().unwrap();
    fill(&store, "alice", 1_000);
    store.close().unwrap();
    let bobby = a_store(2, "bobby");
    let foreign = fs::read(files_in(bobby.path(), "checkpoint-").pop().unwrap()).unwrap();
    let newest = files_in(path, "checkpoint-").pop().unwrap();
    fs::write(&newest, &foreign).unwrap();
    assert!(kinds(path).contains(&DamageKind::Foreign));
    let store = Store::open(path, options(1)).unwrap();
    assert_eq!(served(&store, "alice").0.len() as u64, MESSAGES);
    store.close().unwrap();
    assert!(fs::read(newest.with_extension("foreign")).unwrap() == foreign);
    assert_eq!(kinds(path), []);
}

#[test]
fn a_follower_takes_nothing_from_a_segment_of_another_store() {
    let folders = [(1, "s"), (2, "t")].map(|(seed, subject)| {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), options(seed)).unwrap();
        store.append(&Message::new(subject, "first")).unwrap();
        (folder, store, subject)
    });
    let [ours, theirs] = folders.each_ref().map(|(folder, ..)| folder);
    let follower = Store::open_read_only(ours.path(), &options(1)).unwrap();
    for (_, store, subject) in &folders {
        for _ in 0..500 {
            store
                .append(&Message::new(*subject, vec![b'x'; 200]))
                .unwrap();
        }
    }
    let last = files_in(ours.path(), "log-").pop().unwrap();
    let foreign = theirs.path().join(last.file_name().unwrap());
    fs::copy(foreign, ours.path().join("copy")).unwrap();
    fs::rename(ours.path().join("copy"), &last).unwrap();
    let error = follower.refresh().unwrap_err().to_string();
    assert!(
        error.contains("log-") && error.contains("another store"),
        "{error}"
    );
    assert_eq!(follower.subjects(), ["s"]);
}

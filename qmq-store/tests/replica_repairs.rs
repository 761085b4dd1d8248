//! Damage on one side is found, named, and put right from the other; and nothing else is ever written over.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

mod common;
mod pair;

use common::number_from_env;
use common::rng::Rng;
use pair::{Pair, copy, log_bytes, open_replica, refusal, same_groups, same_log};
use qmq_store::disk::SimulatedDisk;
use qmq_store::{Durability, Error, Message, PullRequest, ReplicaError, Store};

/// Flips a bit of the log at `offset`.
fn flip(disk: &SimulatedDisk, offset: u64, bit: u8) {
    let base = |name: &String| name[4..].parse::<u64>().unwrap();
    let names = common::files::files(disk, "log-");
    let name = names.iter().rfind(|name| base(name) <= offset).unwrap();
    disk.flip_bit(name, 64 + offset - base(name), bit).unwrap();
}

/// The first offset at which two logs differ, by halving.
fn first_difference(a: &Store, b: &Store) -> Option<u64> {
    let (mut from, mut to) = (0, a.watermarks().written.min(b.watermarks().written));
    let same = |from, to| a.digest(from, to).unwrap() == b.digest(from, to).unwrap();
    if same(from, to) {
        return None;
    }
    while to - from > 1 {
        let middle = from + (to - from) / 2;
        if same(from, middle) {
            from = middle;
        } else {
            to = middle;
        }
    }
    Some(from)
}

#[test]
fn any_flipped_bit_is_found_named_and_put_right_from_the_other_side() {
    let first = number_from_env("QMQ_REPLICA_FIRST", 1);
    for seed in first..first + number_from_env("QMQ_REPLICA_SEEDS", 60) {
        println!("QMQ_REPLICA_FIRST={seed} QMQ_REPLICA_SEEDS=1");
        let mut rng = Rng::new(seed);
        let mut pair = Pair::new(&mut rng);
        let count = 20 + rng.below(200);
        pair.session.run(&mut rng, count);
        pair.follow(&mut rng);
        if rng.chance(50) {
            pair.replica.maintain().unwrap();
        }
        let end = pair.replica.watermarks().written;
        assert_eq!(first_difference(&pair.session.store, &pair.replica), None);
        assert_eq!(pair.replica.first_bad(0, end).unwrap(), None);
        // On either side.
        let master_is_bad = rng.chance(50);
        let (bad, good, disk) = if master_is_bad {
            (&pair.session.store, &pair.replica, &pair.session.disk)
        } else {
            (&pair.replica, &pair.session.store, &pair.replica_disk)
        };
        let mut offsets: Vec<u64> = (0..1 + rng.below(4)).map(|_| rng.below(end)).collect();
        offsets.sort_unstable();
        offsets.dedup();
        for &offset in &offsets {
            flip(disk, offset, rng.below(8) as u8);
        }
        assert_eq!(first_difference(bad, good), Some(offsets[0]));
        // A copy of what is damaged is given to nobody.
        let elsewhere = open_replica(&SimulatedDisk::new(), &pair.replica_options);
        let stopped = loop {
            let from = elsewhere.watermarks().written;
            match bad.raw(from, 5_000) {
                Ok(range) => elsewhere.append_raw(from, &range.bytes).unwrap(),
                Err(error) => break refusal::<()>(Err(error)),
            };
        };
        let ReplicaError::Damaged { offset, len } = stopped else {
            panic!("{stopped:?}");
        };
        assert!(offset <= offsets[0] && offsets[0] < offset + len);
        assert_eq!(offset, elsewhere.watermarks().written);
        let mut from = 0;
        while let Some(stretch) = bad.first_bad(from, end).unwrap() {
            assert!(offsets.iter().any(|offset| stretch.contains(offset)));
            let mut at = stretch.start;
            while at < stretch.end {
                let range = good.raw(at, (stretch.end - at) as usize).unwrap();
                assert!(
                    range.end() <= stretch.end,
                    "units of one side are those of the other"
                );
                let replaced = bad.replace_raw(at, &range.bytes).unwrap();
                assert_eq!(replaced, range.bytes.len() as u64);
                assert_eq!(bad.replace_raw(at, &range.bytes).unwrap(), 0);
                at = range.end();
            }
            from = stretch.end;
        }
        same_log(bad, good);
        same_groups(bad, good);
        assert_eq!(bad.verify(&mut |_, _| {}).unwrap().damages, []);
        // Durable, and no hindrance to what comes.
        let left = disk.crash(rng.next());
        if master_is_bad {
            pair.session.store = pair::placeholder();
            pair.session.store = common::open(&left, &pair.options).unwrap();
            pair.session.disk = left;
        } else {
            pair.forget_replica();
            pair.replica = open_replica(&left, &pair.replica_options);
            pair.replica_disk = left;
        }
        assert_eq!(first_difference(&pair.session.store, &pair.replica), None);
        if pair.session.store.watermarks().written >= end {
            pair.session.store.append(&Message::new("s", "on")).unwrap();
            pair.follow(&mut rng);
            same_log(&pair.session.store, &pair.replica);
        }
    }
}

#[test]
fn what_an_open_lost_to_damage_is_there_again_after_the_repair() {
    let mut pair = Pair::small();
    let master = pair.session.store.clone();
    let master = &master;
    for number in 0..20 {
        master
            .append(&Message::new("s", number.to_string()))
            .unwrap();
    }
    let batch = master
        .pull(&PullRequest::new("s", "g", "c").max(5))
        .unwrap();
    master.ack(&batch).unwrap();
    copy(master, &pair.replica);
    pair.replica.sync().unwrap();
    let end = pair.replica.watermarks().written;
    // The last record, an ack, and messages in the middle.
    pair.forget_replica();
    for offset in [end - 20, 500, 900] {
        flip(&pair.replica_disk, offset, 1);
    }
    let left = pair.replica_disk.process_killed();
    let replica = open_replica(&left, &pair.replica_options);
    assert!(!replica.open_report().damages.is_empty());
    // A replica goes on at the end that it had synced.
    assert!(replica.watermarks().written <= end);
    copy(master, &replica);
    let mut from = 0;
    while let Some(bad) = replica.first_bad(from, end).unwrap() {
        let range = master
            .raw(bad.start, (bad.end - bad.start) as usize)
            .unwrap();
        replica.replace_raw(range.offset, &range.bytes).unwrap();
        from = range.end();
    }
    same_log(master, &replica);
    same_groups(master, &replica);
    let read = replica.read("s", 0, 100).unwrap();
    assert!(read.len() == 20 && read.iter().all(|one| one.message().is_ok()));
}

#[test]
fn nothing_sound_is_written_over() {
    let pair = Pair::small();
    let (master, replica) = (&pair.session.store, &pair.replica);
    let at: Vec<_> = (0..6)
        .map(|_| master.append(&Message::new("s", vec![b'x'; 100])).unwrap())
        .collect();
    copy(master, replica);
    // Another history, of the same lengths.
    let other = Pair::small();
    for _ in 0..6 {
        let message = Message::new("s", vec![b'y'; 100]);
        other.session.store.append(&message).unwrap();
    }
    let foreign = other.session.store.raw(at[1].offset, 1).unwrap();
    let offset = foreign.offset;
    let differs = ReplicaError::Differs { offset };
    let before = log_bytes(replica, 0);
    assert_eq!(
        refusal(replica.replace_raw(offset, &foreign.bytes)),
        differs
    );
    // Not either where it is damaged, if that would cut what is sound.
    flip(&pair.replica_disk, at[1].offset + 70, 0);
    let two = other.session.store.raw(at[1].offset, 500).unwrap();
    assert_eq!(refusal(replica.replace_raw(offset, &two.bytes)), differs);
    // Nor is anything that is no unit, or stands elsewhere.
    let good = master.raw(at[1].offset, 1).unwrap();
    for bytes in [&good.bytes[..64], &good.bytes[8..]] {
        let refused = refusal(replica.replace_raw(offset, bytes));
        assert!(matches!(refused, ReplicaError::Refused { .. }), "{refused}");
    }
    let end = replica.watermarks().written;
    let beyond = refusal(replica.replace_raw(end, &good.bytes));
    assert!(matches!(beyond, ReplicaError::BeyondEnd { .. }), "{beyond}");
    assert_eq!(
        replica.replace_raw(offset, &good.bytes).unwrap(),
        good.bytes.len() as u64
    );
    assert!(log_bytes(replica, 0) == before);
}

/// Each kind of bytes that a master does not write there, one flipped bit at each place among them.
#[test]
fn refused_bytes_change_nothing() {
    let pair = Pair::small();
    let (master, replica) = (&pair.session.store, &pair.replica);
    let first = master.append(&Message::new("s", "one").tag("t")).unwrap();
    copy(master, replica);
    let batch = master.pull(&PullRequest::new("s", "g", "c")).unwrap();
    master.ack(&batch).unwrap();
    let both = [Message::new("s", "two"), Message::new("new", "three")];
    master.append_batch(&both, Durability::Synced).unwrap();
    master.begin_epoch(1).unwrap();
    let rest = master.raw(first.end_offset, 1 << 20).unwrap();
    let end = first.end_offset;
    let (before, stats) = (log_bytes(replica, 0), pair::subjects(replica));
    let operations = pair.replica_disk.operations();
    let try_all = |offset, bytes: &[u8]| refusal(replica.append_raw(offset, bytes));

    let mut flipped = rest.bytes.to_vec();
    for at in 0..flipped.len() {
        for bit in 0..8 {
            flipped[at] ^= 1 << bit;
            let refused = try_all(end, &flipped);
            let ReplicaError::Refused { offset, .. } = refused else {
                panic!("byte {at} bit {bit}: {refused}");
            };
            assert!(
                offset >= end && offset <= end + at as u64,
                "{at}: {refused}"
            );
            flipped[at] ^= 1 << bit;
        }
    }
    let gap = try_all(end + 8, &rest.bytes);
    assert_eq!(
        gap,
        ReplicaError::Gap {
            offset: end + 8,
            end
        }
    );
    // In the middle of a record, and with its end missing.
    assert!(matches!(
        try_all(end, &rest.bytes[64..]),
        ReplicaError::Refused { .. }
    ));
    assert!(matches!(
        try_all(end, &rest.bytes[..rest.bytes.len() - 8]),
        ReplicaError::Refused { .. }
    ));
    assert!(matches!(
        try_all(end, &[0; 128]),
        ReplicaError::Refused { .. }
    ));
    // An overlap that is another.
    let mut overlap = log_bytes(master, 0);
    overlap[70] ^= 1;
    assert_eq!(try_all(0, &overlap), ReplicaError::Differs { offset: 70 });
    overlap[70] ^= 1;
    // Units that are good, and do not follow: a skipped one, an older epoch, a lower incarnation.
    let other = Pair::small();
    for _ in 0..2 {
        other
            .session
            .store
            .append(&Message::new("s", "one").tag("t"))
            .unwrap();
    }
    let third = other.session.store.append(&Message::new("s", "x")).unwrap();
    let skipped = other.session.store.raw(third.offset, 1).unwrap();
    assert_ne!(skipped.offset, end);
    assert!(log_bytes(replica, 0) == before);
    assert_eq!(pair::subjects(replica), stats);
    assert_eq!(pair.replica_disk.operations(), operations);

    // An overlap that is another because this side is damaged is said to be so, and not taken for another history.
    flip(&pair.replica_disk, 70, 3);
    let damaged = try_all(0, &overlap);
    assert_eq!(
        damaged,
        ReplicaError::Damaged {
            offset: 0,
            len: end
        }
    );
    flip(&pair.replica_disk, 70, 3);
    // And all of it is taken as it is, overlap and all.
    assert_eq!(
        replica.append_raw(0, &overlap).unwrap(),
        master.watermarks().written
    );
    same_log(master, replica);
    same_groups(master, replica);
    assert_eq!(replica.append_raw(end, &rest.bytes).unwrap(), rest.end());
}

/// Another store's records fit no better than damaged ones: sequences, times, incarnations and epochs must follow.
#[test]
fn good_units_that_do_not_follow_are_refused() {
    let reason = |change: &dyn Fn(&Store, &Store)| {
        let (one, other) = (Pair::small(), Pair::small());
        let (ours, theirs) = (&one.session.store, &other.session.store);
        change(ours, theirs);
        copy(ours, &one.replica);
        let end = one.replica.watermarks().written;
        assert_eq!(theirs.raw(end, 1).unwrap().offset, end);
        let range = theirs.raw(end, 1 << 20).unwrap();
        match refusal(one.replica.append_raw(end, &range.bytes)) {
            ReplicaError::Refused { reason, .. } => reason,
            other => panic!("{other}"),
        }
    };
    let message = |subject: &str| Message::new(subject, "x");
    let sequence = reason(&|ours, theirs| {
        ours.append(&message("a")).unwrap();
        theirs.append(&message("b")).unwrap();
        theirs.append(&message("a")).unwrap();
        theirs.append(&message("b")).unwrap();
    });
    assert!(sequence.contains("sequence"), "{sequence}");
    let epoch = reason(&|ours, theirs| {
        ours.begin_epoch(5).unwrap();
        theirs.begin_epoch(3).unwrap();
        theirs.begin_epoch(4).unwrap();
    });
    assert!(epoch.contains("epoch"), "{epoch}");
    let incarnation = reason(&|ours, theirs| {
        ours.demote().unwrap();
        ours.promote(1).unwrap();
        theirs.begin_epoch(1).unwrap();
        theirs.append(&message("a")).unwrap();
    });
    assert!(incarnation.contains("incarnation"), "{incarnation}");
    let time = {
        let (one, other) = (Pair::small(), Pair::small());
        one.session.clock.advance(1000);
        one.session.store.append(&message("a")).unwrap();
        copy(&one.session.store, &one.replica);
        other.session.store.append(&message("a")).unwrap();
        other.session.store.append(&message("a")).unwrap();
        let end = one.replica.watermarks().written;
        let range = other.session.store.raw(end, 1).unwrap();
        refusal(one.replica.append_raw(end, &range.bytes)).to_string()
    };
    assert!(time.contains("time"), "{time}");
}

#[test]
fn a_disk_that_does_not_give_its_bytes_is_said_by_digests_and_first_bad() {
    let pair = Pair::small();
    let (master, replica) = (&pair.session.store, &pair.replica);
    for _ in 0..30 {
        master.append(&Message::new("s", vec![1; 1000])).unwrap();
    }
    copy(master, replica);
    replica.sync().unwrap();
    let end = replica.watermarks().written;
    let digests = [master, replica].map(|store| store.digest(100, end).unwrap());
    assert_eq!(digests[0], digests[1]);
    let name = common::files::files(&pair.replica_disk, "log-")[0].clone();
    pair.replica_disk.faults(|faults| {
        faults.read_error(&name, 8192..8192 + 4096);
    });
    let refused = replica.digest(0, end);
    assert!(matches!(
        refused,
        Err(Error::Replication(_) | Error::Io { .. })
    ));
    let mut bad = replica.first_bad(0, end).unwrap().unwrap();
    assert!(bad.start <= 8192 - 64);
    while let Some(next) = replica.first_bad(bad.end, end).unwrap() {
        assert_eq!(next.start, bad.end, "a stretch that can be read");
        bad = next;
    }
    assert!(bad.end >= 8192 - 64 + 4096 && bad.end < 16 << 10);
}

#[test]
fn a_write_or_a_sync_that_fails_stops_a_replica_and_what_it_had_is_kept() {
    let kind = std::io::ErrorKind::Other;
    for fail_sync in [false, true] {
        let mut pair = Pair::small();
        let master = pair.session.store.clone();
        for _ in 0..10 {
            master.append(&Message::new("s", vec![1; 500])).unwrap();
        }
        let half = master.raw(0, 3_000).unwrap();
        pair.replica.append_raw(0, &half.bytes).unwrap();
        pair.replica.sync().unwrap();
        let rest = master.raw(half.end(), 1 << 20).unwrap();
        pair.replica_disk.faults(|faults| {
            if fail_sync {
                faults.fail_sync(1);
            } else {
                faults.short_write(1, kind);
            }
        });
        let taken = pair.replica.append_raw(half.end(), &rest.bytes);
        let outcome = taken.map(drop).and_then(|()| pair.replica.sync());
        assert!(
            matches!(outcome, Err(Error::Poisoned { .. })),
            "{outcome:?}"
        );
        let again = pair.replica.append_raw(half.end(), &rest.bytes);
        assert!(matches!(again, Err(Error::Poisoned { .. })), "{again:?}");
        assert!(matches!(
            pair.replica.promote(1),
            Err(Error::Poisoned { .. })
        ));
        assert_eq!(pair.replica.watermarks().synced, half.end());
        assert!(pair.replica.read("s", 0, 5).unwrap().len() == 5);
        let left = pair.replica_disk.crash(3);
        pair.forget_replica();
        pair.replica = open_replica(&left, &pair.replica_options);
        assert_eq!(pair.replica.open_report().damages, []);
        assert!(pair.replica.watermarks().written >= half.end());
        copy(&master, &pair.replica);
        same_log(&master, &pair.replica);
    }
}

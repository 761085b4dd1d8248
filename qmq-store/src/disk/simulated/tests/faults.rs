//! Faults, a full disk, and the cut of the power.

use super::*;

#[test]
fn a_full_disk_refuses_what_needs_room_and_changes_nothing() {
    let disk = SimulatedDisk::with_capacity(10_000);
    let file = disk.create("a", 6000).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 4000);
    assert_eq!(
        disk.create("b", 4001).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(names(&disk), ["a"]);
    assert_eq!(
        file.write_at(&[1; 4001], 6000).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(
        file.set_len(10_001).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(file.len().unwrap(), 6000);
    file.write_at(&[1; 4000], 6000).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 0);
    file.write_at(&[2; 10_000], 0).unwrap();
    disk.set_capacity(10_010);
    let small = disk.create("b", 10).unwrap();
    disk.remove("a").unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 10_000);
    small.set_len(0).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 10_010);
}

#[test]
fn punched_blocks_read_zero_and_give_their_room_back() {
    let disk = SimulatedDisk::with_capacity(20_000);
    let file = disk.create("a", 10_000).unwrap();
    file.write_at(&[1; 10_000], 0).unwrap();
    file.sync().unwrap();
    disk.sync_names().unwrap();
    let region = file.map().unwrap();
    file.punch(100, 8192).unwrap();
    assert_eq!(
        disk.free_bytes().unwrap(),
        10_000 + 4096,
        "only one block is punched whole"
    );
    let bytes = content(&disk, "a");
    assert_eq!(bytes.len(), 10_000);
    assert!(
        bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == u8::from(!(100..8292).contains(&at)))
    );
    assert_eq!(region.bytes(0, 10_000).unwrap(), bytes);
    let seen = over_crashes(&disk, |left| {
        (content(left, "a")[5000], left.free_bytes().unwrap())
    });
    assert!(
        seen.contains(&(1, 10_000)) && seen.contains(&(0, 14_096)),
        "{seen:?}"
    );
    file.write_at(&[2], 5000).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 10_000);
}

#[test]
fn a_failed_sync_drops_what_it_did_not_cover_for_good() {
    let (disk, file) = disk_with(1024);
    file.write_at(&[1; 1024], 0).unwrap();
    disk.faults(|faults| faults.fail_sync(1));
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(EIO));
    file.sync().unwrap();
    let seen = over_crashes(&disk, |left| content(left, "a")[0]);
    assert_eq!(
        seen,
        BTreeSet::from([0, 1]),
        "the later sync must not cover it"
    );
    // Written again, even with the same bytes, a sector is covered by the next sync.
    file.write_at(&[1; 512], 0).unwrap();
    file.sync().unwrap();
    assert_eq!(
        over_crashes(&disk, |left| content(left, "a")[0]),
        BTreeSet::from([1])
    );
    assert_eq!(
        over_crashes(&disk, |left| content(left, "a")[512]),
        BTreeSet::from([0, 1])
    );
}

#[test]
fn the_nth_sync_fails_and_every_sync_fails_on_demand() {
    let (disk, file) = disk_with(8);
    disk.faults(|faults| {
        faults.fail_sync(2);
        faults.fail_sync_names(1);
    });
    assert!(file.sync().is_ok() && file.sync().is_err() && file.sync().is_ok());
    assert!(disk.sync_names().is_err() && disk.sync_names().is_ok());
    disk.faults(|faults| faults.fail_every_sync(true));
    assert!(file.sync().is_err() && file.sync().is_err() && disk.sync_names().is_err());
    disk.faults(SimulatedFaults::clear);
    assert!(file.sync().is_ok() && disk.sync_names().is_ok());
}

#[test]
fn a_lying_sync_covers_nothing_until_it_is_honest_again() {
    let (disk, file) = disk_with(512);
    file.write_at(&[1; 512], 0).unwrap();
    disk.create("b", 1).unwrap();
    disk.faults(|faults| faults.lying_sync(true));
    file.sync().unwrap();
    disk.sync_names().unwrap();
    let look = |left: &SimulatedDisk| (content(left, "a")[0], names(left).len());
    assert_eq!(
        over_crashes(&disk, look),
        BTreeSet::from([(0, 1), (0, 2), (1, 1), (1, 2)])
    );
    disk.faults(|faults| faults.lying_sync(false));
    file.sync().unwrap();
    disk.sync_names().unwrap();
    assert_eq!(over_crashes(&disk, look), BTreeSet::from([(1, 2)]));
}

#[test]
fn a_short_write_leaves_a_beginning_and_its_error() {
    let mut lengths = BTreeSet::new();
    for seed in 0..20 {
        let (disk, file) = disk_with(1000);
        disk.set_seed(seed);
        disk.faults(|faults| faults.short_write(2, ErrorKind::StorageFull));
        file.write_at(&[1; 10], 0).unwrap();
        let error = file.write_at(&[2; 1000], 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let written = content(&disk, "a")
            .iter()
            .take_while(|byte| **byte == 2)
            .count();
        assert!(written < 1000 && !content(&disk, "a")[written..].contains(&2));
        lengths.insert(written);
        disk.faults(|faults| faults.short_write(1, ErrorKind::Other));
        assert_eq!(
            file.write_at(b"xy", 0).unwrap_err().raw_os_error(),
            Some(EIO)
        );
        file.write_at(b"xy", 0).unwrap();
    }
    assert!(
        lengths.len() > 10,
        "the length of the beginning must vary: {lengths:?}"
    );
}

#[test]
fn a_read_error_is_met_by_reads_that_touch_it_only() {
    let (disk, file) = disk_with(1000);
    disk.faults(|faults| faults.read_error("a", 100..200));
    assert_eq!(
        file.read_at(&mut [0; 10], 195).unwrap_err().raw_os_error(),
        Some(EIO)
    );
    assert!(file.read_at(&mut [0; 101], 0).is_err());
    assert!(file.read_at(&mut [0; 100], 0).is_ok() && file.read_at(&mut [0; 100], 200).is_ok());
    marked(&disk, "b", 1).read_at(&mut [0; 300], 0).unwrap();
}

#[test]
fn a_flipped_bit_is_in_reads_in_regions_and_in_every_crash() {
    let (disk, file) = disk_with(1024);
    let region = file.map().unwrap();
    file.write_at(&[0x10; 512], 0).unwrap();
    disk.flip_bit("a", 5, 0).unwrap();
    disk.flip_bit("a", 600, 7).unwrap();
    assert_eq!(
        (content(&disk, "a")[5], region.bytes(5, 1).unwrap()[0]),
        (0x11, 0x11)
    );
    assert_eq!(
        over_crashes(&disk, |left| content(left, "a")[5]),
        BTreeSet::from([0x01, 0x11])
    );
    assert_eq!(
        over_crashes(&disk, |left| content(left, "a")[600]),
        BTreeSet::from([0x80])
    );
    assert_eq!(
        disk.flip_bit("a", 1024, 0).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        disk.flip_bit("b", 0, 0).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn every_change_is_counted_and_nothing_else() {
    let disk = SimulatedDisk::new();
    let file = disk.create("a", 10).unwrap();
    let region = file.map().unwrap();
    file.store(&region, 0, b"x");
    file.write_at(b"x", 0).unwrap();
    file.set_len(20).unwrap();
    file.punch(0, 5).unwrap();
    file.sync().unwrap();
    disk.rename("a", "b").unwrap();
    disk.sync_names().unwrap();
    disk.remove("b").unwrap();
    assert_eq!(disk.operations(), 9);
    file.read_at(&mut [0], 0).unwrap();
    disk.list().unwrap();
    disk.free_bytes().unwrap();
    file.len().unwrap();
    assert_eq!(disk.operations(), 9);
}

#[test]
fn after_the_cut_no_change_reaches_the_disk() {
    let (disk, file) = disk_with(1024);
    let region = file.map().unwrap();
    disk.power_off_after(disk.operations() + 1);
    file.write_at(&[1; 512], 0).unwrap();
    file.store(&region, 512, &[1; 512]);
    let errors = [
        file.write_at(b"x", 0).err(),
        file.set_len(5).err(),
        file.punch(0, 512).err(),
        file.sync().err(),
        disk.create("b", 1).err(),
        disk.rename("a", "b").err(),
        disk.remove("a").err(),
        disk.sync_names().err(),
    ];
    assert!(errors.iter().all(Option::is_some));
    // The process still sees its own memory; the file has only what came before the cut, which was not synced.
    assert_eq!(region.bytes(512, 1).unwrap(), [1]);
    let left = disk.crash_as(CrashImage::Newest, 0);
    assert_eq!(content(&left, "a"), [[1; 512], [0; 512]].concat());
    assert_eq!(
        over_crashes(&disk, |left| content(left, "a")[0]),
        BTreeSet::from([0, 1])
    );
    left.create("b", 1).unwrap();
}

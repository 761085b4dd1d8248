//! What a running process sees.

use super::*;

#[test]
fn a_new_file_reads_zero_and_its_name_is_taken() {
    let disk = SimulatedDisk::new();
    let file = disk.create("a", 1000).unwrap();
    assert_eq!(content(&disk, "a"), vec![0; 1000]);
    assert_eq!(file.map().unwrap().bytes(0, 1000).unwrap(), vec![0; 1000]);
    assert_eq!(
        disk.create("a", 1).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    assert_eq!(
        disk.open("b", Access::Read).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        disk.list().unwrap(),
        [FileEntry {
            name: "a".into(),
            len: 1000
        }]
    );
}

#[test]
fn reads_beyond_the_end_and_writes_to_a_read_handle_are_refused() {
    let (disk, file) = disk_with(10);
    assert_eq!(
        file.read_at(&mut [0; 2], 9).unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    let reader = disk.open("a", Access::Read).unwrap();
    assert_eq!(
        reader.write_at(b"x", 0).unwrap_err().kind(),
        ErrorKind::PermissionDenied
    );
}

#[test]
fn what_was_cut_off_reads_as_zero_when_the_file_grows_again() {
    let (_disk, file) = disk_with(0);
    file.write_at(&[1; 6000], 0).unwrap();
    file.set_len(10).unwrap();
    file.set_len(6000).unwrap();
    let mut bytes = vec![9; 6000];
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!((&bytes[..10], &bytes[10..]), (&[1; 10][..], &[0; 5990][..]));
}

#[test]
fn open_handles_and_regions_outlive_the_name() {
    let disk = SimulatedDisk::new();
    let file = marked(&disk, "a", 1);
    let region = file.map().unwrap();
    disk.remove("a").unwrap();
    disk.sync_names().unwrap();
    file.read_at(&mut [0; 512], 0).unwrap();
    assert_eq!(region.bytes(0, 1).unwrap(), [1]);
    drop(file);
    assert_eq!(region.bytes(511, 1).unwrap(), [1]);
}

#[test]
fn a_killed_process_loses_nothing_but_a_later_crash_may() {
    let (disk, file) = disk_with(512);
    let lock = disk.lock().unwrap();
    let region = file.map().unwrap();
    file.write_at(&[1; 512], 0).unwrap();
    disk.create("b", 1).unwrap();
    let left = disk.process_killed();
    assert_eq!(content(&left, "a"), vec![1; 512]);
    assert_eq!(names(&left), ["a", "b"]);
    assert!(left.lock().is_ok(), "the lock died with the process");
    assert!(over_crashes(&left, |crashed| content(crashed, "a")[0]).contains(&0));
    assert!(over_crashes(&left, names).contains(&vec!["a".to_owned()]));
    // Neither disk reaches the other: the dead process has its own memory still, and its own files.
    left.open("a", Access::Write)
        .unwrap()
        .write_at(&[3], 0)
        .unwrap();
    assert_eq!(region.bytes(0, 1).unwrap(), [1]);
    left.open("a", Access::Write)
        .unwrap()
        .write_at(&[1], 0)
        .unwrap();
    file.write_at(&[2; 512], 0).unwrap();
    assert_eq!(content(&left, "a"), vec![1; 512]);
    drop(lock);
}

#[test]
fn the_lock_is_one_holders_at_a_time() {
    let disk = SimulatedDisk::new();
    let guard = disk.lock().unwrap();
    assert_eq!(
        disk.clone().lock().err().unwrap().kind(),
        ErrorKind::WouldBlock
    );
    assert!(disk.crash(0).lock().is_ok());
    drop(guard);
    assert!(disk.lock().is_ok());
}

#[test]
fn both_ways_of_writing_show_in_every_region_and_in_reads() {
    let (_disk, file) = disk_with(600);
    let first = file.map().unwrap();
    file.write_at(&[1; 700], 0).unwrap();
    let second = file.map().unwrap();
    assert_eq!((first.len(), second.len()), (600, 700));
    file.store(&second, 590, &[2; 20]);
    assert_eq!(
        first.bytes(588, 12).unwrap(),
        [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    );
    assert_eq!(second.bytes(608, 3).unwrap(), [2, 2, 1]);
    let mut read = [0; 3];
    file.read_at(&mut read, 608).unwrap();
    assert_eq!(read, [2, 2, 1]);
    assert!(
        Arc::ptr_eq(&second, &file.map().unwrap()),
        "one length, one region"
    );
}

#[test]
#[should_panic(expected = "region of another file")]
fn a_store_into_another_files_region_is_a_bug() {
    let (disk, file) = disk_with(10);
    let other = disk.create("b", 10).unwrap().map().unwrap();
    file.store(&other, 0, b"x");
}

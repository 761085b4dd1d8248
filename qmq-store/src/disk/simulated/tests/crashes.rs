//! What a loss of power may leave, and what it may not.

use super::*;

#[test]
fn an_unsynced_sector_may_be_of_any_version() {
    let (disk, file) = disk_with(512);
    file.write_at(&[1; 512], 0).unwrap();
    file.write_at(&[2; 512], 0).unwrap();
    let seen = over_crashes(&disk, |left| content(left, "a"));
    assert_eq!(
        seen,
        BTreeSet::from([vec![0; 512], vec![1; 512], vec![2; 512]])
    );
}

#[test]
fn a_synced_sector_is_never_old() {
    let (disk, file) = disk_with(512);
    file.write_at(&[1; 512], 0).unwrap();
    file.sync().unwrap();
    assert_eq!(
        over_crashes(&disk, |left| content(left, "a")),
        BTreeSet::from([vec![1; 512]])
    );
    // And what was synced is the oldest that later crashes bring back.
    file.write_at(&[2; 512], 0).unwrap();
    let seen = over_crashes(&disk, |left| content(left, "a")[0]);
    assert_eq!(seen, BTreeSet::from([1, 2]));
}

#[test]
fn a_crash_leaves_nothing_that_another_crash_could_lose() {
    let (disk, file) = disk_with(2048);
    file.write_at(&[1; 2048], 0).unwrap();
    for seed in 0..if cfg!(miri) { 2 } else { 40 } {
        let left = disk.crash(seed);
        let expected = content(&left, "a");
        assert_eq!(
            over_crashes(&left, |again| content(again, "a")),
            BTreeSet::from([expected])
        );
    }
}

#[test]
fn a_seed_leaves_the_same_image_every_time() {
    let run = || {
        let (disk, file) = disk_with(8192);
        let region = file.map().unwrap();
        (0..20).for_each(|n| file.store(&region, n * 300, &[n as u8 + 1; 700]));
        (0..50)
            .map(|seed| content(&disk.crash(seed), "a"))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn sectors_of_one_write_survive_independently_and_whole() {
    let (disk, file) = disk_with(4 * 512);
    file.write_at(&[1; 4 * 512], 0).unwrap();
    let seen = over_crashes(&disk, |left| {
        let bytes = content(left, "a");
        let sectors = bytes.chunks(512);
        sectors
            .map(|sector| {
                assert!(
                    sector.iter().all(|byte| *byte == sector[0]),
                    "a sector was torn"
                );
                sector[0]
            })
            .collect::<Vec<_>>()
    });
    assert_eq!(seen.len(), 16, "all subsets of the sectors: {seen:?}");
}

#[test]
fn a_torn_store_leaves_mixed_sectors_and_beginnings_of_one() {
    let (disk, file) = disk_with(3 * 512);
    let region = file.map().unwrap();
    file.store(&region, 100, &[7; 1200]);
    let images = over_crashes(&disk, |left| content(left, "a"));
    let filled = |image: &Vec<u8>, sector: usize| {
        image[sector * 512..][..512]
            .iter()
            .filter(|byte| **byte == 7)
            .count()
    };
    // A later sector without an earlier one.
    assert!(
        images
            .iter()
            .any(|image| filled(image, 0) == 0 && filled(image, 1) == 512)
    );
    let mut partial = 0;
    for image in &images {
        let counts: Vec<_> = (0..3).map(|sector| filled(image, sector)).collect();
        for (sector, (from, whole)) in [(0, 412), (0, 512), (0, 276)].into_iter().enumerate() {
            let start = sector * 512 + if sector == 0 { 100 } else { from };
            let beginning = &image[start..start + counts[sector]];
            assert!(
                beginning.iter().all(|byte| *byte == 7),
                "not a beginning of the stored bytes"
            );
            partial += usize::from(counts[sector] > 0 && counts[sector] < whole);
        }
    }
    assert!(partial > 0, "no sector was seen in the middle of the copy");
}

#[test]
fn a_prefix_image_is_the_file_at_one_moment() {
    let (disk, file) = disk_with(8 * 512);
    for sector in 0..8 {
        file.write_at(&[1; 512], sector * 512).unwrap();
    }
    let images: BTreeSet<Vec<u8>> = (0..SEEDS)
        .map(|seed| content(&disk.crash_as(CrashImage::Prefix, seed), "a"))
        .collect();
    assert_eq!(images.len(), 9);
    assert!(images.iter().all(|image| image.is_sorted_by(|a, b| a >= b)));
}

#[test]
fn each_kind_of_image_is_what_it_says() {
    let (disk, file) = disk_with(8 * 512);
    file.write_at(&[1; 8 * 512], 0).unwrap();
    let counts = |kind| -> BTreeSet<usize> {
        let count = |left: &SimulatedDisk| {
            content(left, "a")
                .chunks(512)
                .filter(|sector| sector[0] == 1)
                .count()
        };
        (0..100)
            .map(|seed| count(&disk.crash_as(kind, seed)))
            .collect()
    };
    assert_eq!(counts(CrashImage::Newest), BTreeSet::from([8]));
    assert_eq!(counts(CrashImage::Oldest), BTreeSet::from([0]));
    assert_eq!(counts(CrashImage::AllButOne), BTreeSet::from([7]));
    assert_eq!(counts(CrashImage::OnlyOne), BTreeSet::from([1]));
    assert!(counts(CrashImage::Random).len() > 4);
    assert!(counts(CrashImage::PerFile).is_superset(&BTreeSet::from([0, 8])));
}

#[test]
fn an_unsynced_length_may_be_any_since_the_sync() {
    let (disk, file) = disk_with(100);
    file.write_at(&[1; 50], 100).unwrap();
    file.set_len(20).unwrap();
    let seen = over_crashes(&disk, |left| content(left, "a").len());
    assert_eq!(seen, BTreeSet::from([100, 150, 20]));
    file.sync().unwrap();
    assert_eq!(
        over_crashes(&disk, |left| content(left, "a").len()),
        BTreeSet::from([20])
    );
}

#[test]
fn the_length_of_a_new_file_is_lost_until_the_file_is_synced() {
    let disk = SimulatedDisk::new();
    let file = disk.create("a", 100).unwrap();
    disk.sync_names().unwrap();
    assert_eq!(
        over_crashes(&disk, |left| content(left, "a").len()),
        BTreeSet::from([0, 100])
    );
    file.sync().unwrap();
    assert_eq!(
        over_crashes(&disk, |left| content(left, "a").len()),
        BTreeSet::from([100])
    );
}

#[test]
fn a_name_that_was_not_synced_may_vanish_even_if_the_file_was() {
    let disk = SimulatedDisk::new();
    disk.create("a", 8).unwrap().sync().unwrap();
    let seen = over_crashes(&disk, names);
    assert_eq!(seen, BTreeSet::from([vec![], vec!["a".to_owned()]]));
    disk.sync_names().unwrap();
    assert_eq!(
        over_crashes(&disk, names),
        BTreeSet::from([vec!["a".to_owned()]])
    );
}

#[test]
fn a_rename_may_be_undone_until_the_names_are_synced() {
    let disk = SimulatedDisk::new();
    marked(&disk, "old", 1);
    marked(&disk, "new", 2);
    disk.sync_names().unwrap();
    disk.rename("new", "old").unwrap();
    let pair = |name: &str, mark| (name.to_owned(), mark);
    let done = vec![pair("old", 2)];
    let undone = vec![pair("new", 2), pair("old", 1)];
    let both_names = vec![pair("new", 2), pair("old", 2)];
    let seen = over_crashes(&disk, named_marks);
    assert_eq!(seen, BTreeSet::from([done.clone(), undone, both_names]));
    disk.sync_names().unwrap();
    assert_eq!(over_crashes(&disk, named_marks), BTreeSet::from([done]));
}

#[test]
fn a_chain_of_renames_loses_no_durable_file() {
    let disk = SimulatedDisk::new();
    marked(&disk, "a", 1);
    marked(&disk, "b", 2);
    disk.sync_names().unwrap();
    disk.rename("b", "c").unwrap();
    disk.rename("a", "b").unwrap();
    let marks = over_crashes(&disk, |left| {
        named_marks(left)
            .into_iter()
            .map(|(_, mark)| mark)
            .collect::<BTreeSet<_>>()
    });
    assert_eq!(marks, BTreeSet::from([BTreeSet::from([1, 2])]));
}

#[test]
fn a_removed_file_may_be_back_with_its_bytes() {
    let disk = SimulatedDisk::new();
    marked(&disk, "a", 1);
    disk.sync_names().unwrap();
    disk.remove("a").unwrap();
    assert_eq!(
        disk.open("a", Access::Read).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let seen = over_crashes(&disk, named_marks);
    assert_eq!(seen, BTreeSet::from([vec![], vec![("a".to_owned(), 1)]]));
    disk.sync_names().unwrap();
    assert_eq!(over_crashes(&disk, named_marks), BTreeSet::from([vec![]]));
}

#[test]
fn ten_thousand_images_of_64_kib_files_are_a_matter_of_seconds() {
    let disk = SimulatedDisk::new();
    let files: Vec<_> = (0..3)
        .map(|n| disk.create(&format!("f{n}"), 64 * 1024).unwrap())
        .collect();
    for file in &files {
        file.sync().unwrap();
        let region = file.map().unwrap();
        (0..60).for_each(|n| file.store(&region, n * 1000, &[n as u8 + 1; 900]));
    }
    disk.sync_names().unwrap();
    let begin = std::time::Instant::now();
    for seed in 0..if cfg!(miri) { 10 } else { 10_000 } {
        assert_eq!(disk.crash(seed).list().unwrap().len(), 3);
    }
    // Generous, for machines that are busy with other tests.
    assert!(begin.elapsed().as_secs() < 60, "took {:?}", begin.elapsed());
}

#[test]
fn a_prefix_image_cuts_several_versions_at_one_moment() {
    let (disk, file) = disk_with(1024);
    for mark in 1..=2 {
        file.write_at(&[mark; 512], 0).unwrap();
        file.write_at(&[mark; 512], 512).unwrap();
    }
    let pair = |left: &SimulatedDisk| (content(left, "a")[0], content(left, "a")[512]);
    let seen: BTreeSet<_> = (0..SEEDS)
        .map(|seed| pair(&disk.crash_as(CrashImage::Prefix, seed)))
        .collect();
    assert_eq!(
        seen,
        BTreeSet::from([(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)])
    );
}

#[test]
fn bytes_beyond_a_length_that_was_lost_are_zero_if_the_file_grows_again() {
    let (disk, file) = disk_with(100);
    file.write_at(&[1; 5000], 0).unwrap();
    let mut shorter = 0;
    for seed in 0..SEEDS {
        let left = disk.crash(seed);
        let file = left.open("a", Access::Write).unwrap();
        if file.len().unwrap() == 100 {
            shorter += 1;
            file.set_len(5000).unwrap();
            assert!(content(&left, "a")[100..].iter().all(|byte| *byte == 0));
        }
    }
    assert!(shorter > 0);
}

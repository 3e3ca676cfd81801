use proptest::prelude::*;

use super::*;

fn context() -> ChangeContext {
    ChangeContext {
        now_ms: 1_700_000_000_000,
        next: 1,
    }
}

fn assert_covers_all(description: &Description) {
    let mut next = Some(0);
    for shard in description.open_shards() {
        assert_eq!(Some(shard.first_hash_key), next);
        assert!(shard.first_hash_key <= shard.last_hash_key);
        next = shard.last_hash_key.checked_add(1);
    }
    assert_eq!(next, None, "the last range ends with the last hash key");
}

#[test]
fn equal_ranges_are_those_of_kinesis() {
    assert_eq!(equal_ranges(1), [(0, u128::MAX)]);
    let third = 113_427_455_640_312_821_154_458_202_477_256_070_485;
    let ranges = equal_ranges(3);
    assert_eq!(ranges[1], (third, 2 * third - 1));
    assert_eq!(ranges[2], (2 * third, u128::MAX));
    assert_eq!(equal_ranges(2)[0], (0, (1 << 127) - 1));
}

#[test]
fn a_child_names_its_parents_and_its_numbers_are_larger() {
    let mut context = context();
    let mut description = Description::new(2, false, &mut context);
    context.now_ms -= 5_000_000;
    description.split(0, 77, &mut context).unwrap();
    description.merge(3, 1, &mut context).unwrap();
    assert_covers_all(&description);
    let parents: Vec<_> = description
        .shards
        .iter()
        .map(|shard| shard.parents.clone())
        .collect();
    assert_eq!(parents, [vec![], vec![], vec![0], vec![0], vec![3, 1]]);
    assert_eq!(
        description
            .children(0)
            .map(|shard| shard.index)
            .collect::<Vec<_>>(),
        [2, 3]
    );
    for shard in &description.shards {
        for parent in &shard.parents {
            let ended = description
                .shard(*parent)
                .unwrap()
                .ending_sequence_number()
                .unwrap();
            assert!(ended < shard.starting_sequence_number());
        }
    }
    let open: Vec<_> = description
        .open_shards()
        .iter()
        .map(|shard| shard.index)
        .collect();
    assert_eq!(open, [2, 4]);
}

#[test]
fn what_cannot_be_split_or_merged_is_refused_and_changes_nothing() {
    let mut context = context();
    let mut description = Description::new(3, false, &mut context);
    let before = description.clone();
    let first = description.shards[1].first_hash_key;
    let refused = description.split(1, first, &mut context).unwrap_err();
    assert!(
        matches!(refused, StreamError::InvalidChange(_)),
        "{refused}"
    );
    let refused = description.merge(0, 2, &mut context).unwrap_err();
    assert!(refused.to_string().contains("not adjacent"), "{refused}");
    let refused = description.split(9, 5, &mut context).unwrap_err();
    assert!(matches!(refused, StreamError::UnknownShard(_)), "{refused}");
    assert_eq!(description, before);
}

#[test]
fn a_shard_knows_its_own_numbers_from_those_of_others() {
    let mut context = context();
    let mut description = Description::new(2, false, &mut context);
    let (zero, one) = (&description.shards[0], &description.shards[1]);
    assert!(zero.may_assign(zero.number(55, 1_800_000_000_000)));
    assert!(!zero.may_assign(one.number(55, 1_800_000_000_000)));
    assert!(!zero.may_assign(SequenceNumber::plain(3)));
    description = Description::of_plain(&mut context);
    let plain = &description.shards[0];
    assert!(plain.may_assign(SequenceNumber::plain(3)));
    assert!(plain.may_assign(plain.number(55, 1)));
    assert_eq!(plain.starting_sequence_number().to_string(), "0");
}

#[test]
fn a_description_from_before_the_maximum_size_of_records_has_that_of_a_new_stream() {
    let mut description = Description::new(1, false, &mut context());
    let text = serde_json::to_string(&description).unwrap();
    assert!(!text.contains("max_record_kib"), "{text}");
    assert_eq!(description.max_record_bytes(), 1 << 20);
    let read: Description = serde_json::from_str(&text).unwrap();
    assert_eq!(read, description);
    description.max_record_kib = RECORD_KIB_MAX;
    let text = serde_json::to_string(&description).unwrap();
    let read: Description = serde_json::from_str(&text).unwrap();
    assert_eq!(read.max_record_bytes(), 10 << 20);
}

proptest! {
    #[test]
    fn scaling_leaves_equal_shards_that_cover_all(
        counts in prop::collection::vec(1..20_usize, 2..6),
    ) {
        let mut context = context();
        let mut description = Description::new(counts[0], false, &mut context);
        for count in &counts[1..] {
            description.scale(*count, &mut context).unwrap();
            assert_covers_all(&description);
            let ranges: Vec<_> = description
                .open_shards()
                .iter()
                .map(|shard| (shard.first_hash_key, shard.last_hash_key))
                .collect();
            prop_assert_eq!(ranges, equal_ranges(*count));
        }
        let text = serde_json::to_vec(&description).unwrap();
        let read: Description = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(read, description);
    }
}

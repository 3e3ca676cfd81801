use super::*;
use crate::address::FunctionType;

fn address(namespace: &str, name: &str, id: &str) -> Address {
    Address::new(FunctionType::new(namespace, name), id)
}

/// Ids, the MD5 of each as another implementation computed it, and the key group among 1,024.
const VECTORS: [(&str, u128, u16); 6] = [
    ("", 0xd41d_8cd9_8f00_b204_e980_0998_ecf8_427e, 848),
    ("alice", 0x6384_e2b2_184b_cbf5_8ecc_f10c_a7a6_563c, 398),
    ("bob", 0x9f9d_51bc_70ef_21ca_5c14_f307_980a_29d8, 638),
    ("all", 0xa181_a603_769c_1f98_ad92_7e73_67c7_aa51, 646),
    (
        "{tenant}/order-7",
        0xa1b0_396d_eeca_9b7f_c20e_a72a_fe30_f5d0,
        646,
    ),
    ("日本", 0x4dbe_d2e6_5745_7884_e671_37d3_5141_19b3, 310),
];

#[test]
fn an_id_has_the_key_group_of_the_top_bits_of_its_md5() {
    let placement = Placement::id_md5(1_024, false);
    for (id, md5, key_group) in VECTORS {
        assert_eq!(hash_key(id), md5, "{id}");
        assert_eq!(placement.key_group_of_id(id), KeyGroup(key_group), "{id}");
        assert_eq!(u128::from(key_group), md5 >> 118, "{id}");
    }
}

#[test]
fn any_number_of_key_groups_divides_the_hash_keys_evenly() {
    let expected = [(1_000, 388), (7, 2), (1, 0), (KEY_GROUPS_MAX, 25_476)];
    for (key_groups, key_group) in expected {
        let placement = Placement::id_md5(key_groups, false);
        assert_eq!(placement.key_group_of_id("alice"), KeyGroup(key_group));
        assert_eq!(placement.key_group_of_hash_key(0), KeyGroup(0));
        let last = placement.key_group_of_hash_key(u128::MAX);
        assert_eq!(last, KeyGroup(key_groups - 1));
    }
}

#[test]
fn functions_of_one_entity_have_one_key_group() {
    let placement = Placement::id_md5(1_024, false);
    let cart = placement.key_group(&address("shop", "cart", "alice"));
    let stock = placement.key_group(&address("store", "stock", "alice"));
    assert_eq!((cart, stock), (KeyGroup(398), KeyGroup(398)));
}

#[test]
fn earlier_roots_keep_their_buckets() {
    let placement = Placement::xxh3(256);
    // The values in every earlier version: the hash is 7_624_533_197_027_847_696.
    let alice = address("example", "greeter", "alice");
    assert_eq!(placement.key_group(&alice), KeyGroup(16));
    assert_eq!(Placement::xxh3(4).key_group(&alice), KeyGroup(0));
    assert_eq!(Placement::xxh3(1_000).key_group(&alice), KeyGroup(280));
    for id in ["", "bob", "{tenant}/order-7"] {
        let address = address("example", "greeter", id);
        let expected = (address.stable_hash() & 0xffff_ffff) % 256;
        assert_eq!(u64::from(placement.key_group(&address).0), expected);
    }
}

#[test]
fn only_the_first_hash_tag_of_an_id_is_hashed() {
    for (id, tag) in [
        ("{tenant}/order-7", "tenant"),
        ("order-7{tenant}", "tenant"),
        ("{tenant}{other}", "tenant"),
        ("{{tenant}}", "{tenant"),
        ("{}{tenant}", "{}{tenant}"),
        ("a}{b}c", "b"),
        ("{tenant", "{tenant"),
        ("tenant}", "tenant}"),
        ("", ""),
    ] {
        assert_eq!(hash_tag(id), tag, "{id}");
    }
    let with = Placement::id_md5(1_024, true);
    let without = Placement::id_md5(1_024, false);
    assert_eq!(with.key_group_of_id("{tenant}/order-7"), KeyGroup(695));
    assert_eq!(without.key_group_of_id("{tenant}/order-7"), KeyGroup(646));
    assert_eq!(with.key_group_of_id("alice"), KeyGroup(398));
}

#[test]
fn even_shards_of_kinesis_fall_onto_even_partitions() {
    for partitions in [1, 2, 4, 8, 64, 1_024_u16] {
        let placement = Placement::id_md5(1_024, false);
        let map = PartitionMap::even(1_024, partitions);
        // Kinesis divides the hash keys evenly when it creates a stream.
        let width = (u128::MAX / u128::from(partitions)) + u128::from(partitions > 1);
        for shard in 0..partitions {
            let first = width.saturating_mul(u128::from(shard));
            let last = match shard + 1 == partitions {
                true => u128::MAX,
                false => first + (width - 1),
            };
            for hash_key in [first, first + (last - first) / 2, last] {
                let key_group = placement.key_group_of_hash_key(hash_key);
                assert_eq!(map.partition_of(key_group), u32::from(shard));
            }
        }
    }
}

#[test]
fn a_shard_that_is_not_aligned_has_the_partition_of_its_middle() {
    for partitions in 1..=300_u16 {
        let placement = Placement::id_md5(1_024, false);
        let map = PartitionMap::even(1_024, partitions);
        let width = u128::MAX / u128::from(partitions);
        for shard in 0..partitions {
            let middle = width * u128::from(shard) + width / 2;
            let key_group = placement.key_group_of_hash_key(middle);
            assert_eq!(map.partition_of(key_group), u32::from(shard));
        }
    }
}

#[test]
fn even_ranges_are_contiguous_and_differ_by_one_key_group_at_most() {
    for key_groups in [1, 2, 7, 256, 1_000, 1_024, KEY_GROUPS_MAX] {
        for partitions in [1, 2, 3, 5, 16, 100, 1_024] {
            let map = PartitionMap::even(key_groups, partitions);
            let ranges: Vec<_> = map.partitions().collect();
            assert_eq!(ranges.len(), usize::from(partitions.min(key_groups)));
            assert_eq!(PartitionMap::new(key_groups, &ranges), Ok(map.clone()));
            let lengths = || ranges.iter().map(|(_, range)| range.len());
            assert!(lengths().max().unwrap() - lengths().min().unwrap() <= 1);
            for (partition, range) in &ranges {
                assert_eq!(map.range_of(*partition), Some(*range));
                for key_group in [range.first(), KeyGroup(range.end() - 1)] {
                    assert!(range.contains(key_group));
                    assert_eq!(map.partition_of(key_group), *partition);
                }
                assert!(!range.contains(KeyGroup(range.end())));
            }
        }
    }
}

#[test]
fn a_map_with_a_gap_an_overlap_or_a_repetition_is_refused() {
    let map = |partitions: &[(u32, u16, u16)]| {
        let ranges = partitions.iter();
        let ranges = ranges.map(|(number, first, end)| (*number, KeyGroupRange::new(*first, *end)));
        PartitionMap::new(8, &ranges.collect::<Vec<_>>()).map_err(|refused| refused.to_string())
    };
    assert_eq!(
        map(&[(4, 0, 5), (2, 5, 8)])
            .unwrap()
            .partition_of(KeyGroup(5)),
        2
    );
    assert_eq!(
        map(&[(0, 0, 4), (1, 5, 8)]).unwrap_err(),
        "partition 1 has the key groups 5-7, expected a range from 4"
    );
    assert_eq!(
        map(&[(0, 0, 4), (1, 3, 8)]).unwrap_err(),
        "partition 1 has the key groups 3-7, expected a range from 4"
    );
    assert_eq!(
        map(&[(0, 0, 4), (1, 4, 4)]).unwrap_err(),
        "partition 1 has the key groups none, expected a range from 4"
    );
    assert_eq!(
        map(&[(0, 0, 7)]).unwrap_err(),
        "the partitions have the key groups before 7, of 8"
    );
    assert_eq!(
        map(&[(0, 0, 4), (0, 4, 8)]).unwrap_err(),
        "partition 0 is named twice"
    );
    assert_eq!(
        map(&[]).unwrap_err(),
        "the partitions have the key groups before 0, of 8"
    );
}

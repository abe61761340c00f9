//! Which prefixes are found, which are kept, and what host memory holds.

use super::*;

fn cache() -> PrefixCache {
    PrefixCache::new(100, Reuse::Parts)
}

fn tokens(n: i32) -> Vec<TokenId> {
    (0..n).collect()
}

/// Adds a prefix that has left the pool with a copy of this many bytes.
fn offload(cache: &mut PrefixCache, seq_id: usize, tokens: Vec<TokenId>, bytes: usize) {
    let end = tokens.len();
    cache.insert(seq_id, tokens);
    if bytes <= cache.room_for_copies() {
        cache.add_part(seq_id, end, vec![0; bytes]);
    }
    cache.leave_pool(seq_id);
}

#[test]
fn the_longest_prefix_is_found_and_leaves_one_token_to_compute() {
    let mut cache = cache();
    cache.insert(1, tokens(6));
    offload(&mut cache, 2, [tokens(9), vec![77]].concat(), 10);
    let found = cache.find(&tokens(20)).expect("cached");
    assert_eq!((found.shared, matches!(found.source, PrefixSource::Host { tokens: 10, .. })), (9, true));
    assert_eq!(cache.find(&tokens(6)).map(|found| found.shared), Some(5));
    assert_eq!(cache.find(&[5, 6, 7, 8, 9]), None);
}

#[test]
fn a_state_is_reused_whole_or_not_at_all() {
    let mut cache = PrefixCache::new(100, Reuse::Whole);
    cache.insert(1, tokens(6));
    assert_eq!(cache.find(&tokens(6)), None);
    assert_eq!(cache.find(&tokens(7)).map(|found| found.shared), Some(6));
    assert_eq!(cache.find(&[0, 1, 2, 3, 4, 9, 9]), None);
    assert_eq!((cache.next_part(1, 5), cache.next_part(1, 6)), (None, Some(0..6)), "copied whole or not at all");
}

#[test]
fn host_memory_never_exceeds_its_limit_and_the_oldest_go_first() {
    let mut cache = cache();
    for n in 0..5 {
        offload(&mut cache, 1, vec![n; 8], 40);
        assert!(cache.host_bytes() <= 100);
    }
    assert_eq!(cache.find(&[3; 9]).map(|found| found.shared), Some(8));
    assert_eq!(cache.find(&[0; 9]), None);
    offload(&mut cache, 1, vec![9; 8], 101);
    assert_eq!(cache.find(&[9; 9]), None);
}

#[test]
fn a_longer_prefix_replaces_a_shorter_one_and_takes_over_its_copy() {
    let mut cache = cache();
    assert_eq!(cache.insert(1, tokens(6)), [0; 0]);
    cache.add_part(1, 6, vec![0; 30]);
    assert_eq!(cache.insert(2, tokens(8)), [1]);
    assert!(!cache.is_worth_keeping(&tokens(7)));
    assert_eq!((cache.next_part(2, 64), cache.host_bytes()), (Some(6..8), 30), "only the new tokens are copied");
}

#[test]
fn a_prefix_that_leaves_the_pool_keeps_what_was_copied_of_it() {
    let mut cache = cache();
    cache.insert(1, tokens(60));
    for part in [0..20, 20..40] {
        assert_eq!(cache.next_part(1, 20), Some(part.clone()));
        cache.add_part(1, part.end, vec![0; 10]);
    }
    assert!(!cache.is_copied(1));
    assert!(cache.leave_pool(1) && !cache.leave_pool(1));
    let found = cache.find(&tokens(60)).expect("cached");
    let PrefixSource::Host { name, tokens: 40 } = found.source else { panic!("{found:?}") };
    assert_eq!((found.shared, cache.parts(name, 40).map(|(end, _)| end).collect()), (40, vec![20, 40]));
    assert_eq!(
        cache.find(&[tokens(15), vec![99; 9]].concat()).map(|found| found.source),
        Some(PrefixSource::Host { name, tokens: 20 })
    );
}

#[test]
fn full_host_memory_drops_the_tail_of_the_oldest_prefix_first_and_never_copies_of_prefixes_in_the_pool() {
    let mut cache = cache();
    cache.insert(1, vec![1; 40]);
    (1..=4).for_each(|part| cache.add_part(1, part * 10, vec![0; 15]));
    cache.leave_pool(1);
    cache.insert(2, vec![2; 40]);
    cache.add_part(2, 40, vec![0; 60]);
    assert_eq!(cache.find(&[1; 50]).map(|found| found.shared), Some(20));
    cache.insert(3, vec![3; 40]);
    assert_eq!((cache.room_for_copies(), cache.host_bytes()), (40, 90));
    assert_eq!(cache.next_to_copy(), Some(3));
    cache.refuse(3);
    assert_eq!(
        (cache.next_to_copy(), cache.costly(|_, _, _| true)),
        (None, Some(2)),
        "what has no room is not tried again"
    );
}

#[test]
fn an_unused_prefix_is_charged_for_its_cells_and_a_use_clears_the_charge() {
    let mut cache = cache();
    cache.insert(1, vec![1; 10]);
    cache.insert(2, vec![2; 20]);
    let is_dear = |_, _, cost: f64| cost > 50.0;
    for _ in 0..2 {
        cache.charge(1.0);
        cache.used(PrefixSource::Sequence { seq_id: 1 });
    }
    assert_eq!(cache.costly(is_dear), None);
    cache.charge(1.0);
    assert_eq!(cache.costly(is_dear), Some(2));
    assert_eq!(PrefixCache::new(0, Reuse::Parts).costly(is_dear), None);
}

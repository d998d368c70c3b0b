use std::collections::BTreeSet;

use super::*;

#[test]
fn names_are_unique_and_short_names_are_no_paths() {
    let names: BTreeSet<&str> = KNOWN.iter().flat_map(|model| [model.name, model.hub]).collect();
    assert_eq!(names.len(), 2 * KNOWN.len());
    assert!(KNOWN.iter().all(|model| !model.name.contains('/') && model.hub.matches('/').count() == 1));
}

#[test]
fn names_are_found_in_any_case_and_near_misses_are_told() {
    assert_eq!(known("Dream-7B").map(|model| model.name), Some("dream-7b"));
    assert_eq!(known("gsai-ml/llada-8b-instruct").map(|model| model.name), Some("llada-8b"));
    for (given, meant) in [
        ("difugpt-s", Some("diffugpt-s")),
        ("dream7b", Some("dream-7b")),
        ("llada", Some("llada-moe")),
        ("smollm", Some("smollm2")),
        ("diffusionfamily/difugpt-s", Some("diffusionfamily/diffugpt-s")),
        ("models/x", None),
    ] {
        assert_eq!(suggestion(given), meant, "{given}");
    }
}

/// Numbers that the releases name: parameters of DiffuGPT and DiffuLLaMA, and the bytes of LLaDA's tensors.
#[test]
fn sizes_are_those_of_the_releases() {
    let network = |name: &str| known(name).map(KnownModel::network).unwrap();
    assert_eq!(network("diffugpt-s").parameters(), 124_439_808);
    assert_eq!(network("diffugpt-m").parameters(), 354_824_192);
    assert_eq!(network("diffullama").parameters(), 6_738_415_616);
    assert_eq!(network("llada-8b").stored_bytes(), 16_031_162_368);
    assert_eq!(network("smollm2").parameters(), 134_515_008);
    assert_eq!(network("dream-7b").parameters(), 7_615_616_512);
    // What the hub says of their files: 249 MB, 710 MB, 4.06 GB, 16.4 GB.
    let megabytes = |name: &str| network(name).stored_bytes() / 1_000_000;
    assert_eq!([megabytes("diffugpt-s"), megabytes("diffugpt-m")], [248, 709]);
    assert_eq!([megabytes("sdar-1.7b"), megabytes("sdar-8b")], [4063, 16_381]);
    assert_eq!(network("diffcoder-8b").parameters() / 10_000_000, 825);
}

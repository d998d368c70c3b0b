use super::*;

fn parsed(text: &str) -> Result<Vec<Key>, (usize, &'static str)> {
    let mut keys = Vec::new();
    parse(text, &mut keys).map(|()| keys)
}

#[test]
fn a_key_is_found_by_itself_alone() {
    let keys = parsed("# people\nann:k1\n\n bob:k:2 \nann:k3\r\n").unwrap();
    let name = |given: &[u8]| find(&keys, given).map(|key| key.name.to_string());
    assert_eq!(name(b"k1").as_deref(), Some("ann"));
    assert_eq!(name(b"k:2").as_deref(), Some("bob"));
    assert_eq!(name(b"k3").as_deref(), Some("ann"), "a name may have several keys");
    for wrong in [&b""[..], b"k", b"k1 ", b"K1", b"ann", b"ann:k1", b"k2", b"\xff", &[b'k'; 10_000]] {
        assert_eq!(name(wrong), None);
    }
}

/// A comparison that ends early tells by its time how much of a key is right; a search that ends early, which
/// key it is. Time is not measured here: what would make it differ does not happen.
#[test]
fn a_given_key_is_compared_with_all_keys_whichever_it_is() {
    struct Counted<'a>(u8, &'a std::cell::Cell<usize>);

    impl ConstantTimeEq for Counted<'_> {
        fn ct_eq(&self, other: &Self) -> Choice {
            self.1.set(self.1.get() + 1);
            self.0.ct_eq(&other.0)
        }
    }

    let compared = std::cell::Cell::new(0);
    let known = [5, 6, 7, 8].map(|value| Counted(value, &compared));
    for (value, expected) in [(5, Some(0)), (8, Some(3)), (9, None)] {
        compared.set(0);
        assert_eq!(place(known.iter(), &Counted(value, &compared)), expected);
        assert_eq!(compared.get(), known.len(), "{value}");
    }
}

#[test]
fn no_key_is_printed() {
    let key = &parsed("ann:verysecret").unwrap()[0];
    let keys = Keys::open(None, Some(Secret("verysecret".to_owned()))).unwrap();
    assert!(!format!("{key:?}{keys:?}").contains("secret"));
}

#[test]
fn lines_say_what_is_wrong_with_them_and_not_what_they_hold() {
    let long = format!("ann:{}", "x".repeat(513));
    for bad in [
        "just-a-key",
        ":secret",
        "a b:secret",
        "ann:",
        "ann:secret secret",
        "ann:secret requests=0",
        "ann:secret requests=-1",
        "ann:secret words=5",
        "ann:sécret",
        &format!("{}:secret", "n".repeat(65)),
        &long,
        "bob:k1",
    ] {
        let (line, problem) = parsed(&format!("ann:k1\n{bad}")).unwrap_err();
        assert!(line == 2 && !problem.contains("secret"), "{bad}: {line} {problem}");
    }
    let key = &parsed("ann:k requests=60 tokens=1000").unwrap()[0];
    let number = |given: Option<std::num::NonZeroU32>| given.map(std::num::NonZeroU32::get);
    assert_eq!((number(key.allowance.requests), number(key.allowance.tokens)), (Some(60), Some(1000)));
}

#[test]
fn a_request_gives_a_key_in_one_of_two_headers() {
    let of = |headers: &[(&'static str, &'static str)]| {
        let headers: HeaderMap =
            headers.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        given(&headers).into_iter().flatten().map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert_eq!(of(&[("authorization", "Bearer k")]), [b"k"]);
    assert_eq!(of(&[("authorization", "bEARER   k")]), [b"k"]);
    assert_eq!(of(&[("x-api-key", "k")]), [b"k"]);
    assert_eq!(of(&[("authorization", "Basic a"), ("x-api-key", "k")]), [b"k"]);
    assert_eq!(of(&[("authorization", "Bearer"), ("x-other-key", "k")]), [[0_u8; 0]; 0]);
}

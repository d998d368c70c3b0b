use super::*;

fn client(name: &str, requests: u32, tokens: u32) -> Client {
    let allowance = Allowance { requests: NonZeroU32::new(requests), tokens: NonZeroU32::new(tokens) };
    Client { identity: Identity::Key(name.into()), allowance, id: Default::default() }
}

/// The wait that a refusal names, in milliseconds.
fn wait(result: Result<(), ApiError>) -> Option<u128> {
    match result {
        Ok(()) => None,
        Err(ApiError::RateLimited { wait, .. }) => Some(wait.as_millis()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn requests_come_back_evenly_over_a_minute() {
    let quotas = Quotas::default();
    let ann = client("ann", 3, 0);
    let start = crate::clock::now();
    let count = |second: u64| wait(quotas.count_request(&ann, start + Duration::from_secs(second)));
    assert_eq!([count(0), count(0), count(0), count(0)], [None, None, None, Some(20_000)]);
    assert_eq!([count(5), count(20), count(20)], [Some(15_000), None, Some(20_000)]);
    // A minute fills it, more does not.
    assert_eq!([count(600), count(600), count(600), count(600)], [None, None, None, Some(20_000)]);
    assert_eq!(wait(quotas.count_request(&client("bob", 3, 0), start)), None, "another client's");
    assert_eq!(wait(quotas.count_tokens(&ann, u64::MAX, start)), None, "no limit");
}

#[test]
fn a_client_that_waits_as_told_is_served() {
    let quotas = Quotas::default();
    let mut now = crate::clock::now();
    let ann = client("ann", 0, 7919);
    for amount in (1..200).map(|number| number * 37 % 7919 + 1) {
        if let Some(told) = wait(quotas.count_tokens(&ann, amount, now)) {
            now += Duration::from_millis(told as u64);
            assert_eq!(wait(quotas.count_tokens(&ann, amount, now)), None, "{amount}");
        }
    }
}

#[test]
fn what_never_fits_is_told_so_and_what_was_not_used_comes_back() {
    let quotas = Quotas::default();
    let ann = client("ann", 0, 100);
    let now = crate::clock::now();
    let error = quotas.count_tokens(&ann, 101, now).unwrap_err();
    assert!(matches!(error, ApiError::OverQuota { needed: 101, limit: 100, .. }), "{error:?}");
    quotas.count_tokens(&ann, 100, now).unwrap();
    assert_eq!(wait(quotas.count_tokens(&ann, 50, now)), Some(30_000));
    quotas.give_back(&ann, 100, now);
    quotas.count_tokens(&ann, 100, now).unwrap();
}

#[test]
fn answers_say_what_is_left() {
    let quotas = Quotas::default();
    let ann = client("ann", 60, 1000);
    let now = crate::clock::now();
    quotas.count_request(&ann, now).unwrap();
    quotas.count_tokens(&ann, 250, now).unwrap();
    let mut headers = HeaderMap::new();
    quotas.describe(&ann, &mut headers, now + Duration::from_millis(600));
    let value = |name: &str| headers[&format!("x-ratelimit-{name}")].to_str().unwrap().to_owned();
    assert_eq!(["limit-requests", "remaining-requests", "reset-requests"].map(value), ["60", "59", "0.4s"]);
    assert_eq!(["limit-tokens", "remaining-tokens", "reset-tokens"].map(value), ["1000", "760", "14.4s"]);
    let mut headers = HeaderMap::new();
    quotas.describe(&client("bob", 0, 0), &mut headers, now);
    assert!(headers.is_empty());
}

#[test]
fn clients_that_do_not_come_back_are_forgotten() {
    let quotas = Quotas::default();
    let now = crate::clock::now();
    for number in 0..5000_u64 {
        let later = now + Duration::from_millis(number * 100);
        quotas.count_request(&client(&number.to_string(), 5, 0), later).unwrap();
    }
    // 600 a minute; without the sweep all 5000 would be there.
    assert!(quotas.lock().of.len() < 2000, "{}", quotas.lock().of.len());
}

//! Strings that end a text, and endings that may become one of them.

/// The place at which the first of `stops` begins in `text`. The standard library's search takes time in
/// proportion to the text, for any contents.
pub(crate) fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    stops.iter().filter_map(|stop| text.find(stop.as_str())).min()
}

/// Length of the longest ending of `text` that a stop string starts with.
pub(crate) fn begun_stop(text: &str, stops: &[String]) -> usize {
    let begun = |stop: &String| {
        let most = (stop.len() - 1).min(text.len());
        (1..=most).rev().find(|&length| stop.is_char_boundary(length) && text.ends_with(&stop[..length]))
    };
    stops.iter().filter_map(begun).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stop strings come from clients. The texts below are the worst there are for a search that starts again at every
    /// byte. The goal is 50 ms; the bound is so much larger because the machine is shared, and still tells work in
    /// proportion to the text from work in proportion to its square, which would take hours.
    #[test]
    fn hostile_stop_strings_cost_no_more_than_others() {
        #[expect(clippy::disallowed_methods, reason = "the test is about time")]
        let now = std::time::Instant::now;
        let text = "a".repeat(1 << 20);
        let stops: Vec<String> =
            (b'b'..b'r').map(|end| "a".repeat(255) + &char::from(end).to_string()).collect();
        let start = now();
        assert_eq!(first_stop(&text, &stops), None);
        assert_eq!(first_stop(&format!("{text}b"), &stops), Some(text.len() - 255));
        assert_eq!(begun_stop(&text, &stops), 255);
        assert!(now().duration_since(start) < std::time::Duration::from_secs(10));
    }

    #[test]
    fn an_ending_that_may_become_a_stop_string_waits() {
        let stops = ["\n\n".to_owned(), "END".to_owned(), "ü!".to_owned()];
        assert_eq!(begun_stop("text\n", &stops), 1);
        assert_eq!(begun_stop("the EN", &stops), 2);
        assert_eq!(begun_stop("für ü", &stops), 2);
        assert_eq!(begun_stop("done", &stops), 0);
    }
}

use super::*;

fn commit(position: Position, token: u32) -> Edit {
    Edit::Commit(Commit { position, token, score: 0.0, logprob: 0.0, alternatives: Vec::new() })
}

#[test]
fn a_change_says_what_a_reader_of_the_states_does_not_know() {
    let mut told = Told::default();
    let mut change = |edits: &[Edit]| {
        told.held.extend_from_slice(edits);
        let Change { committed, taken_back } = told.change();
        (committed.iter().map(|commit| (commit.position, commit.token)).collect::<Vec<_>>(), taken_back)
    };
    assert_eq!(change(&[commit(1, 5), commit(2, 6)]), (vec![(1, 5), (2, 6)], vec![]));
    // Taken back and committed again between two states.
    assert_eq!(change(&[Edit::Remask(1), commit(1, 7)]), (vec![(1, 7)], vec![1]));
    // Committed and taken back without having been told.
    assert_eq!(change(&[commit(3, 8), Edit::Remask(3)]), (vec![], vec![]));
    assert_eq!(change(&[Edit::Remask(2)]), (vec![], vec![2]));
}

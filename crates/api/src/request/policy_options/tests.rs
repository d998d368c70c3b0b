//! Rules by fields, and what is refused.

use unmask_model::diffusion::{Order, Policy, Quota, Revise, Score, ScoreKind, Window};

use super::*;

fn policy(json: &str) -> Result<Policy, String> {
    let options: DiffusionOptions = serde_json::from_str(json).unwrap();
    options.policy(Preset::Reference, (64, 512), None).map_err(|error| error.to_string())
}

#[test]
fn every_preset_is_a_valid_rule() {
    for preset in [
        "reference",
        "exact",
        "balanced",
        "budget",
        "confidence",
        "dream",
        "llada",
        "threshold",
        "factor",
        "remdm",
        "greedy",
        "left_to_right",
        "sdar",
        "llada2",
        "llada2.1",
        "fast_dllm_v2",
        "stable_diffcoder",
    ] {
        let rule = policy(&format!(r#"{{"preset": "{preset}"}}"#)).unwrap();
        assert_eq!(rule.check(), Ok(()), "{preset}");
    }
    assert_eq!(policy("{}").unwrap(), Policy::reference(64));
}

#[test]
fn fields_override_their_preset_and_imply_each_other() {
    assert_eq!(policy(r#"{"order": "confidence", "steps": 8}"#).unwrap(), Policy::confidence(8));
    let rule = policy(r#"{"preset": "llada", "block_length": 8, "k": 2}"#).unwrap();
    assert_eq!((rule.window, rule.quota), (Window::Block(8), Quota::Count(2)));
    let rule = policy(r#"{"threshold": 0.7}"#).unwrap();
    assert_eq!((rule.order, rule.quota), (OrderName::ModelConfidence.order(), Quota::Threshold(0.7)));
    let rule = policy(r#"{"preset": "dream", "order": "margin", "alg_temp": 0.5}"#).unwrap();
    assert_eq!(rule.order, Order::Score(Score { kind: ScoreKind::Margin, temperature: 0.5 }));
    let rule = policy(r#"{"window": "left_to_right", "order": "margin"}"#).unwrap();
    assert_eq!(rule.quota, Quota::Count(1));
}

#[test]
fn blocks_of_attention_are_the_window_of_every_rule() {
    let rule = |json: &str| {
        let options: DiffusionOptions = serde_json::from_str(json).unwrap();
        options.policy(Preset::Sdar, (64, 512), Some(4)).unwrap()
    };
    let per_block = |steps, threshold| Quota::PerBlock { steps, threshold };
    for (json, quota) in [
        ("{}", per_block(4, Some(0.85))),
        (r#"{"steps": 2, "threshold": 0.7}"#, per_block(2, Some(0.7))),
        // Nothing is above it, so that the even parts remain.
        (r#"{"preset": "llada2", "threshold": 1}"#, per_block(4, None)),
        (r#"{"order": "position"}"#, per_block(4, None)),
        (r#"{"preset": "stable_diffcoder"}"#, per_block(4, None)),
        (r#"{"preset": "exact"}"#, Quota::Count(1)),
    ] {
        let found = rule(json);
        assert_eq!((found.window, found.quota), (Window::Block(4), quota), "{json}");
        assert_eq!(found.revise, Revise::None, "{json}");
    }
    let parts = rule(r#"{"block_length": 2, "threshold": 0.7}"#);
    assert_eq!((parts.window, parts.quota), (Window::Block(2), per_block(2, Some(0.7))));
    let fast = |block| DiffusionOptions::default().policy(Preset::FastDllmV2, (8, 512), Some(block)).unwrap();
    assert_eq!((fast(32).window, fast(32).quota), (Window::Block(8), per_block(8, Some(0.9))));
    assert_eq!(fast(4).window, Window::Block(4), "blocks that have no such parts");
    let edit = |threshold, post, early_stop| Revise::Edit { threshold, post, early_stop };
    for (json, revise) in [
        (r#"{"preset": "llada2.1"}"#, edit(0.5, 16, false)),
        (r#"{"editing_threshold": 0.9, "early_stop": true}"#, edit(0.9, 16, true)),
        (r#"{"revise": "edit", "max_post_steps": 0}"#, edit(0.5, 0, false)),
        (r#"{"preset": "llada2.1", "revise": "none"}"#, Revise::None),
    ] {
        assert_eq!(rule(json).revise, revise, "{json}");
    }
}

/// An error must not name a field that the client did not send.
#[test]
fn what_does_not_go_together_is_told_in_the_words_of_the_request() {
    for (json, param, told) in [
        (
            r#"{"preset": "reference", "threshold": 0.9}"#,
            "threshold",
            ["the order `random` of `diffusion.preset`: `reference`", "`diffusion.threshold`"],
        ),
        (
            r#"{"window": "left_to_right"}"#,
            "window",
            ["`diffusion.window`: `left_to_right`", "the default order `random`"],
        ),
        (
            r#"{"window": "sliding", "k": 2}"#,
            "window",
            ["`diffusion.window`: `sliding`", "the order `permutation` that `diffusion.k` implies"],
        ),
        (
            r#"{"block_length": 4, "order": "confidence"}"#,
            "block_length",
            ["`diffusion.block_length`", "the commit rule `reference_top_k` that `diffusion.order` implies"],
        ),
        (
            r#"{"order": "random", "commit_rule": "dream_schedule"}"#,
            "order",
            ["`diffusion.order`: `random`", "`diffusion.commit_rule`: `dream_schedule`"],
        ),
        (
            r#"{"order": "random", "quota": "times"}"#,
            "order",
            ["`diffusion.order`: `random`", "`diffusion.commit_rule`: `dream_schedule`"],
        ),
        (
            r#"{"preset": "remdm", "window": "block"}"#,
            "window",
            ["the revise `cap` of `diffusion.preset`: `remdm`", "`diffusion.window`: `block`"],
        ),
        (r#"{"alg_temp": 1}"#, "alg_temp", ["`diffusion.alg_temp`", "the default order `random`"]),
        (
            r#"{"alg_temp": 1, "threshold": 0.9}"#,
            "alg_temp",
            ["`diffusion.alg_temp`", "`diffusion.threshold`"],
        ),
        (
            r#"{"preset": "exact", "steps": 8}"#,
            "steps",
            ["`diffusion.steps`", "the commit rule `count` of `diffusion.preset`: `exact`"],
        ),
        (
            r#"{"steps": 8, "entropy_budget": 1}"#,
            "steps",
            ["`diffusion.steps`", "`diffusion.entropy_budget`"],
        ),
        (r#"{"k": 2, "factor": 1.0}"#, "k", ["`diffusion.k`", "`diffusion.factor`"]),
        (r#"{"commit_rule": "rounds", "k": 2}"#, "commit_rule", ["`diffusion.commit_rule`", "`diffusion.k`"]),
        (
            r#"{"window": "all", "block_length": 4}"#,
            "window",
            ["`diffusion.window`", "`diffusion.block_length`"],
        ),
        (r#"{"eta": 0.1}"#, "eta", ["`diffusion.eta`", "`diffusion.revise`"]),
    ] {
        let options: DiffusionOptions = serde_json::from_str(json).unwrap();
        let error = options.policy(Preset::Reference, (64, 512), None).unwrap_err().object();
        assert_eq!(error.param, Some(format!("diffusion.{param}")), "{json}: {}", error.message);
        assert!(told.iter().all(|part| error.message.contains(part)), "{json}: {}", error.message);
    }
}

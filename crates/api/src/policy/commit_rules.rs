//! The table of commit rules: the numbers of each, the order that it is meant for, and the [`Quota`] that it stands for.

use unmask_model::diffusion::Quota;

use super::names::{CommitRule, DEFAULT_PER_BLOCK, OrderName};

/// A commit rule. Requests are read, completed, refused and answered by this table.
#[derive(Debug)]
pub(crate) struct CommitRuleEntry {
    pub(crate) name: CommitRule,
    /// Its own number, besides `steps`.
    pub(crate) number: Option<RuleNumber>,
    /// The order that a request means which names this rule alone.
    pub(crate) order: OrderName,
    /// The quota of these numbers.
    quota: fn(RuleNumbers) -> Quota,
    /// The numbers of a quota, if it is this rule's.
    numbers: fn(Quota) -> Option<RuleNumbers>,
}

/// A number of a rule: the field of `diffusion` that sets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleNumber {
    pub(crate) field: &'static str,
    usual: f64,
}

/// The numbers of a rule, as far as it has them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RuleNumbers {
    pub(crate) steps: Option<u32>,
    pub(crate) number: Option<f64>,
}

impl CommitRuleEntry {
    /// The entry with this name.
    pub(crate) fn named(name: CommitRule) -> &'static Self {
        let row = match name {
            CommitRule::Rounds => 0,
            CommitRule::Count => 1,
            CommitRule::Evaluations => 2,
            CommitRule::Balanced => 3,
            CommitRule::DreamSchedule => 4,
            CommitRule::ReferenceTopK => 5,
            CommitRule::Threshold => 6,
            CommitRule::Factor => 7,
            CommitRule::Entropy => 8,
            CommitRule::PerBlock => 9,
        };
        &TABLE[row]
    }

    /// The entry of a quota, and its numbers.
    pub(crate) fn of(quota: Quota) -> (&'static Self, RuleNumbers) {
        let entry = Self::named(match quota {
            Quota::OwnRound(_) => CommitRule::Rounds,
            Quota::Count(_) => CommitRule::Count,
            Quota::Evaluations(_) => CommitRule::Evaluations,
            Quota::Balanced(_) => CommitRule::Balanced,
            Quota::DreamSchedule(_) => CommitRule::DreamSchedule,
            Quota::ReferenceTopK(_) => CommitRule::ReferenceTopK,
            Quota::Threshold(_) => CommitRule::Threshold,
            Quota::Factor(_) => CommitRule::Factor,
            Quota::Entropy(_) => CommitRule::Entropy,
            Quota::PerBlock { .. } => CommitRule::PerBlock,
        });
        (entry, (entry.numbers)(quota).unwrap_or_default())
    }

    /// The entry that the number in `field` belongs to where `base` is the rule otherwise.
    pub(crate) fn with_number(field: &str, base: Quota) -> Option<&'static Self> {
        let has = |entry: &&Self| entry.number.is_some_and(|number| number.field == field);
        let own = Some(Self::of(base).0).filter(has);
        own.or_else(|| TABLE.iter().find(has))
    }

    /// The quota with the number that is given; otherwise with that of `base` where this is its rule, else with the usual
    /// one.
    pub(crate) fn quota(&self, steps: u32, given: Option<f64>, base: Quota) -> Quota {
        let number = match (given, (self.numbers)(base)) {
            (Some(number), _) => Some(number),
            (None, Some(own)) => own.number,
            (None, None) => self.number.map(|number| number.usual),
        };
        (self.quota)(RuleNumbers { steps: Some(steps), number })
    }
}

const fn steps(steps: u32) -> RuleNumbers {
    RuleNumbers { steps: Some(steps), number: None }
}

const fn number(number: f64) -> RuleNumbers {
    RuleNumbers { steps: None, number: Some(number) }
}

impl RuleNumbers {
    fn steps(self) -> u32 {
        self.steps.unwrap_or(1)
    }

    fn number(self) -> f64 {
        self.number.unwrap_or(1.0)
    }
}

/// The quota of a variant with one number, and back.
macro_rules! rule {
    ($name:ident, $order:ident, $variant:ident(steps)) => {
        rule!($name, None, $order, |numbers| Quota::$variant(numbers.steps()), Quota::$variant(count) => steps(count))
    };
    ($name:ident, $order:ident, $variant:ident($field:literal: $type:ty = $usual:literal)) => {
        rule!(
            $name,
            Some(RuleNumber { field: $field, usual: $usual }),
            $order,
            |numbers| Quota::$variant(numbers.number() as $type),
            Quota::$variant(value) => number(value as f64)
        )
    };
    ($name:ident, $number:expr, $order:ident, $quota:expr, $pattern:pat => $numbers:expr) => {
        CommitRuleEntry {
            name: CommitRule::$name,
            number: $number,
            order: OrderName::$order,
            quota: $quota,
            numbers: |quota| match quota {
                $pattern => Some($numbers),
                _ => None,
            },
        }
    };
}

static TABLE: [CommitRuleEntry; 10] = [
    rule!(Rounds, Random, OwnRound(steps)),
    rule!(Count, Permutation, Count("k": usize = 1.0)),
    rule!(Evaluations, Permutation, Evaluations(steps)),
    rule!(Balanced, Permutation, Balanced(steps)),
    rule!(DreamSchedule, Confidence, DreamSchedule(steps)),
    rule!(ReferenceTopK, Confidence, ReferenceTopK(steps)),
    rule!(Threshold, ModelConfidence, Threshold("threshold": f64 = 0.9)),
    rule!(Factor, ModelConfidence, Factor("factor": f64 = 1.0)),
    rule!(Entropy, Permutation, Entropy("entropy_budget": f64 = 0.5)),
    rule!(
        PerBlock,
        Some(RuleNumber { field: "threshold", usual: DEFAULT_PER_BLOCK }),
        Confidence,
        // Nothing is above 1: the even parts remain.
        |numbers| Quota::PerBlock { steps: numbers.steps(), threshold: numbers.number.filter(|number| *number < 1.0) },
        Quota::PerBlock { steps, threshold } => RuleNumbers { steps: Some(steps), number: threshold }
    ),
];

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::policy::Preset;

    #[test]
    fn every_quota_has_the_entry_that_makes_it() {
        for preset in Preset::value_variants() {
            let quota = preset.policy(7).quota;
            let (entry, numbers) = CommitRuleEntry::of(quota);
            assert_eq!((entry.quota)(RuleNumbers { steps: Some(7), ..numbers }), quota, "{preset:?}");
            assert_eq!(entry.quota(7, None, quota), quota, "{preset:?}");
        }
    }

    #[test]
    fn every_name_has_its_row() {
        for entry in &TABLE {
            assert_eq!(CommitRuleEntry::named(entry.name).name, entry.name);
            let quota = (entry.quota)(RuleNumbers { steps: Some(3), number: Some(0.5) });
            assert_eq!(CommitRuleEntry::of(quota).0.name, entry.name);
        }
    }

    #[test]
    fn a_number_belongs_to_the_rule_in_use_or_to_the_first_that_has_it() {
        let named = |field, base| CommitRuleEntry::with_number(field, base).map(|entry| entry.name);
        let per_block = Quota::PerBlock { steps: 4, threshold: None };
        assert_eq!(named("threshold", Quota::Count(1)), Some(CommitRule::Threshold));
        assert_eq!(named("threshold", per_block), Some(CommitRule::PerBlock));
        assert_eq!(named("k", per_block), Some(CommitRule::Count));
        assert_eq!(named("steps", per_block), None);
    }
}

//! The combinations of a policy's choices that mean something, and the ranges of its numbers.

use super::{Order, Policy, Quota, Revise, Score, ScoreKind, Window};
use crate::error::PolicyError;

/// Most rounds of any rule: plans and revisers walk through all of them.
const MOST_STEPS: u32 = 1 << 16;

/// Most evaluations of a full block that change it.
const MOST_POST_STEPS: u32 = 1024;

impl Policy {
    /// Refuses combinations that mean nothing, and numbers outside their range.
    ///
    /// # Errors
    /// The two choices that do not go together, or the number.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.check_numbers()?;
        let conflict = |first, second| Err(PolicyError::Conflict { first, second });
        let own_round = matches!(self.quota, Quota::OwnRound(_));
        let scored = matches!(self.order, Order::Score(_));
        let uncertain = |kind| !matches!(kind, ScoreKind::Drawn | ScoreKind::Model);
        match (self.order, self.quota) {
            (Order::IndependentRounds | Order::Stratified, _) if !own_round => {
                return conflict("order", "quota");
            }
            (Order::Permutation | Order::Score(_), Quota::OwnRound(_)) => return conflict("order", "quota"),
            (
                Order::Score(Score { kind, .. }),
                Quota::Threshold(_) | Quota::Factor(_) | Quota::PerBlock { threshold: Some(_), .. },
            ) if uncertain(kind) => {
                return conflict("order", "quota");
            }
            (
                Order::Score(score),
                Quota::Threshold(_)
                | Quota::Factor(_)
                | Quota::ReferenceTopK(_)
                | Quota::PerBlock { threshold: Some(_), .. },
            ) if score.temperature > 0.0 => {
                return conflict("alg_temp", "quota");
            }
            (Order::Score(Score { kind, .. }), Quota::ReferenceTopK(_)) if kind != ScoreKind::Drawn => {
                return conflict("order", "quota");
            }
            (
                Order::Permutation,
                Quota::DreamSchedule(_)
                | Quota::ReferenceTopK(_)
                | Quota::Threshold(_)
                | Quota::Factor(_)
                | Quota::PerBlock { .. },
            ) => {
                return conflict("order", "quota");
            }
            _ => {}
        }
        match (self.window, self.quota) {
            (Window::Sliding(_) | Window::LeftToRight, _) if !scored => return conflict("window", "order"),
            (Window::Block(_) | Window::Sliding(_) | Window::LeftToRight, Quota::ReferenceTopK(_))
            | (Window::Sliding(_) | Window::LeftToRight, Quota::DreamSchedule(_))
            | (Window::All | Window::Sliding(_) | Window::LeftToRight, Quota::PerBlock { .. }) => {
                return conflict("window", "quota");
            }
            (Window::Sliding(_) | Window::LeftToRight, Quota::Evaluations(_) | Quota::Balanced(_)) => {
                return conflict("window", "quota");
            }
            _ => {}
        }
        self.check_revise()
    }

    fn check_revise(&self) -> Result<(), PolicyError> {
        let conflict = |second| Err(PolicyError::Conflict { first: "revise", second });
        match self.revise {
            Revise::Edit { .. } if !matches!(self.quota, Quota::PerBlock { .. }) => conflict("quota"),
            Revise::None | Revise::Edit { .. } => Ok(()),
            _ if self.order != Order::IndependentRounds => conflict("order"),
            _ if self.window != Window::All => conflict("window"),
            _ => Ok(()),
        }
    }

    fn check_numbers(&self) -> Result<(), PolicyError> {
        let range = |field, valid: bool, allowed| {
            if valid { Ok(()) } else { Err(PolicyError::Range { field, allowed }) }
        };
        match self.window {
            Window::Block(n) | Window::Sliding(n) => range("window", n >= 1, "at least 1")?,
            Window::All | Window::LeftToRight => {}
        }
        if let Order::Score(score) = self.order {
            let valid = score.temperature >= 0.0 && score.temperature.is_finite();
            range("alg_temp", valid, "a number from 0")?;
        }
        match self.quota {
            Quota::OwnRound(n)
            | Quota::Evaluations(n)
            | Quota::Balanced(n)
            | Quota::DreamSchedule(n)
            | Quota::ReferenceTopK(n) => {
                range("steps", (1..=MOST_STEPS).contains(&n), "from 1 to 65536")?;
            }
            Quota::PerBlock { steps, threshold } => {
                range("steps", (1..=MOST_STEPS).contains(&steps), "from 1 to 65536")?;
                range("threshold", threshold.is_none_or(|x| (0.0..=1.0).contains(&x)), "from 0 to 1")?;
            }
            Quota::Count(k) => range("k", k >= 1, "at least 1")?,
            Quota::Threshold(x) => range("threshold", (0.0..=1.0).contains(&x), "from 0 to 1")?,
            Quota::Factor(x) => range("factor", x > 0.0 && x.is_finite(), "a number above 0")?,
            Quota::Entropy(x) => range("entropy_budget", x >= 0.0 && x.is_finite(), "a number from 0")?,
        }
        match self.revise {
            Revise::None => Ok(()),
            Revise::Edit { threshold, post, .. } => {
                range("editing_threshold", (0.0..=1.0).contains(&threshold), "from 0 to 1")?;
                range("max_post_steps", post <= MOST_POST_STEPS, "from 0 to 1024")
            }
            Revise::Cap(x) | Revise::Rescale(x) | Revise::Loop(x) => {
                range("eta", (0.0..=1.0).contains(&x), "from 0 to 1")
            }
        }
    }
}

//! Panics of a predictor as errors: one line that names the model.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;

/// Runs `work` and turns a panic, on this thread or on a thread that computes for it, into an error that names
/// `model` and the place. Nothing else is printed unless RUST_BACKTRACE asks for a backtrace.
///
/// Panic hooks belong to the whole process, so this is for the start of a process and for commands that do one
/// thing. It is no cure: a panic is a fault of this program, and the error says so.
///
/// # Errors
/// Those of `work`, and a panic.
pub fn as_error<T>(model: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let first = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&first);
    let before = take_hook();
    let before = Arc::new(before);
    let hook = Arc::clone(&before);
    set_hook(Box::new(move |panic| {
        noted.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| panic.to_string());
        if wants_backtrace() {
            hook(panic);
        }
    }));
    let outcome = catch_unwind(AssertUnwindSafe(work));
    drop(take_hook());
    set_hook(Box::new(move |panic| before(panic)));
    let panic = first.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (outcome, panic) {
        (Ok(Ok(value)), _) => Ok(value),
        (Ok(Err(error)), None) => Err(error),
        (_, panic) => {
            let panic = panic.unwrap_or_else(|| "a panic".to_owned());
            let panic = panic.split_whitespace().collect::<Vec<_>>().join(" ");
            Err(anyhow!("a fault of this program while it computed {model}: {panic}; please report it"))
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the standard library's own switch")]
fn wants_backtrace() -> bool {
    std::env::var("RUST_BACKTRACE").is_ok_and(|value| value != "0")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use unmask_model::predictor::{Ask, MaskPredictor, ModelLimits, Read, Visibility};
    use unmask_scheduler::CostModel;

    use super::*;
    use crate::clock::now;

    struct Panicking;

    impl MaskPredictor for Panicking {
        fn limits(&self) -> ModelLimits {
            ModelLimits {
                vocabulary: 5,
                context: 64,
                mask_token: 4,
                shift: false,
                visibility: Visibility::Full,
            }
        }

        fn predict(&mut self, _: &[Ask<'_>]) -> Result<Vec<Vec<Read>>, unmask_model::error::PredictError> {
            panic!("lines of a row:\n  left 3, right 4")
        }
    }

    #[test]
    fn a_panic_is_one_line_that_names_the_model() {
        let measured = as_error("tiny (GPT-2, 2 layers)", || {
            Ok(CostModel::measure(&mut Panicking, Duration::ZERO, now)?)
        });
        let message = measured.map(|_| ()).map_err(|error| format!("{error:#}")).unwrap_err();
        assert!(message.starts_with("a fault of this program while it computed tiny (GPT-2, 2 layers): "));
        assert!(message.contains("panics.rs") && message.contains("left 3, right 4"), "{message}");
        assert!(!message.contains('\n'), "{message}");
        assert!(as_error("other", || Ok(3)).is_ok_and(|value| value == 3));
        let refused = as_error("other", || Err::<(), _>(anyhow!("refused")));
        assert_eq!(refused.unwrap_err().to_string(), "refused");
    }
}

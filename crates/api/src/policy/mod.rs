//! Decision rules as requests name them: names and presets, the table of commit rules, and the rule that resulted.

mod commit_rules;
mod names;
mod resolved;

pub(crate) use commit_rules::CommitRuleEntry;
pub use names::*;
pub use resolved::ResolvedPolicy;
pub(crate) use resolved::split_revise;

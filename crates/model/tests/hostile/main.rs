//! Damaged, contradictory and hostile checkpoints: one line that names file, tensor or field, and no panic.

#![expect(clippy::unwrap_used, reason = "clippy exempts functions marked as tests, and not their helpers")]

mod adapter;
mod config;
mod damage;
mod files;
mod flips;
mod tokenizer;
mod weights;

//! Damaged, contradictory and hostile checkpoints: one line that names file, tensor or field, and no panic.

#![expect(clippy::unwrap_used, reason = "clippy exempts functions marked as tests, and not their helpers")]

mod adapter;
mod config;
mod damage;
#[path = "../device/mod.rs"]
mod device;
mod files;
mod flips;
mod gguf;
mod tokenizer;
mod weights;
#[expect(dead_code, unreachable_pub, reason = "another test needs more of it")]
#[path = "../gguf/write.rs"]
mod write;

//! The policies against an oracle whose beliefs are exact: how many evaluations they take, which law they
//! sample from, and what parallel draws cost in nats.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(clippy::print_stdout, reason = "measurements are worth seeing with --nocapture")]
#![expect(unreachable_pub, reason = "modules of one test binary")]

mod any_policy;
mod blocks;
#[path = "../device/mod.rs"]
mod device;
mod divergence;
mod enumeration;
mod evaluations;
mod independence;
mod law;
mod quotas;
mod revision;
mod support;
mod windows;

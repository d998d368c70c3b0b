//! Every model folder and every case of the golden data against what the authors' code computed.
//!
//! `UNMASK_GOLDEN_DIR` names the data (default: `tests/golden` of the repository). The tests know no
//! model or case by name: they run what they find, and fail when they find nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![expect(clippy::print_stdout, reason = "differences are worth seeing with --nocapture")]
#![expect(unreachable_pub, reason = "modules of one test binary")]

mod blocks;
mod data;
#[path = "../device/mod.rs"]
mod device;
mod families;
mod likelihoods;
mod numeric;
#[path = "../reference/mod.rs"]
mod reference;
mod replay;
mod text;
mod traces;
mod widths;

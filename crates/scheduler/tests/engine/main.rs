//! The engine through its handle, with a predictor that does what the test says. Nothing sleeps: tests
//! that depend on an order step the evaluations through the predictor's gate.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod batching;
mod cancelling;
mod failing;
mod fixture;
mod shutdown;
mod times;

//! Masked diffusion language models: forward pass and iterative unmasking.
//!
//! The crate has two halves that meet in one trait. [`diffusion`] decides which positions of a canvas to read and which
//! to commit, over plain integers and floats. A [`predictor::MaskPredictor`] returns the network's distributions at the
//! requested positions of several canvases in one forward pass. It stands on [`checkpoint`] (files to tensors),
//! [`backbone`] (the networks), [`kernel`] (CPU arithmetic whose rows do not depend on each other) and [`readout`]
//! (logits to tokens).
//!
//! # A denoising loop
//!
//! Two samples share each forward pass. The predictor is a Markov chain in place of a network, so that the example needs
//! no weights; a [`predictor::CandlePredictor`] takes its place for a checkpoint.
//!
//! ```
//! # #[cfg(feature = "testing")] {
//! use unmask_model::diffusion::{DenoisingState, Noise, Policy, StateSpec};
//! use unmask_model::predictor::{MarkovOracle, MaskPredictor};
//!
//! // 10 symbols with about one nat of entropy per token; canvases of at most 32 positions.
//! let mut predictor = MarkovOracle::random(10, 1.0, 32, 3);
//! let limits = predictor.limits();
//!
//! // A given token at each end, and 12 positions to generate between them.
//! let mut given = vec![None; 14];
//! given[0] = Some(4);
//! given[13] = Some(7);
//! let mut samples = Vec::new();
//! for sample in 0..2 {
//!     let spec = StateSpec {
//!         given: given.clone(),
//!         policy: Policy::reference(64),
//!         noise: Noise::Keyed { seed: 7, sample },
//!         ..StateSpec::default()
//!     };
//!     samples.push(DenoisingState::new(spec, &limits)?);
//! }
//!
//! let mut passes = 0;
//! loop {
//!     // A sample that is complete has no ask.
//!     let asks: Vec<_> = samples.iter().filter_map(DenoisingState::ask).collect();
//!     if asks.is_empty() {
//!         break;
//!     }
//!     let answers = predictor.predict(&asks)?;
//!     let open = samples.iter_mut().filter(|sample| sample.ask().is_some());
//!     for (sample, reads) in open.zip(answers) {
//!         sample.act(&reads);
//!     }
//!     passes += 1;
//! }
//!
//! assert!(passes <= 12, "rounds that fill no position are skipped: {passes}");
//! for sample in &samples {
//!     let tokens = sample.canvas().tokens();
//!     assert_eq!((tokens[0], tokens[13]), (4, 7));
//!     assert!(tokens.iter().all(|&token| token < 10), "no mask is left: {tokens:?}");
//! }
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod backbone;
pub mod checkpoint;
pub mod device;
pub mod diffusion;
pub mod error;
pub mod kernel;
pub mod predictor;
pub mod readout;
pub mod tokenizer;
#[cfg(test)]
mod twin;

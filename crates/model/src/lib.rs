//! Masked diffusion language models: forward pass and iterative unmasking.
//!
//! The crate has two halves that meet in one trait. [`diffusion`] decides which positions of a canvas to
//! read and which to commit, over plain integers and floats. [`predictor`] is the seam: a
//! [`predictor::MaskPredictor`] answers what the network believes about the asked positions of several
//! canvases in one forward pass. Behind it stand [`checkpoint`] (files to tensors), [`backbone`] (the
//! networks), [`kernel`] (CPU arithmetic whose rows do not depend on each other) and [`readout`] (logits
//! to tokens).

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

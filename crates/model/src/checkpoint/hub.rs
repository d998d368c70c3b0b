//! Checkpoints from a hub that speaks Hugging Face's file routes.

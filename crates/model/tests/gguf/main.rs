//! GGUF files: the numbers, the order of rows and the tokenizer are those of the checkpoint that the file
//! was made of, and a file in blocks is computed as its dequantised weights are. If one of these failed,
//! a converted model would write other texts, or nonsense.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(unreachable_pub, reason = "modules of one test binary")]

mod blocks;
#[path = "../device/mod.rs"]
mod device;
mod families;
mod foreign;
mod logits;
mod released;
mod tokenizer;
mod write;

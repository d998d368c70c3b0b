//! Weights out of thin air, to measure shapes without a checkpoint.

use candle_core::{Device, Tensor};
use half::bf16;
use rayon::prelude::*;

use crate::error::LoadError;

/// In which type tensors are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
}

/// The seed and type of random weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random {
    /// Rows of the embedding.
    pub(super) vocabulary: usize,
    pub(super) stored: StoredType,
}

/// Half the width of the uniform distribution whose deviation is GPT-2's 0.02.
const SPREAD: f32 = 0.034_64;

impl Random {
    /// A tensor as it might stand at the start of a training: gains 1, biases 0, all else random, the
    /// same numbers each time.
    pub(super) fn tensor(self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let count: usize = shape.iter().product();
        let salt =
            name.bytes().fold(1_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        let value = |i: usize| match shape {
            [_] => f32::from(u8::from(!name.ends_with(".bias"))),
            _ => {
                let mixed = (i as u64 ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
                ((mixed >> 40) as f32 / (1 << 23) as f32 - 1.0) * SPREAD
            }
        };
        let made = if self.stored == StoredType::Bf16 {
            let values: Vec<bf16> = (0..count).into_par_iter().map(|i| bf16::from_f32(value(i))).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        } else {
            let values: Vec<f32> = (0..count).into_par_iter().map(value).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        };
        made.map_err(|reason| LoadError::Device { device: format!("random tensor `{name}`"), reason })
    }
}

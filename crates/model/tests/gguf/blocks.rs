//! Blocks of integers against candle's reading of them, bit for bit.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{CpuStorage, Device, Tensor};
use unmask_model::kernel::{Blocks, CpuFeatures, Encoding};

const ENCODINGS: [(Encoding, GgmlDType); 13] = [
    (Encoding::F32, GgmlDType::F32),
    (Encoding::F16, GgmlDType::F16),
    (Encoding::Bf16, GgmlDType::BF16),
    (Encoding::Q4_0, GgmlDType::Q4_0),
    (Encoding::Q4_1, GgmlDType::Q4_1),
    (Encoding::Q5_0, GgmlDType::Q5_0),
    (Encoding::Q5_1, GgmlDType::Q5_1),
    (Encoding::Q8_0, GgmlDType::Q8_0),
    (Encoding::Q2K, GgmlDType::Q2K),
    (Encoding::Q3K, GgmlDType::Q3K),
    (Encoding::Q4K, GgmlDType::Q4K),
    (Encoding::Q5K, GgmlDType::Q5K),
    (Encoding::Q6K, GgmlDType::Q6K),
];

#[test]
fn numbers_are_those_that_candle_decodes_with_every_set_of_instructions() {
    let values: Vec<f32> = (0..3 * 1024).map(|i| (i as f32 * 0.7).sin() * (i as f32 * 0.01).cos()).collect();
    let tensor = Tensor::new(values, &Device::Cpu).unwrap();
    assert_eq!(ENCODINGS.map(|(encoding, _)| encoding), Encoding::ALL);
    for (encoding, dtype) in ENCODINGS {
        assert_eq!((encoding.numbers(), encoding.bytes()), (dtype.block_size(), dtype.type_size()));
        let stored = QTensor::quantize(&tensor, dtype).unwrap();
        let expected: Vec<f32> = stored.dequantize(&Device::Cpu).unwrap().to_vec1().unwrap();
        let bytes = stored.data().unwrap();
        let blocks = Blocks::new(encoding, &bytes);
        assert_eq!(blocks.count(), expected.len());
        for cpu in CpuFeatures::available() {
            let mut found = vec![f32::NAN; 1024];
            // From the middle on, as panels ask for it.
            blocks.decode(cpu, 1024, &mut found);
            let same = found.iter().zip(&expected[1024..]).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{encoding:?} with {cpu}");
        }
    }
}

/// Blocks that no quantiser makes: every bit of one matters.
#[test]
fn every_bit_of_a_block_is_read_as_candle_reads_it() {
    for (encoding, dtype) in ENCODINGS.into_iter().filter(|(encoding, _)| encoding.numbers() > 1) {
        for round in 0..64_u32 {
            let byte = |i: u32| ((i + 977 * round).wrapping_mul(2_654_435_761) >> 13) as u8;
            let mut bytes: Vec<u8> = (0..encoding.bytes() as u32).map(byte).collect();
            // Scales that are finite: without the upper exponents of half precision.
            let places: &[usize] = match encoding {
                Encoding::Q4_0 | Encoding::Q5_0 | Encoding::Q8_0 => &[1],
                Encoding::Q2K => &[81, 83],
                Encoding::Q3K => &[109],
                Encoding::Q6K => &[209],
                _ => &[1, 3],
            };
            places.iter().for_each(|&place| bytes[place] &= 0xbf);
            let stored = dtype.from_data(bytes.clone().into()).dequantize(encoding.numbers()).unwrap();
            let CpuStorage::F32(expected) = stored else { unreachable!("candle dequantises to f32") };
            let mut found = vec![f32::NAN; encoding.numbers()];
            Blocks::new(encoding, &bytes).decode(CpuFeatures::detect(), 0, &mut found);
            assert_eq!(found, expected, "{encoding:?}");
        }
    }
}

use super::*;
use crate::checkpoint::{Biases, Rotation, Visibility};

fn llama_2_7b(stored: StoredAs) -> Network {
    let spec = TransformerSpec {
        width: 4096,
        head_count: 32,
        kv_head_count: 32,
        head_width: 128,
        context: 4096,
        norm: NormKind::Rms,
        norm_epsilon: 1e-5,
        positions: Positions::Rotary(Rotation::plain(10_000.0)),
        projections: Projections::Separate,
        biases: Biases::default(),
        head_norm: false,
        feed_forward: vec![FeedForward::SwiGlu { width: 11008 }; 32],
        visibility: Visibility::Full,
        ties_missing_head: false,
    };
    Network { spec, vocabulary: 32000, own_head: true, stored, adapted: false }
}

/// The numbers that its card names: 6,738,415,616 parameters.
#[test]
fn parameters_are_those_of_the_tensors() {
    let network = llama_2_7b(StoredAs::Bf16);
    assert_eq!(network.parameters(), 6_738_415_616);
    assert_eq!(network.stored_bytes(), 2 * 6_738_415_616);
}

#[test]
fn integers_take_half_of_bfloat16_and_blocks_stay_in_their_file() {
    let computed = |numbers| Computed { numbers, cpu: CpuFeatures::portable(), rows: 1, threads: 1 };
    let own = |stored, numbers| llama_2_7b(stored).memory(computed(numbers)).own as f64;
    let ratio = own(StoredAs::Bf16, Numbers::Int8) / own(StoredAs::Bf16, Numbers::Bf16);
    assert!((0.5..0.53).contains(&ratio), "{ratio}");
    // What is stored as bfloat16 stays so in memory.
    assert!(own(StoredAs::Bf16, Numbers::F32) - own(StoredAs::Bf16, Numbers::Bf16) < 1e6);
    let file = llama_2_7b(StoredAs::Q4KM).memory(computed(Numbers::Bf16));
    assert!(file.mapped as f64 > 0.99 * llama_2_7b(StoredAs::Q4KM).stored_bytes() as f64);
    assert!(file.own < 60 << 20, "{file:?}");
}

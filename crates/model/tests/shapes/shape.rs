//! Networks of random shapes, with the files that describe them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::json;
use unmask_model::checkpoint::Family;
use unmask_model::checkpoint::families::{DIFFUGPT, DIFFULLAMA, DREAM, LLADA_MOE};

use crate::reference::{Matrix, Network};

/// Longest canvas.
const LONGEST: usize = 70;

/// Type of the tensors in the file.
pub type Stored = DType;

/// A network, and canvases to evaluate.
pub struct Shape {
    seed: u64,
    pub network: Network,
    pub vocabulary: usize,
    pub canvases: Vec<Vec<u32>>,
    stored: Stored,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Network { gpt2, layers, width, heads, shared, head_width, inner, .. } = &self.network;
        let name = if *gpt2 { "GPT-2" } else { "LLaMA" };
        let lengths: Vec<usize> = self.canvases.iter().map(Vec::len).collect();
        write!(
            f,
            "seed {}: {name} in {:?}, {layers} layers, width {width}, {heads} heads of {head_width} ({shared} for \
             keys), inner {inner}, vocabulary {}, canvases of {lengths:?}",
            self.seed, self.stored, self.vocabulary
        )
    }
}

/// Random numbers in ranges.
struct Draw(ChaCha8Rng);

impl Draw {
    /// From `low` to `high`, both included.
    fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.0.next_u64() % (high - low + 1) as u64) as usize
    }

    /// From −1 to 1.
    fn unit(&mut self) -> f64 {
        f64::from(self.0.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0
    }
}

impl Shape {
    /// 1 to 3 layers, width 8 to 208, heads of 1 to 96, any grouping of keys and any feed-forward width up to 600.
    pub fn random(seed: u64, gpt2: bool) -> Self {
        let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed * 2 + u64::from(gpt2)));
        let head_width = if gpt2 { draw.between(1, 96) } else { 2 * draw.between(1, 48) };
        let heads = draw.between(8_usize.div_ceil(head_width), 208 / head_width);
        let divisors: Vec<usize> = (1..=heads).filter(|count| heads.is_multiple_of(*count)).collect();
        let shared = if gpt2 { heads } else { divisors[draw.between(0, divisors.len() - 1)] };
        // A LLaMA's heads need not add up to its width.
        let width = match draw.between(0, 2) {
            0 if !gpt2 => draw.between(head_width.max(8), 208),
            _ => heads * head_width,
        };
        let stored = [DType::F32, DType::BF16, DType::F16][draw.between(0, 2)];
        let vocabulary = draw.between(2, 300);
        let mut network = Network {
            gpt2,
            layers: draw.between(1, 3),
            width,
            heads,
            shared,
            head_width,
            inner: draw.between(1, 600),
            epsilon: 1e-5,
            theta: [10_000.0, 500_000.0][draw.between(0, 1)],
            qkv_bias: false,
            head_norm: false,
            experts: None,
            tensors: BTreeMap::new(),
            bf16: false,
        };
        let own_head = draw.between(0, 1) == 1;
        if !gpt2 {
            relative(&mut network, &mut draw);
        }
        for (name, shape) in tensors(&network, vocabulary, own_head) {
            let matrix = matrix(&mut draw, &name, &shape, stored);
            network.tensors.insert(name, matrix);
        }
        let canvases = (0..draw.between(1, 4)).map(|_| {
            let length = draw.between(1, LONGEST);
            (0..length).map(|_| draw.between(0, vocabulary - 1) as u32).collect()
        });
        let canvases = canvases.collect();
        Self { seed, network, vocabulary, canvases, stored }
    }

    pub fn family(&self) -> &'static Family {
        match self.network {
            Network { gpt2: true, .. } => &DIFFUGPT,
            Network { qkv_bias: true, .. } => &DREAM,
            Network { experts: Some(_), .. } => &LLADA_MOE,
            _ => &DIFFULLAMA,
        }
    }

    /// `config.json` and `model.safetensors`.
    pub fn write(&self, folder: &Path) {
        let Network {
            gpt2, layers, width, heads, shared, head_width, inner, epsilon, theta, head_norm, ..
        } = self.network;
        let config = if gpt2 {
            json!({
                "model_type": "gpt2", "n_layer": layers, "n_embd": width, "n_head": heads, "n_inner": inner,
                "n_positions": LONGEST, "layer_norm_epsilon": epsilon,
            })
        } else {
            let experts = self.network.experts;
            json!({
                "model_type": self.family().model_types[0], "num_experts": experts.map(|experts| experts.0),
                "num_experts_per_tok": experts.map(|experts| experts.1), "qk_layernorm": head_norm,
                "expert_intermediate_size": experts.map(|_| inner), "num_hidden_layers": layers, "hidden_size": width, "head_dim": head_width,
                "num_attention_heads": heads, "num_key_value_heads": shared, "intermediate_size": inner,
                "max_position_embeddings": LONGEST, "rms_norm_eps": epsilon, "rope_theta": theta,
                "tie_word_embeddings": !self.network.tensors.contains_key("lm_head.weight"),
            })
        };
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let shapes: HashMap<_, _> = tensors(&self.network, self.vocabulary, true).into_iter().collect();
        let stored = self.network.tensors.iter().map(|(name, matrix)| {
            let values: Vec<f32> = matrix.values.iter().map(|x| *x as f32).collect();
            let tensor = Tensor::from_vec(values, shapes[name].as_slice(), &Device::Cpu).unwrap();
            (file_name(gpt2, name), tensor.to_dtype(self.stored).unwrap())
        });
        let stored: HashMap<String, Tensor> = stored.collect();
        candle_core::safetensors::save(&stored, folder.join("model.safetensors")).unwrap();
    }
}

/// Names and shapes of all tensors; the head is one of its own if it is not tied to the embedding.
fn tensors(network: &Network, vocabulary: usize, own_head: bool) -> Vec<(String, Vec<usize>)> {
    let Network { gpt2, layers, width, heads, shared, head_width, inner, .. } = *network;
    let wide = heads * head_width;
    let narrow = shared * head_width;
    let mut all = vec![("embed_tokens.weight".to_owned(), vec![vocabulary, width])];
    if own_head {
        all.push(("lm_head.weight".to_owned(), vec![vocabulary, width]));
    }
    let mut add = |name: String, shape: &[usize]| all.push((name, shape.to_vec()));
    if gpt2 {
        add("wpe.weight".to_owned(), &[LONGEST, width]);
    }
    for layer in 0..layers {
        let parts: Vec<(&str, [usize; 2])> = if gpt2 {
            vec![
                ("attn.c_attn", [width, 3 * width]),
                ("attn.c_proj", [width, width]),
                ("mlp.c_fc", [width, inner]),
                ("mlp.c_proj", [inner, width]),
            ]
        } else {
            vec![
                ("self_attn.q_proj", [wide, width]),
                ("self_attn.k_proj", [narrow, width]),
                ("self_attn.v_proj", [narrow, width]),
                ("self_attn.o_proj", [width, wide]),
            ]
        };
        let block = if gpt2 { format!("h.{layer}") } else { format!("layers.{layer}") };
        for (part, shape) in parts {
            add(format!("{block}.{part}.weight"), &shape);
            if gpt2 {
                add(format!("{block}.{part}.bias"), &shape[1..]);
            }
        }
        if !gpt2 {
            for (name, shape) in relatives_parts(network) {
                add(format!("{block}.{name}"), &shape);
            }
        }
        for norm in if gpt2 { ["ln_1", "ln_2"] } else { ["input_layernorm", "post_attention_layernorm"] } {
            add(format!("{block}.{norm}.weight"), &[width]);
            if gpt2 {
                add(format!("{block}.{norm}.bias"), &[width]);
            }
        }
    }
    let last = if gpt2 { "ln_f" } else { "norm" };
    add(format!("{last}.weight"), &[width]);
    if gpt2 {
        add(format!("{last}.bias"), &[width]);
    }
    all
}

/// A third of the networks has biases, a third norms of heads and experts.
fn relative(network: &mut Network, draw: &mut Draw) {
    match draw.between(0, 2) {
        0 => {}
        1 => network.qkv_bias = true,
        _ => {
            let count = draw.between(1, 9);
            network.experts = Some((count, draw.between(1, count)));
            network.head_norm = draw.between(0, 1) == 1;
        }
    }
}

/// Feed-forward parts of a block, and what LLaMA's relatives have beside.
fn relatives_parts(network: &Network) -> Vec<(String, Vec<usize>)> {
    let Network { width, heads, shared, head_width, inner, .. } = *network;
    let mut parts = Vec::new();
    for (part, count) in [("q", heads), ("k", shared), ("v", shared)].iter().filter(|_| network.qkv_bias) {
        parts.push((format!("self_attn.{part}_proj.bias"), vec![count * head_width]));
    }
    for part in ["q", "k"].iter().filter(|_| network.head_norm) {
        parts.push((format!("self_attn.{part}_norm.weight"), vec![head_width]));
    }
    let names = match network.experts {
        None => vec!["mlp".to_owned()],
        Some((count, _)) => {
            parts.push(("mlp.gate.weight".to_owned(), vec![count, width]));
            (0..count).map(|number| format!("mlp.experts.{number}")).collect()
        }
    };
    for name in names {
        parts.push((format!("{name}.gate_proj.weight"), vec![inner, width]));
        parts.push((format!("{name}.up_proj.weight"), vec![inner, width]));
        parts.push((format!("{name}.down_proj.weight"), vec![width, inner]));
    }
    parts
}

/// Gains around 1, biases around 0, and matrices whose products keep the size of what enters; each number is
/// one that the stored type holds.
fn matrix(draw: &mut Draw, name: &str, shape: &[usize], stored: Stored) -> Matrix {
    let gpt2_matrix = name.starts_with("h.") && shape.len() == 2;
    let inputs = if gpt2_matrix { shape[0] } else { shape[shape.len() - 1] };
    let value = |draw: &mut Draw| match shape {
        [_] if name.ends_with(".bias") => 0.3 * draw.unit(),
        [_] => 1.0 + 0.5 * draw.unit(),
        _ => {
            1.7 * draw.unit()
                / if name.contains("embed") || name.contains("wpe") { 1.0 } else { (inputs as f64).sqrt() }
        }
    };
    let exact = |x: f64| match stored {
        DType::BF16 => half::bf16::from_f64(x).to_f64(),
        DType::F16 => half::f16::from_f64(x).to_f64(),
        _ => f64::from(x as f32),
    };
    let count = shape.iter().product();
    Matrix { columns: shape[shape.len() - 1], values: (0..count).map(|_| exact(value(draw))).collect() }
}

/// Name of a tensor as released files have it.
fn file_name(gpt2: bool, name: &str) -> String {
    match name {
        "embed_tokens.weight" if gpt2 => "transformer.wte.weight".to_owned(),
        "lm_head.weight" => name.to_owned(),
        _ if gpt2 => format!("transformer.{name}"),
        _ => format!("model.{name}"),
    }
}

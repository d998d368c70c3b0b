//! Both networks in plain loops over f64, written from the definitions and from nothing of the crate.
//!
//! GPT-2 and LLaMA (with biases, norms of heads and experts, as its relatives have them) with full attention: every position sees the whole canvas. Slow, short, and independent of
//! layouts, instructions and threads, so that a kernel that is wrong for one shape differs from it.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::collections::BTreeMap;

/// Shape and constants of a network, and its tensors by name, without the prefixes of any layout.
#[derive(Clone, Debug)]
pub struct Network {
    pub gpt2: bool,
    pub layers: usize,
    pub width: usize,
    /// Query heads, and the heads of keys and values.
    pub heads: usize,
    pub shared: usize,
    pub head_width: usize,
    /// Width inside the feed-forward part.
    pub inner: usize,
    pub epsilon: f64,
    pub theta: f64,
    /// True if queries, keys and values have biases (LLaMA's relatives).
    pub qkv_bias: bool,
    /// True if query and key heads are normed before the rotation.
    pub head_norm: bool,
    /// The number of experts in place of one feed-forward part, and the number that a row uses.
    pub experts: Option<(usize, usize)>,
    pub tensors: BTreeMap<String, Matrix>,
    /// Rounds weights and the result of every operation to bfloat16, as a network in that type does.
    pub bf16: bool,
}

/// Numbers row by row; a vector is one row.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub columns: usize,
    pub values: Vec<f64>,
}

type Rows = Vec<Vec<f64>>;

/// Hidden states by name (`embedding`, `block.0` …, `final_norm`) and logits, one row for each position.
pub struct States {
    pub named: Vec<(String, Rows)>,
    pub logits: Rows,
}

impl Network {
    /// One evaluation of a canvas.
    pub fn evaluate(&self, canvas: &[u32]) -> States {
        let embedding = self.tensor("embed_tokens.weight");
        let mut rows: Rows = canvas.iter().map(|&token| self.weights(embedding, token as usize)).collect();
        if self.gpt2 {
            let positions = self.tensor("wpe.weight");
            for (position, row) in rows.iter_mut().enumerate() {
                self.add(row, &self.weights(positions, position));
            }
        }
        let mut named = vec![("embedding".to_owned(), rows.clone())];
        for layer in 0..self.layers {
            if self.gpt2 {
                self.gpt2_block(layer, &mut rows);
            } else {
                self.llama_block(layer, &mut rows);
            }
            named.push((format!("block.{layer}"), rows.clone()));
        }
        let normed = self.norm(if self.gpt2 { "ln_f" } else { "norm" }, &rows);
        let head = if self.tensors.contains_key("lm_head.weight") { "lm_head" } else { "embed_tokens" };
        let logits = self.linear(head, &normed);
        named.push(("final_norm".to_owned(), normed));
        States { named, logits }
    }

    fn gpt2_block(&self, layer: usize, rows: &mut Rows) {
        let name = |part: &str| format!("h.{layer}.{part}");
        let fused = self.convolution(&name("attn.c_attn"), &self.norm(&name("ln_1"), rows));
        let part = |number: usize| -> Rows {
            fused.iter().map(|row| row[number * self.width..][..self.width].to_vec()).collect()
        };
        let mixed = self.attention(&part(0), &part(1), &part(2));
        self.add_all(rows, &self.convolution(&name("attn.c_proj"), &mixed));
        let mut inner = self.convolution(&name("mlp.c_fc"), &self.norm(&name("ln_2"), rows));
        self.each(&mut inner, |x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
        });
        self.add_all(rows, &self.convolution(&name("mlp.c_proj"), &inner));
    }

    fn llama_block(&self, layer: usize, rows: &mut Rows) {
        let name = |part: &str| format!("layers.{layer}.{part}");
        let normed = self.norm(&name("input_layernorm"), rows);
        let projected = |part: &str| self.biased(&name(&format!("self_attn.{part}_proj")), &normed);
        let query = self.rotated(self.normed_heads(&name("self_attn.q_norm"), projected("q")));
        let key = self.rotated(self.normed_heads(&name("self_attn.k_norm"), projected("k")));
        let mixed = self.attention(&query, &key, &projected("v"));
        self.add_all(rows, &self.linear(&name("self_attn.o_proj"), &mixed));
        let normed = self.norm(&name("post_attention_layernorm"), rows);
        let inner = match self.experts {
            None => self.gated(&name("mlp"), &normed),
            Some((_, used)) => normed.iter().map(|row| self.routed(&name("mlp"), row, used)).collect(),
        };
        self.add_all(rows, &inner);
    }

    /// With a bias, if the network has such.
    fn biased(&self, name: &str, rows: &Rows) -> Rows {
        let mut out = self.linear(name, rows);
        if self.qkv_bias {
            let bias = self.weights(self.tensor(&format!("{name}.bias")), 0);
            out.iter_mut().for_each(|row| self.add(row, &bias));
        }
        out
    }

    /// Each head over the root of its mean square, times a gain.
    fn normed_heads(&self, name: &str, mut rows: Rows) -> Rows {
        if !self.head_norm {
            return rows;
        }
        let gain = self.weights(self.tensor(&format!("{name}.weight")), 0);
        for head in rows.iter_mut().flat_map(|row| row.chunks_exact_mut(self.head_width)) {
            let square = head.iter().map(|x| x * x).sum::<f64>() / head.len() as f64;
            let factor = 1.0 / (square + self.epsilon).sqrt();
            head.iter_mut().zip(&gain).for_each(|(x, gain)| *x = self.round(*x * factor * gain));
        }
        rows
    }

    /// The experts of the largest probabilities, each times its probability.
    fn routed(&self, name: &str, row: &[f64], used: usize) -> Vec<f64> {
        let logits = self.linear(&format!("{name}.gate"), &vec![row.to_vec()]).remove(0);
        let total: f64 = logits.iter().map(|x| x.exp()).sum();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let mut sum = vec![0.0; row.len()];
        for expert in &order[..used] {
            let out = self.gated(&format!("{name}.experts.{expert}"), &vec![row.to_vec()]).remove(0);
            let weight = logits[*expert].exp() / total;
            sum.iter_mut().zip(&out).for_each(|(sum, x)| *sum += weight * x);
        }
        sum
    }

    fn gated(&self, name: &str, normed: &Rows) -> Rows {
        let mut gate = self.linear(&format!("{name}.gate_proj"), normed);
        self.each(&mut gate, |x| x / (1.0 + (-x).exp()));
        let up = self.linear(&format!("{name}.up_proj"), normed);
        for (gate, up) in gate.iter_mut().zip(&up) {
            gate.iter_mut().zip(up).for_each(|(gate, up)| *gate = self.round(*gate * up));
        }
        self.linear(&format!("{name}.down_proj"), &gate)
    }

    /// softmax(q·k/√width)·v for each head; query head h shares the keys of head h / (heads / shared).
    fn attention(&self, query: &Rows, key: &Rows, value: &Rows) -> Rows {
        let width = self.head_width;
        let group = self.heads / self.shared;
        let mut mixed = vec![vec![0.0; self.heads * width]; query.len()];
        for (query, mixed) in query.iter().zip(&mut mixed) {
            for head in 0..self.heads {
                let own = head * width..(head + 1) * width;
                let theirs = head / group * width..(head / group + 1) * width;
                let scores = key.iter().map(|key| {
                    let pairs = query[own.clone()].iter().zip(&key[theirs.clone()]);
                    self.round(pairs.map(|(q, k)| q * k).sum::<f64>() / (width as f64).sqrt())
                });
                let scores: Vec<f64> = scores.collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
                for (score, value) in scores.iter().zip(value) {
                    let weight = self.round((score - largest).exp() / total);
                    for (mixed, value) in mixed[own.clone()].iter_mut().zip(&value[theirs.clone()]) {
                        *mixed += weight * value;
                    }
                }
            }
            mixed.iter_mut().for_each(|x| *x = self.round(*x));
        }
        mixed
    }

    /// Element i of a head turns with element i + width/2, by position · θ^(−2i/width).
    fn rotated(&self, mut rows: Rows) -> Rows {
        let half = self.head_width / 2;
        for (position, row) in rows.iter_mut().enumerate() {
            for head in row.chunks_exact_mut(self.head_width) {
                for i in 0..half {
                    let frequency = self.theta.powf(-2.0 * i as f64 / self.head_width as f64);
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    let x = head[i];
                    let y = head[i + half];
                    head[i] = self.round(x * cos - y * sin);
                    head[i + half] = self.round(x * sin + y * cos);
                }
            }
        }
        rows
    }

    fn norm(&self, name: &str, rows: &Rows) -> Rows {
        let gain = self.weights(self.tensor(&format!("{name}.weight")), 0);
        let bias = self.gpt2.then(|| self.weights(self.tensor(&format!("{name}.bias")), 0));
        let normed = |row: &Vec<f64>| {
            let count = row.len() as f64;
            let mean = if self.gpt2 { row.iter().sum::<f64>() / count } else { 0.0 };
            let square = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let factor = 1.0 / (square + self.epsilon).sqrt();
            let bias = |i: usize| bias.as_ref().map_or(0.0, |bias| bias[i]);
            let value = |(i, x): (usize, &f64)| self.round((x - mean) * factor * gain[i] + bias(i));
            row.iter().enumerate().map(value).collect()
        };
        rows.iter().map(normed).collect()
    }

    /// `weight` is (in, out), a bias follows.
    fn convolution(&self, name: &str, rows: &Rows) -> Rows {
        let weight = self.tensor(&format!("{name}.weight"));
        let bias = self.weights(self.tensor(&format!("{name}.bias")), 0);
        let apply = |row: &Vec<f64>| {
            let mut sums = bias.clone();
            for (k, x) in row.iter().enumerate() {
                let weights = self.weights(weight, k);
                sums.iter_mut().zip(&weights).for_each(|(sum, weight)| *sum += x * weight);
            }
            sums.into_iter().map(|sum| self.round(sum)).collect()
        };
        rows.iter().map(apply).collect()
    }

    /// `weight` is (out, in).
    fn linear(&self, name: &str, rows: &Rows) -> Rows {
        let weight = self.tensor(&format!("{name}.weight"));
        let count = weight.values.len() / weight.columns;
        let mut out = vec![vec![0.0; count]; rows.len()];
        for n in 0..count {
            let weights = self.weights(weight, n);
            for (row, out) in rows.iter().zip(&mut out) {
                out[n] = self.round(row.iter().zip(&weights).map(|(x, weight)| x * weight).sum());
            }
        }
        out
    }

    fn tensor(&self, name: &str) -> &Matrix {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    fn weights(&self, matrix: &Matrix, row: usize) -> Vec<f64> {
        matrix.values[row * matrix.columns..][..matrix.columns].iter().map(|x| self.round(*x)).collect()
    }

    fn each(&self, rows: &mut Rows, function: impl Fn(f64) -> f64) {
        rows.iter_mut().flatten().for_each(|x| *x = self.round(function(*x)));
    }

    fn add(&self, row: &mut [f64], other: &[f64]) {
        row.iter_mut().zip(other).for_each(|(x, other)| *x = self.round(*x + other));
    }

    fn add_all(&self, rows: &mut Rows, others: &Rows) {
        rows.iter_mut().zip(others).for_each(|(row, other)| self.add(row, other));
    }

    fn round(&self, x: f64) -> f64 {
        if self.bf16 { half::bf16::from_f64(x).to_f64() } else { x }
    }
}

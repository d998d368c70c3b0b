//! Golden folders of other widths, made from those at hand, and the golden tests on them.
//!
//! The recorded checkpoints are 64 wide, which every kernel divides evenly. Their copies here are 48, 80 and 112
//! wide; what a reference would have recorded is computed by plain loops over f64.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::data::{Model, cross_entropy, floats, ids, models};
use crate::reference::{Matrix, Network};
use crate::replay::{Trace, sample};

const WIDTHS: [usize; 3] = [48, 80, 112];
/// Width of the recorded checkpoints.
const RECORDED: usize = 64;

#[test]
fn golden_at_other_widths() {
    let folder = tempfile::tempdir().unwrap();
    for width in WIDTHS {
        let root = folder.path().join(width.to_string());
        for model in models().iter().filter(|model| model.family().is_none()) {
            make(model, &root, width);
        }
        let mut tests = Command::new(std::env::current_exe().unwrap());
        tests
            .args(["golden_", "--skip", "golden_at_other_widths", "--skip", "golden_family"])
            .env("UNMASK_GOLDEN_DIR", &root);
        let output = tests.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "width {width}:\n{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains(" 0 passed"), "width {width} ran no test:\n{text}");
    }
}

/// Writes the folder of a model, `width` wide, below `root`.
fn make(model: &Model, root: &Path, width: usize) {
    let to = root.join(&model.name);
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(&model.folder).unwrap() {
        let from = entry.unwrap().path();
        let name = from.file_name().unwrap().to_string_lossy().into_owned();
        if name == "config.json" {
            let mut config: Value = serde_json::from_slice(&std::fs::read(&from).unwrap()).unwrap();
            let field = if config["model_type"] == "gpt2" { "n_embd" } else { "hidden_size" };
            assert_eq!(config[field], RECORDED, "{}", from.display());
            config[field] = width.into();
            std::fs::write(to.join(name), config.to_string()).unwrap();
        } else if name.ends_with(".safetensors") && !name.starts_with("golden") {
            let tensors = candle_core::safetensors::load(&from, &Device::Cpu).unwrap();
            let resized = tensors.iter().map(|(name, tensor)| (name.clone(), resize(name, tensor, width)));
            candle_core::safetensors::save(&resized.collect(), to.join(name)).unwrap();
        } else if !name.starts_with("golden-") || name.ends_with(".json") {
            std::fs::copy(&from, to.join(name)).unwrap();
        }
    }
    let base = model.base.as_ref().map(|base| root.join(base.file_name().unwrap()));
    if base.as_ref().is_some_and(|base| !base.exists()) {
        let name = base.as_ref().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        make(models().iter().find(|model| model.name == name).unwrap(), root, width);
    }
    let mut network = network(base.as_deref().unwrap_or(&to));
    if base.is_some() {
        adapt(&mut network, &to);
    }
    if model.name.ends_with("-wrapper") {
        return;
    }
    record_logits(model, &network, &to);
    record_hidden(model, &network, &to);
    if let Some(cases) = model.cases() {
        let mask = u32::try_from(cases["mask_token_id"].as_u64().unwrap()).unwrap();
        record_losses(model, &network, mask, &to);
        record_traces(model, &network, mask, &cases, &to);
    }
}

/// A tensor of the same kind for another width: its own numbers, drawn again and again.
fn resize(name: &str, tensor: &Tensor, width: usize) -> Tensor {
    let resized = |(axis, size): (usize, &usize)| match *size {
        // One row for each position, whatever the width.
        size if name.ends_with("wpe.weight") && axis == 0 => size,
        RECORDED => width,
        size if size > RECORDED && size.is_multiple_of(RECORDED) => size / RECORDED * width,
        32 => width / 2,
        size => size,
    };
    let shape: Vec<usize> = tensor.dims().iter().enumerate().map(resized).collect();
    let numbers = floats(tensor);
    let drawn = |i: usize| numbers[(i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize % numbers.len()];
    let values: Vec<f32> = (0..shape.iter().product()).map(drawn).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(tensor.dtype()).unwrap()
}

fn tensors_in(folder: &Path) -> HashMap<String, Tensor> {
    let mut tensors = HashMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".safetensors") && !name.starts_with("golden") {
            tensors.extend(candle_core::safetensors::load(&path, &Device::Cpu).unwrap());
        }
    }
    tensors
}

fn matrix(tensor: &Tensor) -> Matrix {
    let columns = *tensor.dims().last().unwrap();
    Matrix { columns, values: floats(tensor).into_iter().map(f64::from).collect() }
}

fn network(folder: &Path) -> Network {
    let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let count = |names: [&str; 2]| names.iter().find_map(|name| config[*name].as_u64()).unwrap() as usize;
    let width = count(["n_embd", "hidden_size"]);
    let heads = count(["n_head", "num_attention_heads"]);
    let plain = |name: &str| {
        let name = name.strip_prefix("denoise_model.").or(name.strip_prefix("model.")).unwrap_or(name);
        name.replace("wte.weight", "embed_tokens.weight")
    };
    Network {
        gpt2: config["model_type"] == "gpt2",
        layers: count(["n_layer", "num_hidden_layers"]),
        width,
        heads,
        shared: config["num_key_value_heads"].as_u64().map_or(heads, |count| count as usize),
        head_width: width / heads,
        inner: config["intermediate_size"].as_u64().map_or(4 * width, |count| count as usize),
        epsilon: ["layer_norm_epsilon", "rms_norm_eps"]
            .iter()
            .find_map(|name| config[*name].as_f64())
            .unwrap(),
        theta: config["rope_theta"].as_f64().unwrap_or(0.0),
        qkv_bias: false,
        head_norm: false,
        experts: None,
        tensors: tensors_in(folder).iter().map(|(name, tensor)| (plain(name), matrix(tensor))).collect(),
        bf16: false,
    }
}

/// Adds B·A·α/r to every matrix that the adapter names, and takes its embedding.
fn adapt(network: &mut Network, folder: &Path) {
    let config: Value =
        serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap();
    let scale = config["lora_alpha"].as_f64().unwrap() / config["r"].as_f64().unwrap();
    let tensors = tensors_in(folder);
    for (name, tensor) in &tensors {
        if name.contains("embed_tokens") {
            network.tensors.insert("embed_tokens.weight".to_owned(), matrix(tensor));
        }
        let Some(module) = name.strip_suffix(".lora_A.weight") else { continue };
        let a = matrix(tensor);
        let b = matrix(&tensors[&format!("{module}.lora_B.weight")]);
        let module = module.rsplit_once("denoise_model.").unwrap().1;
        let weight = network.tensors.get_mut(&format!("{module}.weight")).unwrap();
        for (n, row) in weight.values.chunks_exact_mut(weight.columns).enumerate() {
            for (k, weight) in row.iter_mut().enumerate() {
                let term = |r: usize| b.values[n * b.columns + r] * a.values[r * a.columns + k];
                *weight += scale * (0..b.columns).map(term).sum::<f64>();
            }
        }
    }
}

/// Values in f32 of a shape.
fn stored(values: impl IntoIterator<Item = f64>, shape: &[usize]) -> Tensor {
    let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// (batch, length, vocabulary).
fn logits_of(network: &Network, canvases: &[Vec<u32>]) -> Tensor {
    let rows: Vec<Vec<f64>> = canvases.iter().flat_map(|canvas| network.evaluate(canvas).logits).collect();
    let shape = [canvases.len(), canvases[0].len(), rows[0].len()];
    stored(rows.into_iter().flatten(), &shape)
}

fn record_logits(model: &Model, network: &Network, to: &Path) {
    let recorded = model.tensors("golden-logits.safetensors").unwrap();
    let mut out = HashMap::new();
    for (name, input) in recorded.iter().filter(|(name, _)| name.ends_with(".input_ids")) {
        let case = name.strip_suffix(".input_ids").unwrap();
        let logits = logits_of(network, &ids(input));
        if recorded.contains_key(&format!("{case}.logits_bf16")) {
            let rounded = logits_of(&Network { bf16: true, ..network.clone() }, &ids(input));
            out.insert(format!("{case}.logits_bf16"), rounded.to_dtype(DType::BF16).unwrap());
        }
        if case == "1" && recorded.contains_key("shift.token") {
            record_shift(&ids(input), &logits, &mut out);
        }
        out.insert(name.clone(), input.clone());
        out.insert(format!("{case}.logits"), logits);
    }
    candle_core::safetensors::save(&out, to.join("golden-logits.safetensors")).unwrap();
}

/// Argmax of each row and its log-probability, moved one place to the right.
fn record_shift(canvases: &[Vec<u32>], logits: &Tensor, out: &mut HashMap<String, Tensor>) {
    let shape = [canvases.len(), canvases[0].len()];
    let mut tokens = Vec::new();
    let mut scores = Vec::new();
    for (number, canvas) in canvases.iter().enumerate() {
        let rows: Vec<Vec<f32>> = logits.get(number).unwrap().to_vec2().unwrap();
        let best = |row: &Vec<f32>| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32;
        let score = |row: &Vec<f32>| -cross_entropy(row, best(row));
        tokens.push(i64::from(canvas[0]));
        scores.push(score(&rows[0]));
        for row in &rows[..rows.len() - 1] {
            tokens.push(i64::from(best(row)));
            scores.push(score(row));
        }
    }
    out.insert("shift.token".to_owned(), Tensor::from_vec(tokens, &shape[..], &Device::Cpu).unwrap());
    out.insert("shift.score".to_owned(), stored(scores, &shape));
}

fn record_hidden(model: &Model, network: &Network, to: &Path) {
    let Some(recorded) = model.tensors("golden-hidden.safetensors") else { return };
    let canvases = ids(&recorded["input_ids"]);
    let shape = |columns: usize| [canvases.len(), canvases[0].len(), columns];
    let mut named: HashMap<String, Vec<f64>> = HashMap::new();
    for canvas in &canvases {
        for (name, rows) in network.evaluate(canvas).named {
            named.entry(name).or_default().extend(rows.into_iter().flatten());
        }
    }
    let states = named.into_iter().map(|(name, values)| (name, stored(values, &shape(network.width))));
    let mut out: HashMap<String, Tensor> = states.collect();
    out.insert("logits".to_owned(), logits_of(network, &canvases));
    out.insert("input_ids".to_owned(), recorded["input_ids"].clone());
    candle_core::safetensors::save(&out, to.join("golden-hidden.safetensors")).unwrap();
}

/// Cross-entropies of the true tokens at masked positions from 1 on, by canvas.
fn losses(network: &Network, input: &[Vec<u32>], noised: &[Vec<u32>], mask: u32) -> Vec<Vec<f64>> {
    let losses = |(input, noised): (&Vec<u32>, &Vec<u32>)| {
        let logits = network.evaluate(noised).logits;
        let row = |position: usize| logits[position - 1].iter().map(|x| *x as f32).collect::<Vec<_>>();
        let masked = (1..noised.len()).filter(|position| noised[*position] == mask);
        masked.map(|position| cross_entropy(&row(position), input[position])).collect()
    };
    input.iter().zip(noised).map(losses).collect()
}

fn record_losses(model: &Model, network: &Network, mask: u32, to: &Path) {
    let Some(mut out) = model.tensors("golden-loss.safetensors") else { return };
    for case in 0.. {
        let name = |part: &str| format!("train.{case}.{part}");
        let Some(input) = out.get(&name("input_ids")) else { break };
        let losses = losses(network, &ids(input), &ids(&out[&name("x_t")]), mask);
        let count = losses.iter().flatten().count() as f64;
        let rates = floats(&out[&name("u_t")]).into_iter().map(|u| 0.999 * f64::from(u) + 0.001);
        let weighted: f64 = losses.iter().zip(rates).map(|(row, rate)| row.iter().sum::<f64>() / rate).sum();
        let plain: f64 = losses.iter().flatten().sum();
        out.insert(name("loss"), stored([weighted / count], &[1]));
        out.insert(name("unweighted_loss"), stored([plain / count], &[1]));
    }
    for case in 0.. {
        let name = |part: &str| format!("score.{case}.{part}");
        let Some(input) = out.get(&name("input_ids")) else { break };
        let steps = out[&name("x_t")].dim(0).unwrap();
        let step = |step: usize| {
            let noised = ids(&out[&name("x_t")].get(step).unwrap());
            let losses = losses(network, &ids(input), &noised, mask);
            losses.iter().flatten().sum::<f64>() / losses.iter().flatten().count().max(1) as f64
        };
        let values: Vec<f64> = (0..steps).map(step).collect();
        out.insert(name("value"), stored([values.iter().sum::<f64>() / steps as f64], &[1]));
        out.insert(name("per_step"), stored(values, &[steps]));
    }
    candle_core::safetensors::save(&out, to.join("golden-loss.safetensors")).unwrap();
}

fn record_traces(model: &Model, network: &Network, mask: u32, cases: &Value, to: &Path) {
    let Some(mut out) = model.tensors("golden-traces.safetensors") else { return };
    for trace in cases["traces"].as_array().unwrap() {
        let name = trace["name"].as_str().unwrap();
        let run = sample(&Trace::read(trace, &out, mask), network);
        if let Some(logits) = out.get_mut(&format!("{name}.logits")) {
            let forwards: Vec<Tensor> = run.states.iter().map(|state| logits_of(network, state)).collect();
            *logits = Tensor::stack(&forwards, 0).unwrap();
        }
        let batch = run.last.len();
        let length = run.last[0].len();
        let states = run.states.iter().flatten().flatten().map(|id| i64::from(*id)).collect::<Vec<_>>();
        let shape = [run.states.len(), batch, length];
        out.insert(format!("{name}.xt"), Tensor::from_vec(states, &shape[..], &Device::Cpu).unwrap());
        let last = run.last.iter().flat_map(|row| &row[1..]).map(|id| i64::from(*id)).collect::<Vec<_>>();
        let last = Tensor::from_vec(last, (batch, length - 1), &Device::Cpu).unwrap();
        out.insert(format!("{name}.final"), last);
    }
    candle_core::safetensors::save(&out, to.join("golden-traces.safetensors")).unwrap();
}

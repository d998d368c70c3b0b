//! Errors of loading a checkpoint.

use std::path::PathBuf;

use super::one_line;

/// A checkpoint that cannot be served. The message is one line that names the file, tensor or field.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder or file is not there.
    #[error("{} is missing{hint}", path.display())]
    FileMissing {
        /// The path that was looked for.
        path: PathBuf,
        /// Advice; empty or starting with a colon.
        hint: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// A folder where a file should be.
    #[error("{} is a folder; a file of this name is needed", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// A path that was named as a model and is a part of one, or something else.
    #[error("{} {what}", path.display())]
    NoModel {
        /// The path.
        path: PathBuf,
        /// The kind of thing found, and advice.
        what: String,
    },
    /// A file that is not what its name says.
    #[error("{} is damaged or not valid: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The parser's message.
        reason: String,
    },
    /// A field of a JSON file that is absent or has an unusable value.
    #[error("{}: field `{field}` {reason}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// The fault, and the allowed values.
        reason: String,
    },
    /// A model that this server does not know.
    #[error(
        "{}: architecture `{found}` is not supported; supported are {supported}. If it is one of these under another name, \
         name its family",
        path.display()
    )]
    UnsupportedArchitecture {
        /// The configuration file.
        path: PathBuf,
        /// The name in the file.
        found: String,
        /// The supported names.
        supported: String,
    },
    /// A model that generates from left to right.
    #[error(
        "{}: `{kind}` is an autoregressive model as far as its files say ({place}), which is not served{}. If it is a diffusion model, name its mask with --mask-token, and its \
         family with --family",
        path.display(),
        adaptable(kind)
    )]
    Autoregressive {
        /// The configuration.
        path: PathBuf,
        /// The kind that the files name.
        kind: String,
        /// The statement of the files, or its absence.
        place: &'static str,
    },
    /// Weights stored as a Python pickle, which can run code when it is opened.
    #[error("{} is a pickle, which can run code when opened, and is refused; convert it once with: python -c \"import torch; from safetensors.torch import save_file; save_file({{k: v.contiguous().clone() for k, v in torch.load('pytorch_model.bin', weights_only=True).items()}}, 'model.safetensors')\"", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// The same of an adapter.
    #[error("{} is a pickle, which can run code when opened, and is refused; convert it once with: python -c \"import torch; from safetensors.torch import save_file; save_file({{k: v.contiguous().clone() for k, v in torch.load('adapter_model.bin', weights_only=True).items()}}, 'adapter_model.safetensors')\"", path.display())]
    AdapterPickle {
        /// The file.
        path: PathBuf,
    },
    /// A tensor that the architecture needs.
    #[error("{}: tensor `{name}` is missing{hint}", path.display())]
    TensorMissing {
        /// The weights.
        path: PathBuf,
        /// The tensor, under the name of the layout found.
        name: String,
        /// Advice; empty or starting with a colon.
        hint: String,
    },
    /// A tensor that no part of the configured network reads: it is another network.
    #[error(
        "{}: the files hold tensor `{name}`, which the configured network of {layers} layers does not have; {way_out}",
        path.display()
    )]
    TensorUnread {
        /// The configuration.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Layers that are configured.
        layers: usize,
        /// Advice.
        way_out: &'static str,
    },
    /// No head, and none that the embedding could stand for.
    #[error(
        "{}: field `{field}` is not true, but tensor `{tensor}` is missing; save the model with its head, or set the \
         field to true if the embedding is the head{other}",
        path.display()
    )]
    HeadMissing {
        /// The configuration.
        path: PathBuf,
        /// The field that ties the head to the embedding.
        field: &'static str,
        /// The head, under the name of the layout found.
        tensor: String,
        /// A file that may hold it; empty or starting with a semicolon.
        other: String,
    },
    /// A tensor of another shape than the configuration implies.
    #[error("{}: tensor `{name}` has shape {found:?}, but the configuration implies {expected:?}", path.display())]
    TensorShape {
        /// The weights.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Shape implied by the configuration.
        expected: Vec<usize>,
        /// Shape stored.
        found: Vec<usize>,
    },
    /// A tensor of a type that cannot be computed with.
    #[error("{}: tensor `{name}` is stored as {found}; supported are {supported}", path.display())]
    TensorType {
        /// The weights.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Type stored.
        found: String,
        /// Types that can be read.
        supported: &'static str,
    },
    /// The tokenizer files name no usable mask token.
    #[error("{}: {reason}", path.display())]
    MaskToken {
        /// The file.
        path: PathBuf,
        /// The names that were looked for and not found.
        reason: String,
    },
    /// An adapter that does not belong to this model.
    #[error("{}: {reason}", path.display())]
    Adapter {
        /// The file.
        path: PathBuf,
        /// The mismatch.
        reason: String,
    },
    /// The device is not there or failed.
    #[error("device {device}: {}", one_line(reason))]
    Device {
        /// Its name.
        device: String,
        /// The underlying error.
        reason: candle_core::Error,
    },
    /// The weights are larger than what is free of the device's memory.
    #[error(
        "the model does not fit into the device's memory, which has no room for the {bytes} bytes of `{tensor}`"
    )]
    DeviceMemory {
        /// The tensor that was being loaded.
        tensor: String,
        /// Bytes of the tensor in its file.
        bytes: usize,
    },
    /// A shared library that computing on the device takes.
    #[error(
        "computing on CUDA needs {name}: {reason} (LD_LIBRARY_PATH may name its folder; --device cpu does without)"
    )]
    Library {
        /// The library's file name.
        name: &'static str,
        /// The message of the system's loader.
        reason: String,
    },
    /// Heads that the kernels of the deterministic mode do not take.
    #[error(
        "the deterministic mode of a GPU takes attention heads of at most {largest} numbers; this model's have {found}"
    )]
    WideHeads {
        /// Numbers of a head of the model.
        found: usize,
        /// The largest number that the kernels take.
        largest: usize,
    },
    /// A precision that the device cannot compute in.
    #[error("dtype {dtype} is not available on device {device}; available are {available}")]
    Dtype {
        /// The precision asked for.
        dtype: &'static str,
        /// The device.
        device: String,
        /// The precisions that it has.
        available: &'static str,
    },
    /// The download failed.
    #[error("cannot fetch {file} of {repository} from {endpoint}: {reason}")]
    Hub {
        /// The model's name on the hub.
        repository: String,
        /// The file.
        file: String,
        /// The hub's address.
        endpoint: String,
        /// The reason.
        reason: String,
    },
}

/// Advice for a model that generates from left to right.
pub(super) fn adaptable(kind: &str) -> &'static str {
    if ["gpt2", "llama", "qwen2", "qwen3"].contains(&kind) {
        "; python -m adapt makes a diffusion model of it (crates/model/adapt)"
    } else {
        ""
    }
}

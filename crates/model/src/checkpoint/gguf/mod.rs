//! GGUF files as llama.cpp's converter writes them: one file for configuration, tokenizer and weights.
//!
//! A tokenizer's files that stand beside it come first; without them they are made from its keys.

pub(super) mod byte_level;
mod header;
mod tensor;
mod tokenizer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;
use serde_json::{Map, Value};

use self::header::Header;
pub use self::tensor::BlockTensor;
use super::files::unreadable;
use super::mistaken;
use super::spec::{FeedForward, TransformerSpec};
use crate::error::{LoadError, one_line};

/// The file's names for the tensors outside the blocks.
const OUTSIDE: [(&str, &str); 3] = [
    ("embed_tokens.weight", "token_embd.weight"),
    ("norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
];
/// The file's names for the parts of a block.
const PARTS: [(&str, &str); 12] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
];
/// The file's names for the stacked matrices of all experts of a block.
const EXPERTS: [(&str, &str); 3] =
    [("gate_proj", "ffn_gate_exps"), ("up_proj", "ffn_up_exps"), ("down_proj", "ffn_down_exps")];
/// Architectures whose queries and keys the converter reorders.
const REORDERED: [&str; 2] = ["llama", "llada"];
/// Types that tensors may have.
const TYPES: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K and Q6_K";

/// An open file.
#[derive(Clone, Debug)]
pub struct Gguf(Arc<Content>);

#[derive(Debug)]
struct Content {
    path: PathBuf,
    header: Header,
    file: Bytes,
}

impl Gguf {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// It is not there, or damaged.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let malformed = |reason: String| LoadError::Malformed { path: path.to_owned(), reason };
        let file = map(path)?;
        let header = Header::parse(&file).map_err(|reason| {
            let what = mistaken::weights(&file[..file.len().min(128)]).filter(|_| !file.starts_with(b"GGUF"));
            malformed(what.map_or_else(|| one_line(&reason), str::to_owned))
        })?;
        let opened = Self(Arc::new(Content { path: path.to_owned(), header, file }));
        if let Some(parts) =
            opened.metadata().get("split.count").and_then(Value::as_u64).filter(|parts| *parts > 1)
        {
            let reason =
                format!("is {parts}: this is one part of a model; join them with llama-gguf-split --merge");
            return Err(opened.refuse("split.count", &reason));
        }
        Ok(opened)
    }

    /// The path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    /// The name that the file gives its model (`general.name`).
    #[must_use]
    pub fn model_name(&self) -> Option<&str> {
        self.metadata().get("general.name")?.as_str()
    }

    /// Its keys and their values.
    pub(super) fn metadata(&self) -> &Map<String, Value> {
        &self.0.header.metadata
    }

    /// Names and descriptions of its tensors, and their bytes.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (&str, BlockTensor)> {
        self.0.header.tensors.keys().filter_map(|name| Some((name.as_str(), self.stored(name, None)?)))
    }

    /// Refuses tensors of a type that is not read.
    pub(super) fn expect_types(&self) -> Result<(), LoadError> {
        let Content { path, header, .. } = &*self.0;
        match &header.unread_type {
            Some((name, found)) => Err(LoadError::TensorType {
                path: path.clone(),
                name: one_line(name),
                found: found.clone(),
                supported: TYPES,
            }),
            None => Ok(()),
        }
    }

    /// A tensor by its canonical name, with what the file calls it; `head_width` is that of queries and
    /// keys.
    pub(super) fn tensor(&self, name: &str, head_width: usize) -> Result<(String, BlockTensor), LoadError> {
        let missing = |stored: &str| LoadError::TensorMissing {
            path: self.0.path.clone(),
            name: stored.to_owned(),
            hint: String::new(),
        };
        if let Some((stored, expert)) = stacked_name(name) {
            let all = self.stored(&stored, None).ok_or_else(|| missing(&stored))?;
            let one = all.part(expert).ok_or_else(|| missing(&stored))?;
            return Ok((stored, one));
        }
        let stored = stored_name(name);
        // llama.cpp rotates neighbours where the reference rotates the halves of a head. For `llama` and
        // for `llada` alike, its converter (convert_hf_to_gguf.py, `permute`) therefore reorders the rows
        // of queries and keys: element i of the first half becomes 2i, its partner 2i + 1.
        let architecture = self.metadata().get("general.architecture").and_then(Value::as_str);
        let turned = architecture.is_some_and(|name| REORDERED.contains(&name))
            && ["q_proj.weight", "k_proj.weight"].iter().any(|end| name.ends_with(end));
        match self.stored(&stored, turned.then_some(head_width)) {
            Some(tensor) => Ok((stored, tensor)),
            None => Err(missing(&stored)),
        }
    }

    /// Returns true if the file has a tensor, by its canonical name.
    pub(super) fn contains(&self, name: &str) -> bool {
        let stored = stacked_name(name).map_or_else(|| stored_name(name), |(stored, _)| stored);
        self.0.header.tensors.contains_key(&stored)
    }

    fn stored(&self, name: &str, turned: Option<usize>) -> Option<BlockTensor> {
        let info = self.0.header.tensors.get(name)?;
        Some(BlockTensor::new(
            info.encoding,
            info.shape.clone(),
            self.0.file.slice(info.bytes.clone()),
            turned,
        ))
    }

    /// The file's own statement on whether row i of the head predicts position i + 1; `None` without one.
    pub(super) fn logit_shift(&self) -> Result<Option<bool>, LoadError> {
        let key = "diffusion.shift_logits";
        match self.metadata().get(key) {
            None => Ok(None),
            Some(Value::Bool(shift)) => Ok(Some(*shift)),
            Some(other) => Err(self.refuse(key, &format!("is {other}; it must be true or false"))),
        }
    }

    /// `tokenizer.json`, made from its keys.
    pub(super) fn tokenizer(&self) -> Result<Vec<u8>, LoadError> {
        let made = tokenizer::tokenizer(self.metadata());
        made.map(|made| made.to_string().into_bytes()).map_err(|(key, reason)| self.refuse(key, &reason))
    }

    /// The equivalent of `tokenizer_config.json` from the file's keys: special tokens and the chat template.
    pub(super) fn settings(&self) -> Result<Map<String, Value>, LoadError> {
        tokenizer::settings(self.metadata()).map_err(|(key, reason)| self.refuse(key, &reason))
    }

    fn refuse(&self, key: &str, reason: &str) -> LoadError {
        LoadError::Field { path: self.0.path.clone(), field: key.to_owned(), reason: one_line(&reason) }
    }
}

/// The file's name for a tensor; names that it cannot have are returned unchanged.
fn stored_name(name: &str) -> String {
    if let Some((_, stored)) = OUTSIDE.iter().find(|(canonical, _)| *canonical == name) {
        return (*stored).to_owned();
    }
    let named = || {
        let (number, inner) = name.strip_prefix("layers.")?.split_once('.')?;
        let (part, end) = inner.rsplit_once('.')?;
        let (_, stored) = PARTS.iter().find(|(canonical, _)| *canonical == part)?;
        Some(format!("blk.{number}.{stored}.{end}"))
    };
    named().unwrap_or_else(|| name.to_owned())
}

/// The file's name for the stack that a matrix of an expert is part of, and the expert's number.
fn stacked_name(name: &str) -> Option<(String, usize)> {
    let (number, inner) = name.strip_prefix("layers.")?.split_once(".mlp.experts.")?;
    let (expert, part) = inner.strip_suffix(".weight")?.split_once('.')?;
    let (_, stored) = EXPERTS.iter().find(|(canonical, _)| *canonical == part)?;
    Some((format!("blk.{number}.{stored}.weight"), expert.parse().ok()?))
}

/// Returns true unless a tensor is a stack of experts of another number than the network's.
pub(super) fn holds_experts_of(stored: &str, shape: &[usize], spec: &TransformerSpec) -> bool {
    let is_stack = EXPERTS.iter().any(|(_, known)| stored.ends_with(&format!(".{known}.weight")));
    !is_stack
        || spec.feed_forward.iter().any(|kind| match kind {
            FeedForward::Experts(experts) => shape.first() == Some(&experts.count),
            FeedForward::Gelu { .. } | FeedForward::SwiGlu { .. } => false,
        })
}

/// The canonical name of a tensor of the file; of the matrices of all experts, that of the first one's.
pub(super) fn canonical_name(stored: &str) -> Option<String> {
    if let Some((canonical, _)) = OUTSIDE.iter().find(|(_, outside)| *outside == stored) {
        return Some((*canonical).to_owned());
    }
    let (number, inner) = stored.strip_prefix("blk.")?.split_once('.')?;
    let (part, end) = inner.rsplit_once('.')?;
    if let Some((canonical, _)) = EXPERTS.iter().find(|(_, known)| *known == part) {
        return (end == "weight").then(|| format!("layers.{number}.mlp.experts.0.{canonical}.weight"));
    }
    let (canonical, _) = PARTS.iter().find(|(_, known)| *known == part)?;
    Some(format!("layers.{number}.{canonical}.{end}"))
}

fn map(path: &Path) -> Result<Bytes, LoadError> {
    let file = File::open(path).map_err(|source| unreadable(path, "", source))?;
    if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        let reason = "the file is empty".to_owned();
        return Err(LoadError::Malformed { path: path.to_owned(), reason });
    }
    // SAFETY: the map is only read. It lives as long as the weights are used, and a process that writes to
    // the file meanwhile would change them, or end this one with a bus error by shortening it; weights are
    // written once and replaced by renaming, which leaves the mapped file as it is.
    #[expect(unsafe_code, reason = "memory-maps the weights")]
    let mapped = unsafe { Mmap::map(&file) };
    mapped.map(Bytes::from_owner).map_err(|source| unreadable(path, "", source))
}

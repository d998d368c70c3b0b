//! The table of known models. Licences are those that the models' cards name.

#[cfg(test)]
mod tests;

use unmask_model::backbone::{Network, StoredAs};
use unmask_model::checkpoint::Family;

use super::shape::Shape;
use crate::nearest::nearest;

/// A released model.
#[derive(Clone, Copy, Debug)]
pub struct KnownModel {
    /// Its short name, as `--model` takes it.
    pub name: &'static str,
    /// Its name on the hub.
    pub hub: &'static str,
    /// One phrase about it.
    pub about: &'static str,
    /// Its licence, as its card names it.
    pub licence: &'static str,
    /// Its shape.
    pub shape: Shape,
    /// Rows of the embedding.
    vocabulary: usize,
    /// Positions that its files allow.
    pub context: usize,
    /// True if its head is a tensor of its own.
    own_head: bool,
    /// The type in which its files store it.
    stored: StoredAs,
    /// True if the program holds an adapter for it.
    pub adapted: bool,
}

/// The model that consists of a base and of the adapter in this program.
pub const SMOLLM2: &str = "smollm2";

/// A model of 7 billion parameters in Dream's shape.
const DREAM: KnownModel = KnownModel {
    name: "dream-7b",
    hub: "Dream-org/Dream-v0-Instruct-7B",
    about: "instructions, English",
    licence: "Apache-2.0",
    shape: Shape::Dream7b,
    vocabulary: 152_064,
    context: 131_072,
    own_head: true,
    stored: StoredAs::Bf16,
    adapted: false,
};

/// LLaDA's instruction model.
const LLADA: KnownModel = KnownModel {
    name: "llada-8b",
    hub: "GSAI-ML/LLaDA-8B-Instruct",
    about: "instructions, English and Chinese",
    licence: "MIT",
    shape: Shape::Llada8b,
    vocabulary: 126_464,
    context: 4096,
    own_head: true,
    stored: StoredAs::Bf16,
    adapted: false,
};

/// LLaDA's mixture of experts.
const LLADA_MOE: KnownModel = KnownModel {
    name: "llada-moe",
    hub: "inclusionAI/LLaDA-MoE-7B-A1B-Instruct",
    about: "instructions; 8 of 64 experts for each token",
    licence: "Apache-2.0",
    shape: Shape::LladaMoe7bA1b,
    vocabulary: 157_184,
    context: 8192,
    own_head: true,
    stored: StoredAs::Bf16,
    adapted: false,
};

/// SDAR's smallest chat model.
const SDAR: KnownModel = KnownModel {
    name: "sdar-1.7b",
    hub: "JetLM/SDAR-1.7B-Chat",
    about: "chat, in blocks of 4",
    licence: "Apache-2.0",
    shape: Shape::Sdar1b7,
    vocabulary: 151_936,
    context: 32_768,
    own_head: true,
    stored: StoredAs::Bf16,
    adapted: false,
};

/// LLaDA2's smaller mixture of experts.
const LLADA2: KnownModel = KnownModel {
    name: "llada2-mini",
    hub: "inclusionAI/LLaDA2.0-mini",
    about: "instructions, in blocks of 32; 8 of 256 experts for each token",
    licence: "Apache-2.0",
    shape: Shape::Llada2Mini,
    vocabulary: 157_184,
    context: 32_768,
    own_head: true,
    stored: StoredAs::Bf16,
    adapted: false,
};

/// DiffuGPT, the smaller one.
const DIFFUGPT_S: KnownModel = KnownModel {
    name: "diffugpt-s",
    hub: "diffusionfamily/diffugpt-s",
    about: "continues and fills English text",
    licence: "Apache-2.0",
    shape: Shape::DiffuGptS,
    vocabulary: 50_257,
    context: 1024,
    own_head: false,
    stored: StoredAs::F16,
    adapted: false,
};

/// All known models, small ones first.
pub const KNOWN: [KnownModel; 20] = [
    DIFFUGPT_S,
    KnownModel {
        name: SMOLLM2,
        hub: "HuggingFaceTB/SmolLM2-135M-Instruct",
        about: "fills code, writes English, by the adapter in this program",
        licence: "Apache-2.0",
        shape: Shape::SmolLm2,
        vocabulary: 49_152,
        context: 8192,
        own_head: false,
        stored: StoredAs::Bf16,
        adapted: true,
    },
    KnownModel {
        name: "diffugpt-m",
        hub: "diffusionfamily/diffugpt-m",
        shape: Shape::DiffuGptM,
        vocabulary: 50_258,
        ..DIFFUGPT_S
    },
    KnownModel {
        name: "open-dcoder",
        hub: "fredzzp/open-dcoder-0.5B",
        about: "code",
        licence: "Apache-2.0",
        shape: Shape::OpenDCoder,
        vocabulary: 151_936,
        context: 32_768,
        own_head: false,
        stored: StoredAs::Bf16,
        adapted: false,
    },
    KnownModel {
        name: "fast-dllm-1.5b",
        hub: "Efficient-Large-Model/Fast_dLLM_v2_1.5B",
        about: "chat, in blocks of 32",
        licence: "Apache-2.0",
        shape: Shape::FastDllm1b5,
        vocabulary: 151_936,
        context: 32_768,
        own_head: false,
        stored: StoredAs::Bf16,
        adapted: false,
    },
    SDAR,
    KnownModel {
        name: "diffullama",
        hub: "diffusionfamily/diffullama",
        about: "continues and fills English text",
        licence: "Apache-2.0",
        shape: Shape::DiffuLlama7b,
        vocabulary: 32_000,
        context: 4096,
        own_head: true,
        stored: StoredAs::Bf16,
        adapted: false,
    },
    LLADA_MOE,
    KnownModel {
        name: "llada-moe-base",
        hub: "inclusionAI/LLaDA-MoE-7B-A1B-Base",
        about: "continues text; 8 of 64 experts for each token",
        ..LLADA_MOE
    },
    DREAM,
    KnownModel {
        name: "dream-7b-base",
        hub: "Dream-org/Dream-v0-Base-7B",
        about: "continues English text",
        ..DREAM
    },
    KnownModel {
        name: "dream-coder",
        hub: "Dream-org/Dream-Coder-v0-Instruct-7B",
        about: "instructions, code",
        ..DREAM
    },
    KnownModel {
        name: "diffucoder",
        hub: "apple/DiffuCoder-7B-cpGRPO",
        about: "instructions, code",
        licence: "Apple-AMLR",
        ..DREAM
    },
    LLADA,
    KnownModel {
        name: "llada-8b-base",
        hub: "GSAI-ML/LLaDA-8B-Base",
        about: "continues English and Chinese text",
        ..LLADA
    },
    KnownModel {
        name: "llada-1.5",
        hub: "GSAI-ML/LLaDA-1.5",
        about: "instructions; LLaDA-8B with preferences",
        ..LLADA
    },
    KnownModel { name: "sdar-8b", hub: "JetLM/SDAR-8B-Chat", shape: Shape::Sdar8b, ..SDAR },
    KnownModel {
        name: "diffcoder-8b",
        hub: "ByteDance-Seed/Stable-DiffCoder-8B-Instruct",
        about: "instructions, code, in blocks of 4",
        licence: "MIT",
        shape: Shape::StableDiffcoder8b,
        vocabulary: 155_136,
        context: 8192,
        own_head: true,
        stored: StoredAs::Bf16,
        adapted: false,
    },
    LLADA2,
    KnownModel { name: "llada2.1-mini", hub: "inclusionAI/LLaDA2.1-mini", ..LLADA2 },
];

impl KnownModel {
    /// Its family.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.shape.family()
    }

    /// Its network as its files hold it.
    #[must_use]
    pub fn network(&self) -> Network {
        let mut spec = self.shape.spec(None);
        spec.context = self.context;
        let Self { vocabulary, own_head, stored, adapted, .. } = *self;
        Network { spec, vocabulary, own_head, stored, adapted }
    }

    /// The same network in a GGUF file of the type Q4_K_M; none where such files cannot hold the model, or an adapter
    /// would take the matrices out of it.
    #[must_use]
    pub fn in_q4_k_m(&self) -> Option<Network> {
        let gguf = !self.family().gguf.is_empty() && !self.adapted;
        gguf.then(|| Network { stored: StoredAs::Q4KM, ..self.network() })
    }
}

/// The model of a short name or a hub name, in any case.
#[must_use]
pub fn known(name: &str) -> Option<&'static KnownModel> {
    KNOWN.iter().find(|model| [model.name, model.hub].iter().any(|own| own.eq_ignore_ascii_case(name)))
}

/// The short name, or the hub name, that is nearest to `name`.
#[must_use]
pub fn suggestion(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let prefix = |model: &&KnownModel| lower.len() >= 4 && model.name.starts_with(&lower);
    let near = nearest(&lower, KNOWN.iter().map(|model| model.name));
    let near = near.or_else(|| KNOWN.iter().find(prefix).map(|model| model.name));
    near.or_else(|| nearest(name, KNOWN.iter().map(|model| model.hub)))
}

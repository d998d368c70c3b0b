//! The networks of known models, by their shape.

use clap::ValueEnum;
use unmask_model::backbone::{Network, StoredAs};
use unmask_model::checkpoint::families::{
    DIFFUGPT, DIFFULLAMA, DREAM, FAST_DLLM, LLADA, LLADA_MOE, LLADA2, QWEN2, SDAR, STABLE_DIFFCODER,
};
use unmask_model::checkpoint::{
    Biases, Experts, Family, FeedForward, NormKind, Positions, Projections, Rotation, StoredType,
    TransformerSpec, Visibility,
};
use unmask_model::kernel::{ExpertGroups, ExpertScore, Routing};

/// Networks by their shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Shape {
    /// 12 blocks of width 768, 50,257 tokens.
    #[value(name = "diffugpt-s")]
    DiffuGptS,
    /// 30 blocks of width 576, 3 of 9 heads for keys, 49,152 tokens; weights stored as bfloat16.
    #[value(name = "smollm2-135m")]
    SmolLm2,
    /// 24 blocks of width 1024, 50,257 tokens.
    #[value(name = "diffugpt-m")]
    DiffuGptM,
    /// LLaMA's blocks in GPT-2 small's size: 12 of width 768, 32,000 tokens.
    #[value(name = "llama-124m")]
    Llama124m,
    /// 32 blocks of width 4096, 32,000 tokens; weights stored as bfloat16.
    #[value(name = "diffullama-7b")]
    DiffuLlama7b,
    /// 32 blocks of width 4096, 126,464 tokens; weights stored as bfloat16.
    #[value(name = "llada-8b")]
    Llada8b,
    /// 28 blocks of width 3584, 4 of 28 heads for keys, 152,064 tokens; weights stored as bfloat16.
    #[value(name = "dream-7b")]
    Dream7b,
    /// 16 blocks of width 2048 with 8 of 64 experts, 157,184 tokens; weights stored as bfloat16.
    #[value(name = "llada-moe-7b-a1b")]
    LladaMoe7bA1b,
    /// 24 blocks of width 896, 2 of 14 heads for keys, 151,936 tokens; weights stored as bfloat16.
    #[value(name = "open-dcoder-0.5b")]
    OpenDCoder,
    /// A dense network with the active parameters of llada-moe-7b-a1b.
    #[value(name = "llada-dense-1b")]
    LladaDense1b,
    /// SDAR-1.7B: 28 blocks of width 2048, 8 of 16 heads for keys, 151,936 tokens; weights stored as bfloat16.
    #[value(name = "sdar-1.7b")]
    Sdar1b7,
    /// SDAR-8B: 36 blocks of width 4096, 8 of 32 heads for keys, 151,936 tokens; weights stored as bfloat16.
    #[value(name = "sdar-8b")]
    Sdar8b,
    /// Fast-dLLM v2 1.5B: 28 blocks of width 1536, 2 of 12 heads for keys, 151,936 tokens; weights stored as bfloat16.
    #[value(name = "fast-dllm-v2-1.5b")]
    FastDllm1b5,
    /// Stable-DiffCoder 8B: 32 blocks of width 4096, 8 of 32 heads for keys, 155,136 tokens; weights stored as bfloat16.
    #[value(name = "stable-diffcoder-8b")]
    StableDiffcoder8b,
    /// LLaDA2.0-mini: 20 blocks of width 2048, 19 of them with 8 of 256 experts and a shared one, 157,184 tokens;
    /// weights stored as bfloat16.
    #[value(name = "llada2-mini")]
    Llada2Mini,
}

impl Shape {
    /// A network of this shape with `layers` blocks, or as many as the model has.
    #[must_use]
    pub fn spec(self, layers: Option<usize>) -> TransformerSpec {
        let (own_layers, width, head_count, kv_head_count, context) = match self {
            Self::DiffuGptS => (12, 768, 12, 12, 1024),
            Self::SmolLm2 => (30, 576, 9, 3, 8192),
            Self::DiffuGptM => (24, 1024, 16, 16, 1024),
            Self::Llama124m => (12, 768, 12, 12, 2048),
            Self::DiffuLlama7b | Self::Llada8b => (32, 4096, 32, 32, 4096),
            Self::Dream7b => (28, 3584, 28, 4, 4096),
            Self::OpenDCoder => (24, 896, 14, 2, 4096),
            Self::LladaMoe7bA1b | Self::LladaDense1b => (16, 2048, 16, 16, 8192),
            Self::Sdar1b7 => (28, 2048, 16, 8, 32_768),
            Self::Sdar8b => (36, 4096, 32, 8, 32_768),
            Self::FastDllm1b5 => (28, 1536, 12, 2, 32_768),
            Self::StableDiffcoder8b => (32, 4096, 32, 8, 8192),
            Self::Llada2Mini => (20, 2048, 16, 4, 32_768),
        };
        let learned = self.family() == &DIFFUGPT;
        TransformerSpec {
            width,
            head_count,
            kv_head_count,
            head_width: width / head_count,
            context,
            norm: if learned { NormKind::Layer } else { NormKind::Rms },
            norm_epsilon: 1e-5,
            positions: if learned {
                Positions::Learned
            } else {
                let part = (self == Self::Llada2Mini).then_some(64);
                Positions::Rotary(Rotation { part, ..Rotation::plain(10_000.0) })
            },
            projections: match self {
                _ if learned => Projections::Fused,
                Self::Llada2Mini => Projections::Stacked,
                _ => Projections::Separate,
            },
            biases: Biases {
                qkv: learned || matches!(self, Self::Dream7b | Self::OpenDCoder | Self::FastDllm1b5),
                output: learned,
                feed_forward: learned,
            },
            head_norm: matches!(
                self,
                Self::LladaMoe7bA1b | Self::LladaDense1b | Self::Sdar1b7 | Self::Sdar8b | Self::Llada2Mini
            ),
            feed_forward: self.feed_forwards(layers.unwrap_or(own_layers)),
            visibility: match self {
                Self::Sdar1b7 | Self::Sdar8b | Self::StableDiffcoder8b => {
                    Visibility::BlockCausal { block: 4 }
                }
                Self::Llada2Mini | Self::FastDllm1b5 => Visibility::BlockCausal { block: 32 },
                _ => Visibility::Full,
            },
            ties_missing_head: true,
        }
    }

    /// The feed-forward part of every block.
    fn feed_forwards(self, layers: usize) -> Vec<FeedForward> {
        let mut parts = vec![self.feed_forward(); layers];
        if let (Self::Llada2Mini, Some(first)) = (self, parts.first_mut()) {
            *first = FeedForward::SwiGlu { width: 5120 };
        }
        parts
    }

    fn feed_forward(self) -> FeedForward {
        match self {
            Self::DiffuGptS => FeedForward::Gelu { width: 3072 },
            Self::SmolLm2 => FeedForward::SwiGlu { width: 1536 },
            Self::DiffuGptM => FeedForward::Gelu { width: 4096 },
            Self::Llama124m => FeedForward::SwiGlu { width: 2048 },
            Self::DiffuLlama7b => FeedForward::SwiGlu { width: 11008 },
            Self::Llada8b | Self::Sdar8b => FeedForward::SwiGlu { width: 12288 },
            Self::FastDllm1b5 => FeedForward::SwiGlu { width: 8960 },
            Self::StableDiffcoder8b => FeedForward::SwiGlu { width: 14336 },
            Self::Dream7b => FeedForward::SwiGlu { width: 18944 },
            Self::OpenDCoder => FeedForward::SwiGlu { width: 4864 },
            Self::LladaMoe7bA1b => FeedForward::Experts(Experts {
                count: 64,
                width: 1024,
                shared: None,
                bias: false,
                routing: Routing::softmax(8),
            }),
            Self::Sdar1b7 => FeedForward::SwiGlu { width: 6144 },
            Self::Llada2Mini => FeedForward::Experts(Experts {
                count: 256,
                width: 512,
                shared: Some(512),
                bias: true,
                routing: Routing {
                    used: 8,
                    score: ExpertScore::Sigmoid,
                    groups: Some(ExpertGroups { count: 8, kept: 4 }),
                    normalised: true,
                    scale: 2.5,
                },
            }),
            Self::LladaDense1b => FeedForward::SwiGlu { width: 8192 },
        }
    }

    /// Rows of the embedding.
    pub(crate) fn vocabulary(self) -> usize {
        match self {
            Self::DiffuGptS | Self::DiffuGptM => 50257,
            Self::SmolLm2 => 49_152,
            Self::OpenDCoder | Self::Sdar1b7 | Self::Sdar8b | Self::FastDllm1b5 => 151_936,
            Self::StableDiffcoder8b => 155_136,
            Self::Llama124m | Self::DiffuLlama7b => 32000,
            Self::Llada8b => 126_464,
            Self::Dream7b => 152_064,
            Self::LladaMoe7bA1b | Self::LladaDense1b | Self::Llada2Mini => 157_184,
        }
    }

    /// The network with random weights, `layers` blocks of it.
    pub(crate) fn network(self, layers: Option<usize>) -> Network {
        Network {
            spec: self.spec(layers),
            vocabulary: self.vocabulary(),
            own_head: false,
            stored: match self.stored() {
                StoredType::F32 => StoredAs::F32,
                StoredType::Bf16 => StoredAs::Bf16,
            },
            adapted: false,
        }
    }

    /// The type in which the weights are stored.
    pub(crate) fn stored(self) -> StoredType {
        match self {
            Self::DiffuGptS | Self::DiffuGptM | Self::Llama124m => StoredType::F32,
            _ => StoredType::Bf16,
        }
    }

    /// The family that a network of this shape belongs to.
    #[must_use]
    pub fn family(self) -> &'static Family {
        match self {
            Self::DiffuGptS | Self::DiffuGptM => &DIFFUGPT,
            Self::Llama124m | Self::SmolLm2 | Self::DiffuLlama7b => &DIFFULLAMA,
            Self::OpenDCoder => &QWEN2,
            Self::Llada8b => &LLADA,
            Self::Dream7b => &DREAM,
            Self::LladaMoe7bA1b | Self::LladaDense1b => &LLADA_MOE,
            Self::Sdar1b7 | Self::Sdar8b => &SDAR,
            Self::FastDllm1b5 => &FAST_DLLM,
            Self::StableDiffcoder8b => &STABLE_DIFFCODER,
            Self::Llada2Mini => &LLADA2,
        }
    }
}

/// Multiplications and additions of the blocks for a canvas: in the last one, queries and all behind
/// them are computed for the `asked` rows alone.
pub(crate) fn operations(spec: &TransformerSpec, rows: usize, asked: usize) -> f64 {
    let heads = spec.head_count * spec.head_width;
    let shared = spec.kv_head_count * spec.head_width;
    let keys = 2 * spec.width * shared;
    let attention = 2 * rows * heads;
    let each = spec.feed_forward.iter().enumerate().map(|(number, kind)| {
        let inner = match kind {
            FeedForward::Gelu { width } => 2 * spec.width * width,
            FeedForward::SwiGlu { width } => 3 * spec.width * width,
            FeedForward::Experts(experts) => {
                let used = experts.routing.used * experts.width + experts.shared.unwrap_or(0);
                spec.width * (experts.count + 3 * used)
            }
        };
        let queries = 2 * spec.width * heads + inner;
        let last = number + 1 == spec.layers();
        let behind = if last { asked.min(rows) } else { rows };
        rows * keys + behind * (queries + attention)
    });
    2.0 * each.sum::<usize>() as f64
}

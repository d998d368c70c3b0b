//! Names of a network's tensors in released files, and the canonical names in this program.
//!
//! The names of this program are those of LLaMA in transformers without the trunk's prefix (`layers.0.mlp.up_proj.weight`),
//! for GPT-2's fused matrices those of GPT-2.

/// The embedding.
pub(super) const EMBEDDING: &str = "embed_tokens.weight";
/// The head.
pub(super) const HEAD: &str = "lm_head.weight";
/// The canonical prefix of a block's number.
const BLOCKS: &str = "layers.";

/// The names of one kind of files.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The embedding, by which the layout is recognised.
    pub embedding: &'static str,
    /// The head.
    pub head: &'static str,
    /// The prefix of every other name.
    pub trunk: &'static str,
    /// The prefix of a block's number.
    pub blocks: &'static str,
    /// Parts, with or without a block, that have another name than here: ours and theirs.
    pub renamed: &'static [(&'static str, &'static str)],
}

impl Layout {
    /// LLaMA's names after a prefix.
    #[must_use]
    pub const fn plain(embedding: &'static str, trunk: &'static str) -> Self {
        Self { embedding, head: HEAD, trunk, blocks: BLOCKS, renamed: &[] }
    }

    /// The files' name for a tensor.
    #[must_use]
    pub fn stored(&self, name: &str) -> String {
        match name {
            EMBEDDING => return self.embedding.to_owned(),
            HEAD => return self.head.to_owned(),
            _ => {}
        }
        let (block, inner) = split(name, BLOCKS);
        let (part, end) = inner.rsplit_once('.').unwrap_or((inner, ""));
        let part = self.renamed.iter().find(|(ours, _)| *ours == part).map_or(part, |(_, theirs)| theirs);
        match block {
            Some(number) => format!("{}{}{number}.{part}.{end}", self.trunk, self.blocks),
            None => format!("{}{part}.{end}", self.trunk),
        }
    }

    /// The canonical name of a tensor in the files; `None` outside the layout.
    #[must_use]
    pub fn canonical(&self, stored: &str) -> Option<String> {
        if stored == self.head {
            return Some(HEAD.to_owned());
        }
        if stored == self.embedding {
            return Some(EMBEDDING.to_owned());
        }
        let (block, inner) = split(stored.strip_prefix(self.trunk)?, self.blocks);
        let (part, end) = inner.rsplit_once('.')?;
        let part = self.renamed.iter().find(|(_, theirs)| *theirs == part).map_or(part, |(ours, _)| ours);
        let name = match block {
            Some(number) => format!("{BLOCKS}{number}.{part}.{end}"),
            None => format!("{part}.{end}"),
        };
        // A name of ours that the files spell otherwise is not in the layout.
        (self.stored(&name) == stored && ![EMBEDDING, HEAD].contains(&name.as_str())).then_some(name)
    }
}

/// The number of a block and what follows it.
fn split<'a>(name: &'a str, blocks: &str) -> (Option<&'a str>, &'a str) {
    let parts = name.strip_prefix(blocks).and_then(|rest| rest.split_once('.'));
    parts.map_or((None, name), |(number, rest)| (Some(number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        let layout = Layout {
            embedding: "m.wte.weight",
            head: "m.ff_out.weight",
            trunk: "m.",
            blocks: "blocks.",
            renamed: &[("norm", "ln_f"), ("mlp.down_proj", "ff_out"), ("self_attn.q_proj", "q_proj")],
        };
        for (ours, theirs) in [
            (EMBEDDING, "m.wte.weight"),
            (HEAD, "m.ff_out.weight"),
            ("norm.weight", "m.ln_f.weight"),
            ("layers.11.mlp.down_proj.weight", "m.blocks.11.ff_out.weight"),
            ("layers.0.self_attn.q_proj.bias", "m.blocks.0.q_proj.bias"),
            ("layers.0.other.weight", "m.blocks.0.other.weight"),
        ] {
            assert_eq!(layout.stored(ours), theirs);
            assert_eq!(layout.canonical(theirs).as_deref(), Some(ours));
        }
        for none in ["norm.weight", "m.norm.weight", "m.layers.0.ff_out.weight", "lm_head.weight", "m.wte"] {
            assert_eq!(layout.canonical(none), None, "{none}");
        }
    }
}

//! The matrices of a network: their sizes, layouts and roles.

use super::{Matrix, Network, Role};
use crate::backbone::cpu::layout::Layout;
use crate::checkpoint::{FeedForward, TransformerSpec};

impl Network {
    /// The matrices, those of a block after another.
    pub(super) fn matrices(&self) -> Vec<Matrix> {
        let TransformerSpec { width, head_count, kv_head_count, head_width, .. } = self.spec;
        let plain = Layout::Plain;
        let one =
            |inputs, outputs, rows, columns, role| Matrix { count: 1, inputs, outputs, rows, columns, role };
        let words = one(width, self.vocabulary, plain(width), plain(self.vocabulary), Role::Embedding);
        let mut matrices = vec![words];
        if self.own_head {
            matrices.push(one(width, self.vocabulary, plain(width), plain(self.vocabulary), Role::Head));
        }
        let wide = head_count * head_width;
        let shared = kv_head_count * head_width;
        let heads = |count| Layout::Heads { count, width: head_width };
        for (block, kind) in self.spec.feed_forward.iter().enumerate() {
            let precise = Role::Precise { block };
            matrices.extend([
                one(width, wide, plain(width), heads(head_count), Role::Other),
                one(width, shared, plain(width), heads(kv_head_count), Role::Other),
                one(width, shared, plain(width), heads(kv_head_count), precise),
                one(wide, width, heads(head_count), plain(width), Role::Other),
            ]);
            let (count, inner, columns) = match *kind {
                FeedForward::Gelu { width } => (1, width, plain(width)),
                FeedForward::SwiGlu { width } => (1, width, Layout::Gated(width)),
                FeedForward::Experts(experts) => {
                    let router = one(width, experts.count, plain(width), plain(experts.count), Role::Router);
                    matrices.push(router);
                    if let Some(shared) = experts.shared {
                        let gated = Layout::Gated(shared);
                        matrices.extend([
                            one(width, 2 * shared, plain(width), gated, Role::Other),
                            one(shared, width, plain(shared), plain(width), precise),
                        ]);
                    }
                    (experts.count, experts.width, Layout::Gated(experts.width))
                }
            };
            let outputs = if matches!(kind, FeedForward::Gelu { .. }) { inner } else { 2 * inner };
            let expand = one(width, outputs, plain(width), columns, Role::Other);
            let contract = one(inner, width, plain(inner), plain(width), precise);
            matrices.extend([Matrix { count, ..expand }, Matrix { count, ..contract }]);
        }
        matrices
    }
}

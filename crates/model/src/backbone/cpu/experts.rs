//! Experts: rows are grouped by the experts that they use, so that an evaluation reads the weights of each expert at
//! most once.

use super::Dense;
use super::workspace::Workspace;
use crate::kernel::{Activations, CpuFeatures, Finish, Norm, Numbers, PackedMatrix, Routing, Rows, product};

/// The experts of a block and the router that chooses them.
#[derive(Debug)]
pub(super) struct ExpertBlock {
    /// Computes in f32 whatever the experts do.
    pub(super) router: PackedMatrix,
    pub(super) experts: Vec<Dense>,
    /// The expert that every row uses beside them.
    pub(super) shared: Option<Dense>,
    /// The choice's addition to the score of each expert; empty where it adds nothing.
    pub(super) bias: Vec<f32>,
    pub(super) routing: Routing,
}

/// Memory for the experts of a block.
#[derive(Debug)]
pub(super) struct Groups {
    /// The rows for the router.
    wide: Activations,
    router: Rows,
    chosen: Vec<(u32, f32)>,
    /// By expert: the rows that use it, and how much it counts in each.
    members: Vec<Vec<(u32, f32)>>,
    places: Vec<u32>,
    /// Rows of one expert, before and after it.
    rows: Activations,
    result: Rows,
    /// The sums over experts.
    total: Rows,
}

impl Groups {
    /// For experts whose products are of `numbers`.
    pub(super) fn new(numbers: Numbers) -> Self {
        Self {
            wide: Activations::new(Numbers::F32),
            router: Rows::default(),
            chosen: Vec::new(),
            members: Vec::new(),
            places: Vec::new(),
            rows: Activations::new(numbers),
            result: Rows::default(),
            total: Rows::default(),
        }
    }
}

impl ExpertBlock {
    /// Adds to each row of the workspace what its experts make of it, each with its weight, in ascending order of the
    /// experts, and then the shared one. The rows after `norm` are in the workspace.
    pub(super) fn compute(&self, cpu: CpuFeatures, norm: &Norm, stride: usize, workspace: &mut Workspace) {
        let Workspace { rows, normed, integers, inner, groups, .. } = workspace;
        self.group(cpu, norm, (rows, stride), groups);
        groups.total.shape(rows.len());
        groups.total.fill(0.0);
        for (expert, members) in self.experts.iter().zip(&groups.members) {
            if members.is_empty() {
                continue;
            }
            groups.places.clear();
            groups.places.extend(members.iter().map(|member| member.0));
            groups.rows.gather(normed, &groups.places);
            expert.expand(cpu, &groups.rows, integers, inner);
            groups.result.shape(members.len() * stride);
            let finish = Finish::Store { out: &mut groups.result, stride };
            expert.contract.apply(cpu, inner, integers, finish);
            for (result, (row, weight)) in groups.result.chunks_exact(stride).zip(members) {
                let total = &mut groups.total[*row as usize * stride..][..stride];
                total.iter_mut().zip(result).for_each(|(total, result)| *total += weight * result);
            }
        }
        rows.iter_mut().zip(&*groups.total).for_each(|(row, total)| *row += total);
        if let Some(shared) = &self.shared {
            shared.expand(cpu, normed, integers, inner);
            let finish = Finish::Add { out: rows, stride, bias: &shared.contract.bias };
            shared.contract.apply(cpu, inner, integers, finish);
        }
    }

    /// The weight of each expert in each row, (rows, experts), as [`Self::compute`] has just noted it.
    pub(super) fn weights(&self, rows: usize, groups: &Groups) -> Vec<f32> {
        let count = self.experts.len();
        let mut weights = vec![0.0; rows * count];
        for (expert, members) in groups.members.iter().enumerate() {
            members.iter().for_each(|(row, weight)| weights[*row as usize * count + expert] = *weight);
        }
        weights
    }

    /// Notes which rows use each expert.
    fn group(&self, cpu: CpuFeatures, norm: &Norm, (rows, stride): (&Rows, usize), groups: &mut Groups) {
        let count = rows.len() / stride;
        norm.apply(cpu, rows, stride, &mut groups.wide);
        let columns = self.router.columns();
        groups.router.shape(count * columns);
        let finish = Finish::Store { out: &mut groups.router, stride: columns };
        product(cpu, &groups.wide, &self.router, finish);
        groups.members.resize_with(self.experts.len().max(groups.members.len()), Vec::new);
        groups.members.iter_mut().for_each(Vec::clear);
        for (row, logits) in (0..).zip(groups.router.chunks_exact(columns).take(count)) {
            self.routing.choose(&logits[..self.experts.len()], &self.bias, &mut groups.chosen);
            for (expert, weight) in &groups.chosen {
                groups.members[*expert as usize].push((row, *weight));
            }
        }
    }
}

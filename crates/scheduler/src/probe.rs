//! A canvas of masks with nothing of any user in it: to measure the predictor, and to ask whether it is
//! still alive.

use unmask_model::error::PredictError;
use unmask_model::predictor::{Ask, MaskPredictor, ModelLimits, Sampling, TokenId, Want};

pub(crate) struct Probe {
    tokens: Vec<TokenId>,
    wants: Vec<Want>,
    samplings: [Sampling; 1],
}

impl Probe {
    /// A canvas of `length` positions, of which one in sixteen is read, as in the middle of a generation.
    pub(crate) fn new(limits: &ModelLimits, length: usize) -> Self {
        let first = u32::from(limits.shift);
        let wants = (first..length as u32).step_by(16);
        Self {
            tokens: vec![limits.mask_token; length],
            wants: wants.map(|position| Want { position, uniform: 0.5, ..Want::default() }).collect(),
            samplings: [Sampling::default()],
        }
    }

    /// Evaluates `canvases` different copies.
    pub(crate) fn evaluate(
        &self,
        predictor: &mut impl MaskPredictor,
        canvases: usize,
    ) -> Result<(), PredictError> {
        // Equal canvases would be computed once.
        let copies: Vec<Vec<TokenId>> = (0..canvases as u32)
            .map(|number| {
                let mut tokens = self.tokens.clone();
                if let Some(first) = tokens.first_mut() {
                    *first = number;
                }
                tokens
            })
            .collect();
        let ask = |tokens| Ask { tokens, wants: &self.wants, samplings: &self.samplings, ..Ask::default() };
        let asks: Vec<Ask<'_>> = copies.iter().map(|tokens| ask(tokens)).collect();
        predictor.predict(&asks).map(drop)
    }
}

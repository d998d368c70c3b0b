//! `unmask bench`: what an evaluation takes on this machine, with random weights of a known shape.

mod report;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use unmask_model::backbone::Memory;
use unmask_model::checkpoint::{TransformerSpec, Weights};
use unmask_model::device::Placement;
use unmask_model::diffusion::{DenoisingState, Noise, StateSpec};
use unmask_model::kernel::CpuFeatures;
use unmask_model::predictor::{Ask, CandlePredictor, MaskPredictor, ModelLimits, Sampling, Want};

use self::report::{Measured, Report};
use crate::config::LoadArgs;
use crate::load::{Loaded, load};
use crate::policy::Preset;
use crate::shelf::{Dtype, memory};
use crate::shelf::{Shape, operations};
use crate::values::at_least_one;

/// Settings of `unmask bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The shape of a network with random weights.
    #[arg(long, default_value = "diffugpt-s")]
    pub arch: Shape,
    /// Measure this model instead: a short name, a hub name, a GGUF file or a folder.
    #[arg(long, value_name = "NAME|FILE|FOLDER", conflicts_with_all = ["arch", "layers"])]
    pub model: Option<String>,
    /// Number of blocks [default: the model's].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub layers: Option<usize>,
    /// Positions of a canvas.
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = at_least_one)]
    pub rows: usize,
    /// Canvases that share each evaluation.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least_one)]
    pub canvases: usize,
    /// Masked positions at the end of a canvas [default: all but the first].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub masked: Option<usize>,
    /// The decision rule by which the canvases are filled.
    #[arg(long, default_value = "reference")]
    pub policy: Preset,
    /// T.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Instead of filling canvases, read this many positions of each, over and over.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub asked: Option<usize>,
    /// Number of repetitions; with --asked the number of evaluations.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least_one)]
    pub repetitions: usize,
    /// Temperature of the draws.
    #[arg(long, default_value_t = 0.95)]
    pub temperature: f64,
    /// Nucleus of the draws.
    #[arg(long, default_value_t = 0.9)]
    pub top_p: f64,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    pub json: bool,
    /// Loading of the model, and computation of it or of the network.
    #[command(flatten)]
    pub load: LoadArgs,
}

#[expect(clippy::disallowed_methods, reason = "measures")]
fn now() -> Instant {
    Instant::now()
}

/// A network to measure.
struct Subject {
    name: String,
    spec: TransformerSpec,
    placement: Placement,
    predictor: CandlePredictor,
    predicted: Option<Memory>,
}

impl Subject {
    fn open(args: &BenchArgs) -> anyhow::Result<Self> {
        match &args.model {
            Some(model) => Self::of_model(load(Some(model), &args.load)?),
            None => Self::random(args),
        }
    }

    fn of_model(loaded: Loaded) -> anyhow::Result<Self> {
        let Loaded { name, checkpoint, placement, predictor, .. } = loaded;
        Ok(Self { name, spec: checkpoint.config.spec, placement, predictor, predicted: None })
    }

    fn random(args: &BenchArgs) -> anyhow::Result<Self> {
        let spec = args.arch.spec(args.layers);
        let vocabulary = args.arch.vocabulary();
        let load = &args.load;
        let cpu = load.cpu.unwrap_or_else(CpuFeatures::detect);
        let placement = Placement::new(load.device.0, load.dtype.into(), args.arch.family(), cpu)?;
        let placement = placement.deterministic(load.deterministic);
        let limits = ModelLimits {
            vocabulary,
            context: spec.context,
            mask_token: vocabulary as u32 - 1,
            shift: true,
            visibility: spec.visibility,
        };
        let weights = Weights::random(vocabulary, args.arch.stored());
        let predictor = CandlePredictor::new(&spec, &weights, limits, &placement, load.threads)?;
        let name = args.arch.to_possible_value().map_or_else(String::new, |name| name.get_name().to_owned());
        let rows = args.rows * args.canvases;
        let predict = || memory(&args.arch.network(args.layers), Dtype::of(load.dtype), cpu, rows);
        let predicted = placement.device.is_cpu().then(predict);
        Ok(Self { name, spec, placement, predictor, predicted })
    }
}

/// Measures and writes a report.
///
/// # Errors
/// The model cannot be loaded, the shape does not fit into memory, or the settings contradict each other.
pub fn bench(args: &BenchArgs, out: &mut impl Write) -> anyhow::Result<()> {
    ensure!(args.rows >= 2, "--rows is {}; it must be at least 2", args.rows);
    let room = args.rows - 1;
    let masked = args.masked.unwrap_or(room);
    ensure!(masked <= room, "--masked is {masked}; it must be below --rows = {}", args.rows);
    ensure!(
        args.asked.is_none_or(|asked| asked <= room),
        "--asked is {:?}; it must be below --rows = {}",
        args.asked,
        args.rows
    );
    if args.model.is_none() {
        check_rows(args, args.arch.spec(args.layers).context)?;
    }
    let mut subject = Subject::open(args)?;
    let Subject { spec, predictor, .. } = &mut subject;
    check_rows(args, spec.context)?;
    let limits = predictor.limits();
    let samplings = vec![Sampling {
        temperature: args.temperature,
        top_p: args.top_p,
        banned: vec![limits.mask_token],
        ..Sampling::default()
    }];
    // Takes the memory that evaluations need, so that none of them is measured taking it.
    let mut warm = Measured::default();
    read(args, spec, predictor, &samplings, args.asked.unwrap_or(1), &mut warm)?;
    let mut measured = Measured::default();
    for repetition in 0..args.repetitions {
        match args.asked {
            Some(asked) => read(args, spec, predictor, &samplings, asked, &mut measured)?,
            None => fill(args, spec, predictor, &samplings, (masked, repetition), &mut measured)?,
        }
    }
    let report = Report::new(args, &subject, &measured);
    if args.json {
        serde_json::to_writer(&mut *out, &report)?;
        writeln!(out)?;
        return Ok(());
    }
    report.print(out)
}

fn check_rows(args: &BenchArgs, context: usize) -> anyhow::Result<()> {
    ensure!(args.rows <= context, "--rows is {}; the network has {context} positions", args.rows);
    Ok(())
}

/// Canvases that differ, or they would be computed once.
fn canvases(args: &BenchArgs, vocabulary: usize) -> Vec<Vec<u32>> {
    let tokens = vocabulary.min(30_000);
    let token = |canvas: usize, position: usize| ((canvas * 31 + position * 97) % tokens) as u32;
    (0..args.canvases)
        .map(|canvas| (0..args.rows).map(|position| token(canvas, position)).collect())
        .collect()
}

/// One evaluation that reads `asked` positions of every canvas.
fn read(
    args: &BenchArgs,
    spec: &TransformerSpec,
    predictor: &mut CandlePredictor,
    samplings: &[Sampling],
    asked: usize,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let canvases = canvases(args, predictor.limits().vocabulary);
    let stride = (args.rows - 1) / asked;
    let wants: Vec<Want> = (0..asked)
        .map(|i| Want {
            position: (1 + i * stride) as u32,
            uniform: i as f64 / asked as f64,
            ..Want::default()
        })
        .collect();
    let asks: Vec<Ask<'_>> =
        canvases.iter().map(|tokens| Ask { tokens, wants: &wants, samplings, ..Ask::default() }).collect();
    evaluate(spec, predictor, &asks, measured)?;
    measured.tokens += asked * asks.len();
    Ok(())
}

/// Fills every canvas.
fn fill(
    args: &BenchArgs,
    spec: &TransformerSpec,
    predictor: &mut CandlePredictor,
    samplings: &[Sampling],
    (masked, repetition): (usize, usize),
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let limits = predictor.limits();
    let state = |(sample, tokens): (usize, Vec<u32>)| {
        let open = tokens.len() - masked;
        let start = StateSpec {
            given: (0..).zip(tokens).map(|(position, token)| (position < open).then_some(token)).collect(),
            samplings: samplings.to_vec(),
            policy: args.policy.policy(args.steps),
            noise: Noise::Keyed { seed: repetition as u64, sample: sample as u32 },
            ..StateSpec::default()
        };
        DenoisingState::new(start, &limits)
    };
    let mut states = canvases(args, limits.vocabulary)
        .into_iter()
        .enumerate()
        .map(state)
        .collect::<Result<Vec<_>, _>>()
        .context("a canvas")?;
    let start = now();
    let before: Duration = measured.evaluations.iter().sum();
    while states.iter().any(|state| state.ask().is_some()) {
        let asks: Vec<Ask<'_>> = states.iter().filter_map(DenoisingState::ask).collect();
        let reads = evaluate(spec, predictor, &asks, measured)?;
        let asking = states.iter_mut().filter(|state| state.ask().is_some());
        asking.zip(&reads).for_each(|(state, reads)| drop(state.act(reads)));
    }
    let evaluated = measured.evaluations.iter().sum::<Duration>() - before;
    measured.total += (now() - start).saturating_sub(evaluated);
    measured.tokens += masked * args.canvases;
    Ok(())
}

fn evaluate(
    spec: &TransformerSpec,
    predictor: &mut CandlePredictor,
    asks: &[Ask<'_>],
    measured: &mut Measured,
) -> anyhow::Result<Vec<Vec<unmask_model::predictor::Read>>> {
    let start = now();
    let reads = predictor.predict(asks).context("the evaluation failed")?;
    let took = now() - start;
    measured.evaluations.push(took);
    measured.parts.push(predictor.take_times());
    measured.total += took;
    for ask in asks {
        measured.rows += ask.tokens.len();
        measured.operations += operations(spec, ask.tokens.len(), ask.wants.len());
        measured.operations += 2.0 * (ask.wants.len() * spec.width * predictor.limits().vocabulary) as f64;
    }
    Ok(reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 85 M weights in the blocks, twice, for 512 rows, and attention.
    #[test]
    fn operations_are_two_for_each_weight_and_row() {
        let spec = Shape::DiffuGptS.spec(None);
        let blocks = 12.0 * 12.0 * 768.0 * 768.0;
        let expected = 2.0 * 512.0 * blocks + 12.0 * 4.0 * 512.0 * 512.0 * 768.0;
        assert_eq!(operations(&spec, 512, 512), expected);
        assert!(operations(&spec, 512, 8) < expected);
    }
}

use super::*;

/// All functions of one number, as they are in one lane of sixteen.
struct Functions(f32);

#[derive(Debug)]
struct Values {
    exp: f32,
    exp2: f32,
    gelu: f32,
    silu: f32,
}

impl Kernel for Functions {
    type Output = Values;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Values {
        let mut all = [0.0; LANES];
        all[3] = self.0;
        let x = lanes.load(&all);
        let mut out = [[0.0; LANES]; 4];
        lanes.store(exp(lanes, x), &mut out[0]);
        lanes.store(exp2(lanes, x), &mut out[1]);
        lanes.store(gelu(lanes, x), &mut out[2]);
        lanes.store(silu(lanes, x), &mut out[3]);
        let [exp, exp2, gelu, silu] = out.map(|lanes| lanes[3]);
        Values { exp, exp2, gelu, silu }
    }
}

/// On every set of instructions that this machine has.
fn functions(x: f32) -> impl Iterator<Item = Values> {
    CpuFeatures::available().into_iter().map(move |cpu| cpu.run(Functions(x)))
}

#[test]
fn exponentials_are_accurate_over_their_range() {
    for i in -8700..8800 {
        let x = i as f32 / 100.0;
        for found in functions(x) {
            let error = (f64::from(found.exp) / f64::from(x).exp() - 1.0).abs();
            assert!(error < 3e-7, "exp({x}): relative error {error}");
            let error = (f64::from(found.exp2) / f64::from(x).exp2() - 1.0).abs();
            assert!(error < 3e-7, "2^{x}: relative error {error}");
        }
    }
    for x in -126..128 {
        for found in functions(x as f32) {
            assert!((f64::from(found.exp2) / f64::from(x).exp2() - 1.0).abs() < 3e-7, "2^{x}: {found:?}");
        }
    }
    assert!(functions(0.0).all(|found| found.exp == 1.0));
    assert!(functions(-1e9).all(|found| found.exp < 1.3e-38 && found.exp2 < 1.3e-38));
    assert!(functions(1e9).all(|found| found.exp.is_finite()));
    assert!(functions(f32::NAN).all(|found| found.exp.is_nan() && found.exp2.is_nan()));
}

#[test]
fn exponentials_and_their_sum_match_f64() {
    let cases = [(0, 1.0), (1, 1.0), (15, 1.0), (64, 0.5), (1000, 1.25), (1000, 1.0)];
    for (cpu, (count, factor)) in
        CpuFeatures::available().into_iter().flat_map(|cpu| cases.map(|case| (cpu, case)))
    {
        let values: Vec<f32> = (0..count).map(|i| ((i * 37) % 1001) as f32 / 100.0).collect();
        let mut powers = Vec::new();
        let sum = exponentials(cpu, &values, 10.0, factor, &mut powers, &values);
        let exact = |x: &f32| ((f64::from(*x) - 10.0) * f64::from(factor)).exp();
        assert_eq!(powers.len(), count);
        for (found, x) in powers.iter().zip(&values) {
            assert!((f64::from(*found) / exact(x) - 1.0).abs() < 2e-6, "{found}: {x}");
        }
        let total = values.iter().map(exact).sum::<f64>();
        assert!((sum - total).abs() <= 1e-6 * total, "{sum}: {total}");
        assert!(factor != 1.0 || exponential_sum(cpu, &values, 10.0, &[]) == sum);
    }
}

#[test]
fn activations_match_f64() {
    for i in -20_000..20_000 {
        let value = i as f32 / 1000.0;
        let x = f64::from(value);
        let y = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
        let gelu = 0.5 * x * (1.0 + y.tanh());
        let silu = x / (1.0 + (-x).exp());
        for found in functions(value) {
            let bound = 2e-6 * x.abs().max(1.0);
            assert!((f64::from(found.gelu) - gelu).abs() < bound, "gelu({x}): {found:?}");
            assert!((f64::from(found.silu) - silu).abs() < bound, "silu({x}): {found:?}");
        }
    }
    // As far as activations go that are still numbers.
    for x in [1e4, 1e12] {
        assert!(functions(x).all(|found| found.gelu == x && found.silu == x));
        assert!(functions(-x).all(|found| found.gelu.abs() < 1e-20 && found.silu.abs() < 1e-20));
    }
    assert!(functions(f32::NAN).all(|found| found.gelu.is_nan() && found.silu.is_nan()));
}

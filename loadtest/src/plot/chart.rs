//! The few shapes that a picture needs, as SVG.

use std::fmt::Write;

const INK: &str = "#30363d";
const FAINT: &str = "#6b7380";
const GRID: &str = "#e6e8eb";
const LEGEND_COLUMN: f64 = 120.0;

/// Values to places on an axis.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    values: (f64, f64),
    places: (f64, f64),
    logarithmic: bool,
}

impl Scale {
    /// Equal steps for equal differences.
    pub(super) fn linear(values: (f64, f64), places: (f64, f64)) -> Self {
        Self { values, places, logarithmic: false }
    }

    /// Equal steps for equal ratios; wide enough for all of `values`, from power to power of ten.
    pub(super) fn log(values: impl Iterator<Item = f64>, places: (f64, f64)) -> Self {
        let (least, most) =
            values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
        let (least, most) = if least <= most { (least.max(1e-3), most) } else { (1.0, 1000.0) };
        let low = 10_f64.powf(least.log10().floor());
        let high = 10_f64.powf(most.log10().ceil()).max(low * 10.0);
        Self { values: (low, high), places, logarithmic: true }
    }

    /// The coordinate of a value.
    pub(super) fn at(&self, value: f64) -> f64 {
        let (low, high) = self.values;
        let share = if self.logarithmic {
            (value.max(low) / low).ln() / (high / low).ln()
        } else {
            (value - low) / (high - low)
        };
        self.places.0 + share * (self.places.1 - self.places.0)
    }

    /// Values worth a line: powers of ten, or some five round numbers.
    fn ticks(&self) -> Vec<f64> {
        let (low, high) = self.values;
        if self.logarithmic {
            let exponents = low.log10().round() as i32..=high.log10().round() as i32;
            // Through text, because 10⁻¹ in floating point is not the number that reads 0.1.
            return exponents.filter_map(|exponent| format!("1e{exponent}").parse().ok()).collect();
        }
        let rough = (high - low) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let count = ((high - low) / step + 1e-9).floor() as usize;
        (0..=count).map(|index| low + index as f64 * step).collect()
    }
}

/// A picture that is being drawn.
#[derive(Debug)]
pub(super) struct Chart {
    svg: String,
}

impl Chart {
    pub(super) fn new(width: f64, height: f64) -> Self {
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"Inter, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        Self { svg }
    }

    pub(super) fn finish(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }

    fn push(&mut self, shape: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.svg.write_fmt(shape);
        self.svg.push('\n');
    }

    fn text(&mut self, (x, y): (f64, f64), attributes: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.push(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{text}</text>"));
    }

    pub(super) fn title(&mut self, x: f64, y: f64, text: &str) {
        self.text((x, y), &format!("fill=\"{INK}\" font-size=\"20\" font-weight=\"600\""), text);
    }

    pub(super) fn heading(&mut self, x: f64, y: f64, text: &str) {
        self.text((x, y), &format!("fill=\"{INK}\" font-size=\"13\" font-weight=\"600\""), text);
    }

    pub(super) fn note(&mut self, x: f64, y: f64, text: &str) {
        self.text((x, y), &format!("fill=\"{FAINT}\""), text);
    }

    /// Names behind squares of their colours, in columns that end at `right`: how wide a text is, only its
    /// viewer knows.
    pub(super) fn legend(&mut self, right: f64, y: f64, names: &[(&str, &str)]) {
        let mut x = right - LEGEND_COLUMN * names.len() as f64;
        for (name, colour) in names {
            self.bar((x, x + 10.0), (y - 9.0, y + 1.0), colour);
            self.note(x + 15.0, y, name);
            x += LEGEND_COLUMN;
        }
    }

    /// Lines across, from `left` to `right`, with their values.
    pub(super) fn vertical_axis(
        &mut self,
        scale: &Scale,
        (left, right): (f64, f64),
        label: impl Fn(f64) -> String,
    ) {
        for value in scale.ticks() {
            let y = scale.at(value);
            self.rule((left, y), (right, y));
            let attributes = format!("fill=\"{FAINT}\" text-anchor=\"end\"");
            self.text((left - 8.0, y + 4.0), &attributes, &label(value));
        }
    }

    /// Lines upright, from `top` to `bottom`, with their values below.
    pub(super) fn horizontal_axis(
        &mut self,
        scale: &Scale,
        (top, bottom): (f64, f64),
        label: impl Fn(f64) -> String,
    ) {
        for value in scale.ticks() {
            let x = scale.at(value);
            self.rule((x, top), (x, bottom));
            let attributes = format!("fill=\"{FAINT}\" text-anchor=\"middle\"");
            self.text((x, bottom + 18.0), &attributes, &label(value));
        }
    }

    fn rule(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.push(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{GRID}\"/>"
        ));
    }

    pub(super) fn point(&mut self, (x, y): (f64, f64), colour: &str) {
        self.push(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\" fill-opacity=\"0.6\"/>"
        ));
    }

    /// A filled box; none without height.
    pub(super) fn bar(&mut self, (left, right): (f64, f64), (top, bottom): (f64, f64), colour: &str) {
        let width = right - left;
        let height = bottom - top;
        if height > 0.0 {
            self.push(format_args!(
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
            ));
        }
    }

    pub(super) fn line(&mut self, points: impl Iterator<Item = (f64, f64)>, colour: &str) {
        let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.push(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>",
            points.join(" ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_put_values_where_their_ticks_are() {
        let scale = Scale::linear((0.0, 60.0), (100.0, 700.0));
        assert_eq!(scale.ticks(), [0.0, 20.0, 40.0, 60.0]);
        assert_eq!((scale.at(0.0), scale.at(30.0), scale.at(60.0)), (100.0, 400.0, 700.0));
        let scale = Scale::log([0.3, 450.0].into_iter(), (300.0, 0.0));
        assert_eq!(scale.ticks(), [0.1, 1.0, 10.0, 100.0, 1000.0]);
        assert!((scale.at(10.0) - 150.0).abs() < 1e-9, "the middle of four decades");
        assert_eq!(Scale::log(std::iter::empty(), (0.0, 1.0)).ticks(), [1.0, 10.0, 100.0, 1000.0]);
    }
}

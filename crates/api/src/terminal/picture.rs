//! A request as rows of a terminal: given text and generated positions, wrapped to a width, with what is far from
//! any hole left out, and no more rows than there is room for.

use std::time::Duration;

use unicode_width::UnicodeWidthChar;

use super::run::{Committed, Run};
use super::visible::visible;
use crate::text_view::MASK;

/// The least time for which a position is shown as just committed: evaluations can be shorter than a glance.
const GLANCE: Duration = Duration::from_millis(250);

/// Columns from one tab stop to the next.
const TAB: usize = 4;

/// Rows of given text that are shown around generated ones.
const CONTEXT: usize = 3;

/// The style of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The user's own text.
    Given,
    /// An open position.
    Masked,
    /// A position that was just committed.
    Fresh,
    /// A position that was committed before.
    Settled,
    /// A note of the program itself.
    Aside,
}

/// A row of the terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Its texts from left to right.
    pub(super) spans: Vec<(Look, String)>,
    /// Columns that it takes.
    pub(super) width: usize,
}

impl Row {
    fn push(&mut self, look: Look, c: char, width: usize) {
        self.width += width;
        match self.spans.last_mut() {
            Some((last, text)) if *last == look => text.push(c),
            _ => self.spans.push((look, c.to_string())),
        }
    }

    fn has(&self, looks: &[Look]) -> bool {
        self.spans.iter().any(|(look, _)| looks.contains(look))
    }

    /// A row of our own, cut to a width.
    pub(super) fn aside(text: &str, width: usize) -> Self {
        let mut row = Self::default();
        for c in text.chars() {
            let columns = c.width().unwrap_or(0);
            if row.width + columns > width {
                break;
            }
            row.push(Look::Aside, c, columns);
        }
        row
    }
}

/// All of a request in rows of a width: `given` are the texts around its holes, `now` the time that has passed.
pub(super) fn rows(given: &[String], run: &Run, now: Duration, width: usize) -> Vec<Row> {
    let mut page = Page { rows: vec![Row::default()], width };
    for (number, text) in given.iter().enumerate() {
        page.write(Look::Given, text);
        if number + 1 == given.len() {
            break;
        }
        match run.holes.get(number) {
            Some(hole) => {
                for cell in &run.cells[hole.clone()] {
                    page.cell(cell.as_ref(), run.evaluation, now);
                }
            }
            // Its length is not known yet.
            None => page.write(Look::Masked, MASK),
        }
    }
    page.rows
}

/// Rows that are being written.
struct Page {
    rows: Vec<Row>,
    width: usize,
}

impl Page {
    fn cell(&mut self, cell: Option<&Committed>, evaluation: u32, now: Duration) {
        match cell {
            None => self.write(Look::Masked, MASK),
            Some(cell) => {
                let fresh = cell.evaluation == evaluation || now.saturating_sub(cell.at) < GLANCE;
                self.write(if fresh { Look::Fresh } else { Look::Settled }, &cell.text);
            }
        }
    }

    fn write(&mut self, look: Look, text: &str) {
        let mut characters = text.chars().peekable();
        while let Some(c) = characters.next() {
            match c {
                '\n' => self.rows.push(Row::default()),
                '\r' if characters.peek() == Some(&'\n') => {}
                '\t' => {
                    let column = self.rows.last().map_or(0, |row| row.width);
                    (0..TAB - column % TAB).for_each(|_| self.put(look, ' '));
                }
                c => self.put(look, visible(c)),
            }
        }
    }

    fn put(&mut self, look: Look, c: char) {
        let columns = c.width().unwrap_or(0);
        if self.rows.last().is_none_or(|row| row.width + columns > self.width && row.width > 0) {
            self.rows.push(Row::default());
        }
        if let Some(row) = self.rows.last_mut() {
            row.push(look, c, columns);
        }
    }
}

/// At most `height` of the rows: those near generated positions, from a little before the first one that is
/// open. What is left out becomes a row with dots.
pub(super) fn near_holes(rows: Vec<Row>, height: usize) -> Vec<Row> {
    let generated: Vec<usize> =
        (0..rows.len()).filter(|&row| rows[row].has(&[Look::Masked, Look::Fresh, Look::Settled])).collect();
    let near = |row: usize| {
        let after = generated.partition_point(|&other| other < row.saturating_sub(CONTEXT));
        generated.get(after).is_some_and(|&other| other <= row + CONTEXT)
    };
    let mut kept: Vec<Row> = Vec::new();
    let dots = Row::aside("⋯", 1);
    for (number, row) in rows.into_iter().enumerate() {
        if near(number) {
            kept.push(row);
        } else if kept.last() != Some(&dots) {
            kept.push(dots.clone());
        }
    }
    if kept.len() <= height {
        return kept;
    }
    let open = kept.iter().position(|row| row.has(&[Look::Masked])).unwrap_or(kept.len());
    let first = open.saturating_sub(CONTEXT).min(kept.len() - height);
    kept.drain(first..).take(height).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(holes: &[&[Option<&str>]]) -> Run {
        let mut run = Run { evaluation: 2, ..Run::default() };
        for hole in holes {
            let start = run.cells.len();
            let cell =
                |text: &&str| Committed { text: (*text).to_owned(), evaluation: 1, at: Duration::ZERO };
            run.cells.extend(hole.iter().map(|text| text.as_ref().map(cell)));
            run.holes.push(start..run.cells.len());
        }
        run
    }

    fn texts(rows: &[Row]) -> Vec<String> {
        rows.iter().map(|row| row.spans.iter().map(|(_, text)| text.as_str()).collect()).collect()
    }

    fn given(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    const LATER: Duration = Duration::from_secs(9);

    #[test]
    fn every_position_is_visible_between_the_given_texts() {
        let run = run(&[&[Some("ad"), None], &[None, Some(" +"), None]]);
        let rows = rows(&given(&["def ", "(a, b):\n\treturn ", "\r\n"]), &run, LATER, 40);
        assert_eq!(texts(&rows), ["def ad▒(a, b):", "    return ▒ +▒", ""]);
        let looks: Vec<Look> = rows[0].spans.iter().map(|(look, _)| *look).collect();
        assert_eq!(looks, [Look::Given, Look::Settled, Look::Masked, Look::Given]);
    }

    #[test]
    fn a_commit_is_fresh_until_the_next_one_and_for_a_glance() {
        let mut run = run(&[&[Some("a")]]);
        let look = |run: &Run, now: Duration| rows(&given(&["", ""]), run, now, 9)[0].spans[0].0;
        assert_eq!(look(&run, GLANCE), Look::Settled);
        assert_eq!(look(&run, GLANCE / 2), Look::Fresh);
        run.evaluation = 1;
        assert_eq!(look(&run, LATER), Look::Fresh);
    }

    #[test]
    fn wide_characters_are_not_cut_and_hostile_ones_are_symbols() {
        let run = run(&[&[Some("世界\x1b[2J"), Some("e\u{301}")]]);
        assert_eq!(texts(&rows(&given(&["a", "b"]), &run, LATER, 4)), ["a世", "界␛[", "2Je\u{301}b"]);
        assert_eq!(texts(&rows(&given(&["世"]), &run, LATER, 1)), ["世"], "narrower than a character");
    }

    #[test]
    fn only_rows_near_holes_are_kept_and_the_open_ones_come_first() {
        let lines = |count: usize| "x\n".repeat(count);
        let texts = given(&[&lines(20), &lines(20), &lines(20)]);
        let kept = near_holes(rows(&texts, &run(&[&[None], &[None]]), LATER, 40), 100);
        let around = ["x", "x", "x", "▒x", "x", "x", "x", "⋯"];
        assert_eq!(self::texts(&kept), [&["⋯"][..], &around, &around].concat());
        let kept = near_holes(rows(&texts, &run(&[&[Some("a")], &[None]]), LATER, 40), 7);
        assert_eq!(self::texts(&kept), ["x", "x", "x", "▒x", "x", "x", "x"]);
        let kept = near_holes(rows(&texts, &run(&[&[Some("a")], &[Some("b")]]), LATER, 40), 5);
        assert_eq!(self::texts(&kept), ["bx", "x", "x", "x", "⋯"], "at the end, the end");
    }

    proptest! {
        #[test]
        fn no_row_is_wider_and_no_character_lost(
            text in any::<String>(), cell in any::<String>(), width in 2_usize..50, height in 1_usize..9,
        ) {
            let run = run(&[&[Some(&cell), None]]);
            let rows = rows(&given(&[&text, ""]), &run, LATER, width);
            for row in &rows {
                let columns: usize =
                    row.spans.iter().flat_map(|(_, text)| text.chars()).filter_map(|c| c.width()).sum();
                prop_assert!(columns == row.width && columns <= width, "{row:?}");
            }
            let kept = |c: &char| !matches!(c, '\n' | '\r' | '\t' | ' ' | '␍');
            let whole = format!("{text}{cell}▒");
            let before: Vec<char> = whole.chars().filter(kept).map(visible).collect();
            let after: Vec<char> = texts(&rows).concat().chars().filter(kept).collect();
            prop_assert_eq!(before, after);
            prop_assert!(near_holes(rows, height).len() <= height);
        }
    }
}

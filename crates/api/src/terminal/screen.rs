//! A region of the terminal that is drawn over and over, below what stands there already.

use std::fmt::Write;
use std::io;

use console::{Style, Term};

use super::picture::{Look, Row};

/// Terminals that know synchronized updates show a frame when it is whole; the others ignore this.
const BEGIN_FRAME: &str = "\x1b[?2026h";
const END_FRAME: &str = "\x1b[?2026l";
/// A row that is wider on this terminal than we think is cut, so that rows stay rows.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";

/// The region. The cursor is hidden while it lives, and shown again when it is dropped, also by a panic.
pub(super) struct Screen {
    terminal: Term,
    colours: bool,
    drawn: Vec<Row>,
    size: (u16, u16),
}

impl Screen {
    /// An empty region on standard output.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub(super) fn open(colours: bool) -> io::Result<Self> {
        let terminal = Term::buffered_stdout();
        let screen = Self { terminal, colours, drawn: Vec::new(), size: (0, 0) };
        screen.terminal.hide_cursor()?;
        screen.terminal.flush()?;
        Ok(screen)
    }

    /// Columns and rows that a frame may take. The last column stays free: a cursor behind it would be
    /// somewhere else on every terminal. So does the last row, for the cursor.
    pub(super) fn room(&self) -> (usize, usize) {
        let (rows, columns) = self.terminal.size();
        (usize::from(columns).saturating_sub(1).max(2), usize::from(rows).saturating_sub(1).max(2))
    }

    /// Replaces what the region shows.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn draw(&mut self, rows: Vec<Row>) -> io::Result<()> {
        let size = self.terminal.size();
        if rows == self.drawn && size == self.size {
            return Ok(());
        }
        // Of another size, the terminal may have joined or broken rows, and remembers where until they are erased.
        let erased = if size == self.size { "" } else { REST_OF_SCREEN };
        let mut frame = format!("{BEGIN_FRAME}{NO_WRAP}{}{erased}", self.back(size));
        for row in &rows {
            for (look, text) in &row.spans {
                let _ = write!(frame, "{}", style(*look, self.colours).apply_to(text));
            }
            frame.push_str(REST_OF_LINE);
            frame.push('\n');
        }
        frame.push_str(REST_OF_SCREEN);
        frame.push_str(WRAP);
        frame.push_str(END_FRAME);
        (self.drawn, self.size) = (rows, size);
        self.terminal.write_str(&frame)?;
        self.terminal.flush()
    }

    /// Ends the region with a text in its place, of any length, which must be safe to show.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn end_with(self, text: &[(Look, String)]) -> io::Result<()> {
        let mut last = format!("{BEGIN_FRAME}{}{REST_OF_SCREEN}", self.back(self.terminal.size()));
        for (look, text) in text {
            // Styles end with their line, or the rest of it would be coloured on some terminals.
            for line in text.split_inclusive('\n') {
                let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
                if !line.is_empty() {
                    let _ = write!(last, "{}", style(*look, self.colours).apply_to(line));
                }
                last.push_str(end);
            }
        }
        last.push_str(END_FRAME);
        self.terminal.write_str(&last)
    }

    /// Ends the region as it is. The terminal has echoed the key that interrupts: what follows gets a line of its
    /// own.
    pub(super) fn leave(self) {
        // Nothing is lost if it cannot be said.
        let _ = self.terminal.write_str("\n");
    }

    /// From below the region to its first row. A terminal that has become narrower since has broken the
    /// longer rows.
    fn back(&self, (_, columns): (u16, u16)) -> String {
        let columns = usize::from(columns).max(1);
        let up: usize = self.drawn.iter().map(|row| row.width.div_ceil(columns).max(1)).sum();
        if up == 0 { "\r".to_owned() } else { format!("\r\x1b[{up}A") }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A failed write means that there is no cursor to show.
        let _ = self.terminal.write_str(WRAP).and_then(|()| self.terminal.show_cursor());
        let _ = self.terminal.flush();
    }
}

fn style(look: Look, colours: bool) -> Style {
    let plain = Style::new().for_stdout().force_styling(true);
    match (look, colours) {
        (Look::Given, _) => plain,
        (Look::Masked | Look::Aside, _) => plain.dim(),
        (Look::Fresh, true) => plain.black().on_yellow(),
        (Look::Fresh, false) => plain.reverse(),
        (Look::Settled, true) => plain.cyan(),
        (Look::Settled, false) => plain.bold(),
    }
}

//! Output of a command: results on standard output, everything else on standard error, as text or JSON.
//! If the reader has gone (`barge ls | head`), the command ends quietly.

use std::io::{ErrorKind, Write, stderr, stdout};
use std::process::ExitCode;

use serde::Serialize;

use crate::exit::{Exit, Failure};

/// The output format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// `json`: JSON instead of text.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result: `value` as one line of JSON, or the text that `text` returns.
    pub(crate) fn result<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let line = if self.json {
            serde_json::to_string(value).map_err(|e| Failure::new(Exit::Failure, e.to_string()))?
        } else {
            text()
        };
        if line.is_empty() {
            return Ok(());
        }
        let mut out = stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).or_else(|e| match e.kind() {
            ErrorKind::BrokenPipe => std::process::exit(0),
            _ => Err(Failure::local("cannot write to standard output", &e)),
        })
    }

    /// Prints a remark for people; nothing in JSON mode.
    pub(crate) fn note(self, text: &str) {
        if !self.json {
            // If standard error is closed, nobody can be told.
            let _ = writeln!(stderr(), "barge: {text}");
        }
    }

    /// Prints why a command (or one of its keys) failed.
    pub(crate) fn failed(self, failure: &Failure) {
        let line = if self.json { failure.to_json().to_string() } else { format!("barge: {failure}") };
        let _ = writeln!(stderr(), "{line}");
    }

    /// Ends the command.
    pub(crate) fn end(self, result: Result<Exit, Failure>) -> ExitCode {
        let exit = result.unwrap_or_else(|failure| {
            self.failed(&failure);
            failure.exit
        });
        ExitCode::from(exit as u8)
    }
}

/// Escapes control characters, which could move a terminal's cursor or worse.
pub(crate) fn shown(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Aligns rows in columns; the first row holds the headings.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|text| shown(text)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(text, w)| format!("{text:<w$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_as_escapes() {
        assert_eq!(shown("Icon\r\u{1b}[2Jä\n"), "Icon\\r\\u{1b}[2Jä\\n");
        let rows = [vec!["a\rb".to_owned(), "c".to_owned()]];
        assert_eq!(table(&rows), "a\\rb  c");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "long head"], ["wide cell", "b"]].map(|r| r.map(String::from).to_vec());
        assert_eq!(table(&rows), "a          long head\nwide cell  b");
    }
}

//! What a command says: results on standard output, everything else on standard error, as text or JSON.
//! A reader that has gone (`barge ls | head`) ends the command quietly.

use std::io::{ErrorKind, Write, stderr, stdout};
use std::process::ExitCode;

use serde::Serialize;

use crate::exit::{Exit, Failure};

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// Text, or JSON.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// A result: `value` on one line when JSON was asked for, else what `text` makes.
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

    /// A remark for people; nothing when JSON was asked for.
    pub(crate) fn note(self, text: &str) {
        if !self.json {
            // Nobody is left to be told that nobody listens.
            let _ = writeln!(stderr(), "barge: {text}");
        }
    }

    /// Says why a command (or one of its keys) failed.
    pub(crate) fn failed(self, failure: &Failure) {
        let line = if self.json { failure.to_json().to_string() } else { format!("barge: {failure}") };
        let _ = writeln!(stderr(), "{line}");
    }

    /// The end of the command.
    pub(crate) fn end(self, result: Result<Exit, Failure>) -> ExitCode {
        let exit = result.unwrap_or_else(|failure| {
            self.failed(&failure);
            failure.exit
        });
        ExitCode::from(exit as u8)
    }
}

/// A name as a terminal may show it: control characters, which move its cursor or worse, as escapes.
pub(crate) fn shown(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Rows in columns, the first row being the heads.
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

//! The masters of this volume's cluster: those of the command line, and those that a master has listed.

use std::sync::{PoisonError, RwLock};

/// Base URLs of the masters.
#[derive(Debug, Default)]
pub struct Masters {
    configured: Vec<String>,
    named: RwLock<Vec<String>>,
}

impl Masters {
    pub fn new(configured: Vec<String>) -> Self {
        Self { configured, named: RwLock::default() }
    }

    /// Replaces the list with the one that a master has sent. An empty list changes nothing.
    pub fn heard(&self, masters: Vec<String>) {
        if !masters.is_empty() {
            *self.named.write().unwrap_or_else(PoisonError::into_inner) = masters;
        }
    }

    /// Returns each master once.
    pub fn all(&self) -> Vec<String> {
        let mut all = self.named.read().unwrap_or_else(PoisonError::into_inner).clone();
        all.extend(self.configured.iter().cloned());
        let mut seen = std::collections::HashSet::new();
        all.retain(|master| seen.insert(master.clone()));
        all
    }

    /// Returns each master once, `first` first.
    pub fn beginning_with(&self, first: &str) -> Vec<String> {
        let others = self.all().into_iter().filter(|master| master != first);
        std::iter::once(first.to_owned()).chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_word_and_the_command_line() {
        let masters = Masters::new(vec!["a".into(), "b".into()]);
        assert_eq!(masters.all(), ["a", "b"]);
        masters.heard(vec!["b".into(), "c".into()]);
        assert_eq!(masters.all(), ["b", "c", "a"]);
        masters.heard(vec!["d".into()]);
        assert_eq!(masters.all(), ["d", "a", "b"]);
        assert_eq!(masters.beginning_with("x"), ["x", "d", "a", "b"]);
        assert_eq!(masters.beginning_with("b"), ["b", "d", "a"]);
        masters.heard(vec![]);
        assert_eq!(masters.all(), ["d", "a", "b"], "an older master says nothing");
    }
}

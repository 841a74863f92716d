//! The cursors of `SCAN`: a cursor of Redis is a number, ours is a key. A bounded table, which forgets the oldest: those
//! of the same client first, so that one client cannot end the scans of the others.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use shared::limits::{RESP_CURSORS_EACH, RESP_CURSORS_MAX};

#[derive(Debug)]
pub struct Cursors(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    last: u64,
    keys: HashMap<u64, String>,
    /// The numbers of each access key, the oldest first.
    owners: HashMap<String, VecDeque<u64>>,
}

impl Default for Cursors {
    /// The numbers begin anywhere, so that a cursor of another master, or of before a restart, is not taken for one.
    fn default() -> Self {
        let last = uuid::Uuid::new_v4().as_u64_pair().0 >> 1;
        Self(Mutex::new(Table { last, ..Table::default() }))
    }
}

impl Cursors {
    /// Remembers where a scan by the access key `owner` continues; returns its number.
    pub fn put(&self, owner: &str, key: String) -> u64 {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.last += 1;
        let number = table.last;
        table.keys.insert(number, key);
        let own = table.owners.entry(owner.to_owned()).or_default();
        own.push_back(number);
        let oldest = if own.len() > RESP_CURSORS_EACH { own.pop_front() } else { None };
        if let Some(oldest) = oldest {
            table.keys.remove(&oldest);
        } else if table.keys.len() > RESP_CURSORS_MAX {
            table.forget();
        }
        number
    }

    /// Returns the key after which a scan continues. A cursor may be used again.
    pub fn get(&self, number: u64) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys.get(&number).cloned()
    }
}

impl Table {
    /// Forgets the oldest cursor of the access key that has most.
    fn forget(&mut self) {
        let most = self.owners.iter_mut().max_by_key(|(_, own)| own.len());
        if let Some(oldest) = most.and_then(|(_, own)| own.pop_front()) {
            self.keys.remove(&oldest);
        }
        self.owners.retain(|_, own| !own.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_forgets_its_own_oldest() {
        let (cursors, other) = (Cursors::default(), Cursors::default());
        let theirs = cursors.put("other", "b".into());
        let first = cursors.put("me", "a".into());
        let last = (0..RESP_CURSORS_EACH).map(|n| cursors.put("me", n.to_string())).last().unwrap();
        assert_eq!((cursors.get(first), cursors.get(0)), (None, None));
        assert_eq!(cursors.get(theirs).as_deref(), Some("b"));
        assert_eq!(cursors.get(last), Some((RESP_CURSORS_EACH - 1).to_string()));
        assert_eq!(cursors.get(last), cursors.get(last));
        assert_eq!(other.get(last), None);
    }

    #[test]
    fn all_clients_together_are_bounded() {
        let cursors = Cursors::default();
        for n in 0..RESP_CURSORS_MAX + 100 {
            cursors.put(&(n % 100).to_string(), "k".into());
        }
        assert_eq!(cursors.0.lock().unwrap().keys.len(), RESP_CURSORS_MAX);
    }
}

//! The cursors of `SCAN`: a cursor of Redis is a number, ours is a key. A bounded table, which forgets the oldest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use shared::limits::RESP_CURSORS_MAX;

#[derive(Debug)]
pub struct Cursors(Mutex<Table>);

impl Default for Cursors {
    /// The numbers begin anywhere, so that a cursor of another master, or of before a restart, is not taken for one.
    fn default() -> Self {
        let last = uuid::Uuid::new_v4().as_u64_pair().0 >> 1;
        Self(Mutex::new(Table { last, ..Table::default() }))
    }
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    keys: HashMap<u64, String>,
    order: VecDeque<u64>,
}

impl Cursors {
    /// Remembers where a scan continues; returns its number.
    pub fn put(&self, key: String) -> u64 {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.last += 1;
        let number = table.last;
        table.keys.insert(number, key);
        table.order.push_back(number);
        if table.order.len() > RESP_CURSORS_MAX
            && let Some(oldest) = table.order.pop_front()
        {
            table.keys.remove(&oldest);
        }
        number
    }

    /// Returns the key after which a scan continues. A cursor may be used again.
    pub fn get(&self, number: u64) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys.get(&number).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let (cursors, other) = (Cursors::default(), Cursors::default());
        let first = cursors.put("a".into());
        let last = (0..RESP_CURSORS_MAX).map(|n| cursors.put(n.to_string())).last().unwrap();
        assert_eq!((cursors.get(first), cursors.get(0)), (None, None));
        assert_eq!(other.get(cursors.put("a".into())), None);
        assert_eq!(cursors.get(last), Some((RESP_CURSORS_MAX - 1).to_string()));
        assert_eq!(cursors.get(last), cursors.get(last));
    }
}

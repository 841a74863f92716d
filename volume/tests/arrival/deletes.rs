//! A blob that is deleted, or no longer expected, while its replica is pending is not here afterwards.

use std::sync::Arc;

use shared::wire::error::ErrorCode;

use super::site::{Gate, Known, MIB, Site, blob, value};
use super::source::Source;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_before_or_meanwhile_is_not_kept() {
    let site = Site::new().await;
    let (from, to) = (site.volume().await, site.volume().await);
    let (blob, value) = (blob(), value(MIB, 1));
    site.put(&from, blob, &value).await;
    for forgotten_from in [0, 1] {
        let known = Known::new(&value, vec![site.source(&from, blob)]);
        site.tell(blob, Known { forgotten_from, ..known });
        assert_eq!(site.copy(&to, blob, true).await, Err(ErrorCode::NotFound));
        site.nothing_of(&to, blob).await;
    }
    site.tell(blob, Known::new(&value, vec![site.source(&from, blob)]));
    site.copy(&to, blob, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_while_bytes_come_wins() {
    let site = Site::new().await;
    let to = site.volume().await;
    let (blob, value, gate) = (blob(), value(MIB, 2), Gate::new());
    let held = Some((500_000, Arc::clone(&gate)));
    let (source, _, _trigger) = Source { held, ..Source::of(&value) }.serve().await;
    // The master does not know of the delete.
    site.tell(blob, Known::new(&value, vec![source]));
    let (copied, ()) = tokio::join!(site.copy(&to, blob, true), async {
        gate.reached().await;
        assert_eq!(site.delete(&to, blob).await, 0);
        gate.let_go();
    });
    assert_eq!(copied, Err(ErrorCode::NotFound));
    site.nothing_of(&to, blob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_behind_the_last_byte_wins() {
    let site = Site::new().await;
    let (from, to) = (site.volume().await, site.volume().await);
    let (blob, value, gate) = (blob(), value(MIB, 3), Gate::new());
    site.put(&from, blob, &value).await;
    let known = Known::new(&value, vec![site.source(&from, blob)]);
    site.tell(blob, Known { held: Some((1, Arc::clone(&gate))), ..known });
    let (copied, ()) = tokio::join!(site.copy(&to, blob, true), async {
        gate.reached().await;
        assert_eq!(site.delete(&to, blob).await, 0);
        gate.let_go();
    });
    assert_eq!(copied, Err(ErrorCode::NotFound));
    site.nothing_of(&to, blob).await;
    // Deleted and expected again: a volume that had it can get it again.
    site.tell(blob, Known::new(&value, vec![site.source(&from, blob)]));
    site.copy(&to, blob, false).await.unwrap();
    assert_eq!(site.delete(&to, blob).await, 1);
}

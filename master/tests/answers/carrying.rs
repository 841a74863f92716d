//! Re-replication: a replica counts only with a receipt for that replica, and an excess one is removed only after all
//! the others have confirmed that they hold theirs.

use shared::clock::Clock;

use super::site::{Asked, LENGTH, Says, Site, blob};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_when_those_that_stay_say_that_they_hold_theirs() {
    let mut site = Site::new(2, |_| {}).await;
    let (from, other, to) = (site.volume(&[]).await, site.volume(&[]).await, site.volume(&[]).await);
    let blob = blob(Clock::System.now(), 1);
    // The volume with the new replica first reports it missing, then corrupt, then healed.
    to.will_say(&[Says::NotHere, Says::Bad]);
    site.commit(blob, &[&from, &other]).await;
    site.drain(&from).await;
    let (mut copies, mut looks, mut others) = (0, Vec::new(), 0);
    let deleted = loop {
        match site.next().await {
            (id, Asked::Copy { verify }) if id == to.id => {
                assert!(verify, "it will replace another replica");
                copies += 1;
            }
            (id, Asked::Look(said)) if id == to.id => looks.push(said),
            (id, Asked::Look(_)) if id == other.id => others += 1,
            (id, Asked::Delete(blobs)) if id == from.id && !blobs.is_empty() => break blobs,
            _ => {}
        }
    };
    assert_eq!((copies, deleted), (1, vec![blob]));
    assert_eq!(
        looks,
        [Says::NotHere, Says::Bad, Says::Good],
        "its answers before the other replica was removed"
    );
    assert!(others > 0, "the volume that always had it is asked, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_for_something_else_is_none() {
    let mut site = Site::new(1, |_| {}).await;
    let (from, to) = (site.volume(&[]).await, site.volume(&[]).await);
    let (one, another) = (blob(Clock::System.now(), 1), blob(Clock::System.now(), 2));
    let others = [(from.id, one, LENGTH), (to.id, another, LENGTH), (to.id, one, LENGTH - 1)];
    to.will_give_receipts_for(&others);
    site.commit(one, &[&from]).await;
    site.drain(&from).await;
    let mut copies = 0;
    loop {
        match site.next().await {
            (id, Asked::Copy { .. }) if id == to.id => copies += 1,
            (id, Asked::Delete(blobs)) if id == from.id && !blobs.is_empty() => break,
            _ => {}
        }
    }
    assert_eq!(copies, others.len() + 1, "it was asked again until its receipt was valid");
}

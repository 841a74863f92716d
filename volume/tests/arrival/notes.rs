//! Internal metadata, which only servers may set: that a record is a part, or a manifest. It is ignored from clients,
//! whatever headers they send: their value would be missing after a rebuild, or be taken for a manifest.

use shared::limits::INVENTORY_PAGE;
use shared::wire::routes::{MANIFEST_HEADER, PART_HEADER, RECORDS};
use shared::wire::volume::{RecordsPage, RecordsRequest};

use super::site::{Site, blob, value};

#[tokio::test(flavor = "multi_thread")]
async fn what_only_servers_say_is_kept_when_the_ticket_permits_it() {
    let (site, own) = (Site::new().await, "barge-meta-colour");
    let volume = site.volume().await;
    let said = [(PART_HEADER, "0123.7"), (own, "blue"), (MANIFEST_HEADER, "1")];
    for (permitted, kept) in [(false, vec![own]), (true, vec![MANIFEST_HEADER, PART_HEADER, own])] {
        let blob = blob();
        site.put_saying(&volume, blob, &value(10_000, 1), permitted, &said).await;
        let question = RecordsRequest {
            cluster: Some(site.cluster),
            volume: Some(volume.id),
            after: None,
            limit: INVENTORY_PAGE,
        };
        let page: RecordsPage = site.call(&volume, RECORDS, &question).await.unwrap();
        let record = page.records.into_iter().find(|record| record.blob == blob).unwrap();
        let mut names: Vec<_> = record.value.unwrap().metadata.into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        assert_eq!(names, kept, "permitted: {permitted}");
    }
}

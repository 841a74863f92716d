//! `barge cluster doctor`: has all servers examine themselves and each other, and shows what needs fixing. The
//! servers' findings are judged here, by a pure function.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use shared::limits::{CLOCK_SKEW_MAX, RESERVE_BYTES};
use shared::size::ByteSize;
use shared::wire::cluster::{DoctorReport, DoctorRequest, Examined};
use shared::wire::master::{ClusterStatus, MasterRole, VolumeState, VolumeSummary};
use shared::wire::replicas::DiskExamination;
use shared::wire::routes::DOCTOR;

use super::status;
use crate::args::DoctorArgs;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::{Output, table};
use crate::signed::Caller;

/// A clock skew above this is reported, long before tickets fail.
const SKEW_NOTED: Duration = Duration::from_secs(5);
/// A disk that syncs a page faster than this has a cache that survives a power cut, or does not sync at all.
const SYNC_MICROS_MIN: u64 = 20;
/// A disk that takes longer than this to sync a page delays every upload.
const SYNC_MICROS_MAX: u64 = 50_000;
/// A server with a lower limit runs out of file descriptors when it has many segments and clients.
const FILES_MIN: u64 = 4096;
/// A volume is nearly full when less than this fraction (one in 20) is free.
const FREE_SHARE: u64 = 20;

const MORE_ROOM: &str = "add volumes, then `barge cluster rebalance start`";

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Grade {
    /// Values or service are at risk.
    Mend,
    Note,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Finding {
    grade: Grade,
    /// An address, or "cluster".
    place: String,
    what: String,
    todo: String,
}

pub(crate) async fn run(client: &Client, args: DoctorArgs, output: Output) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.secret, client.trust())?;
    let status = status::fetch(client, &args.secret).await?;
    let report: DoctorReport = caller.ask(client, DOCTOR, &DoctorRequest { cluster: status.cluster }).await?;
    let mut findings = diagnose(&status, &report);
    findings.sort();
    output.result(&findings, || text(&findings, report.servers.len()))?;
    let ill = findings.iter().any(|f| f.grade == Grade::Mend);
    Ok(if ill { Exit::Failure } else { Exit::Ok })
}

fn text(findings: &[Finding], servers: usize) -> String {
    if findings.is_empty() {
        return format!("{servers} servers checked; nothing needs fixing");
    }
    let row = |f: &Finding| {
        let grade = if f.grade == Grade::Mend { "fix" } else { "note" };
        vec![grade.to_owned(), f.place.clone(), f.what.clone(), f.todo.clone()]
    };
    table(&findings.iter().map(row).collect::<Vec<_>>())
}

fn finding(grade: Grade, place: &str, what: impl Into<String>, todo: &str) -> Finding {
    Finding { grade, place: place.to_owned(), what: what.into(), todo: todo.to_owned() }
}

/// Judges the servers' findings.
fn diagnose(status: &ClusterStatus, report: &DoctorReport) -> Vec<Finding> {
    let mut findings = of_cluster(status);
    for server in &report.servers {
        of_server(server, &mut findings);
    }
    of_disks(report, &mut findings);
    of_versions(status, report, &mut findings);
    findings
}

fn of_cluster(status: &ClusterStatus) -> Vec<Finding> {
    let mut findings = Vec::new();
    of_masters(status, &mut findings);
    of_redundancy(status, &mut findings);
    if status.under_replicated > 0 {
        let what = format!("{} values are under-replicated", status.under_replicated);
        findings.push(finding(Grade::Note, "cluster", what, "see `barge cluster repair --watch`"));
    }
    for value in &status.corrupt {
        let name = value.key.as_ref().map_or_else(|| value.blob.to_string(), ToString::to_string);
        let what = format!("no intact replica of {name} was found");
        let todo = "start the volumes that are down, or store the value again";
        findings.push(finding(Grade::Mend, "cluster", what, todo));
    }
    status.volumes.iter().for_each(|volume| of_volume(volume, &mut findings));
    findings
}

fn of_masters(status: &ClusterStatus, findings: &mut Vec<Finding>) {
    let voters = status.masters.iter().filter(|m| m.role != MasterRole::Learner).count();
    let (grade, what) = match voters {
        1 => (Grade::Note, "there is one master: when it is down, nothing can be read or written"),
        2 => (Grade::Mend, "there are two masters: when either is down, nothing can be written"),
        _ => return,
    };
    findings.push(finding(grade, "cluster", what, "run three masters"));
}

/// What would be lost with one disk or zone.
fn of_redundancy(status: &ClusterStatus, findings: &mut Vec<Finding>) {
    let mut note = |what: String, todo| findings.push(finding(Grade::Note, "cluster", what, todo));
    let up: Vec<_> = status.volumes.iter().filter(|v| v.state == VolumeState::Up).collect();
    let (copies, volumes) = (status.replicas, up.len());
    if copies < 2 {
        let what = "each value has a single replica: a lost disk means lost values";
        note(what.to_owned(), "start the masters with --replicas 2 or 3");
        return;
    }
    if volumes <= copies {
        let what = format!(
            "{volumes} volumes take values and {copies} replicas are wanted: after the loss of a volume they cannot be re-created"
        );
        note(what, "add a volume");
    }
    let zones: BTreeSet<_> = up.iter().map(|v| &v.zone).collect();
    if zones.len() == 1 && volumes > 1 {
        let what = "all volumes are in one zone: a failure of that zone takes down all replicas";
        note(what.to_owned(), "start volumes with --zone");
    }
}

fn of_volume(volume: &VolumeSummary, findings: &mut Vec<Finding>) {
    let why = volume.reason.clone().unwrap_or_default();
    let (grade, what, todo) = match volume.state {
        VolumeState::Down => (
            Grade::Mend,
            format!("the volume is down: {why}"),
            "start it, or run `barge cluster decommission` if its disk is lost",
        ),
        VolumeState::ReadOnly => {
            (Grade::Mend, format!("the volume is read-only: {why}"), "fix its disk, then restart it")
        }
        VolumeState::Full => (Grade::Mend, "the volume is full".to_owned(), MORE_ROOM),
        VolumeState::Decommissioned => return,
        _ if volume.available_bytes < volume.capacity_bytes / FREE_SHARE => (
            Grade::Note,
            format!("the volume has {} of free space left", ByteSize(volume.available_bytes)),
            MORE_ROOM,
        ),
        _ => return,
    };
    findings.push(finding(grade, &volume.address, what, todo));
}

fn of_server(server: &Examined, findings: &mut Vec<Finding>) {
    let place = &server.address;
    let Some(found) = &server.found else {
        let why = server.trouble.clone().unwrap_or_default();
        findings.push(finding(
            Grade::Mend,
            place,
            format!("the server did not answer: {why}"),
            "check that it is running, and see its log",
        ));
        return;
    };
    // It read its clock some time between the question and the answer.
    let (early, late) = (server.asked.since(found.now), found.now.since(server.answered));
    let skew = early.max(late);
    if skew > SKEW_NOTED {
        let grade = if skew > CLOCK_SKEW_MAX / 2 { Grade::Mend } else { Grade::Note };
        let what =
            format!("its clock differs by {} s from the clock of the master that asked", skew.as_secs());
        findings.push(finding(
            grade,
            place,
            what,
            "run an NTP client; tickets fail if clocks differ by a minute",
        ));
    }
    if found.files_max < FILES_MIN {
        let what = format!("its limit is {} open files", found.files_max);
        findings.push(finding(Grade::Note, place, what, "raise the limit (ulimit -Hn, LimitNOFILE)"));
    }
    for (url, trouble) in &found.reached {
        if let Some(trouble) = trouble {
            let what = format!("it cannot reach {url}: {trouble}");
            findings.push(finding(
                Grade::Mend,
                place,
                what,
                "fix the network, or --advertise and --public-url of that server",
            ));
        }
    }
    if let Some(disk) = &found.disk {
        of_disk(place, disk, findings);
    }
}

fn of_disk(place: &str, disk: &DiskExamination, findings: &mut Vec<Finding>) {
    let mut add = |grade, what: String, todo| findings.push(finding(grade, place, what, todo));
    if !disk.punches {
        add(
            Grade::Note,
            "its file system cannot punch holes: deleted space is freed only by compaction".into(),
            "use ext4 or XFS",
        );
    }
    if !disk.direct {
        add(
            Grade::Note,
            "its file system does not support O_DIRECT: uploads use more CPU time".into(),
            "use ext4 or XFS",
        );
    }
    if disk.sync_micros < SYNC_MICROS_MIN {
        let what = format!(
            "a sync takes {} µs: the disk has a protected cache, or does not sync at all",
            disk.sync_micros
        );
        add(
            Grade::Note,
            what,
            "check that it is not a RAM disk and that its write cache survives a power cut",
        );
    }
    if disk.sync_micros > SYNC_MICROS_MAX {
        add(
            Grade::Note,
            format!("a sync takes {} ms", disk.sync_micros / 1000),
            "each upload waits for one: check the disk",
        );
    }
    if disk.free_bytes < RESERVE_BYTES {
        add(
            Grade::Mend,
            format!("its disk has {} of free space", ByteSize(disk.free_bytes)),
            "free some space: below the reserve the volume takes no values",
        );
    }
    if disk.inodes_free.is_some_and(|n| n < 1000) {
        add(
            Grade::Mend,
            "its file system has almost no inodes left".into(),
            "remove files: each segment needs two",
        );
    }
}

/// Volumes that share a disk fail together.
fn of_disks(report: &DoctorReport, findings: &mut Vec<Finding>) {
    let mut disks: BTreeMap<(String, u64), Vec<&str>> = BTreeMap::new();
    for server in &report.servers {
        if let Some(disk) = server.found.as_ref().and_then(|found| found.disk.as_ref()) {
            let host = server.address.rsplit_once(':').map_or(server.address.as_str(), |(host, _)| host);
            disks.entry((host.to_owned(), disk.device)).or_default().push(&server.address);
        }
    }
    for shared in disks.values().filter(|volumes| volumes.len() > 1) {
        let what = format!("{} volumes are on one disk: {}", shared.len(), shared.join(", "));
        findings.push(finding(
            Grade::Note,
            "cluster",
            what,
            "run one volume per disk, or give these volumes the same --zone, so that replicas are kept apart",
        ));
    }
}

fn of_versions(status: &ClusterStatus, report: &DoctorReport, findings: &mut Vec<Finding>) {
    for server in &report.servers {
        if let Some(found) = server.found.as_ref().filter(|found| found.version != status.version) {
            let what = format!("it runs version {}, a master runs {}", found.version, status.version);
            findings.push(finding(Grade::Note, &server.address, what, "finish the upgrade"));
        }
    }
}

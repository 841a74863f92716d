//! A private network: each site is a network namespace on one bridge and can be cut off from others, in one
//! direction if needed. The test itself, and what it starts without a site, is on the bridge too.
//!
//! Needs root, `ip` and `iptables`.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Addresses reserved for network tests (RFC 2544); two more bytes identify the network and the host.
const FIRST: u32 = 198 << 24 | 18 << 16;
const NETWORKS: u32 = 512;

/// The network. Dropping it removes it, with all processes in it.
#[derive(Debug)]
pub struct Network {
    tag: String,
    base: u32,
    sites: usize,
}

/// What is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All traffic: requests, and answers to requests from the other side.
    Everything,
    /// Requests to this port, but not answers to requests from the other side.
    RequestsTo(u16),
}

impl Network {
    /// Creates a network with this many sites, or skips the test where the machine does not allow it.
    ///
    /// # Panics
    /// With CI=true, where nothing may be skipped.
    pub fn new(sites: usize, test: &str) -> Option<Self> {
        sweep();
        let mut why = String::new();
        for (turn, letter) in (0..).zip('a'..='h') {
            let number = (std::process::id() + turn * 61) % NETWORKS;
            let tag = format!("{}{letter}", std::process::id());
            let network = Self { tag, base: FIRST + (number << 8), sites };
            match network.build() {
                Ok(()) => return Some(network),
                Err(error) => why = error,
            }
        }
        crate::skip(
            format_args!("partitions in {test}"),
            format_args!("they need root, ip and iptables: {why}"),
        );
        None
    }

    fn build(&self) -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("we are not root".into());
        }
        let (switch, port) = (self.namespace("s"), self.port());
        ip(&format!("netns add {switch}"))?;
        ip(&format!("-n {switch} link add bridge type bridge"))?;
        ip(&format!("-n {switch} link set bridge up"))?;
        ip(&format!("link add {port} type veth peer name host netns {switch}"))?;
        ip(&format!("addr add {}/24 dev {port}", self.host()))?;
        ip(&format!("link set {port} up"))?;
        ip(&format!("-n {switch} link set host master bridge up"))?;
        for n in 0..self.sites {
            let site = self.namespace(&n.to_string());
            ip(&format!("netns add {site}"))?;
            ip(&format!("link add site{n} netns {switch} type veth peer name eth0 netns {site}"))?;
            ip(&format!("-n {switch} link set site{n} master bridge up"))?;
            ip(&format!("-n {site} addr add {}/24 dev eth0", self.address(n)))?;
            ip(&format!("-n {site} link set eth0 up"))?;
            ip(&format!("-n {site} link set lo up"))?;
            self.filter(n, "-L INPUT -n")?;
        }
        Ok(())
    }

    fn namespace(&self, which: &str) -> String {
        format!("barge-{}-{which}", self.tag)
    }

    fn port(&self) -> String {
        format!("barge{}", self.tag)
    }

    fn number(&self, place: u32) -> String {
        std::net::Ipv4Addr::from(self.base + place).to_string()
    }

    /// Returns the address of the test itself.
    pub fn host(&self) -> String {
        self.number(1)
    }

    /// Returns the address of a site.
    pub fn address(&self, site: usize) -> String {
        self.number(10 + u32::try_from(site).expect("few sites"))
    }

    /// Returns the command that starts a program at a site. It sees the test's mounts: `ip netns exec` would give it
    /// a private copy of them, which pins every disk that another test has mounted.
    pub fn through(&self, site: usize) -> Vec<OsString> {
        let namespace = format!("--net=/run/netns/{}", self.namespace(&site.to_string()));
        ["nsenter", &namespace, "--"].map(OsString::from).to_vec()
    }

    /// Blocks this traffic from one site to another; the other direction is not touched.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn cut(&self, from: usize, to: usize, cut: Cut) {
        self.drop_from(&self.address(from), to, cut);
    }

    /// Blocks this traffic to a site from the test itself and from everything started without a site.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn cut_host(&self, to: usize, cut: Cut) {
        self.drop_from(&self.host(), to, cut);
    }

    fn drop_from(&self, address: &str, to: usize, cut: Cut) {
        let what = match cut {
            Cut::Everything => String::new(),
            Cut::RequestsTo(port) => format!("-p tcp --dport {port} "),
        };
        self.filter(to, &format!("-I INPUT -s {address} {what}-j DROP")).expect("a rule");
    }

    /// Removes all cuts.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn heal(&self) {
        for site in 0..self.sites {
            self.filter(site, "-F INPUT").expect("the rules can be removed");
        }
    }

    fn filter(&self, site: usize, rule: &str) -> Result<(), String> {
        let site = self.namespace(&site.to_string());
        ip(&format!("netns exec {site} iptables -w {rule}"))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = ip(&format!("link del {}", self.port()));
        for n in 0..self.sites {
            let _ = ip(&format!("netns del {}", self.namespace(&n.to_string())));
        }
        let _ = ip(&format!("netns del {}", self.namespace("s")));
    }
}

fn ip(words: &str) -> Result<(), String> {
    let ran = Command::new("ip").args(words.split_whitespace()).output();
    let ran = ran.map_err(|e| format!("ip: {e}"))?;
    let said = String::from_utf8_lossy(&ran.stderr);
    if ran.status.success() { Ok(()) } else { Err(format!("ip {words}: {}", said.trim())) }
}

/// Removes what killed tests have left behind.
fn sweep() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(tag) = name.strip_prefix("barge-").and_then(|rest| rest.split('-').next()) else { continue };
        let process = tag.trim_end_matches(|c: char| c.is_ascii_lowercase());
        if process.parse::<u32>().is_ok() && !Path::new("/proc").join(process).exists() {
            let _ = ip(&format!("netns del {name}"));
            let _ = ip(&format!("link del barge{tag}"));
        }
    }
}

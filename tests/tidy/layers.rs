//! Which module of the master may use which: each one those above it in the table, and no other. So there is no circle, and
//! a change of a module concerns only what stands below it.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Findings, sources};

/// The modules at the top of `master/src`, the lowest first.
const MASTER: &[&str] = &[
    "tables",
    "snapshot",
    "state",
    "audit",
    "config",
    "metrics",
    "cors",
    "list",
    "auth",
    "db",
    "raft",
    "sequencer",
    "cluster",
    "plan",
    "care",
    "delete_acks",
    "master",
    "change",
    "registration",
    "join",
    "work",
    "redirect",
    "read",
    "write",
    "restore",
    "rebuild",
    "http",
    "s3",
    "args",
];
/// Assembles a master of all of them.
const ROOT: &[&str] = &["lib", "main", "program"];
/// What tests alone use.
const FOR_TESTS: &[&str] = &["trickle"];

#[test]
fn modules_of_the_master_use_those_below_them() {
    let mut findings = Findings::default();
    for source in sources() {
        let Some(path) = source.path.strip_prefix("master/src/") else { continue };
        if source.is_test() || path.contains("/fuzz") {
            continue;
        }
        for (line, what) in violations(path, source.syntax()) {
            let advice =
                "move what both need to a lower module, or hand it in; the table is in tests/tidy/layers.rs";
            findings.add(format!("{}:{line}", source.path), what, advice);
        }
    }
    findings.none();
}

#[test]
fn an_import_from_a_higher_module_is_seen() {
    let refused =
        |path: &str, text: &str| !violations(path, &syn::parse_file(text).expect("Rust")).is_empty();
    for (path, text) in [
        ("tables/meta.rs", "use crate::raft::Peer;"),
        ("tables/meta.rs", "use super::super::raft::Peer;"),
        ("tables/meta.rs", "use crate::{tables::Kind, raft::{Peer, rpc}};"),
        ("tables/mod.rs", "use super::raft::Peer;"),
        ("plan/mod.rs", "fn f() -> crate::work::Deed { todo!() }"),
        ("plan/repair.rs", "mod inner { use super::super::super::work::Deed; }"),
        ("plan/mod.rs", "use crate::new_and_not_in_the_table::X;"),
        ("new_and_not_in_the_table.rs", ""),
    ] {
        assert!(refused(path, text), "{path}: {text}");
    }
    for (path, text) in [
        ("raft/mod.rs", "use crate::tables::Kind; use super::db::Database; use self::log::Log;"),
        ("raft/group.rs", "use super::rpc::Envelope;"),
        ("plan/mod.rs", "#[cfg(test)] mod tests { use crate::http::X; }"),
        ("lib.rs", "use crate::http::X;"),
    ] {
        assert!(!refused(path, text), "{path}: {text}");
    }
}

/// Lines of a file below `master/src` that use a module which it may not use.
fn violations(path: &str, file: &syn::File) -> Vec<(usize, String)> {
    let module: Vec<_> = path.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
    let name = module[0];
    if ROOT.contains(&name) || FOR_TESTS.contains(&name) {
        return Vec::new();
    }
    let mut used = Used { depth: module.len(), found: Vec::new() };
    used.visit_file(file);
    let place = |name: &str| MASTER.iter().position(|m| *m == name);
    let Some(ours) = place(name) else { return vec![(1, format!("{name} is not in the table of layers"))] };
    let wrong = used.found.into_iter().filter(|(of, _)| of != name && place(of).is_none_or(|of| of >= ours));
    wrong.map(|(of, line)| (line, format!("{name} uses {of}, which is not below it"))).collect()
}

/// The modules at the top that a file names, each with its line.
struct Used {
    /// How many modules the file is below the root.
    depth: usize,
    found: Vec<(String, usize)>,
}

impl Used {
    /// `path` begins at the module of this file.
    fn add(&mut self, path: &[&syn::Ident]) {
        let Some(first) = path.first() else { return };
        let above = path.iter().take_while(|part| **part == "super").count();
        let top = match first.to_string().as_str() {
            "crate" => path.get(1),
            "super" if above == self.depth => path.get(above),
            _ => None,
        };
        // `crate::X` that is no module, as an item of lib.rs, begins with a capital.
        if let Some(top) = top.filter(|top| top.to_string().starts_with(char::is_lowercase)) {
            self.found.push((top.to_string(), top.span().start().line));
        }
    }

    fn add_tree<'a>(&mut self, before: &mut Vec<&'a syn::Ident>, tree: &'a syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(&path.ident);
                self.add_tree(before, &path.tree);
                before.pop();
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(before, tree)),
            syn::UseTree::Name(name) => self.add(&[before.as_slice(), &[&name.ident]].concat()),
            syn::UseTree::Rename(rename) => self.add(&[before.as_slice(), &[&rename.ident]].concat()),
            syn::UseTree::Glob(_) => self.add(before),
        }
    }
}

impl<'a> Visit<'a> for Used {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_only_for_tests(&item.attrs) {
            self.depth += 1;
            visit::visit_item_mod(self, item);
            self.depth -= 1;
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        if !is_only_for_tests(&item.attrs) {
            self.add_tree(&mut Vec::new(), &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        self.add(&path.segments.iter().map(|segment| &segment.ident).collect::<Vec<_>>());
        visit::visit_path(self, path);
    }
}

fn is_only_for_tests(attributes: &[syn::Attribute]) -> bool {
    let test = |a: &syn::Attribute| {
        a.path().is_ident("cfg") && a.parse_args::<syn::Path>().is_ok_and(|p| p.is_ident("test"))
    };
    attributes.iter().any(test)
}

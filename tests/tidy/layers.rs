//! Which module of the master may use which: only those above it in the table. So there is no cycle, and a change
//! of a module concerns only the modules below it.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Findings, sources};

/// The top modules of `master/src`, the lowest layer first.
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
    "group_clock",
    "metadata",
    "sequencer",
    "cluster",
    "volumes",
    "plan",
    "repair_tracker",
    "delete_acks",
    "change",
    "registration",
    "master",
    "join",
    "work",
    "redirect",
    "read",
    "write",
    "restore",
    "rebuild",
    "http",
    "s3",
    "resp",
    "args",
];
/// Assembles a master from all of them.
const ROOT: &[&str] = &["lib", "main", "program"];
/// Used by tests only.
const FOR_TESTS: &[&str] = &["trickle"];
/// Part of tests, though no file there says so.
const FUZZ: &[&str] = &["s3/request/guard/fuzz.rs", "s3/request/guard/fuzz/"];

#[test]
fn modules_of_the_master_use_those_below_them() {
    let mut findings = Findings::default();
    for source in sources() {
        let Some(path) = source.path.strip_prefix("master/src/") else { continue };
        if source.is_test() || FUZZ.iter().any(|fuzz| path.starts_with(fuzz)) {
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
        ("plan/mod.rs", "fn f() -> crate::work::Deed { loop {} }"),
        ("plan/repair.rs", "mod inner { use super::super::super::work::Deed; }"),
        ("plan/mod.rs", "use crate::new_and_not_in_the_table::X;"),
        ("new_and_not_in_the_table.rs", ""),
        ("tables/meta.rs", "use crate::S3Args;"),
        ("tables/meta.rs", "use crate::*;"),
        ("tables/meta.rs", "use super::super::*;"),
        ("tables/meta.rs", "use crate as root;"),
        ("tables/meta.rs", "use crate::{self as root};"),
        ("tables/meta.rs", "use self::super::super::raft::Peer;"),
        ("tables/meta.rs", "fn f(x: u8) -> bool { matches!(x, crate::http::Y) }"),
        ("tables/meta.rs", "fn f() { tokio::select! { _ = async { super::super::work::f() } => {} } }"),
    ] {
        assert!(refused(path, text), "{path}: {text}");
    }
    for (path, text) in [
        ("raft/mod.rs", "use crate::tables::Kind; use super::db::Database; use self::log::Log;"),
        ("raft/group.rs", "use super::rpc::Envelope;"),
        (
            "raft/group.rs",
            "pub(crate) fn f() { tracing::info!(x = crate::tables::f(), \"{}\", super::rpc::g()); }",
        ),
        ("plan/mod.rs", "#[cfg(test)] mod tests { use crate::http::X; }"),
        ("lib.rs", "use crate::http::X;"),
    ] {
        assert!(!refused(path, text), "{path}: {text}");
    }
}

/// Returns the lines of a file below `master/src` that use a module which it may not use.
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

/// Returns the top modules that a file names, each with its line.
struct Used {
    /// How many modules deep the file is below the root.
    depth: usize,
    found: Vec<(String, usize)>,
}

impl Used {
    /// `path` starts at the module of this file.
    fn add(&mut self, path: &[&syn::Ident]) {
        let Some(first) = path.first() else { return };
        let own = path.iter().take_while(|part| **part == "self").count();
        let above = path[own..].iter().take_while(|part| **part == "super").count();
        let root = match first.to_string().as_str() {
            "crate" => 1,
            "self" | "super" if above == self.depth => own + above,
            _ => return,
        };
        // A path that ends at the root takes all of it: by a glob, or under another name. An item of lib.rs is none of
        // the table, either.
        let top = path.get(root).map_or_else(|| "the root".to_owned(), ToString::to_string);
        self.found.push((top, first.span().start().line));
    }

    fn add_tokens(&mut self, tokens: proc_macro2::TokenStream) {
        let mut path: Vec<proc_macro2::Ident> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Ident(ident) if colons == 2 && !path.is_empty() => path.push(ident),
                proc_macro2::TokenTree::Ident(ident) => {
                    self.add(&path.iter().collect::<Vec<_>>());
                    path = vec![ident];
                }
                proc_macro2::TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                proc_macro2::TokenTree::Group(group) => {
                    self.add(&path.iter().collect::<Vec<_>>());
                    path.clear();
                    self.add_tokens(group.stream());
                }
                proc_macro2::TokenTree::Punct(_) | proc_macro2::TokenTree::Literal(_) => {
                    self.add(&path.iter().collect::<Vec<_>>());
                    path.clear();
                }
            }
            colons = 0;
        }
        self.add(&path.iter().collect::<Vec<_>>());
    }

    fn add_tree<'a>(&mut self, before: &mut Vec<&'a syn::Ident>, tree: &'a syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(&path.ident);
                self.add_tree(before, &path.tree);
                before.pop();
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(before, tree)),
            syn::UseTree::Name(syn::UseName { ident })
            | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                // `{self}` is what stands before it.
                let mut path = before.clone();
                // `{self}` is what stands before it.
                if ident != "self" || path.is_empty() {
                    path.push(ident);
                }
                self.add(&path);
            }
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

    /// `pub(crate)` and `pub(super)` name no module that is used.
    fn visit_vis_restricted(&mut self, _: &'a syn::VisRestricted) {}

    /// The compiler has not expanded it: any `crate::name` and `super::…` in it counts.
    fn visit_macro(&mut self, mac: &'a syn::Macro) {
        self.add_tokens(mac.tokens.clone());
        visit::visit_macro(self, mac);
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

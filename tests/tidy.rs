//! Rules that the compiler and clippy cannot check, checked on the sources.
//!
//! Every finding says where, what, and what to do. `cargo nextest run -p tests -E 'test(tidy::)' --no-capture` also
//! shows the size of each crate and the longest files and functions.

mod layers;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, iter};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Maximum lines of a file before its tests.
const FILE_LINES_MAX: usize = 400;
/// Maximum lines of a function, with signature and braces.
const FUNCTION_LINES_MAX: usize = 70;

/// Files above the limit, with their current size. A ratchet: the numbers may only fall, and a line is
/// removed when its file is short enough.
const LONG_FILES: &[(&str, usize)] = &[];
/// Functions above the limit, in the same way: `file: function`.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

/// Maximum size of a committed file: anything larger is left behind by a run.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Which of our crates a crate may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("shared", &[]),
    ("volume", &["shared"]),
    ("master", &["shared"]),
    ("cli", &["master", "shared", "volume"]),
    ("tests", &["shared"]),
    ("tests/simulator", &["master", "shared", "tests"]),
];
/// Additional dependencies of a crate's tests.
const IN_TESTS: &[(&str, &str)] = &[("master", "tests")];
/// Names that say nothing about the contents.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];
/// What a volume's store must not know.
const NOT_IN_STORE: &[&str] =
    &["axum", "http", "http_body", "http_body_util", "hyper", "hyper_util", "reqwest", "serde_json"];

#[test]
fn crates_depend_in_one_direction() {
    let mut findings = Findings::default();
    for (name, may) in CRATES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let tolerated = |depends: &str, of_tests: bool| {
            may.contains(&depends) || of_tests && IN_TESTS.contains(&(name, depends))
        };
        for (depends, _) in our_dependencies(&manifest).filter(|(d, of_tests)| !tolerated(d, *of_tests)) {
            findings.add(
                format!("{name}/Cargo.toml"),
                format!("depends on {depends}; it may depend on: {}", may.join(", ")),
                "move what is shared into the crate `shared`, or let the caller pass it in",
            );
        }
    }
    findings.none();
}

/// Otherwise `cargo run -- server` rebuilds its dependencies after the tests, or the tests rebuild theirs after it.
#[test]
fn the_program_is_built_of_the_crates_that_are_tested() {
    let tree = |of: &[&str]| -> BTreeSet<String> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["tree", "--locked", "--prefix", "none", "--format", "{p}|{f}"]).args(of);
        let output = cargo.current_dir(root()).output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        // The clock of tests can be stopped, that of servers cannot.
        text.lines().map(|line| line.trim_end_matches(" (*)").replace(",test-util", "")).collect()
    };
    let tested = tree(&["--workspace", "--edges", "normal,build,dev,no-proc-macro"]);
    let mut findings = Findings::default();
    for line in tree(&["--package", "cli", "--edges", "normal,build,no-proc-macro"]).difference(&tested) {
        let (package, features) = line.split_once('|').expect("as the format says");
        findings.add(
            package,
            format!("has other features in `cargo build --workspace` than {features}"),
            "name the missing ones in cli/Cargo.toml, beside chrono",
        );
    }
    findings.none();
}

#[test]
fn the_store_speaks_neither_http_nor_json() {
    let mut findings = Findings::default();
    for source in sources().iter().filter(|s| s.path.starts_with("volume/src/store/")) {
        let mut names = Names::default();
        names.visit_file(source.syntax());
        for (name, line) in names.0.iter().filter(|(n, _)| NOT_IN_STORE.contains(&n.as_str())) {
            findings.add(
                format!("{}:{line}", source.path),
                format!("names {name}"),
                "the store takes and gives bytes; speak the protocol in volume/src/http",
            );
        }
    }
    findings.none();
}

#[test]
fn files_are_named_for_what_they_hold() {
    let mut findings = Findings::default();
    for source in sources() {
        if source.path.split(['/', '.']).any(|part| EMPTY_NAMES.contains(&part)) {
            findings.add(source.path, "has a name that says nothing", "name it for the one noun it holds");
        }
    }
    findings.none();
}

#[test]
fn files_say_what_they_are_for() {
    let mut findings = Findings::default();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            findings.add(
                source.path,
                "does not open with `//!`",
                "say in two to ten lines what it is for and what it must never do",
            );
        }
    }
    findings.none();
}

#[test]
fn files_and_functions_are_short() {
    let mut findings = Findings::default();
    let mut long_files = LONG_FILES.to_vec();
    let mut long_functions = LONG_FUNCTIONS.to_vec();
    let sources = sources();
    for source in &sources {
        let advice = "put one of the nouns in it into a file of its own";
        ratchet(&mut findings, &mut long_files, &source.path, source.code_lines(), FILE_LINES_MAX, advice);
        for function in source.functions() {
            let name = format!("{}: {}", source.path, function.name);
            let advice = "take a step out of it that has a name";
            ratchet(&mut findings, &mut long_functions, &name, function.lines, FUNCTION_LINES_MAX, advice);
        }
    }
    for (name, _) in long_files.iter().chain(&long_functions) {
        findings.add(*name, "is an exception that is not needed", "remove its line from tests/tidy.rs");
    }
    println!("{}", sizes(&sources));
    findings.none();
}

#[test]
fn nothing_large_is_kept_in_the_repository() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Some(listed) = listed.ok().filter(|l| l.status.success() && !l.stdout.is_empty()) else {
        tests::skip("nothing_large_is_kept_in_the_repository", "git is missing, or lists no files here");
        return;
    };
    let mut findings = Findings::default();
    for name in listed.stdout.split(|b| *b == 0).filter_map(|n| std::str::from_utf8(n).ok()) {
        let bytes = fs::metadata(root().join(name)).map_or(0, |m| if m.is_file() { m.len() } else { 0 });
        if bytes > FILE_BYTES_MAX {
            findings.add(name, format!("has {bytes} bytes"), "what a run leaves behind belongs under target");
        }
    }
    findings.none();
}

#[test]
fn clippy_is_configured_once() {
    let mut findings = Findings::default();
    for file in files(&["toml"]).filter(|f| f.ends_with("clippy.toml") && f != "clippy.toml") {
        findings.add(
            file,
            "is a second clippy.toml: it replaces the one at the root, it is not added to it",
            "move its lines to the root's",
        );
    }
    assert!(root().join("clippy.toml").exists());
    findings.none();
}

#[test]
fn exceptions_have_reasons_and_nobody_sleeps_on_a_thread() {
    let mut findings = Findings::default();
    let words = ["allow(", "expect(", "sleep"];
    for source in sources().iter().filter(|s| words.iter().any(|word| s.text.contains(word))) {
        let mut seen = Exceptions::default();
        seen.visit_file(source.syntax());
        for line in seen.bare {
            findings.add(
                format!("{}:{line}", source.path),
                "allows a lint without a reason",
                "fix it, or write #[expect(lint, reason = \"…\")]",
            );
        }
        for line in seen.sleeps {
            findings.add(
                format!("{}:{line}", source.path),
                "sleeps on a thread",
                "wait for a condition with a deadline, or use tokio::time::sleep",
            );
        }
    }
    findings.none();
}

/// The findings, one line each.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, place: impl Into<String>, what: impl Into<String>, advice: &str) {
        self.0.push(format!("{} {}.\n    {advice}", place.into(), what.into()));
    }

    #[track_caller]
    fn none(self) {
        assert!(self.0.is_empty(), "\n\n{}\n", self.0.join("\n"));
    }
}

/// Checks a size against the limit, or against the recorded size of an exception, which it takes off the list.
fn ratchet(
    findings: &mut Findings,
    exceptions: &mut Vec<(&str, usize)>,
    name: &str,
    lines: usize,
    max: usize,
    advice: &str,
) {
    let exception = exceptions.iter().position(|(n, _)| *n == name).filter(|_| lines > max);
    match exception.map(|at| exceptions.remove(at).1) {
        None if lines > max => findings.add(name, format!("has {lines} lines, {max} is the limit"), advice),
        Some(was) if lines > was => {
            findings.add(name, format!("has grown from {was} to {lines} lines"), advice);
        }
        Some(was) if lines < was => findings.add(
            name,
            format!("has shrunk from {was} to {lines} lines"),
            "well done: write the new number into tests/tidy.rs",
        ),
        _ => {}
    }
}

/// One of our Rust files.
struct Source {
    /// Path from the root of the repository.
    path: String,
    text: String,
    syntax: OnceCell<syn::File>,
}

impl Source {
    /// Parsed on demand: parsing all files takes seconds.
    fn syntax(&self) -> &syn::File {
        let parse =
            || syn::parse_file(&self.text).unwrap_or_else(|e| panic!("{} is no Rust: {e}", self.path));
        self.syntax.get_or_init(parse)
    }

    /// Lines before the tests within a file; 0 for a file of tests.
    fn code_lines(&self) -> usize {
        if self.is_test() {
            return 0;
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = |two: &[&str]| two[0] == "#[cfg(test)]" && two[1].starts_with("mod tests {");
        lines.windows(2).position(tests).unwrap_or(lines.len())
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/") || self.path.starts_with("tests/")
    }

    fn functions(&self) -> Vec<Function> {
        let mut functions = Functions::default();
        functions.visit_file(self.syntax());
        functions.found
    }
}

struct Function {
    /// With its type, for methods.
    name: String,
    lines: usize,
}

/// Collects functions, including nested ones.
#[derive(Default)]
struct Functions {
    within: Vec<String>,
    found: Vec<Function>,
}

impl Functions {
    fn add(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let lines = body.brace_token.span.close().end().line - signature.span().start().line + 1;
        let name = signature.ident.to_string();
        let name =
            self.within.iter().chain(iter::once(&name)).map(String::as_str).collect::<Vec<_>>().join("::");
        self.found.push(Function { name, lines });
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.add(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        let of = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|s| s.ident.to_string()),
            _ => None,
        };
        self.within.push(of.unwrap_or_else(|| "impl".into()));
        visit::visit_item_impl(self, item);
        self.within.pop();
    }
}

/// Collects the names through which a file reaches others: what it uses, and what is before `::`.
#[derive(Default)]
struct Names(Vec<(String, usize)>);

impl Names {
    fn add(&mut self, ident: &syn::Ident) {
        self.0.push((ident.to_string(), ident.span().start().line));
    }
}

impl<'a> Visit<'a> for Names {
    fn visit_use_path(&mut self, path: &'a syn::UsePath) {
        self.add(&path.ident);
        visit::visit_use_path(self, path);
    }

    fn visit_use_name(&mut self, name: &'a syn::UseName) {
        self.add(&name.ident);
    }

    fn visit_use_rename(&mut self, rename: &'a syn::UseRename) {
        self.add(&rename.ident);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let before = path.segments.len().saturating_sub(1);
        path.segments.iter().take(before).for_each(|s| self.add(&s.ident));
        visit::visit_path(self, path);
    }
}

/// Collects lints allowed without a reason, and sleeping threads.
#[derive(Default)]
struct Exceptions {
    bare: Vec<usize>,
    sleeps: Vec<usize>,
}

impl<'a> Visit<'a> for Exceptions {
    fn visit_attribute(&mut self, attribute: &'a syn::Attribute) {
        let lint_level = ["allow", "expect"].iter().any(|level| attribute.path().is_ident(level));
        let tokens = || attribute.meta.require_list().map(|list| list.tokens.to_string());
        if lint_level && !tokens().is_ok_and(|t| t.contains("reason =")) {
            self.bare.push(attribute.span().start().line);
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if names.ends_with(&["thread".into(), "sleep".into()]) {
            self.sleeps.push(path.span().start().line);
        }
        visit::visit_path(self, path);
    }
}

/// The size of each crate, and the longest files and functions.
fn sizes(sources: &[Source]) -> String {
    let mut text = String::new();
    let mut product = 0;
    for (name, _) in CRATES {
        let of: Vec<&Source> = sources.iter().filter(|s| s.path.starts_with(&format!("{name}/"))).collect();
        let code: usize = of.iter().map(|s| s.code_lines()).sum();
        let all: usize = of.iter().map(|s| s.text.lines().count()).sum();
        product += code;
        let _ = writeln!(text, "{name:8} {code:6} lines, {:6} of tests, {:3} files", all - code, of.len());
    }
    let _ = writeln!(text, "{:8} {product:6} lines of product", "all");
    let file = sources.iter().max_by_key(|s| s.code_lines());
    let functions = sources.iter().flat_map(|s| s.functions().into_iter().map(move |f| (s, f)));
    let function = functions.max_by_key(|(_, f)| f.lines);
    if let (Some(file), Some((source, function))) = (file, function) {
        let _ = writeln!(text, "longest file:     {} ({} lines)", file.path, file.code_lines());
        let _ =
            writeln!(text, "longest function: {}: {} ({} lines)", source.path, function.name, function.lines);
    }
    text
}

/// Returns our crates in a manifest's dependency tables, `x.workspace` and `x = …` alike, and whether the table
/// is for tests.
fn our_dependencies(manifest: &str) -> impl Iterator<Item = (&str, bool)> {
    let (mut within, mut of_tests) = (false, false);
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            within = table.contains("dependencies");
            of_tests = table.contains("dev-dependencies");
            // [dependencies.volume]
            let named = table.trim_end_matches(']').rsplit('.').next().filter(|_| within);
            found.extend(named.map(|name| (name, of_tests)));
        } else if within {
            found.extend(line.split(['.', '=', ' ']).next().map(|name| (name, of_tests)));
        }
    }
    found.into_iter().filter(|(name, _)| CRATES.iter().any(|(ours, _)| ours == name))
}

fn sources() -> Vec<Source> {
    let read = |path: String| {
        let text = fs::read_to_string(root().join(&path)).expect("the file can be read");
        Source { path, text, syntax: OnceCell::new() }
    };
    files(&["rs"]).map(read).collect()
}

/// Returns our files with one of these extensions, from the root, in order.
pub fn files(extensions: &[&str]) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("our folders can be read") {
            let path = entry.expect("our folders can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|e| extensions.iter().any(|x| *x == e)) {
                found.push(path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found.into_iter()
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the repository")
}

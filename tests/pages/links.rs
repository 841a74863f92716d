//! The links of our pages: each leads to a file in the repository, and to a heading if it names one. And the paths that they name.

use std::path::{Component, Path, PathBuf};

use super::read;
use crate::tidy::{files, root};

#[test]
fn links_lead_somewhere() {
    let pages: Vec<String> = files(&["md"]).collect();
    let broken: Vec<String> = pages.iter().flat_map(|page| broken(page, &read(page))).collect();
    assert!(pages.iter().any(|page| page == "docs/s3/README.md"), "{pages:?}");
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn planted_broken_links_are_found() {
    let text = "# Some `code` & more\n[a](missing.md) `[b](no-link.md)` [c](https://example.com)
[`d`](../README.md#documentation) [e](../README.md#missing) [f](#some-code--more) [g](#missing) [j](#a-comment)
```sh\n# A comment\n[h](no-link.md)\n```\n[i](s3)\n";
    let expected = ["missing.md", "../README.md#missing", "#missing", "#a-comment"]
        .map(|to| format!("docs/page.md: {to}"));
    assert_eq!(broken("docs/page.md", text), expected);
}

/// These pages say where things are in the sources.
#[test]
fn paths_lead_somewhere() {
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"] {
        let (found, missing) = paths(&read(page));
        assert!(found > 0, "{page} names no path");
        assert!(missing.is_empty(), "{page} names paths that do not exist, from the root: {missing:?}");
    }
}

#[test]
fn planted_missing_paths_are_found() {
    let text = "`tests/pages.rs` and `links.rs`, `tests/pages/`, `tests/gone/`, `Group::vote`, `a b.rs`, `tests/s3/test_*.py`";
    assert_eq!(paths(text), (2, vec!["links.rs".to_owned(), "tests/gone/".to_owned()]));
}

/// Counts the paths in backquotes that exist, and returns those that do not.
fn paths(text: &str) -> (usize, Vec<String>) {
    let is_path = |word: &str| {
        let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
        let file = [".rs", ".py", ".md", ".toml", ".txt", ".sh"].iter().any(|end| word.ends_with(end));
        plain && (file || word.ends_with('/')) && !word.starts_with('/')
    };
    let words = text.split('`').skip(1).step_by(2).filter(|word| is_path(word));
    let (found, missing): (Vec<_>, Vec<_>) = words.partition(|word| root().join(word).exists());
    (found.len(), missing.into_iter().map(ToOwned::to_owned).collect())
}

/// Returns the broken links of a page.
fn broken(page: &str, text: &str) -> Vec<String> {
    let there = |target: &str| {
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        if file.is_empty() {
            return anchors(text).any(|anchor| anchor == heading);
        }
        let path = beside(page, file);
        let exists = root().join(&path).exists();
        exists && (heading.is_empty() || anchors(&read(&path.to_string_lossy())).any(|a| a == heading))
    };
    let prose = prose(text);
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let ours = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    ours.filter(|target| !there(target)).map(|target| format!("{page}: {target}")).collect()
}

/// Returns a page without its code.
fn prose(text: &str) -> String {
    let outside = text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n");
    outside.split('`').step_by(2).collect()
}

/// Returns a path from the root for a link in a page.
fn beside(page: &str, file: &str) -> PathBuf {
    let mut path = Path::new(page).parent().map(Path::to_owned).unwrap_or_default();
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir => _ = path.pop(),
            part => path.push(part),
        }
    }
    path
}

/// Returns the anchors of a page's headings, as GitHub builds them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    // A line in a code block that looks like a heading is a comment.
    let outside = text.split("\n```").step_by(2);
    let headings = outside.flat_map(str::lines).filter(|line| line.starts_with('#'));
    headings.map(|heading| {
        let name = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = name.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

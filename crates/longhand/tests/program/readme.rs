//! The README's Rust code is that of the library's front page, which the doc tests run.

/// The lines of the first Rust block of a Markdown text, without those that rustdoc hides.
fn code(markdown: &str, fence: &str) -> Vec<String> {
    let lines = markdown.lines().skip_while(|line| *line != fence).skip(1);
    let lines = lines.take_while(|line| *line != "```").filter(|line| !line.starts_with("# "));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_readme_shows_the_code_that_the_doc_tests_run() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs_err::read_to_string(folder.join("../../README.md")).unwrap();
    let page = fs_err::read_to_string(folder.join("src/lib.rs")).unwrap();
    let page: String = page
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    let shown = code(&readme, "```rust");
    assert_eq!(shown, code(&page, "```"));
    let lines = shown.iter().filter(|line| !line.is_empty()).count();
    assert!((10..=20).contains(&lines), "{lines} lines");
}

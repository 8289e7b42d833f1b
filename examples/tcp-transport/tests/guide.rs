//! The guide's chapter about transports quotes this crate, and quotes it right.

use std::fs;
use std::path::Path;

/// Lines without their indentation, so that a quotation need not be indented as its source is.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// The blocks of code that stand for something elsewhere, in pieces: what was left out divides them.
fn quotations(chapter: &str) -> Vec<Vec<Vec<&str>>> {
    let blocks = chapter.split("```rust,ignore\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().expect("there is a first part"));
    blocks.map(|block| lines(block).split(|line| *line == "// …").map(<[_]>::to_vec).collect()).collect()
}

#[test]
fn what_the_guide_quotes_stands_in_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chapter = fs::read_to_string(root.join("../../src/guide_transport.md")).expect("the chapter");
    let mut sources = Vec::new();
    for folder in ["src", "examples", "tests"] {
        for entry in fs::read_dir(root.join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                sources.push(fs::read_to_string(path).expect("text"));
            }
        }
    }
    let quotations = quotations(&chapter);
    assert!(quotations.len() >= 8, "they are found: {}", quotations.len());
    for piece in quotations.iter().flatten() {
        let stands = |source: &String| lines(source).windows(piece.len()).any(|window| window == piece);
        assert!(sources.iter().any(stands), "this stands nowhere:\n{}", piece.join("\n"));
    }
}

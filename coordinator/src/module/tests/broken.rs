//! Module files of StateFun, each with one mistake: its refusal names file, line, field and remedy.
//!
//! `broken.txt` has a story for each: a line `== title`, the module file, and after each `!!` a
//! line of the refusal. With `SATCHEL_UPDATE_DOCS=1` the refusals are written anew, to be reviewed.

use std::path::Path;

use super::parse;

const BROKEN: &str = include_str!("broken.txt");

/// A module file with its refusal.
struct Story<'a> {
    title: &'a str,
    text: String,
    refusal: Vec<&'a str>,
}

fn stories() -> Vec<Story<'static>> {
    let stories = BROKEN.split("== ").skip(1);
    stories
        .map(|story| {
            let (title, body) = story.split_once('\n').unwrap();
            let (refusal, text): (Vec<&str>, Vec<&str>) =
                body.lines().partition(|line| line.starts_with("!! "));
            Story {
                title,
                text: text.join("\n").trim_end().to_owned() + "\n",
                refusal: refusal.iter().map(|line| &line[3..]).collect(),
            }
        })
        .collect()
}

#[test]
fn sixty_mistakes_are_refused_each_with_file_line_field_and_remedy() {
    let mut written = String::new();
    let mut wrong = Vec::new();
    let stories = stories();
    assert!(stories.len() >= 60, "{}", stories.len());
    for Story {
        title,
        text,
        refusal,
    } in stories
    {
        let found: Vec<String> = match parse(&text) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        };
        written.push_str(&format!("== {title}\n{text}"));
        for line in &found {
            written.push_str(&format!("!! {line}\n"));
        }
        written.push('\n');
        let is_placed = found
            .iter()
            .all(|line| line.starts_with("app/module.yaml:"));
        if found != refusal || found.is_empty() || !is_placed {
            wrong.push(format!("{title}: {found:#?}, not {refusal:#?}"));
        }
    }
    if std::env::var_os("SATCHEL_UPDATE_DOCS").is_some() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/module/tests/broken.txt");
        std::fs::write(file, written).unwrap();
        return;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

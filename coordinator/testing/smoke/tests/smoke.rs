//! The smoke scheme, for each language and both forms.
//!
//! The tests that are ignored need Node.js, Go, or Java with Maven. `SATCHEL_SMOKE_MESSAGES` and
//! `SATCHEL_SMOKE_KILLS` make them long.

use satchel_smoke::language::{Form, Language};
use satchel_smoke::{Size, run};

async fn shows(language: Language, form: Form) {
    let size = Size::from_environment();
    let report = run(language, form, size).await;
    assert_eq!(report.kills, size.kills);
    println!("{language:?} over {form:?}: {report:?}");
}

#[tokio::test]
async fn python_over_http() {
    shows(Language::Python, Form::Http).await;
}

#[tokio::test]
async fn python_in_bundles() {
    shows(Language::Python, Form::Lambda).await;
}

#[tokio::test]
#[ignore = "needs Node.js and npm"]
async fn javascript_over_http() {
    shows(Language::JavaScript, Form::Http).await;
}

#[tokio::test]
#[ignore = "needs Node.js and npm"]
async fn javascript_in_bundles() {
    shows(Language::JavaScript, Form::Lambda).await;
}

#[tokio::test]
#[ignore = "needs Go"]
async fn go_over_http() {
    shows(Language::Go, Form::Http).await;
}

#[tokio::test]
#[ignore = "needs Go"]
async fn go_in_bundles() {
    shows(Language::Go, Form::Lambda).await;
}

#[tokio::test]
#[ignore = "needs Java and Maven"]
async fn java_over_http() {
    shows(Language::Java, Form::Http).await;
}

#[tokio::test]
#[ignore = "needs Java and Maven"]
async fn java_in_bundles() {
    shows(Language::Java, Form::Lambda).await;
}

//! Final verification of the durable state: `satchel verify` reads every object.

use std::process::{Command, Stdio};

/// Location of the durable state.
#[derive(Debug)]
pub(crate) struct Root {
    /// Value of `--state`.
    pub(crate) state: String,
    /// Environment variables for access to it.
    pub(crate) variables: Vec<(String, String)>,
}

impl Root {
    /// Describes a failed verification; `None` when it succeeds.
    pub(crate) async fn verify(&self) -> Option<String> {
        let mut verify = Command::new(satchel_testkit::satchel());
        verify
            .args(["verify", "--state", &self.state])
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || verify.output()).await;
        let output = match output {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Some(format!("`satchel verify` cannot be run: {error}")),
            Err(error) => return Some(format!("waiting for `satchel verify` failed: {error}")),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (!output.status.success()).then(|| {
            let status = output.status;
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            format!("`satchel verify` ended with {status}: {stdout}{stderr}")
        })
    }
}

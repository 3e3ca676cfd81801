//! The durable state as a whole, after everything: `satchel verify` reads every object of it.

use std::process::{Command, Stdio};

/// Where the durable state lies.
#[derive(Debug)]
pub(crate) struct Root {
    /// As `--state` takes it.
    pub(crate) state: String,
    /// What leads there.
    pub(crate) environment: Vec<(String, String)>,
}

impl Root {
    /// What is wrong with it, if something is.
    pub(crate) async fn verify(&self) -> Option<String> {
        let mut verify = Command::new(satchel_testkit::satchel());
        verify
            .args(["verify", "--state", &self.state])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || verify.output()).await;
        let output = match output {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Some(format!("`satchel verify` cannot be run: {error}")),
            Err(error) => return Some(format!("`satchel verify` was not waited for: {error}")),
        };
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (!output.status.success()).then(|| {
            let status = output.status;
            let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
            format!("`satchel verify` ends with {status}: {stdout}{stderr}")
        })
    }
}

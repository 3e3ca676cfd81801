//! The S3 backend against a real S3 server process (moto), with a proxy between them that injects
//! faults of networks and of S3.

mod configuration;
mod faults;
mod large;
mod log;
mod log_table;
mod objects;

use std::sync::{Arc, Mutex, OnceLock};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use bytes::Bytes;
use satchel::store::S3Store;
use satchel::store::s3::{S3Operation, S3Options, S3Outcome, S3Request};
use satchel_log::{ObjectStore, StoreError};
use satchel_testkit::Moto;

/// Secret key that must not appear in any message.
const SECRET: &str = "the-secret-key-of-the-test";

/// Server shared by the tests of this process, each with its own bucket.
fn moto() -> &'static Moto {
    static MOTO: OnceLock<Moto> = OnceLock::new();
    MOTO.get_or_init(Moto::start)
}

/// An AWS configuration that takes nothing from this machine.
fn sdk(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("AKIDOFTHETEST", SECRET, None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .build()
}

/// A new bucket of moto.
struct Bucket {
    name: String,
    /// Client that bypasses the store, to inspect its effects.
    client: Client,
}

impl Bucket {
    async fn make(name: &str) -> Self {
        let config =
            aws_sdk_s3::config::Builder::from(&sdk(moto().endpoint())).force_path_style(true);
        let client = Client::from_conf(config.build());
        client.create_bucket().bucket(name).send().await.unwrap();
        Self {
            name: name.to_owned(),
            client,
        }
    }

    /// A store on the bucket with a direct connection to the server.
    fn store(&self) -> S3Store {
        self.store_at(moto().endpoint(), S3Options::default())
    }

    /// A store on the bucket at another endpoint, such as a proxy.
    fn store_at(&self, endpoint: &str, options: S3Options) -> S3Store {
        S3Store::with_config(&sdk(endpoint), &self.name, options)
    }

    /// Number of uploads that were started and neither completed nor aborted.
    async fn open_uploads(&self) -> usize {
        let uploads = self.client.list_multipart_uploads().bucket(&self.name);
        uploads.send().await.unwrap().uploads().len()
    }
}

/// Counts the requests that the hook reports.
#[derive(Clone, Default)]
struct Counted(Arc<Mutex<Vec<S3Request>>>);

impl Counted {
    fn options(&self) -> S3Options {
        let counted = self.0.clone();
        S3Options {
            on_request: Arc::new(move |request| counted.lock().unwrap().push(request)),
            ..S3Options::default()
        }
    }

    /// Requests since the last call: operation, outcome, bytes of objects.
    fn take(&self) -> Vec<(S3Operation, S3Outcome, u64)> {
        let taken = std::mem::take(&mut *self.0.lock().unwrap());
        taken
            .into_iter()
            .map(|request| (request.operation, request.outcome, request.object_bytes))
            .collect()
    }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Bytes that hardly compress and do not repeat, so that a misplaced part is detected.
fn noise(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(len + 8);
    while noise.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(len);
    Bytes::from(noise)
}

async fn keys(store: &S3Store, prefix: &str, after: Option<&str>, max: usize) -> Vec<String> {
    let listed = store.list(prefix, after, max).await.unwrap();
    listed.into_iter().map(|object| object.key).collect()
}

/// Kind and text of an error. Checks that the text contains no secret.
fn failure_of<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> (&'static str, String) {
    let error = answer.unwrap_err();
    let text = error.to_string();
    assert!(!text.contains(SECRET), "{text}");
    let kind = match error {
        StoreError::Conflict { .. } => "conflict",
        StoreError::Unavailable { .. } => "unavailable",
        StoreError::Damaged { .. } => "damaged",
        StoreError::Fatal { .. } => "fatal",
    };
    (kind, text)
}

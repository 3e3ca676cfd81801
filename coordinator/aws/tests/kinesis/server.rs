//! The server of the Kinesis API that the tests use.

use satchel_local_streams::Streams;
use satchel_local_streams::kinesis::{self, Options};
use satchel_testkit::Kinesalite;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Environment variable that selects another server: `kinesalite`, which needs Node.js.
const SELECTED: &str = "SATCHEL_TEST_KINESIS";

/// A running server, empty at its start.
pub(crate) struct Server {
    endpoint: String,
    _running: Running,
}

#[allow(dead_code, reason = "a server ends when it is dropped")]
enum Running {
    Local(watch::Sender<bool>),
    Kinesalite(Kinesalite),
}

impl Server {
    /// Starts local streams, or the server that `SATCHEL_TEST_KINESIS` names.
    pub(crate) async fn start() -> Self {
        match std::env::var(SELECTED).ok().as_deref() {
            None | Some("") => Self::local().await,
            Some("kinesalite") => {
                let running = Kinesalite::start();
                Self {
                    endpoint: running.endpoint().to_owned(),
                    _running: Running::Kinesalite(running),
                }
            }
            Some(other) => panic!("{SELECTED}={other}: unknown server; known is kinesalite"),
        }
    }

    async fn local() -> Self {
        // The tests read more often than Kinesis permits.
        let options = Options {
            limit_throughput: false,
            ..Options::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(kinesis::serve(
            listener,
            Streams::ephemeral(),
            options,
            stopping,
        ));
        Self {
            endpoint,
            _running: Running::Local(stop),
        }
    }

    /// Base URL: `http://127.0.0.1:port`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

//! Ingresses: what reads streams for a partition.

pub mod kinesis;
pub mod local_stream;
pub mod routing;
pub mod sqs;

use satchel_engine::input::Input;
use tokio::sync::mpsc;

use crate::cli::{Exit, Failure};
use crate::runtime::node::stream_failure;
use crate::runtime::reading::Reading;

use kinesis::KinesisStream;
use local_stream::LocalStreamIngress;
use sqs::SqsQueue;

/// Reads one stream for one ingress.
pub enum Ingress {
    /// A stream on this machine.
    LocalStream(LocalStreamIngress),
    /// A stream of Amazon Kinesis.
    Kinesis(Box<KinesisStream>),
    /// A queue of Amazon SQS.
    Sqs(Box<SqsQueue>),
}

impl Ingress {
    /// Reads until the partition is gone. `incarnation` names the root for ever: what is registered for it elsewhere bears its name.
    ///
    /// # Errors
    ///
    /// Why the process can not go on: a damaged or missing stream, records that were lost before they were read.
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
        incarnation: &str,
    ) -> Result<(), Failure> {
        match self {
            Self::LocalStream(stream) => stream.run(inputs, reading).await.map_err(stream_failure),
            Self::Sqs(queue) => {
                let received = queue.run(inputs, reading).await;
                received.map_err(|error| Failure::new(Exit::Environment, error.to_string()))
            }
            Self::Kinesis(stream) => {
                let read = stream.run(inputs, reading, incarnation).await;
                read.map_err(|error| {
                    let exit = if error.is_loss() {
                        Exit::Damaged
                    } else {
                        Exit::Environment
                    };
                    Failure::new(exit, error.to_string())
                })
            }
        }
    }
}

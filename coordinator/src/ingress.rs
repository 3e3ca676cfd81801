//! Ingresses: sources of messages for a partition.

pub mod kinesis;
pub mod local_stream;
pub mod reading;
pub mod routing;
pub mod sqs;

use satchel_engine::input::Input;
use tokio::sync::mpsc;

use crate::error::{Exit, Failure};

use kinesis::KinesisStream;
use local_stream::LocalStreamIngress;
use reading::Reading;
use sqs::SqsQueue;

/// Adapter of one stream or queue of an ingress.
pub enum Ingress {
    /// Stream on this machine.
    LocalStream(LocalStreamIngress),
    /// Stream of Amazon Kinesis.
    Kinesis(Box<KinesisStream>),
    /// Queue of Amazon SQS.
    Sqs(Box<SqsQueue>),
}

impl Ingress {
    /// Reads until the partition is gone. `incarnation` is the permanent name of the root, which
    /// registrations with other services bear.
    ///
    /// # Errors
    ///
    /// A problem that the process cannot solve: a damaged or missing stream, or records that were
    /// lost before they were read.
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
        incarnation: &str,
    ) -> Result<(), Failure> {
        match self {
            Self::LocalStream(stream) => Ok(stream.run(inputs, reading).await?),
            Self::Sqs(queue) => {
                let received = queue.run(inputs, reading).await;
                received.map_err(|error| Failure::from_source(Exit::Environment, error))
            }
            Self::Kinesis(stream) => {
                let read = stream.run(inputs, reading, incarnation).await;
                read.map_err(|error| {
                    let exit = if error.is_loss() {
                        Exit::Damaged
                    } else {
                        Exit::Environment
                    };
                    Failure::from_source(exit, error)
                })
            }
        }
    }
}

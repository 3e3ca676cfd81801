//! Port between the partition and the ingresses: start positions, deletions and pauses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use satchel_aws::kinesis::{Applied, HandedShard, HandedShards, ReadingPort};
use satchel_aws::sqs::{QueueCommand, QueuePort};
use satchel_engine::input::Input;
use satchel_engine::position::{ShardId, ShardPosition};
use tokio::sync::{mpsc, oneshot, watch};

/// Id of an ingress, and a stream that it reads.
type StreamOfIngress = (Arc<str>, Arc<str>);

/// Carries the partition's instructions to the ingresses. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reading {
    waiting: Arc<Mutex<HashMap<ShardId, oneshot::Sender<ShardPosition>>>>,
    planning: Arc<Mutex<HashMap<StreamOfIngress, oneshot::Sender<Applied>>>>,
    handed: Arc<Mutex<HashMap<StreamOfIngress, mpsc::UnboundedSender<HandedShard>>>>,
    queues: Arc<Mutex<HashMap<Arc<str>, mpsc::UnboundedSender<QueueCommand>>>>,
    pauses: Arc<Mutex<Pauses>>,
    /// Id of the ingress that this port belongs to.
    ingress: Arc<str>,
}

/// Pauses of all ingresses by the partition, and of single ones by a person.
#[derive(Debug, Default)]
struct Pauses {
    all: bool,
    ingresses: HashMap<Arc<str>, IngressPause>,
}

#[derive(Debug)]
struct IngressPause {
    by_person: bool,
    /// True while the ingress may not read, for either reason.
    paused: watch::Sender<bool>,
}

impl Pauses {
    fn of(&mut self, ingress: &Arc<str>) -> &mut IngressPause {
        let all = self.all;
        let ingresses = self.ingresses.entry(Arc::clone(ingress));
        ingresses.or_insert_with(|| IngressPause {
            by_person: false,
            paused: watch::Sender::new(all),
        })
    }
}

impl Reading {
    /// Creates a port that waits for nothing and is not paused.
    pub fn new() -> Self {
        Self {
            waiting: Arc::default(),
            planning: Arc::default(),
            handed: Arc::default(),
            queues: Arc::default(),
            pauses: Arc::default(),
            ingress: Arc::from(""),
        }
    }

    /// Returns the port of the ingress `ingress`.
    pub fn of(&self, ingress: &str) -> Self {
        Self {
            ingress: Arc::from(ingress),
            ..self.clone()
        }
    }

    /// Returns the start position of `shard`, once the partition sends it. Call this before the
    /// partition learns of the shard.
    pub fn expect(&self, shard: ShardId) -> oneshot::Receiver<ShardPosition> {
        let (start, started) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(shard, start);
        started
    }

    /// Returns the durable progress in a stream, once the partition sends it. Call this before the
    /// partition learns of the stream.
    pub fn expect_plan(&self, ingress: Arc<str>, stream: Arc<str>) -> oneshot::Receiver<Applied> {
        let (plan, planned) = oneshot::channel();
        let mut planning = self.planning.lock().unwrap_or_else(PoisonError::into_inner);
        planning.insert((ingress, stream), plan);
        planned
    }

    /// Waits until another partition has handed shards of a stream to this one. Returns none if the
    /// partition, which receives from `inputs`, is gone.
    pub async fn handed(
        &self,
        inputs: &mpsc::Sender<Input>,
        (ingress, stream): StreamOfIngress,
    ) -> Option<HandedShards> {
        let (shards, mut more) = mpsc::unbounded_channel();
        self.await_handed((ingress.clone(), stream.clone()), shards);
        let planned = self.expect_plan(ingress.clone(), stream.clone());
        let found = Input::StreamFound { ingress, stream };
        inputs.send(found).await.ok()?;
        let known = async {
            let mut known = planned.await.ok()?;
            // The partition itself tells the home of ends.
            known.retain(|(_, position)| *position != ShardPosition::End);
            if known.is_empty() {
                known.push(more.recv().await?);
            }
            Some(known)
        };
        let known = tokio::select! {
            known = known => known?,
            () = inputs.closed() => return None,
        };
        Some(HandedShards { known, more })
    }

    fn await_handed(&self, of: StreamOfIngress, shards: mpsc::UnboundedSender<HandedShard>) {
        let mut receivers = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        receivers.insert(of, shards);
    }

    /// True while reading for this ingress is paused.
    pub fn paused(&self) -> watch::Receiver<bool> {
        self.pauses().of(&self.ingress).paused.subscribe()
    }

    fn pauses(&self) -> MutexGuard<'_, Pauses> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn start(&self, shard: &ShardId, after: ShardPosition) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // An ingress that has ended reads nothing.
        if let Some(start) = waiting.remove(shard) {
            let _ = start.send(after);
            return;
        }
        drop(waiting);
        let stream = (Arc::clone(&shard.ingress), Arc::clone(&shard.stream));
        let handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shards) = handed.get(&stream) {
            let _ = shards.send((Arc::clone(&shard.shard), after));
        }
    }

    pub(crate) fn plan(&self, ingress: Arc<str>, stream: Arc<str>, applied: Applied) {
        let mut planning = self.planning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = planning.remove(&(ingress, stream)) {
            let _ = plan.send(applied);
        }
    }

    pub(crate) fn queue(&self, ingress: &str, command: QueueCommand) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(ingress) {
            // Without its ingress, a queue keeps its messages.
            let _ = queue.send(command);
        }
    }

    /// Pauses all ingresses, or continues those that no person paused.
    pub(crate) fn pause(&self, paused: bool) {
        let mut pauses = self.pauses();
        pauses.all = paused;
        for ingress in pauses.ingresses.values() {
            ingress.paused.send_replace(paused || ingress.by_person);
        }
    }

    /// Pauses one ingress for a person, or ends that pause.
    pub(crate) fn pause_ingress(&self, ingress: &Arc<str>, paused: bool) {
        let mut pauses = self.pauses();
        let all = pauses.all;
        let ingress = pauses.of(ingress);
        ingress.by_person = paused;
        ingress.paused.send_replace(paused || all);
    }
}

impl ReadingPort for Reading {
    fn expect(&self, shard: ShardId) -> oneshot::Receiver<ShardPosition> {
        self.expect(shard)
    }

    fn expect_plan(&self, ingress: Arc<str>, stream: Arc<str>) -> oneshot::Receiver<Applied> {
        self.expect_plan(ingress, stream)
    }

    fn paused(&self) -> watch::Receiver<bool> {
        self.paused()
    }
}

impl QueuePort for Reading {
    fn listen(&self, ingress: Arc<str>) -> mpsc::UnboundedReceiver<QueueCommand> {
        let (commands, received) = mpsc::unbounded_channel();
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.insert(ingress, commands);
        received
    }

    fn paused(&self) -> watch::Receiver<bool> {
        self.paused()
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ingress_reads_only_while_neither_the_partition_nor_a_person_pauses_it() {
        let reading = Reading::new();
        let ports = ["example/one", "example/two"].map(|id| reading.of(id));
        let paused = |ports: &[Reading; 2]| ports.each_ref().map(|port| *port.paused().borrow());
        assert_eq!(paused(&ports), [false, false]);
        reading.pause_ingress(&"example/one".into(), true);
        assert_eq!(paused(&ports), [true, false]);
        reading.pause(true);
        assert_eq!(paused(&ports), [true, true]);
        // An ingress that asks later learns of the pause too.
        assert!(*reading.of("example/three").paused().borrow());
        reading.pause_ingress(&"example/two".into(), true);
        reading.pause_ingress(&"example/one".into(), false);
        assert_eq!(paused(&ports), [true, true]);
        reading.pause(false);
        assert_eq!(paused(&ports), [false, true]);
        reading.pause_ingress(&"example/two".into(), false);
        assert_eq!(paused(&ports), [false, false]);
    }

    #[tokio::test]
    async fn shards_that_are_handed_over_are_awaited_and_ended_ones_left_out() {
        let stream = || ("example/in".into(), "names".into());
        let shard = |shard: &str| ShardId {
            ingress: "example/in".into(),
            stream: "names".into(),
            shard: shard.into(),
        };
        let reading = Reading::new();
        let (inputs, mut received) = mpsc::channel(4);
        // Known to the partition from before.
        let handed = async { reading.handed(&inputs, stream()).await.unwrap() };
        let applied = vec![
            ("one".into(), ShardPosition::End),
            ("two".into(), ShardPosition::Beginning),
        ];
        let partition = async {
            assert!(matches!(
                received.recv().await,
                Some(Input::StreamFound { .. })
            ));
            reading.plan("example/in".into(), "names".into(), applied);
        };
        let (mut handed, ()) = tokio::join!(handed, partition);
        assert_eq!(handed.known, [("two".into(), ShardPosition::Beginning)]);
        reading.start(&shard("three"), ShardPosition::Beginning);
        let more = handed.more.recv().await.unwrap();
        assert_eq!(more, ("three".into(), ShardPosition::Beginning));

        // Nothing is known, and a shard comes later.
        let later = async { reading.handed(&inputs, stream()).await.unwrap() };
        let partition = async {
            received.recv().await;
            reading.plan("example/in".into(), "names".into(), Vec::new());
            tokio::task::yield_now().await;
            reading.start(&shard("four"), ShardPosition::Beginning);
        };
        let (later, ()) = tokio::join!(later, partition);
        assert_eq!(later.known, [("four".into(), ShardPosition::Beginning)]);

        // The partition ends before anything is handed over.
        let never = async { reading.handed(&inputs, stream()).await.is_none() };
        let partition = async {
            received.recv().await;
            reading.plan("example/in".into(), "names".into(), Vec::new());
            drop(received);
        };
        let (is_gone, ()) = tokio::join!(never, partition);
        assert!(is_gone);
    }
}

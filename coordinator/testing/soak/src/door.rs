//! How clients get in: they ask now this process, now that, under an idempotency key, until one answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Method;
use satchel_testkit::{Client, Lost, Reply, Request};
use serde::Serialize;
use serde_json::Value;

use crate::sabotage::Sabotage;
use crate::tally::Tally;

/// How long a client waits for one answer before it asks another process. What it gave up on may still be done, which is what the key is for.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long it asks in all. Longer than any trouble lasts, even if one comes on top of the other.
pub(crate) const PATIENCE_IN_ALL: Duration = Duration::from_secs(180);

const BETWEEN: Duration = Duration::from_millis(200);

/// The processes of an application, as their clients see them.
#[derive(Debug)]
pub(crate) struct Door {
    clients: Vec<Client>,
    token: Option<String>,
    /// Whether repeated requests keep their key, as they must.
    keeps_keys: bool,
    /// Who answered last.
    turn: AtomicUsize,
    /// When somebody was answered last; none while nobody asks on purpose.
    answered: Mutex<Option<Instant>>,
}

/// What is asked.
#[derive(Debug)]
pub(crate) enum Question {
    /// A function is called, under a key.
    Call(Letter),
    /// A message is sent, under a key.
    Send(Letter),
    /// Something is administered.
    Administer(Method, String),
}

/// A message with its address and its key.
#[derive(Debug)]
pub(crate) struct Letter {
    address: String,
    message: Value,
    key: String,
}

impl Letter {
    /// This message to this address, under this key.
    pub(crate) fn new(address: &str, message: &impl Serialize, key: &str) -> Self {
        Self {
            address: address.to_owned(),
            message: serde_json::to_value(message).expect("messages are structs with text keys"),
            key: key.to_owned(),
        }
    }
}

impl Question {
    /// Asks once; with a key of this attempt alone, if one is given.
    async fn ask(
        &self,
        client: &Client,
        token: Option<&str>,
        key_of: Option<u32>,
    ) -> Result<Reply, Lost> {
        let keyed = |request: Request, letter: &Letter| {
            let key = match key_of {
                Some(attempt) => format!("{}-{attempt}", letter.key),
                None => letter.key.clone(),
            };
            request.json(&letter.message).key(key)
        };
        match self {
            Self::Call(letter) => keyed(client.to_call(&letter.address), letter).send().await,
            Self::Send(letter) => keyed(client.to_send(&letter.address), letter).send().await,
            Self::Administer(method, path) => client.try_admin(method.clone(), path, token).await,
        }
    }
}

/// Nobody answered for [`PATIENCE_IN_ALL`].
#[derive(Debug)]
pub(crate) struct Unanswered(pub(crate) String);

impl Door {
    /// Of these processes, administered with this token.
    pub(crate) fn of(
        clients: Vec<Client>,
        token: Option<String>,
        sabotage: Option<Sabotage>,
    ) -> Self {
        Self {
            clients,
            token,
            keeps_keys: sabotage != Some(Sabotage::WithoutKeys),
            turn: AtomicUsize::new(0),
            answered: Mutex::new(None),
        }
    }

    /// Asks until there is an answer that says what became of it. Without a key it may have happened more than once.
    ///
    /// # Errors
    ///
    /// Nobody answers for [`PATIENCE_IN_ALL`].
    pub(crate) async fn ask(
        &self,
        question: &Question,
        tally: &Tally,
    ) -> Result<Reply, Unanswered> {
        let begun = Instant::now();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let key_of = (!self.keeps_keys).then_some(attempt);
            let turn = self.turn.load(Ordering::Relaxed);
            let client = &self.clients[turn % self.clients.len()];
            let asking = question.ask(client, self.token.as_deref(), key_of);
            let outcome = match tokio::time::timeout(PATIENCE, asking).await {
                Ok(Ok(reply)) if ![503, 504].contains(&reply.status) => {
                    self.heard(tally);
                    return Ok(reply);
                }
                Ok(Ok(reply)) => format!("{reply:?}"),
                Ok(Err(lost)) => lost.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            tally.count("requests that were repeated");
            if begun.elapsed() > PATIENCE_IN_ALL {
                return Err(Unanswered(format!(
                    "{question:?} is not answered for {PATIENCE_IN_ALL:?}; last: {outcome}"
                )));
            }
            // Unless somebody else has turned away from it already.
            let _ = self.turn.compare_exchange(
                turn,
                turn.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            tokio::time::sleep(BETWEEN).await;
        }
    }

    /// The one who answered last.
    pub(crate) fn client(&self) -> &Client {
        &self.clients[self.turn.load(Ordering::Relaxed) % self.clients.len()]
    }

    /// From now on it counts how long nobody is answered, or does not.
    pub(crate) fn listen(&self, listen: bool) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered = listen.then(Instant::now);
    }

    fn heard(&self, tally: &Tally) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = answered.as_mut() {
            tally.took("silence", last.elapsed());
            *last = Instant::now();
        }
    }
}

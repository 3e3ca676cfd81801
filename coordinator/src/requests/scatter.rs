//! Requests of the administration port to an application of several partitions.
//!
//! A request about one address or one key group goes to its owner. A change of the whole
//! application goes to every partition. If one of them does not answer, the others have made the
//! change all the same, and the client repeats the request, which changes nothing twice. Lists of
//! the partitions become one.

use std::sync::Arc;

use satchel_engine::input::{Administration, DeadLetterFilter};
use satchel_engine::message::MessageId;
use satchel_engine::output::Answer;
use satchel_engine::placement::KeyGroup;

use super::Requests;

/// Size of the dead letters in one list, in bytes, above which it ends. It is not less than that of
/// a page of the HTTP API.
const LIST_BYTES_MAX: usize = 8 << 20;

/// Sends a request to the partitions that it concerns, and makes one answer of theirs.
pub(super) async fn administer(requests: &Requests, administration: Administration) -> Answer {
    if let Some(address) = administration.address() {
        let owner = requests.owner_of(address);
        return requests.administer_at(owner, administration).await;
    }
    match administration {
        Administration::DropState { bucket, .. } | Administration::ListAddresses { bucket, .. } => {
            let owner = requests.owner_of_key_group(KeyGroup(bucket));
            requests.administer_at(owner, administration).await
        }
        Administration::RetryDeadLetter(_) | Administration::DropDeadLetter(_) => {
            first_that_knows(requests, &administration).await
        }
        Administration::ListDeadLetters {
            filter,
            after,
            limit,
        } => dead_letters(requests, filter, after, limit).await,
        Administration::ListTimers { function, limit } => timers(requests, function, limit).await,
        Administration::PauseIngress { .. }
        | Administration::ResumeIngress(_)
        | Administration::PauseFunction { .. }
        | Administration::ResumeFunction(_) => everywhere(requests, &administration).await,
        // Its cursor belongs to one partition, so the caller names the partition.
        Administration::ChangeDeadLetters { .. } => requests.administer_at(0, administration).await,
        Administration::Inspect(_)
        | Administration::ShowMailbox { .. }
        | Administration::SetState { .. }
        | Administration::DeleteState { .. }
        | Administration::Resume(_)
        | Administration::Skip(_) => unreachable!("it concerns an address: {administration:?}"),
    }
}

/// Asks one partition after another until one knows the object. If none does, an answer of one that
/// could not be asked counts more than that the others do not know it.
async fn first_that_knows(requests: &Requests, administration: &Administration) -> Answer {
    let mut unknown = None;
    let mut failed = None;
    for partition in 0..requests.partitions() {
        let asked = requests.administer_at(partition, administration.clone());
        match asked.await {
            answer @ Answer::NotFound(_) => unknown = Some(answer),
            answer @ (Answer::Stopping
            | Answer::NotTaken
            | Answer::Overloaded
            | Answer::Elsewhere { .. }) => failed = Some(answer),
            answer => return answer,
        }
    }
    failed.or(unknown).unwrap_or(Answer::Stopping)
}

/// Asks all partitions for the same change. The change is made if any partition made it: one that
/// knew nothing of the object has nothing to change.
async fn everywhere(requests: &Requests, administration: &Administration) -> Answer {
    let asked = (0..requests.partitions())
        .map(|partition| requests.administer_at(partition, administration.clone()));
    let answers = futures::future::join_all(asked).await;
    let failed = |answer: &&Answer| !matches!(answer, Answer::Done | Answer::NotFound(_));
    let done = |answer: &&Answer| **answer == Answer::Done;
    let answer = answers.iter().find(failed);
    let answer = answer.or_else(|| answers.iter().find(done));
    answer.or(answers.first()).cloned().unwrap_or(Answer::Done)
}

/// Lists the dead letters of one partition after another. An answer of a partition may be cut by
/// its size, so only an empty one shows that there are no more.
async fn dead_letters(
    requests: &Requests,
    filter: DeadLetterFilter,
    mut after: Option<MessageId>,
    limit: usize,
) -> Answer {
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut unknown = None;
    let mut partition = 0;
    while partition < requests.partitions() && found.len() < limit && bytes <= LIST_BYTES_MAX {
        let asked = Administration::ListDeadLetters {
            filter: filter.clone(),
            after,
            limit: limit - found.len(),
        };
        match requests.administer_at(partition, asked).await {
            Answer::DeadLetters(views) => {
                unknown = None;
                after = views.last().map(|last| last.id);
                partition += u32::from(views.is_empty());
                let sizes = views.iter().map(|view| view.message.value.len());
                bytes += sizes.sum::<usize>();
                found.extend(views);
            }
            // The list is in a later partition.
            answer @ Answer::NotFound(_) if after.is_some() && found.is_empty() => {
                unknown = Some(answer);
                partition += 1;
            }
            other => return other,
        }
    }
    unknown.unwrap_or(Answer::DeadLetters(found))
}

/// Lists the timers of all partitions by due time.
async fn timers(requests: &Requests, function: Option<Arc<str>>, limit: usize) -> Answer {
    let asked = (0..requests.partitions()).map(|partition| {
        let function = function.clone();
        requests.administer_at(partition, Administration::ListTimers { function, limit })
    });
    let mut found = Vec::new();
    for answer in futures::future::join_all(asked).await {
        match answer {
            Answer::Timers(views) => found.extend(views),
            other => return other,
        }
    }
    found.sort_by_key(|view| view.due_ms);
    found.truncate(limit);
    Answer::Timers(found)
}

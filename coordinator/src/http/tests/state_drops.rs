//! Drops of a state that a function no longer declares.

use satchel_engine::address::FunctionType;
use satchel_engine::input::Administration;
use satchel_engine::output::StateDropped;
use serde_json::json;

use super::*;

const PATH: &str = "/api/functions/example/greeter/states/old%2Fone/drop";

/// Three buckets, each with three values. The last one waits for an attempt in flight.
fn dropped(input: &Input) -> Option<Answer> {
    let Input::Administered {
        administration: Administration::DropState { bucket, limit, .. },
        ..
    } = input
    else {
        return None;
    };
    let next = match (bucket, limit) {
        (0 | 1, 4..) => bucket + 1,
        _ => *bucket,
    };
    Some(Answer::StateDropped(StateDropped {
        dropped: 3.min(*limit),
        next: Some(next),
    }))
}

fn asked(bucket: u16, limit: usize) -> Administration {
    Administration::DropState {
        bucket,
        function: FunctionType::new("example", "greeter"),
        state: "old/one".into(),
        limit,
    }
}

async fn drop(process: &Process, query: &str) -> Reply {
    let target = format!("{PATH}{query}");
    ask(process.admin, "POST", &target, &[], b"").await
}

#[tokio::test]
async fn a_drop_visits_buckets_until_its_limit_or_one_that_is_not_done() {
    let process = Process::answering(dropped).await;
    for (query, body, visited) in [
        (
            "?limit=5",
            json!({"dropped": 5, "next": "1"}),
            vec![asked(0, 5), asked(1, 2)],
        ),
        (
            "?limit=100&cursor=1",
            json!({"dropped": 6, "next": "2"}),
            vec![asked(1, 100), asked(2, 97)],
        ),
    ] {
        let reply = drop(&process, query).await;
        assert_eq!((reply.status, reply.json()), (200, body), "{query}");
        let told = process.told().into_iter().map(|input| match input {
            Input::Administered { administration, .. } => administration,
            other => panic!("{other:?}"),
        });
        let mut told: Vec<_> = told.collect();
        assert_eq!(told.split_off(told.len() - visited.len()), visited);
    }
    process.stop().await;
}

#[tokio::test]
async fn a_state_that_is_declared_is_refused_and_so_is_what_cannot_be_understood() {
    let declared = |_: &Input| Some(Answer::Refused("the function declares it".to_owned()));
    let process = Process::answering(declared).await;
    assert_eq!(
        drop(&process, "").await.error(),
        (
            409,
            "refused".to_owned(),
            "the function declares it".to_owned()
        )
    );
    for query in [
        "?cursor=x",
        "?cursor=65536",
        "?limit=0",
        "?limit=1001",
        "?all=true",
    ] {
        let (status, code, _) = drop(&process, query).await.error();
        assert_eq!((status, &*code), (400, "invalid_query"), "{query}");
    }
    process.stop().await;
}

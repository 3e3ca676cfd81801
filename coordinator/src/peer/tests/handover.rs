//! Planned ends of an owner.

use super::*;

#[tokio::test]
async fn requests_that_come_during_a_planned_handover_are_served_by_the_next_owner() {
    let members = Members::default();
    let served = Arc::default();
    let former = Process::start(&members, named("former", &served)).await;
    let next = Process::start(&members, named("next", &served)).await;
    former.owns();
    next.knows(&former);
    let connection = client();
    let again = || {
        connection
            .post(format!("{}/call/alice", former.url))
            .body("1")
    };
    assert_eq!(answered(again()).await.1, "former: alice 1");
    former.gate.stop();
    former.gate.set(0, Owner::Unknown);
    assert!(former.gate.quiet(0, LONG).await);
    let waiting = [
        tokio::spawn(answered(again())),
        tokio::spawn(answered(call(&next))),
    ];
    former.counts("satchel_forwarding_waiting", 1).await;
    next.counts("satchel_forwarding_waiting", 1).await;
    // The next owner has the lease and is still reading the state.
    next.gate.set(0, Owner::Arriving);
    former.knows(&next);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(served.load(Ordering::SeqCst), 1);
    next.owns();
    for request in waiting {
        assert_eq!(request.await.unwrap(), (200, "next: alice 1".to_owned()));
    }
    let last = again().send().await.unwrap();
    assert_eq!(last.headers()["connection"], "close");
    assert_eq!(last.text().await.unwrap(), "next: alice 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_port_that_closes_in_an_orderly_way_leaves_no_outcome_unknown() {
    let members = Members::default();
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        "owner"
    };
    let routes = Router::new().route("/call/{id}", post(slow));
    let mut owner = Process::start(&members, routes).await;
    let standby = Process::start(&members, named("standby", &Arc::default())).await;
    owner.owns();
    standby.knows(&owner);
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..300 {
        calls.spawn(answered(call(&standby)));
        tokio::time::sleep(Duration::from_millis(1)).await;
        if number == 150 {
            owner.close.notify_one();
        }
        if number == 200 {
            standby.owns();
        }
    }
    for (status, body) in calls.join_all().await {
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(standby.events("lost"), 0);
    tokio::time::timeout(LONG, &mut owner.peer_port)
        .await
        .unwrap()
        .unwrap();
}

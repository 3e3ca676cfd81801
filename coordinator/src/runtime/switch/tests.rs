//! Connections over memory, and both sides of streams.

use super::*;

type Queues = Vec<mpsc::UnboundedReceiver<Input>>;

/// Port of a partition in its present life.
fn port(switch: &Switch, own: u32) -> PeerPort {
    let life = switch.connections().lives.get(&own).copied();
    PeerPort {
        switch: switch.clone(),
        own,
        life: life.unwrap_or_default(),
    }
}

fn switch(partitions: u32) -> (Switch, Queues) {
    let inboxes = Inboxes::new(partitions as usize);
    let queues = (0..partitions).map(|number| {
        let (sender, queue) = mpsc::unbounded_channel();
        inboxes.put(number, sender);
        queue
    });
    let queues = queues.collect();
    (Switch::new(inboxes), queues)
}

fn connected(partitions: u32) -> (Switch, Queues) {
    let (switch, mut queues) = switch(partitions);
    for number in 0..partitions {
        // Lives and connections have numbers of one counter.
        switch.connections().lives.insert(number, u64::MAX);
        switch.arrive(number);
    }
    queues.iter_mut().for_each(|queue| drop(waiting(queue)));
    (switch, queues)
}

fn waiting(queue: &mut mpsc::UnboundedReceiver<Input>) -> Vec<Input> {
    std::iter::from_fn(|| queue.try_recv().ok()).collect()
}

fn answer() -> Answer {
    Answer {
        epoch: 1,
        taken: 0,
        durable: 0,
        time_ms: 0,
        refused: None,
        credit: 1,
    }
}

fn frame() -> Frame<PeerMessage> {
    Frame {
        first: 1,
        messages: Vec::new(),
        time_ms: 5,
    }
}

#[test]
fn each_pair_is_connected_in_both_directions() {
    let (switch, mut queues) = switch(2);
    (0..2).for_each(|number| switch.arrive(number));
    let connected = |peer, connection| Input::PeerConnected { peer, connection };
    let accepted = |peer, connection| Input::PeerAccepted { peer, connection };
    assert_eq!(waiting(&mut queues[0]), [accepted(1, 1), connected(1, 2)]);
    assert_eq!(waiting(&mut queues[1]), [connected(0, 1), accepted(0, 2)]);
}

#[test]
fn frames_go_from_the_maker_of_a_connection_and_answers_come_back() {
    let (switch, mut queues) = connected(2);
    let ports = [port(&switch, 0), port(&switch, 1)];
    ports[0].frame(2, 1, frame());
    ports[1].answer(2, answer());
    // Not over a connection of the other direction, or one that is unknown.
    ports[0].frame(1, 1, frame());
    ports[0].answer(2, answer());
    ports[0].frame(9, 1, frame());
    let arrived = Input::PeerFrame {
        connection: 2,
        generation: 1,
        frame: frame(),
    };
    let answered = Input::PeerAnswered {
        connection: 2,
        answer: answer(),
    };
    assert_eq!(waiting(&mut queues[0]), [answered]);
    assert_eq!(waiting(&mut queues[1]), [arrived]);
}

#[tokio::test]
async fn a_closed_connection_carries_nothing_and_is_made_again() {
    let (switch, mut queues) = connected(2);
    port(&switch, 1).close(2, CloseCause::ClocksDiffer);
    port(&switch, 1).close(2, CloseCause::ClocksDiffer);
    port(&switch, 0).frame(2, 1, frame());
    let gone = Input::PeerDisconnected { connection: 2 };
    assert_eq!(waiting(&mut queues[0]), [gone]);
    assert_eq!(waiting(&mut queues[1]), []);
    let again = Input::PeerConnected {
        peer: 1,
        connection: 3,
    };
    assert_eq!(queues[0].recv().await, Some(again));
}

#[test]
fn congestion_is_told_to_all_while_any_partition_has_it() {
    let (switch, mut queues) = connected(3);
    port(&switch, 0).congested(true);
    port(&switch, 2).congested(true);
    port(&switch, 0).congested(false);
    assert_eq!(waiting(&mut queues[1]), [Input::ApplicationCongested(true)]);
    port(&switch, 2).congested(false);
    for queue in &mut queues {
        assert_eq!(
            waiting(queue).last(),
            Some(&Input::ApplicationCongested(false))
        );
    }
}

#[test]
fn a_partition_that_leaves_is_disconnected_and_may_arrive_again() {
    let (switch, mut queues) = connected(2);
    port(&switch, 1).congested(true);
    queues.iter_mut().for_each(|queue| drop(waiting(queue)));
    let congested = switch.congested();
    assert!(*congested.borrow());
    switch.leave(1);
    let gone = |connection| Input::PeerDisconnected { connection };
    let mut seen = waiting(&mut queues[0]);
    assert_eq!(seen.pop(), Some(Input::ApplicationCongested(false)));
    assert!(
        seen.contains(&gone(1)) && seen.contains(&gone(2)),
        "{seen:?}"
    );
    assert!(!*congested.borrow());
    assert_eq!(switch.open_connections(), 0);
    switch.arrive(1);
    assert_eq!(waiting(&mut queues[0]).len(), 2);
}

#[test]
fn a_stream_carries_the_frames_of_one_process_and_the_answers_of_another() {
    // Partition 0 is in one process, partition 1 in the other one.
    let ((one, mut ones), (other, mut others)) = (switch(2), switch(2));
    let pair = Pair { from: 0, to: 1 };
    let stream = mpsc::unbounded_channel;
    assert!(
        one.open_outgoing(pair, stream().0).is_none(),
        "it has not arrived"
    );
    one.arrive(0);
    other.arrive(1);
    one.connections().lives.insert(0, 7);
    other.connections().lives.insert(1, 7);
    assert!(other.open_outgoing(pair, stream().0).is_none());
    assert!(one.open_incoming(pair, stream().0).is_none());
    let ((side, mut frames), (other_side, mut answers)) = (stream(), stream());
    let sending = one.open_outgoing(pair, side).unwrap();
    let receiving = other.open_incoming(pair, other_side).unwrap();
    drop((waiting(&mut ones[0]), waiting(&mut others[1])));

    port(&one, 0).frame(sending, 1, frame());
    let sent = frames.try_recv().unwrap();
    assert_eq!(sent, Bytes::from(encode_frame(1, &frame())));
    other.frame_arrived(receiving, (1, frame()));
    let arrived = Input::PeerFrame {
        connection: receiving,
        generation: 1,
        frame: frame(),
    };
    assert_eq!(waiting(&mut others[1]), [arrived]);

    port(&other, 1).answer(receiving, answer());
    let said = answers.try_recv().unwrap();
    assert_eq!(said, Bytes::from(encode_answer(&answer())));
    one.answer_arrived(sending, answer());
    let answered = Input::PeerAnswered {
        connection: sending,
        answer: answer(),
    };
    assert_eq!(waiting(&mut ones[0]), [answered]);

    // One side closes, so what it says ends; the other one learns it from the stream.
    port(&other, 1).close(receiving, CloseCause::OtherGeneration);
    assert!(answers.blocking_recv().is_none());
    one.stream_ended(sending);
    one.stream_ended(sending);
    let connection = sending;
    let gone = Input::PeerDisconnected { connection };
    assert_eq!(waiting(&mut ones[0]), [gone]);
    assert!(frames.blocking_recv().is_none());
}

#[test]
fn congestion_of_another_process_counts() {
    let (switch, mut queues) = connected(1);
    switch.set_congested_elsewhere(true);
    port(&switch, 0).congested(true);
    switch.set_congested_elsewhere(false);
    assert_eq!(waiting(&mut queues[0]), [Input::ApplicationCongested(true)]);
    port(&switch, 0).congested(false);
    let over = Input::ApplicationCongested(false);
    assert_eq!(waiting(&mut queues[0]), [over]);
}

#[test]
fn a_former_life_of_a_partition_says_nothing_any_more() {
    let (switch, mut queues) = switch(2);
    let former = switch.port(1);
    switch.arrive(0);
    switch.arrive(1);
    switch.leave(1);
    let next = switch.port(1);
    switch.arrive(1);
    queues.iter_mut().for_each(|queue| drop(waiting(queue)));
    former.perform(Output::Congested(true));
    assert_eq!(waiting(&mut queues[0]), []);
    next.perform(Output::Congested(true));
    assert_eq!(waiting(&mut queues[0]), [Input::ApplicationCongested(true)]);
}

#[test]
fn no_stream_takes_the_place_of_a_connection_over_memory() {
    let (switch, _queues) = connected(2);
    let pair = Pair { from: 0, to: 1 };
    let stream = mpsc::unbounded_channel().0;
    assert_eq!(switch.open_outgoing(pair, stream), None);
}

//! Trace contexts of requests.

use satchel_engine::trace::TraceParent;

use super::*;

fn echo(input: &Input) -> Option<Answer> {
    match input {
        Input::CallReceived(call) => Some(Answer::Replied(call.argument.clone())),
        _ => None,
    }
}

#[tokio::test]
async fn a_valid_trace_context_is_part_of_the_call_and_any_other_header_is_ignored() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let process = Process::answering(echo).await;
    for headers in [
        &[("traceparent", TRACE)][..],
        &[],
        &[("traceparent", "no trace")],
        &[("traceparent", TRACE), ("traceparent", TRACE)],
    ] {
        let path = "/call/example/greeter/alice";
        let reply = ask(process.traffic, "POST", path, headers, b"{}").await;
        assert_eq!(reply.status, 200, "{headers:?}");
    }
    let traces: Vec<_> = process
        .told()
        .iter()
        .filter_map(|input| match input {
            Input::CallReceived(call) => Some(call.trace),
            _ => None,
        })
        .collect();
    assert_eq!(traces, [TraceParent::parse(TRACE), None, None, None]);
    assert!(traces[0].is_some());
    process.stop().await;
}

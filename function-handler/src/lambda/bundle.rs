//! A bundle: its batches run concurrently, and the response fits into Lambda's limit.

use lambda_runtime::Diagnostic;
use satchel_protocol::bundle::{
    BatchError, BatchResult, Budget, BundleRequest, BundleResponse, Encoding,
};
use satchel_protocol::prost::Message as _;
use satchel_protocol::reqreply::FromFunction;
use tokio::time::Instant;

use super::RESPONSE_BYTES_MAX;
use crate::batches::Batches;

/// Total size of the answers from which compression saves more than it costs.
const COMPRESSED_FROM_BYTES: usize = 32 << 10;

/// Size in bytes of the JSON around the base64 text of a result, at most: its attempt is a few
/// numbers, and the text is padded.
const RESULT_BYTES: usize = 100;

/// Answers every batch of the bundle, in its order.
pub(super) async fn answer(
    batches: &Batches,
    request: BundleRequest,
    cutoff: Option<Instant>,
) -> Result<BundleResponse, Diagnostic> {
    let accepted = request.response_encoding();
    let mut budget = Budget::default();
    let mut readable = Vec::with_capacity(request.batches.len());
    let mut answers = Vec::with_capacity(request.batches.len());
    for batch in request.batches {
        let unreadable = match batch.to_function(request.encoding, &mut budget) {
            Ok(to) => {
                readable.push(to);
                None
            }
            Err(error) => Some(BatchError::new("invalid_request", error.to_string())),
        };
        answers.push((batch.attempt, unreadable));
    }
    let mut answered = batches.answer_all(readable, cutoff).await.into_iter();
    let answers = answers.into_iter().map(|(attempt, unreadable)| {
        let answer = match unreadable {
            Some(error) => Err(error),
            None => answered.next().expect("every batch has an answer"),
        };
        (attempt, answer)
    });
    Ok(respond(request.bundle, accepted, answers.collect()))
}

/// The response, compressed if that is accepted and worthwhile, with as many results as fit.
fn respond(
    bundle: String,
    accepted: Encoding,
    answers: Vec<(String, Result<FromFunction, BatchError>)>,
) -> BundleResponse {
    let (mut parts, mut bytes) = (0, 0);
    for answer in answers
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().ok())
    {
        parts += 1;
        bytes += answer.encoded_len();
    }
    let too_large = base64_bytes(bytes) + parts * RESULT_BYTES > RESPONSE_BYTES_MAX;
    let encoding = match too_large || Encoding::pays(parts, bytes, COMPRESSED_FROM_BYTES) {
        true => accepted,
        false => Encoding::Identity,
    };
    let mut response = BundleResponse::new(bundle, encoding);
    for (attempt, answer) in answers {
        response.push(attempt, answer.as_ref().map_err(Clone::clone));
    }
    fit(&mut response, RESPONSE_BYTES_MAX);
    response
}

/// Replaces the largest results by errors until the response has at most `bytes_max` as JSON.
///
/// Most results get through, and a result that is too large by itself displaces no other.
fn fit(response: &mut BundleResponse, bytes_max: usize) {
    // Almost every response is far below the limit.
    if json_bytes_at_most(response) <= bytes_max {
        return;
    }
    let around = json_bytes(&BundleResponse::new(
        response.bundle.clone(),
        response.encoding,
    ));
    let sizes: Vec<_> = response.results.iter().map(json_bytes).collect();
    // Each result counts with the comma after it.
    let mut total: usize = around + sizes.iter().map(|size| size + 1).sum::<usize>();
    let mut by_size: Vec<_> = (0..sizes.len()).collect();
    by_size.sort_by_key(|index| sizes[*index]);
    while total > bytes_max
        && let Some(largest) = by_size.pop()
    {
        let replaced = too_large(&response.results[largest], sizes[largest]);
        total = total - sizes[largest] + json_bytes(&replaced);
        response.results[largest] = replaced;
    }
}

fn too_large(result: &BatchResult, size: usize) -> BatchResult {
    BatchResult {
        attempt: result.attempt.clone(),
        from: None,
        error: Some(BatchError::new(
            "response_too_large",
            format!(
                "the result has {size} bytes; Lambda allows {RESPONSE_BYTES_MAX} bytes \
                 for the results of all batches of a request"
            ),
        )),
    }
}

/// Size of `bytes` bytes in base64.
fn base64_bytes(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Upper bound of the size of a response as JSON: no character takes more than six bytes.
fn json_bytes_at_most(response: &BundleResponse) -> usize {
    let result = |result: &BatchResult| {
        let error = result.error.as_ref().map_or(0, json_bytes);
        // Base64 has no characters to escape.
        let from = result.from.as_ref().map_or(0, String::len);
        2 * RESULT_BYTES + 6 * result.attempt.len() + from + error
    };
    let results: usize = response.results.iter().map(result).sum();
    200 + 6 * response.bundle.len() + results
}

fn json_bytes(value: &impl serde::Serialize) -> usize {
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).expect("strings and numbers always serialize");
    counter.0
}

/// Counts the bytes written to it.
struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(attempt: &str, bytes: usize) -> BatchResult {
        BatchResult {
            attempt: attempt.to_owned(),
            from: Some("A".repeat(bytes)),
            error: None,
        }
    }

    fn outcomes(response: &BundleResponse) -> Vec<(&str, &str)> {
        response
            .results
            .iter()
            .map(|result| {
                let outcome = result.error.as_ref().map_or("ok", |error| &error.kind);
                (result.attempt.as_str(), outcome)
            })
            .collect()
    }

    #[test]
    fn only_the_largest_results_are_replaced() {
        let mut response = BundleResponse::new("b", Encoding::Identity);
        response.results = vec![
            result("small", 1_000),
            result("huge", 9_000),
            result("middle", 4_000),
            result("large", 6_000),
        ];
        fit(&mut response, 6_000);
        assert_eq!(
            outcomes(&response),
            [
                ("small", "ok"),
                ("huge", "response_too_large"),
                ("middle", "ok"),
                ("large", "response_too_large"),
            ]
        );
        assert!(response.to_json().len() <= 6_000);
    }

    #[test]
    fn a_response_that_fits_to_the_byte_stays() {
        let mut response = BundleResponse::new("b", Encoding::Identity);
        response.results = vec![result("a", 100), result("b", 100)];
        let whole = response.clone();
        // The estimate counts a comma after the last result, which has none.
        fit(&mut response, whole.to_json().len() + 1);
        assert_eq!(response, whole);
        fit(&mut response, whole.to_json().len() - 1);
        assert_ne!(response, whole);
    }

    #[test]
    fn small_answers_are_not_compressed_and_large_ones_only_if_accepted() {
        let answer = |bytes: usize| FromFunction {
            response: Some(
                satchel_protocol::reqreply::from_function::Response::InvocationResult(
                    satchel_protocol::reqreply::from_function::InvocationResponse {
                        outgoing_messages: vec![
                            satchel_protocol::reqreply::from_function::Invocation {
                                target: None,
                                argument: Some(satchel_protocol::types::typed_value(
                                    "a/b",
                                    vec![7; bytes],
                                )),
                                cause: 1,
                            },
                        ],
                        ..Default::default()
                    },
                ),
            ),
        };
        for (parts, bytes, accepted, expected) in [
            (1, 100, Encoding::Zstd, Encoding::Identity),
            (1, COMPRESSED_FROM_BYTES, Encoding::Zstd, Encoding::Zstd),
            (
                1,
                COMPRESSED_FROM_BYTES,
                Encoding::Identity,
                Encoding::Identity,
            ),
            // Frames of a few hundred bytes hardly shrink, but many of them must fit.
            (500, 300, Encoding::Zstd, Encoding::Identity),
            (5_000, 900, Encoding::Zstd, Encoding::Zstd),
        ] {
            let answers = (0..parts).map(|part| (part.to_string(), Ok(answer(bytes))));
            let response = respond("b".to_owned(), accepted, answers.collect());
            assert_eq!(
                response.encoding, expected,
                "{parts} parts of {bytes} bytes"
            );
            let mut budget = Budget::default();
            for result in &response.results {
                let read = result.from_function(response.encoding, &mut budget);
                assert_eq!(read.unwrap(), Ok(answer(bytes)));
            }
        }
    }
}

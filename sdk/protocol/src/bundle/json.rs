//! JSON of bundles. Almost all of it is base64, which is copied instead of searched for characters
//! to escape, and read once.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{BatchResult, BundleRequest, BundleResponse, EnvelopeError, VERSION};

/// Size of a bundle without its batches, and of a batch without its payload, in bytes. Estimates.
const HEAD_BYTES: usize = 128;
const BATCH_BYTES: usize = 64;

/// Reads a bundle, and rejects other versions.
pub(super) fn read<B: DeserializeOwned>(
    payload: &[u8],
    version: impl Fn(&B) -> u32,
) -> Result<B, EnvelopeError> {
    #[derive(Deserialize)]
    struct Version {
        satchel: u32,
    }
    let read = serde_json::from_slice::<B>(payload);
    let found = match &read {
        Ok(bundle) => version(bundle),
        // A bundle of another shape is rejected by its version and not by a missing field.
        Err(_) => serde_json::from_slice::<Version>(payload)?.satchel,
    };
    if found == VERSION {
        Ok(read?)
    } else {
        Err(EnvelopeError::Version { found })
    }
}

/// Encodes a request, with the fields in the order of the type.
pub(super) fn request(request: &BundleRequest) -> Vec<u8> {
    let batches = &request.batches;
    let parts = batches
        .iter()
        .map(|batch| batch.attempt.len() + batch.to.len());
    let mut out = buffer(parts);
    out.extend_from_slice(b"{\"satchel\":");
    value(&mut out, &request.satchel);
    out.extend_from_slice(b",\"bundle\":");
    text(&mut out, &request.bundle);
    out.extend_from_slice(b",\"encoding\":");
    value(&mut out, &request.encoding);
    out.extend_from_slice(b",\"accept\":");
    value(&mut out, &request.accept);
    out.extend_from_slice(b",\"batches\":");
    list(&mut out, batches, |out, batch| {
        out.extend_from_slice(b"{\"attempt\":");
        text(out, &batch.attempt);
        out.extend_from_slice(b",\"to\":");
        text(out, &batch.to);
        out.push(b'}');
    });
    out.push(b'}');
    out
}

/// Encodes a response, with the fields in the order of the type.
pub(super) fn response(response: &BundleResponse) -> Vec<u8> {
    let results = &response.results;
    let parts = results
        .iter()
        .map(|result| result.attempt.len() + result.from.as_ref().map_or(0, String::len));
    let mut out = buffer(parts);
    out.extend_from_slice(b"{\"satchel\":");
    value(&mut out, &response.satchel);
    out.extend_from_slice(b",\"bundle\":");
    text(&mut out, &response.bundle);
    out.extend_from_slice(b",\"encoding\":");
    value(&mut out, &response.encoding);
    out.extend_from_slice(b",\"results\":");
    list(&mut out, results, result);
    out.push(b'}');
    out
}

fn result(out: &mut Vec<u8>, result: &BatchResult) {
    out.extend_from_slice(b"{\"attempt\":");
    text(out, &result.attempt);
    if let Some(from) = &result.from {
        out.extend_from_slice(b",\"from\":");
        text(out, from);
    }
    if let Some(error) = &result.error {
        out.extend_from_slice(b",\"error\":");
        value(out, error);
    }
    out.push(b'}');
}

fn buffer(parts: impl Iterator<Item = usize>) -> Vec<u8> {
    Vec::with_capacity(HEAD_BYTES + parts.map(|bytes| bytes + BATCH_BYTES).sum::<usize>())
}

fn list<T>(out: &mut Vec<u8>, items: &[T], each: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        each(out, item);
    }
    out.push(b']');
}

fn value(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(out, value).expect("strings and numbers always serialize");
}

fn text(out: &mut Vec<u8>, text: &str) {
    // A loop without an early end, which the compiler turns into vector instructions.
    let escapes = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    if text.bytes().fold(false, |any, byte| any | escapes(byte)) {
        return value(out, &text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{BatchError, BundledBatch, Encoding, Terminal};
    use super::*;

    proptest! {
        #[test]
        fn bundles_are_encoded_as_their_types_are(
            texts in proptest::collection::vec("\\PC*|[\\x00-\\x7f]*", 1..8),
            code: u16,
        ) {
            let mut request = BundleRequest::new(texts[0].clone(), Encoding::Zstd);
            let mut response = BundleResponse::new(texts[0].clone(), Encoding::Identity);
            for text in &texts {
                let (attempt, to) = (text.clone(), text.chars().rev().collect());
                request.batches.push(BundledBatch { attempt, to });
                response.results.push(BatchResult {
                    attempt: text.clone(),
                    from: (code % 2 == 0).then(|| text.clone()),
                    error: (code % 3 == 0).then(|| BatchError {
                        terminal: Some(Terminal { index: None, code, message: text.clone() }),
                        ..BatchError::new(text.clone(), "reason")
                    }),
                });
            }
            prop_assert_eq!(request.to_json(), serde_json::to_vec(&request).unwrap());
            prop_assert_eq!(response.to_json(), serde_json::to_vec(&response).unwrap());
            prop_assert_eq!(BundleRequest::from_json(&request.to_json()).unwrap(), request);
            prop_assert_eq!(BundleResponse::from_json(&response.to_json()).unwrap(), response);
        }
    }
}

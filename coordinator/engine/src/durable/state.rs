//! Fast path for reading a state without copying. A bucket may hold very many states.

use super::codec::{Malformed, Reader};
use super::key::STATE;
use super::value::VERSION;

/// A state entry, borrowed from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawState<'a> {
    /// Namespace of the function.
    pub(crate) namespace: &'a str,
    /// Name of the function.
    pub(crate) name: &'a str,
    /// Id of the instance.
    pub(crate) id: &'a str,
    /// Name of the state.
    pub(crate) state: &'a str,
    pub(crate) typename: &'a str,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) value: &'a [u8],
}

/// Returns the state of an entry; `None` if the entry is no state.
pub(crate) fn raw_state<'a>(
    key: &'a [u8],
    value: &'a [u8],
) -> Result<Option<RawState<'a>>, Malformed> {
    if key.first() != Some(&STATE) {
        return Ok(None);
    }
    let mut read = Reader(&key[1..]);
    let (namespace, name, id) = (read.text()?, read.text()?, read.text()?);
    let state = read.text()?;
    read.end()?;
    let mut read = Reader(value);
    match read.byte()? {
        VERSION => {}
        found => {
            return Err(Malformed::Unknown {
                what: "value version",
                found: found.into(),
            });
        }
    }
    let found = RawState {
        namespace,
        name,
        id,
        state,
        typename: read.text()?,
        expires_at_ms: read.option(Reader::number)?,
        value: read.bytes()?,
    };
    read.end()?;
    Ok(Some(found))
}

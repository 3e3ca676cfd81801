//! The short way to read a state, of which a bucket may hold very many: nothing is copied.

use super::codec::{Malformed, Reader};
use super::key::STATE;
use super::value::VERSION;

/// The value of a state, as it lies in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawState<'a> {
    /// The function's namespace.
    pub(crate) namespace: &'a str,
    /// The function's name.
    pub(crate) name: &'a str,
    /// The instance.
    pub(crate) id: &'a str,
    /// The state's name.
    pub(crate) state: &'a str,
    pub(crate) typename: &'a str,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) value: &'a [u8],
}

/// The state that an entry holds; none if it holds something else.
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

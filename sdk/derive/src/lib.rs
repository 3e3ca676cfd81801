//! satchel-sdk-derive

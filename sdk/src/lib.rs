//! satchel-sdk

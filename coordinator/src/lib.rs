//! satchel

//! satchel-function-handler

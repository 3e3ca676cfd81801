//! The real `satchel` binary for end-to-end tests: started, talked to, killed, started again.
//!
//! ```no_run
//! # async fn test() {
//! use satchel_testkit::{Setup, example};
//! use serde_json::json;
//!
//! let mut app = Setup::of(example("greeter")).start().await;
//! let reply = app.client.call("example/greeter/alice", &json!({"name": "Alice"})).await;
//! assert_eq!((reply.status, reply.json()["seen"].as_i64()), (200, Some(1)));
//!
//! app.kill9().await;
//! app.restart().await;
//! app.client.put("names", "bob", r#"{"name":"Bob"}"#).await;
//! assert_eq!(app.client.records_when("greetings", 1).await[0].key, "bob");
//!
//! let ended = app.terminate().await;
//! assert_eq!(ended.code, Some(0));
//! # }
//! ```
//!
//! - [`Setup`] says what is run: module files, environment, further arguments, where the data lies. [`Setup::start`] gives a [`Dev`] that
//!   serves; [`Setup::run_to_end`] is for what is refused.
//! - [`Dev`] is the running process. Its ports are free ones and change with every start. Dropping it kills it and checks that no process
//!   that it started is left; what it printed is shown when the test fails.
//! - [`Client`] talks to both ports. It is cheap to clone and follows its process over restarts.
//! - [`Cloud`] is what `satchel run` uses of AWS, all of it on this machine, with real handler processes.
//! - [`Proxy`] stands between a process and a server, and misbehaves.
//! - [`Service`] knows what a service of AWS says when something is wrong with it.
//! - [`Moto`] stands in for AWS; [`python_with`] makes the Python that such a program needs.
//! - [`Kinesalite`] and [`KinesisLocal`] stand in for Kinesis; [`node_with`] installs such programs for Node.js.
//! - [`until`] waits for something that becomes true in its own time, far longer than it should take.
//!
//! Whatever goes wrong in here is a panic that says what: a test has nothing better to do with an error. The methods that tests of crashes
//! need return the error instead: [`Request::send`], [`Client::try_put`].

mod aws;
mod binary;
mod client;
mod cloud;
mod dev;
mod node;
mod processes;
mod proxy;
mod python;
mod trouble;
mod waiting;

pub use aws::Moto;
pub use binary::{binary, example, handler, satchel, workspace};
pub use client::{Client, Lost, Record, Reply, Request};
pub use cloud::{Cloud, Follower};
pub use dev::{Dev, Ended, Setup};
pub use node::{Kinesalite, KinesisLocal, node_with};
pub use processes::{is_alive, kill};
pub use proxy::{Asked, Fault, Proxy};
pub use python::python_with;
pub use trouble::{Service, Trouble};
pub use waiting::{LONG, until, until_true};

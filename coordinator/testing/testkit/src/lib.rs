//! Runs the real `satchel` binary for end-to-end tests: start, requests, kill, restart.
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
//! - [`Setup`] describes what runs: module files, environment, further arguments, data directory.
//!   [`Setup::start`] returns a [`Dev`] that serves; [`Setup::run_to_end`] is for invocations that
//!   are rejected.
//! - [`Dev`] is the running process. Its ports are free ones and change with every start. Dropping
//!   it kills the process and checks that none of its descendants is left. The output is shown when
//!   the test fails.
//! - [`Client`] talks to both ports. It is cheap to clone and follows its process over restarts.
//! - [`Cloud`] provides the AWS services that `satchel run` uses, all on this machine, with real
//!   handler processes.
//! - [`PricedCloud`] provides S3, DynamoDB, Lambda and Kinesis with latency, throttling and a
//!   [`Bill`]. [`OpenLoop`] loads an application as its clients would.
//! - [`Proxy`] forwards requests to a server and injects faults.
//! - [`HeldService`] answers once a test lets it.
//! - [`Balancer`] is a load balancer over several processes.
//! - [`Service`] describes an AWS service and the errors that it returns when it throttles or
//!   fails.
//! - [`Moto`] emulates AWS; [`python_with`] prepares the Python environment that it needs.
//! - [`Kinesalite`] and [`KinesisLocal`] emulate Kinesis; [`node_with`] installs them for Node.js.
//! - [`Kafka`] is Apache Kafka, one broker in a JVM.
//! - [`until`] polls until a condition holds, with a limit far above the expected time.
//!
//! Failures are panics that name their cause, because a test cannot handle an error. The methods
//! that crash tests need return the error instead: [`Request::send`], [`Client::try_put`].

mod aws;
mod balancer;
mod binary;
mod client;
mod cloud;
mod dev;
mod faults;
mod held;
mod kafka;
mod node;
mod open_loop;
mod priced;
mod processes;
mod proxy;
mod python;

mod waiting;

pub use aws::Moto;
pub use balancer::{ASKED, Balancer};
pub use binary::{binary, example, handler, satchel, target_dir, workspace};
pub use client::{Client, Lost, Record, Reply, Request};
pub use cloud::{Cloud, Follower};
pub use dev::{Dev, Ended, Setup};
pub use faults::{Service, ServiceFault};
pub use held::HeldService;
pub use kafka::{KAFKA_USER, Kafka, SecureListener};
pub use node::{Kinesalite, KinesisLocal, node_with};
pub use open_loop::{Latencies, OpenLoop};
pub use priced::{
    Bill, Latency, PricedCloud, PricedFollower, PricedFunction, PricedOptions, PricedService,
    Throttle, Usage,
};
pub use processes::{is_alive, kill, resident_bytes};
pub use proxy::{Fault, ProxiedRequest, Proxy};
pub use python::python_with;

pub use waiting::{LONG, until, until_true};

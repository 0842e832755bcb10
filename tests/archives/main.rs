//! `nixlayer push`: archives of real tools and by hand, into a registry in this process and into image layouts.

#![expect(clippy::unwrap_used, reason = "in a test, what goes wrong is to be seen")]

mod faults;
mod hostile;
mod layouts;
mod machine;
mod mistakes;
mod reuse;
mod scripts;
mod seed;
mod selection;
mod sources;

#[expect(dead_code, reason = "the tests of faults use all of it")]
#[path = "../registry_faults/connection.rs"]
mod connection;
#[expect(dead_code, reason = "the tests of faults use all of it")]
#[path = "../registry_faults/fault_proxy.rs"]
mod fault_proxy;
#[expect(dead_code, reason = "the tests of faults use all of it")]
#[path = "../registry_faults/request.rs"]
mod request;

//! Pushes through a network that fails: into the registry in this process, and into a real one.
//!
//! Each test puts a proxy before a registry that lets through what it is told to, and says what a push makes of it.

#[cfg(test)]
mod connection;
#[cfg(test)]
mod fault_proxy;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod push;
#[cfg(test)]
mod real;
#[cfg(test)]
mod request;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;

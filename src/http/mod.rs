//! The one HTTP client: every byte that leaves or enters over the network passes here.
//!
//! It adds to the library underneath the rules that keep credentials safe and servers honest:
//! HTTPS unless the administrator listed the host, redirects followed by our own hand so that
//! `Authorization` never leaves its origin and nobody leads us into the network that we are in,
//! timeouts, a cap on every answer, no look at the environment, and errors that name the host but no
//! secret.
//!
//! ```no_run
//! # async fn example() -> Result<(), nixlayer::http::HttpError> {
//! use nixlayer::http::{Http, HttpSettings, Request};
//!
//! let http = Http::new(HttpSettings::default())?;
//! let url = Request::url("https://registry.example.com/v2/")?;
//! let response = http.send(Request::get(url)).await?;
//! let body = response.body(64 * 1024).await?;
//! # Ok(())
//! # }
//! ```

mod body;
mod certificate;
mod client;
mod clients;
mod connection;
mod error;
mod message;
mod place;
mod resolver;
mod retry;
mod settings;

pub use body::Body;
pub use certificate::{CertificateFault, ClientCertificate, ClientCertificateFault};
pub use client::Http;
pub use connection::ConnectFault;
pub use error::{HttpError, RedirectRule, authority, shown};
pub use message::{Request, Response};
pub use place::Place;
pub use reqwest::{Method, StatusCode, Url, header};
pub use resolver::LookUpError;
pub use retry::{Patience, Retries, may_recover};
pub use settings::{FoundCertificates, Hosts, HttpSettings, Notice};

//! A request before it is sent, and the answer to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use tokio::time::timeout;

use super::{Body, HttpError, authority, shown};
use crate::secret::Secret;

/// How long an answer that is read into memory may take as a whole.
const WHOLE_BODY: Duration = Duration::from_secs(60);

/// A request: all of it in memory, so that it can be sent again.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) authorization: Option<Arc<Secret>>,
    pub(super) body: Option<Body>,
    /// How long the server may take to answer, once it has the whole request.
    pub(super) thinking: Option<Duration>,
}

impl Request {
    /// A request of `method` to `url`.
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), authorization: None, body: None, thinking: None }
    }

    /// A `GET` of `url`.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// Parses a URL that must name a host.
    pub fn url(text: &str) -> Result<Url, HttpError> {
        match Url::parse(text) {
            Ok(url) if url.has_host() => Ok(url),
            Ok(url) => Err(HttpError::NoUrl { text: url.scheme().to_owned() }),
            Err(_) => {
                let text = text.split(['?', '#']).next().unwrap_or_default();
                Err(HttpError::NoUrl { text: text.rsplit('@').next().unwrap_or_default().to_owned() })
            }
        }
    }

    /// Adds the media types that the answer may have.
    pub fn accept(self, media_types: &'static str) -> Self {
        self.header(ACCEPT, HeaderValue::from_static(media_types))
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the value of `Authorization`, which is sent to the origin of the request's URL only.
    pub fn authorization(mut self, value: Option<Arc<Secret>>) -> Self {
        self.authorization = value;
        self
    }

    /// Sets the body and its media type.
    pub fn body(mut self, media_type: HeaderValue, body: impl Into<Body>) -> Self {
        self.body = Some(body.into());
        self.header(CONTENT_TYPE, media_type)
    }

    /// Gives the server more time than usual between the end of the request and its answer.
    pub fn thinking(mut self, time: Duration) -> Self {
        self.thinking = Some(time);
        self
    }
}

/// An answer whose body has not been read yet.
#[derive(Debug)]
pub struct Response {
    pub(super) inner: reqwest::Response,
    pub(super) idle_timeout: Duration,
    pub(super) received: Timestamp,
}

impl Response {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// A header's value, where it is text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// All values of a header that may come more than once.
    pub fn headers(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.inner.headers().get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// The URL that answered.
    pub fn url(&self) -> &Url {
        self.inner.url()
    }

    /// The body, which may have at most `limit` bytes.
    pub async fn body(self, limit: usize) -> Result<Bytes, HttpError> {
        let url = shown(self.url());
        let (body, whole) = self.body_start(limit).await?;
        if whole { Ok(body) } else { Err(HttpError::TooLong { url, limit }) }
    }

    /// The first `limit` bytes of the body, and whether that is all of it.
    pub async fn body_start(mut self, limit: usize) -> Result<(Bytes, bool), HttpError> {
        let host = authority(self.url());
        let read = async {
            let mut body = BytesMut::new();
            while let Some(chunk) = self.chunk().await? {
                if body.len() + chunk.len() > limit {
                    body.extend_from_slice(&chunk[..limit - body.len()]);
                    return Ok((body.freeze(), false));
                }
                body.extend_from_slice(&chunk);
            }
            Ok((body.freeze(), true))
        };
        timeout(WHOLE_BODY, read).await.map_err(|_| HttpError::Silent { host, after: WHOLE_BODY })?
    }

    /// The next bytes of the body, however many have come; none at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let host = |response: &Self| authority(response.url());
        match timeout(self.idle_timeout, self.inner.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(source)) => Err(HttpError::Broken { host: host(self), source: source.without_url() }),
            Err(_) => Err(HttpError::Silent { host: host(self), after: self.idle_timeout }),
        }
    }
}

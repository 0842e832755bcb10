//! Uploads: sessions that are opened, filled and closed (distribution specification, "Pushing blobs").

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;

use super::reply::{Reply, digest_invalid, empty, error, with};
use super::store::{Store, Upload};
use super::{CutBody, Locations, Resume, Shared};
use crate::oci::Digest;

pub(super) fn open(
    shared: &Shared,
    repository: &str,
    query: &[(String, String)],
    headers: &HeaderMap,
    body: Bytes,
) -> Reply {
    let mut state = shared.state();
    if let Some(digest) = parameter(query, "digest") {
        let Ok(digest) = digest.parse::<Digest>() else { return digest_invalid() };
        let stored = state.store.put_blob(repository, digest, body);
        return if stored { created_blob(repository, &digest) } else { digest_invalid() };
    }
    if let (Some(digest), Some(from)) = (parameter(query, "mount"), parameter(query, "from")) {
        let Ok(digest) = digest.parse::<Digest>() else { return digest_invalid() };
        if let Some(bytes) = state.store.blob(from, &digest) {
            state.store.put_blob(repository, digest, bytes);
            return created_blob(repository, &digest);
        }
    }
    let id = state.store.open_upload(repository);
    let place = Place { shared, repository, id: &id, headers };
    let reply = place.answer(StatusCode::ACCEPTED, 0, 0);
    match shared.settings.rules.chunk_min_length {
        Some(length) => with(reply, "oci-chunk-min-length", &length.to_string()),
        None => reply,
    }
}

/// Says where an upload stands, which a client asks that does not know.
pub(super) fn status(shared: &Shared, repository: &str, id: &str, headers: &HeaderMap) -> Reply {
    let mut state = shared.state();
    let upload = match found(shared, &mut state.store, repository, id) {
        Ok(upload) => upload,
        Err(refused) => return *refused,
    };
    if let Some(refused) = no_resume(shared) {
        state.store.close_upload(id);
        return refused;
    }
    Place { shared, repository, id, headers }.stands(StatusCode::NO_CONTENT, upload)
}

pub(super) fn append(
    shared: &Shared,
    repository: &str,
    id: &str,
    query: &[(String, String)],
    headers: &HeaderMap,
    body: &Bytes,
) -> Reply {
    let mut state = shared.state();
    let upload = match found(shared, &mut state.store, repository, id) {
        Ok(upload) => upload,
        Err(refused) => return *refused,
    };
    if !is_current(upload, query) {
        return upload_invalid();
    }
    let place = Place { shared, repository, id, headers };
    if let Some(range) = headers.get(header::CONTENT_RANGE) {
        match range.to_str().ok().and_then(parse_range) {
            Some((start, last))
                if start == upload.offset() && last.checked_add(1) == Some(start + body.len()) => {}
            _ => return place.stands(StatusCode::RANGE_NOT_SATISFIABLE, upload),
        }
    }
    // Only now is it known that the chunk before was not the last.
    let least = shared.settings.rules.chunk_min_length.unwrap_or(0);
    if !body.is_empty() && upload.last_chunk().is_some_and(|last| last < least) {
        return error(StatusCode::BAD_REQUEST, "SIZE_INVALID", "a chunk before the last is too short");
    }
    upload.append(body);
    place.answer(StatusCode::ACCEPTED, upload.offset(), upload.state())
}

/// Takes note that a chunk broke off after `bytes`.
pub(super) fn cut(
    shared: &Shared,
    repository: &str,
    id: &str,
    query: &[(String, String)],
    headers: &HeaderMap,
    bytes: &[u8],
) {
    let mut state = shared.state();
    let Ok(upload) = found(shared, &mut state.store, repository, id) else { return };
    if no_resume(shared).is_some() {
        upload.lose();
        return;
    }
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| parse_range(range.to_str().ok()?));
    let goes_on = range.is_none_or(|(start, _)| start == upload.offset());
    if is_current(upload, query) && goes_on && shared.settings.rules.cut_body == CutBody::Kept {
        upload.append_part(bytes);
    }
}

pub(super) fn close(
    shared: &Shared,
    repository: &str,
    id: &str,
    query: &[(String, String)],
    headers: &HeaderMap,
    body: &Bytes,
) -> Reply {
    let Some(Ok(digest)) = parameter(query, "digest").map(str::parse::<Digest>) else {
        return digest_invalid();
    };
    let last = append(shared, repository, id, query, headers, body);
    if last.status() != StatusCode::ACCEPTED {
        return last;
    }
    let mut state = shared.state();
    let Some(bytes) = state.store.close_upload(id) else { return upload_unknown() };
    if state.store.put_blob(repository, digest, bytes) {
        created_blob(repository, &digest)
    } else {
        digest_invalid()
    }
}

pub(super) fn give_up(shared: &Shared, repository: &str, id: &str) -> Reply {
    let mut state = shared.state();
    if state.store.upload(repository, id).is_none() {
        return upload_unknown();
    }
    state.store.close_upload(id);
    empty(StatusCode::NO_CONTENT)
}

/// A session as its client reaches it.
struct Place<'a> {
    shared: &'a Shared,
    repository: &'a str,
    id: &'a str,
    headers: &'a HeaderMap,
}

impl Place<'_> {
    /// Says how the upload stands to a client that has lost count.
    fn stands(&self, code: StatusCode, upload: &Upload) -> Reply {
        let offset = match self.shared.settings.rules.resume {
            Resume::Stale => upload.first(),
            Resume::Offered | Resume::Unknown | Resume::Invalid => upload.offset(),
        };
        self.answer(code, offset, upload.state())
    }

    /// Says where the upload goes on, and how many bytes are there.
    fn answer(&self, code: StatusCode, offset: usize, state: usize) -> Reply {
        let path = format!("/v2/{}/blobs/uploads/{}?_state={state}", self.repository, self.id);
        let location = match self.shared.settings.rules.locations {
            Locations::Relative => path,
            Locations::Absolute => format!("{}{path}", self.shared.origin(self.headers)),
        };
        let reply = with(empty(code), "location", &location);
        with(reply, "range", &format!("0-{}", offset.saturating_sub(1)))
    }
}

/// The upload, if it is there and has not come to its end by a cut.
fn found<'a>(
    shared: &Shared,
    store: &'a mut Store,
    repository: &str,
    id: &str,
) -> Result<&'a mut Upload, Box<Reply>> {
    if store.upload(repository, id).is_some_and(|upload| upload.is_lost()) {
        store.close_upload(id);
        return Err(Box::new(no_resume(shared).unwrap_or_else(upload_unknown)));
    }
    store.upload(repository, id).ok_or_else(|| Box::new(upload_unknown()))
}

/// What a registry without resume says to a client that wants to go on.
fn no_resume(shared: &Shared) -> Option<Reply> {
    match shared.settings.rules.resume {
        Resume::Offered | Resume::Stale => None,
        Resume::Unknown => Some(upload_unknown()),
        Resume::Invalid => Some(upload_invalid()),
    }
}

/// Whether the location that was asked is the newest one.
fn is_current(upload: &Upload, query: &[(String, String)]) -> bool {
    parameter(query, "_state") == Some(&upload.state().to_string())
}

/// `start-last`, as the specification wants it: without a unit.
fn parse_range(range: &str) -> Option<(usize, usize)> {
    let (start, last) = range.split_once('-')?;
    Some((start.parse().ok()?, last.parse().ok()?))
}

fn created_blob(repository: &str, digest: &Digest) -> Reply {
    let reply = with(empty(StatusCode::CREATED), "location", &format!("/v2/{repository}/blobs/{digest}"));
    with(reply, "docker-content-digest", &digest.to_string())
}

fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn upload_unknown() -> Reply {
    error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
}

fn upload_invalid() -> Reply {
    error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_INVALID", "the location is out of date")
}

#[cfg(test)]
mod tests {
    use axum::http::Uri;

    use super::*;
    use crate::simulate::registry::RegistrySettings;
    use crate::simulate::registry::endpoint::query;

    /// An upload, and the answer that its client saw last.
    struct Session {
        shared: Shared,
        id: String,
        headers: HeaderMap,
        location: String,
        range: String,
    }

    impl Session {
        fn open(settings: RegistrySettings) -> Self {
            let shared = Shared::new(settings, "http://registry.example".to_owned());
            let mut session = Self {
                shared,
                id: "upload-1".to_owned(),
                headers: HeaderMap::new(),
                location: String::new(),
                range: String::new(),
            };
            let reply = open(&session.shared, "app", &[], &HeaderMap::new(), Bytes::new());
            session.heed(&reply);
            session
        }

        fn heed(&mut self, reply: &Reply) -> StatusCode {
            let header = |name: &str| Some(reply.headers().get(name)?.to_str().unwrap().to_owned());
            self.location = header("location").unwrap_or_default();
            self.range = header("range").unwrap_or_default();
            reply.status()
        }

        /// The parameters and headers of a chunk that starts at `start`.
        fn request(&self, start: usize, length: usize) -> (Vec<(String, String)>, HeaderMap) {
            let mut headers = self.headers.clone();
            let range = format!("{start}-{}", start + length - 1);
            headers.insert(header::CONTENT_RANGE, range.parse().unwrap());
            (query(&self.location.parse::<Uri>().unwrap()), headers)
        }

        fn send(&mut self, start: usize, bytes: &'static [u8]) -> StatusCode {
            let (query, headers) = self.request(start, bytes.len());
            let reply = append(&self.shared, "app", &self.id, &query, &headers, &Bytes::from_static(bytes));
            self.heed(&reply)
        }

        fn cut(&self, start: usize, arrived: &[u8], length: usize) {
            let (query, headers) = self.request(start, length);
            cut(&self.shared, "app", &self.id, &query, &headers, arrived);
        }

        fn ask(&mut self) -> StatusCode {
            let reply = status(&self.shared, "app", &self.id, &self.headers);
            self.heed(&reply)
        }

        fn close(&mut self, whole: &[u8]) -> StatusCode {
            let mut query = query(&self.location.parse::<Uri>().unwrap());
            query.push(("digest".to_owned(), Digest::of(whole).to_string()));
            close(&self.shared, "app", &self.id, &query, &HeaderMap::new(), &Bytes::new()).status()
        }
    }

    #[test]
    fn what_arrived_of_a_cut_chunk_counts() {
        let mut session = Session::open(RegistrySettings::default());
        assert_eq!(session.send(0, b"abc"), 202);
        session.cut(3, b"de", 4);

        assert_eq!(session.ask(), 204);

        assert_eq!(session.range, "0-4");
        assert_eq!(session.send(5, b"fg"), 202);
        assert_eq!(session.close(b"abcdefg"), 201);
    }

    #[test]
    fn a_cut_chunk_may_count_for_nothing() {
        let mut session = Session::open(RegistrySettings::default().cut_body(CutBody::Dropped));
        assert_eq!(session.send(0, b"abc"), 202);
        session.cut(3, b"de", 4);

        assert_eq!(session.ask(), 204);

        assert_eq!(session.range, "0-2");
        assert_eq!(session.send(3, b"defg"), 202);
        assert_eq!(session.close(b"abcdefg"), 201);
    }

    #[test]
    fn a_chunk_starts_where_the_last_one_ended() {
        let mut session = Session::open(RegistrySettings::default());
        assert_eq!(session.send(0, b"abc"), 202);

        for start in [0, 2, 4] {
            assert_eq!(session.send(start, b"de"), 416, "{start}");
            assert_eq!(session.range, "0-2");
        }

        assert_eq!(session.send(3, b"de"), 202);
        assert_eq!(session.close(b"abcde"), 201);
    }

    #[test]
    fn a_location_that_is_out_of_date_is_refused_and_the_session_says_the_new_one() {
        let mut session = Session::open(RegistrySettings::default());
        let old = session.location.clone();
        assert_eq!(session.send(0, b"abc"), 202);
        session.location = old;

        assert_eq!(session.send(3, b"de"), 404);
        assert_eq!(session.ask(), 204);

        assert_eq!(session.send(3, b"de"), 202);
    }

    #[test]
    fn a_registry_without_resume_ends_the_session() {
        for (resume, code) in
            [(Resume::Unknown, "BLOB_UPLOAD_UNKNOWN"), (Resume::Invalid, "BLOB_UPLOAD_INVALID")]
        {
            let mut session = Session::open(RegistrySettings::default().resume(resume));
            assert_eq!(session.send(0, b"abc"), 202);
            let location = session.location.clone();
            session.cut(3, b"de", 4);

            let (query, headers) = session.request(3, 4);
            let reply =
                append(&session.shared, "app", &session.id, &query, &headers, &Bytes::from_static(b"defg"));
            assert!(code_of(reply).contains(code), "{resume:?}");
            session.location = location;
            assert_eq!(session.ask(), 404);
            assert_eq!(session.shared.state().store.open_uploads(), 0);
        }
    }

    #[test]
    fn a_client_that_asks_a_registry_without_resume_ends_the_session() {
        let mut session = Session::open(RegistrySettings::default().resume(Resume::Invalid));
        assert_eq!(session.send(0, b"abc"), 202);

        let reply = status(&session.shared, "app", &session.id, &session.headers);

        assert!(code_of(reply).contains("BLOB_UPLOAD_INVALID"));
        assert_eq!(session.shared.state().store.open_uploads(), 0);
    }

    #[test]
    fn a_stale_session_stands_after_its_first_chunk_for_ever() {
        let mut session = Session::open(RegistrySettings::default().resume(Resume::Stale));
        assert_eq!(session.send(0, b"abc"), 202);
        assert_eq!(session.send(3, b"de"), 202);
        session.cut(5, b"f", 2);

        for _ in 0..3 {
            assert_eq!(session.ask(), 204);
            assert_eq!(session.range, "0-2");
            assert_eq!(session.send(3, b"de"), 416);
            assert_eq!(session.range, "0-2");
        }
    }

    #[test]
    fn only_the_last_chunk_may_be_short() {
        let settings = RegistrySettings::default().chunk_min_length(3);
        let mut session = Session::open(settings.clone());
        assert_eq!(session.send(0, b"abc"), 202);
        assert_eq!(session.send(3, b"de"), 202);
        assert_eq!(session.send(5, b"fgh"), 400);

        let mut session = Session::open(settings);
        assert_eq!(session.send(0, b"abc"), 202);
        session.cut(3, b"d", 3);
        assert_eq!(session.ask(), 204);
        // Together with what had arrived of it, the chunk is long enough.
        assert_eq!(session.send(4, b"ef"), 202);
        assert_eq!(session.send(6, b"gh"), 202);
        assert_eq!(session.close(b"abcdefgh"), 201);
    }

    #[test]
    fn a_location_is_a_path_or_a_url_of_the_host_that_was_asked() {
        let session = Session::open(RegistrySettings::default());
        assert_eq!(session.location, "/v2/app/blobs/uploads/upload-1?_state=0");

        let mut session = Session::open(RegistrySettings::default().locations(Locations::Absolute));
        assert_eq!(session.location, "http://registry.example/v2/app/blobs/uploads/upload-1?_state=0");
        session.headers.insert(header::HOST, "proxy.example:5000".parse().unwrap());
        assert_eq!(session.ask(), 204);
        assert_eq!(session.location, "http://proxy.example:5000/v2/app/blobs/uploads/upload-1?_state=0");
    }

    fn code_of(reply: Reply) -> String {
        assert_eq!(reply.status(), 404);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(axum::body::to_bytes(reply.into_body(), 10_000)).unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }
}

//! What the tests of binary caches stand on: packages of a test's own, caches and servers, and that they are what they
//! say they are.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nixlayer::nix::StorePath;
use tempfile::TempDir;

use crate::support::{
    BinaryCache, CacheServer, Fault, Packages, Recorded, StaticServer, closure_of, environment, eventually,
    indirect_roots, nix, succeed,
};

/// A file, an executable, a link, an empty folder and odd names.
fn write_oddities(folder: &Path) {
    fs::create_dir_all(folder.join("empty")).unwrap();
    fs::write(folder.join("a file"), "text\n").unwrap();
    fs::write(folder.join("é.txt"), "").unwrap();
    fs::write(folder.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(folder.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("a file", folder.join("link")).unwrap();
}

/// Two packages, of which the second refers to the first.
const LIB_AND_APP: &str = r#"
    lib = run "lib-1.0" "echo lib > $out";
    app = run "app-1.0" "mkdir $out; ln -s ${lib} $out/lib";
"#;

#[test]
fn environment_has_signed_caches_of_both_sets() {
    let environment = environment();

    for (folder, set) in
        [(&environment.cache_small, &environment.small), (&environment.cache_seed, &environment.seed)]
    {
        let mut cached: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        cached.retain(|file| file.extension().is_some_and(|extension| extension == "narinfo"));
        assert_eq!(cached.len(), closure_of(set).len(), "{}", folder.display());
        let there = TempDir::new().unwrap();
        let hello = environment.package("hello");
        let url = format!("file://{}", folder.display());
        succeed(nix_copy(&url, &environment.cache_public_key, hello, there.path()));
        assert!(there.path().join(format!(".{hello}/bin/hello")).is_file());
    }
}

#[test]
fn packages_are_held_while_the_fixture_lives_and_gone_after_it() {
    let packages = Packages::new();
    let odd = packages.add("odd", write_oddities);
    let [lib, app] = packages.build(LIB_AND_APP, ["lib", "app"]);
    let bindings = r#"foreign = runFor "aarch64-linux" "foreign-1.0" "echo arm > $out";"#;
    let [foreign] = packages.build(bindings, ["foreign"]);

    let mut expected = vec![app.to_string(), lib.to_string()];
    expected.sort_unstable();
    assert_eq!(closure_of([&app]), expected);
    assert_eq!(fs::read_link(odd.to_path_buf().join("link")).unwrap(), Path::new("a file"));
    let derivation =
        succeed(nix("nix-store").args(["-q", "--deriver", &foreign.to_string()]).output().unwrap());
    assert!(fs::read_to_string(derivation.trim()).unwrap().contains("\"aarch64-linux\""));
    let all = [odd, lib, app, foreign].map(|path| path.to_string());
    let delete = nix("nix-store").arg("--delete").args(&all).output().unwrap();
    assert!(!delete.status.success(), "nothing holds them");

    let folder = packages.folder().to_owned();
    drop(packages);

    assert_eq!(all.iter().find(|path| Path::new(path).exists()), None);
    assert!(!Path::new(derivation.trim()).exists());
    assert!(indirect_roots(&folder).is_empty() && !folder.exists());
}

#[test]
fn real_nix_reads_caches_of_every_compression() {
    let packages = Packages::new();
    let odd = packages.add("odd", write_oddities);

    for (compression, extension) in
        [("none", "nar"), ("zstd", "zst"), ("gzip", "nar"), ("bzip2", "bz2"), ("xz", "xz"), ("br", "br")]
    {
        let cache = BinaryCache::of([&odd], compression);

        let narinfo = fs::read_to_string(cache.narinfo(&odd)).unwrap();
        assert!(narinfo.contains(&format!("\nCompression: {compression}\n")), "{narinfo}");
        assert_eq!(cache.nar(&odd).extension().unwrap(), extension);
        assert!(cache.nar(&odd).starts_with(cache.folder()) && cache.nar(&odd).is_file());
        let there = TempDir::new().unwrap();
        succeed(nix_copy(&cache.file_url(), &environment().cache_public_key, &odd, there.path()));
        let arrived = there.path().join(format!(".{odd}"));
        let same = Command::new("diff")
            .args(["--recursive", "--no-dereference"])
            .args([&arrived, &odd.to_path_buf()])
            .output();
        succeed(same.unwrap());
    }
}

#[test]
fn real_nix_wants_the_signature_of_a_key_it_trusts() {
    let packages = Packages::new();
    let [lib, app] = packages.build(LIB_AND_APP, ["lib", "app"]);
    let keys = TempDir::new().unwrap();
    let key = |name: &str| keys.path().join(name);
    let generate = nix("nix-store")
        .args(["--generate-binary-cache-key", "other-1"])
        .args([key("sec"), key("pub")])
        .output()
        .unwrap();
    succeed(generate);
    let other = fs::read_to_string(key("pub")).unwrap();
    let ours = environment().cache_public_key;
    let arrives = |cache: &BinaryCache, trusted: &str| {
        let there = TempDir::new().unwrap();
        nix_copy(&cache.file_url(), trusted, &app, there.path()).status.success()
    };

    let cache = BinaryCache::of([&app], "none");
    assert!(arrives(&cache, &ours) && !arrives(&cache, &other));
    let cache = BinaryCache::signed_by([app.to_string()], "none", &key("sec"));
    assert!(!arrives(&cache, &ours) && arrives(&cache, &other));
    let cache = BinaryCache::unsigned([&app], "none");
    assert!(!arrives(&cache, &ours) && !arrives(&cache, &other));
    let cache = BinaryCache::of([&app], "none");
    cache.edit_narinfo(&lib, |text| text.replace("NarSize: ", "NarSize: 1"));
    assert!(!arrives(&cache, &ours));
}

#[test]
fn real_nix_reads_a_cache_that_nginx_serves() {
    let packages = Packages::new();
    let [lib, app] = packages.build(LIB_AND_APP, ["lib", "app"]);
    let cache = BinaryCache::of([&app], "zstd");

    let server = StaticServer::start(cache.folder());

    let there = TempDir::new().unwrap();
    succeed(nix_copy(&server.url(), &environment().cache_public_key, &app, there.path()));
    assert_eq!(fs::read_to_string(there.path().join(format!(".{lib}"))).unwrap(), "lib\n");
    let narinfo = fs::read(cache.narinfo(&app)).unwrap();
    let path = format!("/{}.narinfo", app.hash_part());
    let rest = ask(&server.url(), &path, "Range: bytes=9-\r\n");
    assert_eq!((rest.status, rest.body.as_slice()), (206, &narinfo[9..]));
    assert_eq!(ask(&server.url(), "/not-there.narinfo", "").status, 404);
    let [address, other] = [server, StaticServer::start(cache.folder())].map(|server| server.url());
    assert_ne!(address, other);
}

#[test]
fn nginx_asks_for_the_password() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();

    let server = StaticServer::with_password(folder.path(), "ci", "canary");

    // `ci:canary` and `ci:other` in base64.
    let right = "Authorization: Basic Y2k6Y2FuYXJ5\r\n";
    let wrong = "Authorization: Basic Y2k6b3RoZXI=\r\n";
    let status = |lines: &str| ask(&server.url(), "/nix-cache-info", lines).status;
    assert_eq!([status(right), status(wrong), status("")], [200, 401, 401]);
}

#[test]
fn real_nix_reads_a_cache_of_the_server_in_this_process_and_notices_its_faults() {
    let packages = Packages::new();
    let odd = packages.add("odd", write_oddities);
    let cache = BinaryCache::of([&odd], "none");
    let server = CacheServer::start(cache.folder());
    let arrives = || {
        let there = TempDir::new().unwrap();
        nix_copy(&server.url(), &environment().cache_public_key, &odd, there.path()).status.success()
    };

    assert!(arrives());
    server.fault(".nar", Fault::Flip(96), 1);
    assert!(!arrives());
    assert!(arrives(), "once is once");

    let nar = cache.nar(&odd).strip_prefix(cache.folder()).unwrap().display().to_string();
    let asked = server.requests();
    assert_eq!(asked.iter().filter(|request| request.path == format!("/{nar}")).count(), 3, "{asked:?}");
}

#[test]
fn server_in_this_process_does_wrong_what_it_is_told_to() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "0123456789").unwrap();
    let server = CacheServer::start(folder.path());
    let url = server.url();
    let get = |lines: &str| ask(&url, "/file", lines);

    for (fault, status, length, body) in [
        (Fault::Status(503), 503, Some(18), "the answer is 503\n"),
        (Fault::CutAfter(4), 200, Some(10), "0123"),
        (Fault::Empty, 200, Some(0), ""),
        (Fault::Flip(3), 200, Some(10), "0122456789"),
        (Fault::Truncate(3), 200, Some(3), "012"),
        (Fault::Slow, 200, Some(10), "0123456789"),
    ] {
        server.fault("/file", fault.clone(), 1);
        let answer = get("");
        assert_eq!((answer.status, answer.length()), (status, length), "{fault:?}");
        assert_eq!(String::from_utf8(answer.body).unwrap(), body, "{fault:?}");
    }
    server.fault("le", Fault::Redirect("/elsewhere".to_owned()), 1);
    let redirect = get("");
    assert_eq!((redirect.status, redirect.header("location")), (302, Some("/elsewhere")));
    server.fault("/file", Fault::Hang, 1);
    let mut hangs = connect(&url, "/file", "");
    assert!(!eventually(|| server.has_faults(), |left| !left));
    let start = Instant::now();
    hangs.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let nothing = hangs.read_exact(&mut [0]).unwrap_err();
    assert_eq!(
        (nothing.kind(), start.elapsed() >= Duration::from_millis(100)),
        (ErrorKind::WouldBlock, true)
    );
    server.fault("/file", Fault::Endless, 1);
    let mut endless = vec![0; 100_000];
    let mut ends_not = connect(&url, "/file", "");
    ends_not.read_exact(&mut endless).unwrap();
    let endless = String::from_utf8(endless).unwrap();
    assert!(endless.contains("\r\n\r\n01234567890123456789") && !endless.contains("Length"));
    assert_eq!(get("").status, 200, "the faults are used up");

    drop(server);

    hangs.set_read_timeout(None).unwrap();
    assert_eq!(hangs.read_to_end(&mut Vec::new()).unwrap(), 0, "the server ends its connections");
}

#[test]
fn server_in_this_process_serves_ranges_of_the_file_that_the_client_knows() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "0123456789").unwrap();
    let server = CacheServer::start(folder.path());
    let url = server.url();
    let get = |lines: &str| ask(&url, "/file?query", lines);
    let etag = get("").header("etag").unwrap().to_owned();
    let known = format!("Range: bytes=4-\r\nIf-Range: {etag}\r\nAuthorization: Basic Y2k6Y2FuYXJ5\r\n");

    let rest = get(&known);
    assert_eq!((rest.status, rest.header("content-range")), (206, Some("bytes 4-9/10")));
    assert_eq!((rest.length(), rest.body.as_slice()), (Some(6), &b"456789"[..]));
    let none = get("Range: bytes=10-\r\n");
    assert_eq!((none.status, none.header("content-range")), (416, Some("bytes */10")));
    server.fault("/file", Fault::CutAfter(2), 1);
    assert_eq!(get("Range: bytes=4-\r\n").body, b"45");
    fs::write(&file, "abcdefghij").unwrap();
    let whole = get(&known);
    assert_eq!((whole.status, whole.body.as_slice()), (200, &b"abcdefghij"[..]), "the file has changed");
    assert_eq!(ask(&url, "/../file", "").status, 404);
    assert_eq!(
        server.requests()[1],
        Recorded {
            method: "GET".to_owned(),
            path: "/file?query".to_owned(),
            range: Some("bytes=4-".to_owned()),
            authorization: Some("Basic Y2k6Y2FuYXJ5".to_owned()),
        }
    );

    let plain = CacheServer::start(folder.path()).without_ranges();
    let whole = ask(&plain.url(), "/file", "Range: bytes=4-\r\n");
    assert_eq!((whole.status, whole.header("etag"), whole.body.len()), (200, None, 10));
}

/// What came back over one connection until it was closed.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn length(&self) -> Option<usize> {
        self.header("content-length")?.parse().ok()
    }
}

/// Asks for `path`, with `lines` as further lines of the request, by a client that judges nothing.
fn ask(url: &str, path: &str, lines: &str) -> Answer {
    let mut bytes = Vec::new();
    connect(url, path, lines).read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

fn connect(url: &str, path: &str, lines: &str) -> TcpStream {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n").unwrap();
    stream
}

/// Copies `path` and its closure from the binary cache at `url` into a store of its own in `there`, if they are signed
/// with the key `trusted`.
fn nix_copy(url: &str, trusted: &str, path: &StorePath, there: &Path) -> Output {
    nix("nix")
        .args(["--extra-experimental-features", "nix-command", "copy", "--from", url, "--to"])
        .arg(there)
        .args(["--option", "trusted-public-keys", trusted])
        .arg(path.to_string())
        // Nix remembers what it read from an address, and the next server may have the same.
        .env("XDG_CACHE_HOME", there.join("cache"))
        .output()
        .unwrap()
}

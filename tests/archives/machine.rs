//! A machine that pushes, and the registry that it pushes to.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use nixlayer::oci::{Digest, Manifest};
use nixlayer::simulate::registry::{Logged, Registry, RegistrySettings, User};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const USER: &str = "ci";
const PASSWORD: &str = "canary-password-4712";

/// The repository that the tests push to.
pub(crate) const REPOSITORY: &str = "team/app";

/// Runs the registries.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// A registry, and a machine of its own that may push there.
pub(crate) struct Machine {
    pub(crate) registry: Registry,
    folder: TempDir,
    host: String,
    /// Of the key that signs its layer records.
    key: Option<TempDir>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self::with(RegistrySettings::default())
    }

    /// One whose registry has its ways.
    pub(crate) fn with(settings: RegistrySettings) -> Self {
        let settings = settings.user(USER, User::new(PASSWORD).may_push("team"));
        let registry = RUNTIME.block_on(Registry::start(settings)).unwrap();
        let host = registry.address().to_string();
        Self { folder: machine(&host, None), registry, host, key: None }
    }

    /// The same, with a key that signs its layer records.
    pub(crate) fn with_key(mut self) -> Self {
        let key = TempDir::new().unwrap();
        let made = Command::new(env!("CARGO_BIN_EXE_nixlayer"))
            .args(["keygen", "test-1"])
            .arg(key.path().join("key"))
            .env("HOME", key.path())
            .output();
        succeed(&made.unwrap());
        self.key = Some(key);
        self.forget();
        self
    }

    /// The same, which no longer knows the key.
    pub(crate) fn without_key(mut self) -> Self {
        self.key = None;
        self
    }

    /// The same, reached through what listens at `address`.
    pub(crate) fn reached_at(&mut self, address: SocketAddr) {
        self.host = address.to_string();
        self.folder = machine(&self.host, self.key.as_ref());
    }

    /// A machine that has pushed nothing yet takes the place of this one.
    pub(crate) fn forget(&mut self) {
        self.folder = machine(&self.host, self.key.as_ref());
    }

    /// A place for files.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where images go, with a tag.
    pub(crate) fn tagged(&self, tag: &str) -> String {
        format!("{}/{REPOSITORY}:{tag}", self.host)
    }

    /// Where images go.
    pub(crate) fn repository(&self) -> String {
        format!("{}/{REPOSITORY}", self.host)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixlayer"));
        command
            .arg("--config")
            .arg(self.place("config.yaml"))
            .arg("push")
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", env!("PATH"))
            .env("HOME", self.folder.path())
            .env("REGISTRY_AUTH_FILE", self.place("auth.json"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts `nixlayer push` with these arguments.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// Runs `nixlayer push` with these arguments.
    pub(crate) fn push(&self, arguments: &[&str]) -> Output {
        self.start(arguments).wait_with_output().unwrap()
    }

    /// The same, with further variables in the environment.
    pub(crate) fn push_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        self.command(arguments).envs(variables.iter().copied()).output().unwrap()
    }

    /// The same, with a file as its standard input.
    pub(crate) fn push_from(&self, input: &Path, arguments: &[&str]) -> Output {
        // Through a pipe: a file could be read again.
        let mut cat = Command::new("cat").arg(input).stdout(Stdio::piped()).spawn().unwrap();
        let output = self.command(arguments).stdin(cat.stdout.take().unwrap()).output().unwrap();
        cat.wait().unwrap();
        output
    }

    /// What the tag names.
    pub(crate) fn manifest(&self, tag: &str) -> Bytes {
        self.registry.manifest(REPOSITORY, tag).unwrap()
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Bytes {
        self.registry.blob(REPOSITORY, digest).unwrap()
    }

    /// The configuration of what the tag names.
    pub(crate) fn config(&self, tag: &str) -> Bytes {
        self.blob(&Manifest::parse(&self.manifest(tag)).unwrap().config.digest)
    }

    /// The diff_ids that the layers under a tag really have.
    pub(crate) fn diff_ids(&self, tag: &str) -> Vec<String> {
        let layers = Manifest::parse(&self.manifest(tag)).unwrap().layers;
        layers.iter().map(|layer| diff_id(&self.blob(&layer.digest))).collect()
    }

    /// Bytes that were sent in chunks and blobs since `from`, a length of the log.
    pub(crate) fn uploaded(&self, from: usize) -> usize {
        let log: Vec<Logged> = self.registry.log()[from..].to_vec();
        log.iter().filter(|it| it.path.contains("/blobs/uploads/")).map(|it| it.body).sum()
    }

    /// Copies the image under a tag with skopeo, which checks every digest of it.
    pub(crate) fn pull(&self, tag: &str) -> PathBuf {
        let target = self.place("pulled");
        let from = format!("docker://{}", self.tagged(tag));
        let creds = format!("{USER}:{PASSWORD}");
        let to = format!("oci:{}:x", target.display());
        skopeo(&["copy", "--src-tls-verify=false", "--src-creds", &creds, &from, &to]);
        target
    }
}

/// A folder with all that the program needs to push to `host`.
fn machine(host: &str, key: Option<&TempDir>) -> TempDir {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    let limits = json!({ "chunk": 1 });
    let registries = json!({ host: { "plain_http": true } });
    let mut config = json!({ "state_dir": place("state"), "registries": registries, "limits": limits });
    if let Some(key) = key {
        config["records"] = json!({ "key_file": key.path().join("key") });
    }
    // JSON is YAML.
    fs::write(place("config.yaml"), config.to_string()).unwrap();
    let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    fs::write(place("auth.json"), json!({ "auths": { host: { "auth": auth } } }).to_string()).unwrap();
    folder
}

/// Longer than anything here takes, be it on a machine that pauses: what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// Waits until `holds`.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LIMIT, "not so in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What a push said that was asked to end: what does not shall not hold up the test.
pub(crate) fn ended(mut child: Child) -> Output {
    let asked = Instant::now();
    while child.try_wait().unwrap().is_none() && asked.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

/// What a program printed, given that it did not fail.
pub(crate) fn succeed(output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}{stderr}", output.status);
    stdout.into_owned()
}

/// What a program said when it failed, given that it did, and not by a bug.
pub(crate) fn fail(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.starts_with("error: "), "{}\n{said}", output.status);
    said
}

/// Runs skopeo, which then keeps no record of the registries it met.
pub(crate) fn skopeo(arguments: &[&str]) {
    let home = TempDir::new().unwrap();
    let output = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .env("HOME", home.path())
        .env("XDG_DATA_HOME", home.path())
        .env("_CONTAINERS_ROOTLESS_UID", "1")
        .output()
        .unwrap();
    succeed(&output);
}

/// The digest of a layer's tar, whichever way the layer is compressed.
pub(crate) fn diff_id(blob: &[u8]) -> String {
    let mut tar = Vec::new();
    match blob {
        [0x1f, 0x8b, ..] => {
            std::io::copy(&mut flate2::read::MultiGzDecoder::new(blob), &mut tar).unwrap();
        }
        [0x28, 0xb5, ..] => zstd::stream::copy_decode(blob, &mut tar).unwrap(),
        _ => tar.extend_from_slice(blob),
    }
    Digest::of(&tar).to_string()
}

/// The diff_ids that a configuration says.
pub(crate) fn said_diff_ids(config: &[u8]) -> Vec<String> {
    let config: Value = serde_json::from_slice(config).unwrap();
    let said = config["rootfs"]["diff_ids"].as_array().unwrap().iter();
    said.map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Writes a file.
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    File::create(path).unwrap().write_all(bytes).unwrap();
}

/// Writes a file that can be run.
pub(crate) fn executable(path: &Path, text: &str) {
    write(path, text.as_bytes());
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

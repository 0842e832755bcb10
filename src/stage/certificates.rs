//! Whom the driver trusts beside those whom the system trusts: the files of the admin's configuration, those
//! that GitLab Runner itself would use, and what it says of GitLab.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::caches::cache_host;
use crate::admin::AdminConfig;
use crate::failure::Failure;
use crate::http::{ClientCertificate, FoundCertificates, Hosts};
use crate::job::Job;
use crate::secret::Secret;

/// The bundles of whole systems have a quarter of it.
const MAX_CERTIFICATES: u64 = 1 << 20;

/// The files that the admin gives for registries and caches, by host.
pub(super) fn ca_files(config: &AdminConfig) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let registries = config.registries.iter();
    let registries =
        registries.filter_map(|(host, registry)| Some((host.clone(), registry.ca_file.as_ref()?)));
    let caches = config.caches.iter();
    let caches = caches.filter_map(|(url, cache)| Some((cache_host(url)?, cache.ca_file.as_ref()?)));
    let mut files = BTreeMap::new();
    for (host, file) in registries.chain(caches) {
        files.insert(host.clone(), configured("ca_file", file, &host)?);
    }
    Ok(files)
}

/// What the admin gives to be shown to registries and caches, by host.
pub(super) fn client_certificates(
    config: &AdminConfig,
) -> Result<BTreeMap<String, ClientCertificate>, Failure> {
    let registries = config.registries.iter();
    let registries =
        registries.filter_map(|(host, registry)| Some((host.clone(), registry.client_certificate.as_ref()?)));
    let caches = config.caches.iter();
    let caches =
        caches.filter_map(|(url, cache)| Some((cache_host(url)?, cache.client_certificate.as_ref()?)));
    let mut shown = BTreeMap::new();
    for (host, files) in registries.chain(caches) {
        let certificate = configured("client_certificate", &files.certificate, &host)?;
        let key = configured("client_key", &files.key, &host)?;
        // What is no text is no PEM either, which is found out later.
        let key = String::from_utf8(key).unwrap_or_default();
        shown.insert(host.clone(), ClientCertificate { certificate, key: Secret::from(key) });
    }
    Ok(shown)
}

/// Reads the file that the admin gives as `key` of a host.
fn configured(key: &str, file: &Path, host: &str) -> Result<Vec<u8>, Failure> {
    let doing = format!("read `{}`, the `{key}` of `{host}`", file.display());
    let read = fs::read(file).map_err(Failure::cannot(doing));
    read.map_err(|failure| failure.fix("let the runner's user read it"))
}

/// The files `HOST.crt` of `folder`: GitLab Runner, "Self-signed certificates or custom Certification
/// Authorities". The port is no part of the name. What is not there or cannot be read is not needed.
pub(super) fn runner_certificates(folder: &Path) -> Vec<FoundCertificates> {
    let files = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let certificates = files.filter_map(|file| {
        let name = file.file_name().to_str()?.strip_suffix(".crt")?.to_owned();
        match read(&file.path()) {
            Ok(pem) => Some(FoundCertificates { hosts: Hosts::Named(name), pem }),
            Err(error) => {
                tracing::warn!(file = %file.path().display(), %error, "passed over");
                None
            }
        }
    });
    certificates.collect()
}

/// What the runner says of the GitLab that it works for: mostly the certificates themselves, but an admin may
/// have set the variable to the path of a file.
pub(super) fn gitlab_certificates(job: &Job) -> Option<FoundCertificates> {
    let said = job.server_ca.as_deref()?;
    let path = Path::new(said.trim());
    let pem = if path.is_absolute() { read(path).ok()? } else { said.as_bytes().to_vec() };
    Some(FoundCertificates { hosts: Hosts::At(job.gitlab_host.clone()), pem })
}

/// Reads a file of certificates.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    // A pipe would keep us waiting as soon as it is opened.
    let metadata = fs::metadata(file)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut pem = Vec::new();
    File::open(file)?.take(MAX_CERTIFICATES + 1).read_to_end(&mut pem)?;
    if pem.len() as u64 > MAX_CERTIFICATES {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(pem)
}

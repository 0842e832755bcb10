//! Certificates: which to trust, which to show, and what is wrong with those of servers, in plain words.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Certificate, Identity};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};

use crate::secret::Secret;

/// Those of the PEM certificates that are fit to be trusted; a file that holds others as well is no less
/// useful for that.
pub(super) fn usable(pem: &[u8]) -> Vec<Certificate> {
    let found = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    let fit = found.filter(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    fit.filter_map(|certificate| Certificate::from_der(&certificate).ok()).collect()
}

/// What we show to a server that wants to know who asks (mutual TLS).
#[derive(Debug)]
pub struct ClientCertificate {
    /// Our certificate and those between it and its authority, in PEM.
    pub certificate: Vec<u8>,
    /// Its key, in PEM.
    pub key: Secret,
}

/// Why a client certificate cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientCertificateFault {
    /// There is no certificate.
    #[error("the certificate's file holds none in PEM")]
    NoCertificate,
    /// There is no key.
    #[error("the key's file holds none in PEM, or it is behind a passphrase")]
    NoKey,
    /// There are both, and they do not belong together.
    #[error("the key is that of another certificate")]
    Mismatch,
    /// The TLS library does not know such certificates or keys.
    #[error("the certificate or its key is broken or of an unknown kind")]
    Unusable,
}

impl ClientCertificate {
    /// Checks that both are there and belong together. The certificate's file may hold a key as well, and the
    /// key's a certificate: each is read for its own part.
    pub(super) fn identity(&self) -> Result<Identity, ClientCertificateFault> {
        let certificates = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|_| ClientCertificateFault::NoCertificate)?;
        if certificates.is_empty() {
            return Err(ClientCertificateFault::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes());
        let key = key.map_err(|_| ClientCertificateFault::NoKey)?;
        let label = match &key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        let mut pem = pem(label, key.secret_der());
        for certificate in &certificates {
            pem.push_str(&self::pem("CERTIFICATE", certificate));
        }
        let pem = Secret::from(pem);
        match CertifiedKey::from_der(certificates, key, &ring::default_provider()) {
            Ok(_) => {
                Identity::from_pem(pem.expose().as_bytes()).map_err(|_| ClientCertificateFault::Unusable)
            }
            Err(rustls::Error::InconsistentKeys(_)) => Err(ClientCertificateFault::Mismatch),
            Err(_) => Err(ClientCertificateFault::Unusable),
        }
    }
}

/// As RFC 7468 has it, but for the length of its lines.
fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

/// Why a server's certificate does not prove that it is the server; each has another remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It is the certificate of another host.
    OtherName,
    /// Nobody whom we know vouches for it; so it is with a certificate that signed itself.
    UnknownIssuer,
    /// It is an authority's own, which no server may use as its own (RFC 5280 §4.2.1.9).
    Authority,
    /// Whoever signed it has taken that back.
    Revoked,
    /// Anything else, which the cause tells.
    Other,
}

impl CertificateFault {
    pub(super) fn of(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName
            }
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::Revoked => Self::Revoked,
            // The library underneath has no better way to say it.
            CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => Self::Authority,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for CertificateFault {
    /// What follows "the certificate".
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Expired => "has expired",
            Self::NotYetValid => "is not valid yet",
            Self::OtherName => "is for another host name",
            Self::UnknownIssuer => "is signed by nobody whom this machine trusts",
            Self::Authority => "is that of an authority, which no server may use as its own",
            Self::Revoked => "has been revoked",
            Self::Other => "is not to be trusted",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;

    #[test]
    fn what_is_no_certificate_is_passed_over() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for pem in ["", "no certificate", broken, "-----BEGIN CERTIFICATE-----\n"] {
            assert_eq!(usable(pem.as_bytes()).len(), 0, "{pem:?}");
        }
    }

    #[test]
    fn faults_without_a_server_to_show_them_are_told_apart_too() {
        let other =
            |text: &str| CertificateError::Other(OtherError(Arc::new(io::Error::other(text.to_owned()))));
        for (error, expected) in [
            (CertificateError::NotValidYet, "is not valid yet"),
            (CertificateError::Revoked, "has been revoked"),
            (CertificateError::BadSignature, "is not to be trusted"),
            (other("CaUsedAsEndEntity"), "is that of an authority, which no server may use as its own"),
            (other("anything"), "is not to be trusted"),
        ] {
            assert_eq!(CertificateFault::of(&error).to_string(), expected, "{error:?}");
        }
    }
}

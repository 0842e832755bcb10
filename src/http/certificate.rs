//! Certificates: which to trust, and what is wrong with those of servers, in plain words.

use std::fmt;

use reqwest::Certificate;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, RootCertStore};

/// Those of the PEM certificates that are fit to be trusted; a file that holds others as well is no less
/// useful for that.
pub(super) fn usable(pem: &[u8]) -> Vec<Certificate> {
    let found = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    let fit = found.filter(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    fit.filter_map(|certificate| Certificate::from_der(&certificate).ok()).collect()
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

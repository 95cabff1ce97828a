//! The certificate authorities that billing-sync trusts as a client: those of this machine, or those set by the
//! operator.
//!
//! `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the machine's store, as they do for OpenSSL. Used for connections to
//! Stripe's API and to PostgreSQL. The variables are read by [`crate::config`].

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::CertificateResult;

use crate::base::file;

/// An invalid variable for certificates, with the fix.
#[derive(Debug, PartialEq, Eq)]
pub struct RootsError {
    /// The variable.
    pub variable: &'static str,
    /// The problem.
    pub wrong: String,
    /// The fix.
    pub fix: &'static str,
}

/// The authorities of `SSL_CERT_FILE` and `SSL_CERT_DIR` if one of them is not empty, else those of this machine.
/// Unusable certificates are omitted; a machine without a store has none.
///
/// # Errors
/// If a variable names a file that cannot be read or has no usable certificate.
pub fn system_roots(file: &str, dir: &str) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    if file.is_empty() && dir.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::debug!(%error, "could not read a certificate of this machine");
        }
        return Ok(usable(found.certs));
    }
    let mut certificates = Vec::new();
    if !file.is_empty() {
        certificates = named("SSL_CERT_FILE", file, of_file(Path::new(file)))?;
    }
    for dir in dir.split(':').filter(|dir| !dir.is_empty()) {
        let CertificateResult { certs, errors, .. } =
            rustls_native_certs::load_certs_from_paths(None, Some(Path::new(dir)));
        let error = errors.first().map(ToString::to_string);
        certificates.extend(named("SSL_CERT_DIR", dir, (certs, error))?);
    }
    Ok(certificates)
}

/// The certificates found, and the first error.
type Found = (Vec<CertificateDer<'static>>, Option<String>);

/// Reads the certificates of one file, which may be a device or a pipe.
fn of_file(path: &Path) -> Found {
    let pem = match file::read(path, file::MAX_CERTIFICATE_BYTES) {
        Ok(pem) => pem,
        Err(error) => return (Vec::new(), Some(format!("{}: {error}", path.display()))),
    };
    let (mut certificates, mut wrong) = (Vec::new(), None);
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        match certificate {
            Ok(certificate) => certificates.push(certificate),
            Err(error) => wrong = wrong.or_else(|| Some(format!("{}: {error}", path.display()))),
        }
    }
    (certificates, wrong)
}

/// The usable certificates of one path: at least one.
fn named(
    variable: &'static str,
    path: &str,
    (found, error): Found,
) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let certificates = usable(found);
    if !certificates.is_empty() {
        return Ok(certificates);
    }
    let why = error.unwrap_or_else(|| format!("{path} has no certificate"));
    let fix = "set it to PEM files of your certificate authorities, or unset it";
    Err(RootsError { variable, wrong: format!("cannot be used: {why}"), fix })
}

fn usable(mut certificates: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    certificates.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    certificates
}

/// Encodes the certificates as PEM.
pub fn to_pem(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let block = |certificate: &CertificateDer<'_>| {
        let text = BASE64_STANDARD.encode(certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    certificates.iter().map(block).collect::<String>().into_bytes()
}

/// Checks that a PEM text has at least one certificate and no unusable one.
///
/// # Errors
/// The problem, phrased to follow the name of the text.
pub fn check(pem: &[u8]) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("is not PEM: {error}"))?;
        store.add(certificate).map_err(|error| format!("has a certificate that cannot be used: {error}"))?;
    }
    if store.is_empty() { Err("has no certificate".to_owned()) } else { Ok(()) }
}

/// The authorities for Stripe's API, and a description of their origin.
#[derive(Clone)]
pub struct Roots {
    store: Arc<RootCertStore>,
    origin: String,
}

impl Roots {
    /// Mozilla's authorities, compiled into this program.
    pub fn built_in() -> Self {
        let store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let origin = format!("the {} roots of Mozilla that are built in", store.len());
        Self { store: Arc::new(store), origin }
    }

    /// The authorities set by the variables, else Mozilla's and those of this machine. A container image may have none
    /// of its own.
    ///
    /// # Errors
    /// As [`system_roots`].
    pub fn read(file: &str, dir: &str) -> Result<Self, RootsError> {
        let certificates = system_roots(file, dir)?;
        let count = certificates.len();
        let Self { store, origin } = Self::built_in();
        let (mut store, origin) = match [file, dir].map(|path| !path.is_empty()) {
            [false, false] => ((*store).clone(), format!("{origin}, and the {count} of this machine")),
            [true, true] => (RootCertStore::empty(), format!("{} of {file} and {dir}", counted(count))),
            _ => (RootCertStore::empty(), format!("{} of {file}{dir}", counted(count))),
        };
        store.add_parsable_certificates(certificates);
        Ok(Self { store: Arc::new(store), origin })
    }

    /// Origin of the authorities: "the 3 certificates of /etc/ssl/private-ca.pem".
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// TLS client configuration that trusts these authorities.
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports every version that rustls has by default")
            .with_root_certificates(Arc::clone(&self.store))
            .with_no_client_auth()
    }
}

fn counted(count: usize) -> String {
    if count == 1 { "the 1 certificate".to_owned() } else { format!("the {count} certificates") }
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Roots").field(&self.origin).finish()
    }
}

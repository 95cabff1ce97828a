//! Which certificate authorities we trust as a client: those of this machine, or those that the operator names.
//!
//! `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the machine's store, as they do for OpenSSL. Both ways out of the process,
//! to Stripe's API and to PostgreSQL, ask here. The variables are read by [`crate::config`].

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// What is wrong with a variable that names certificates, and the fix.
#[derive(Debug, PartialEq, Eq)]
pub struct RootsError {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong with it.
    pub wrong: String,
    /// What to do about it.
    pub fix: &'static str,
}

/// The authorities of `SSL_CERT_FILE` and `SSL_CERT_DIR` where one of them is not empty, else those of this machine.
/// Certificates that cannot be used are left out; a machine without a store has none.
///
/// # Errors
/// When a variable names what cannot be read, or nothing usable.
pub fn system_roots(file: &str, dir: &str) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    if file.is_empty() && dir.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::debug!(%error, "a certificate of this machine cannot be read");
        }
        return Ok(usable(found.certs));
    }
    let some = |text: &str| (!text.is_empty()).then(|| Path::new(text).to_owned());
    let found = rustls_native_certs::load_certs_from_paths(some(file).as_deref(), some(dir).as_deref());
    let variable = if file.is_empty() { "SSL_CERT_DIR" } else { "SSL_CERT_FILE" };
    let certificates = usable(found.certs);
    if certificates.is_empty() {
        let why = found.errors.first().map_or_else(|| "it has no certificate".to_owned(), ToString::to_string);
        return Err(RootsError {
            variable,
            wrong: format!("cannot be used: {why}"),
            fix: "name PEM files of your certificate authorities, or unset it",
        });
    }
    Ok(certificates)
}

fn usable(mut certificates: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    certificates.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    certificates
}

/// The certificates as PEM.
pub fn to_pem(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let block = |certificate: &CertificateDer<'_>| {
        let text = BASE64_STANDARD.encode(certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    certificates.iter().map(block).collect::<String>().into_bytes()
}

/// Whether a PEM text has at least one certificate and no other that cannot be used.
///
/// # Errors
/// What is wrong, in words that follow the name of the text.
pub fn check(pem: &[u8]) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("is not PEM: {error}"))?;
        store.add(certificate).map_err(|error| format!("has a certificate that cannot be used: {error}"))?;
    }
    if store.is_empty() { Err("has no certificate".to_owned()) } else { Ok(()) }
}

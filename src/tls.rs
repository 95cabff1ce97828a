//! The certificates that this process trusts, and the TLS configuration of a client made from them.
//!
//! Read by the configuration, which names the files; used by every client that speaks TLS itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// Trusted root certificates, and where they come from.
#[derive(Clone)]
pub struct Roots {
    store: Arc<RootCertStore>,
    origin: String,
}

/// Why a set of roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A file or directory cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// There is no certificate in it.
    #[error("{0} holds no certificate in PEM format")]
    NoCertificate(String),
}

impl Roots {
    /// Mozilla's roots, as compiled into this program.
    pub fn built_in() -> Self {
        let store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let origin = format!("the {} roots of Mozilla that are built in", store.len());
        Self { store: Arc::new(store), origin }
    }

    /// The roots of a PEM file and of the files in directories, instead of those that are built in: as in OpenSSL, so
    /// that an operator can also trust less.
    ///
    /// # Errors
    /// When the file or a directory cannot be read, or when none of them holds a certificate.
    pub fn read(file: Option<&Path>, directories: &[PathBuf]) -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        let mut places = Vec::new();
        if let Some(path) = file {
            let found = rustls_native_certs::load_certs_from_paths(Some(path), None);
            // a bundle is written for this purpose, so whatever is wrong with it is an error
            if let Some(error) = found.errors.first() {
                return Err(RootsError::Unreadable(error.to_string()));
            }
            places.push(add(&mut store, found.certs, path)?);
        }
        for path in directories {
            std::fs::read_dir(path).map_err(|error| RootsError::Unreadable(format!("{}: {error}", path.display())))?;
            // a directory may hold files that are not certificates
            let found = rustls_native_certs::load_certs_from_paths(None, Some(path));
            places.push(add(&mut store, found.certs, path)?);
        }
        Ok(Self { store: Arc::new(store), origin: places.join(" and ") })
    }

    /// Where the roots come from, in words: "the 3 certificates of /etc/ssl/private-ca.pem".
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The configuration of a client that trusts these roots.
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports every version that rustls has by default")
            .with_root_certificates(Arc::clone(&self.store))
            .with_no_client_auth()
    }
}

fn add(store: &mut RootCertStore, found: Vec<CertificateDer<'static>>, path: &Path) -> Result<String, RootsError> {
    let place = path.display();
    match store.add_parsable_certificates(found) {
        (0, _) => Err(RootsError::NoCertificate(place.to_string())),
        (1, _) => Ok(format!("the 1 certificate of {place}")),
        (count, _) => Ok(format!("the {count} certificates of {place}")),
    }
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Roots").field(&self.origin).finish()
    }
}

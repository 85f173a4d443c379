//! TLS by a certificate and a key in files, which are read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::seen::Seen;

/// Why TLS cannot be used. Each message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file has no certificate or no key.
    #[error("{} has no {what} in PEM form: {reason}", path.display())]
    Form {
        /// The file that is refused.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What the parser says of it.
        reason: String,
    },
    /// The certificate and the key do not belong together.
    #[error(
        "the certificate {} and the key {} do not fit each other ({reason}): give the key that the \
         certificate was made for",
        certificate.display(), key.display()
    )]
    Misfit {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What the library for TLS says of it.
        reason: String,
    },
}

/// The files, and what was last read of them.
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    seen: Seen,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads both files for the first time.
    ///
    /// # Errors
    /// [`TlsError`] for files that cannot be read, or do not fit each other.
    pub(crate) fn new(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let seen = Seen::now(&[certificate, key]);
        let current = RwLock::new(Arc::new(read(certificate, key)?));
        Ok(Self { certificate: certificate.into(), key: key.into(), seen, current })
    }

    /// What new connections are accepted with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again if one of them has changed. What is not usable is told, and the old
    /// certificate stays.
    pub(crate) fn reload(&self) {
        if !self.seen.has_changed() {
            return;
        }
        let now = self.seen.look();
        match read(&self.certificate, &self.key) {
            Ok(config) => {
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(config);
                self.seen.note(now);
                tracing::info!("the certificate was read again");
            }
            // Two files are not replaced at once: the next look may find both.
            Err(error) => tracing::warn!(%error, "the old certificate stays"),
        }
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let form =
        |path: &Path, what, reason: String| TlsError::Form { path: path.into(), what, reason };
    let chain = CertificateDer::pem_slice_iter(&fs_err::read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| form(certificate, "certificate", error.to_string()))?;
    if chain.is_empty() {
        return Err(form(certificate, "certificate", "it has none".into()));
    }
    let secret = PrivateKeyDer::from_pem_slice(&fs_err::read(key)?)
        .map_err(|error| form(key, "private key", error.to_string()))?;
    let misfit = |reason: tokio_rustls::rustls::Error| TlsError::Misfit {
        certificate: certificate.into(),
        key: key.into(),
        reason: reason.to_string(),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(misfit)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(misfit)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_usable_are_named() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let error = |certificate: &str, key: &str| {
            Tls::new(&path(certificate), &path(key)).err().unwrap().to_string()
        };
        assert!(error("missing.pem", "key.pem").contains("missing.pem"));
        fs_err::write(path("empty.pem"), "nothing").unwrap();
        assert!(error("empty.pem", "key.pem").contains("empty.pem has no certificate"));
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs_err::write(path("certificate.pem"), certificate).unwrap();
        fs_err::write(path("key.pem"), certificate).unwrap();
        assert!(error("certificate.pem", "key.pem").contains("key.pem has no private key"));
    }

    fn write_pair(place: &Path, certificate_of: &str, key_of: &str) -> [PathBuf; 2] {
        let make = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (first, second) = (make(certificate_of), make(key_of));
        let key = if certificate_of == key_of { &first } else { &second };
        let paths = ["certificate.pem", "key.pem"].map(|name| place.join(name));
        fs_err::write(&paths[0], first.cert.pem()).unwrap();
        fs_err::write(&paths[1], key.signing_key.serialize_pem()).unwrap();
        paths
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_and_the_old_pair_stays() {
        let place = tempfile::tempdir().unwrap();
        let [certificate, key] = write_pair(place.path(), "a.example", "a.example");
        let tls = Tls::new(&certificate, &key).unwrap();
        let first = tls.config();
        write_pair(place.path(), "b.example", "c.example");
        let error = Tls::new(&certificate, &key).err().unwrap().to_string();
        assert!(error.contains("do not fit each other") && error.contains("key.pem"), "{error}");
        // Whatever the clock of the file system says, the files have changed.
        tls.seen.note(Vec::new());
        tls.reload();
        assert!(Arc::ptr_eq(&first, &tls.config()));
        write_pair(place.path(), "d.example", "d.example");
        tls.seen.note(Vec::new());
        tls.reload();
        assert!(!Arc::ptr_eq(&first, &tls.config()));
    }
}

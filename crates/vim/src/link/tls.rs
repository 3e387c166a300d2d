//! Who hostd must prove to be.
//!
//! A host's certificate is issued to whatever name the host had once, by whoever: names and issuers prove nothing here.
//! What proves something is that the peer holds the key of the very certificate in the host's file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
};

/// Largest certificate file read.
const LARGEST_FILE: u64 = 256 * 1024;

/// Whom to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The peer whose certificate is in this file (PEM), as `/etc/vmware/ssl/rui.crt`. Read again for each connection:
    /// hosts replace it.
    Pinned(PathBuf),
    /// Whoever listens on this machine itself. Whoever may listen on its port is root here already.
    Loopback,
}

/// How connections are made trusted.
#[derive(Debug)]
pub(crate) struct TlsSetup {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl TlsSetup {
    pub(crate) fn new(trust: Trust) -> Self {
        Self {
            trust,
            provider: Arc::new(ring::default_provider()),
        }
    }

    /// A connector for one connection.
    pub(crate) fn connector(&self) -> Result<TlsConnector, String> {
        let pinned = match &self.trust {
            Trust::Pinned(file) => {
                Some(read(file).map_err(|why| format!("{}: {why}", file.display()))?)
            }
            Trust::Loopback => None,
        };
        let verifier = Pin {
            pinned,
            provider: Arc::clone(&self.provider),
        };
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|why| why.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn read(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    if fs::metadata(file)?.len() > LARGEST_FILE {
        return Err(io::Error::other("it is too large for a certificate"));
    }
    let pem = fs::read(file)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|why| io::Error::other(why.to_string()))?;
    if certificates.is_empty() {
        return Err(io::Error::other("it holds no certificate"));
    }
    Ok(certificates)
}

/// Accepts the pinned certificates' owner, and nobody else.
#[derive(Debug)]
struct Pin {
    /// None: any, on this machine itself.
    pinned: Option<Vec<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match &self.pinned {
            None => Ok(ServerCertVerified::assertion()),
            Some(pinned) if pinned.iter().any(|p| p.as_ref() == end_entity.as_ref()) => {
                Ok(ServerCertVerified::assertion())
            }
            Some(_) => Err(TlsError::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

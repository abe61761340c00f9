//! A certificate that nobody but its own clients trusts.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mullama_server::TlsFiles;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Client;

/// The files of a self-signed certificate for `localhost`, and clients that trust it.
pub struct SelfSigned {
    folder: TempDir,
    connector: TlsConnector,
}

impl SelfSigned {
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
        let signed = Self { folder, connector: TlsConnector::from(Arc::new(config)) };
        fs::write(signed.certificates(), made.cert.pem()).expect("a file");
        fs::write(signed.key(), made.signing_key.serialize_pem()).expect("a file");
        signed
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn certificates(&self) -> PathBuf {
        self.folder().join("certificate.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.folder().join("key.pem")
    }

    pub fn files(&self) -> TlsFiles {
        TlsFiles { certificates: self.certificates(), key: self.key() }
    }

    pub async fn connect(&self, address: SocketAddr) -> Client<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await.expect("the server accepts");
        let name = ServerName::try_from("localhost").expect("a name");
        Client::new(self.connector.connect(name, stream).await.expect("a handshake"))
    }
}

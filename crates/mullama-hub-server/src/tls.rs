//! The encrypted addresses of the server: TLS in front of the plain ones, with certificates that are made at the start.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::content::hexadecimal;

/// Encrypted connections that are open at the same time.
const CONNECTIONS: usize = 128;
/// The longest time for a handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// The certificate that an encrypted server presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// It is valid for `127.0.0.1` and `localhost`, and issued by the CA of the server.
    Valid,
    /// It is valid for these hosts, but signed by itself.
    SelfSigned,
    /// It is issued by the CA, but expired years ago.
    Expired,
    /// It is issued by the CA, but for `other.example`.
    OtherHost,
}

/// The encrypted addresses. They close when this is dropped.
pub(crate) struct Front {
    pub(crate) main: SocketAddr,
    pub(crate) cdn: SocketAddr,
    pub(crate) ca_pem: String,
    runtime: Option<Runtime>,
}

impl Front {
    /// Starts to forward encrypted connections to the plain addresses.
    pub(crate) fn start(certificate: Certificate, plain: [SocketAddr; 2]) -> io::Result<Self> {
        let (config, ca_pem) = issue(certificate).map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut addresses = Vec::new();
        for to in plain {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
            addresses.push(listener.local_addr()?);
            runtime.spawn(listen(listener, acceptor.clone(), to));
        }
        Ok(Self { main: addresses[0], cdn: addresses[1], ca_pem, runtime: Some(runtime) })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The server may be dropped inside another runtime, which must not block.
            runtime.shutdown_background();
        }
    }
}

async fn listen(listener: TcpListener, acceptor: TlsAcceptor, to: SocketAddr) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = Arc::clone(&connections).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that refuses the certificate ends the handshake; it knows why.
            let _ = forward(stream, &acceptor, to).await;
            drop(permit);
        });
    }
}

async fn forward(stream: TcpStream, acceptor: &TlsAcceptor, to: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut encrypted = timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await??;
    let mut plain = TcpStream::connect(to).await?;
    plain.set_nodelay(true)?;
    copy_bidirectional(&mut encrypted, &mut plain).await?;
    Ok(())
}

/// Makes the certificate, and the CA that issues it unless it is signed by itself.
fn issue(certificate: Certificate) -> Result<(ServerConfig, String), Box<dyn std::error::Error + Send + Sync>> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    // A name of its own, so that a client does not take one authority for another.
    let name = hexadecimal(&Sha256::digest(authority_key.public_key_raw()));
    authority.distinguished_name.push(DnType::CommonName, name);
    let ca_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    let hosts: &[&str] =
        if certificate == Certificate::OtherHost { &["other.example"] } else { &["127.0.0.1", "localhost"] };
    let mut params = CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    if certificate == Certificate::Expired {
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    }
    let key = KeyPair::generate()?;
    let made = match certificate {
        Certificate::SelfSigned => params.self_signed(&key)?,
        _ => params.signed_by(&key, &issuer)?,
    };
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let chain: Vec<CertificateDer<'static>> = vec![made.der().clone()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok((config.with_no_client_auth().with_single_cert(chain, key)?, ca_pem))
}

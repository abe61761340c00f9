//! TLS: rustls with ring, and the certificates that the system or `SSL_CERT_FILE` trusts.
//!
//! Nothing turns the verification off.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

/// A file with certificates in PEM format. On Linux and the BSDs it replaces those of the system, as it does for OpenSSL;
/// on macOS and Windows it adds to them.
const FILE_VARIABLE: &str = "SSL_CERT_FILE";
/// Folders with certificates in PEM format, with the same effect; on Linux and the BSDs only.
const FOLDERS_VARIABLE: &str = "SSL_CERT_DIR";

/// A configuration that trusts what the system trusts, or the reason why there is none.
///
/// It has its own provider of cryptography, so it does not depend on a program's default provider.
pub(super) fn system() -> Result<ClientConfig, String> {
    let provider = provider();
    let extra = extra_roots()?;
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider)).map_err(|error| no_roots(&error))?;
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    // `dangerous` is rustls's word for every verifier that is not its own; this one is the system's.
    let config = config.map_err(|error| error.to_string())?.dangerous();
    Ok(config.with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// A configuration that trusts no certificate, for requests without TLS.
pub(super) fn none() -> Result<ClientConfig, String> {
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reads the file that the environment names, so that a wrong path is an error on every system. The certificates are
/// returned only where the verifier does not read the file itself.
fn extra_roots() -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(path) = env::var_os(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from) else {
        return Ok(Vec::new());
    };
    let unusable = |why: String| {
        let path = path.display();
        format!("{FILE_VARIABLE} is {path}, but must be a file of CA certificates in PEM format: {why}")
    };
    let roots = CertificateDer::pem_file_iter(&path).map_err(|error| unusable(error.to_string()))?;
    let roots = roots.collect::<Result<Vec<_>, _>>().map_err(|error| unusable(error.to_string()))?;
    if roots.is_empty() {
        return Err(unusable("it contains no certificate".to_owned()));
    }
    Ok(if cfg!(any(windows, target_vendor = "apple")) { roots } else { Vec::new() })
}

fn no_roots(error: &rustls::Error) -> String {
    let named = [FILE_VARIABLE, FOLDERS_VARIABLE].into_iter().find(|name| env::var_os(name).is_some());
    let advice = match named {
        Some(name) => format!("check {name}"),
        None => format!(
            "install the system's CA certificates (on most systems the package ca-certificates), or set {FILE_VARIABLE} to a file with them"
        ),
    };
    format!("no certificate can be verified ({error}); {advice}")
}

/// Why the certificate of `host` is refused, and what to do about it.
pub(super) fn refusal(cause: &CertificateError, host: &str) -> String {
    use CertificateError::{Expired, ExpiredContext, NotValidForName, NotValidForNameContext};
    use CertificateError::{NotValidYet, NotValidYetContext, Revoked, UnknownIssuer};
    let (why, advice) = match cause {
        UnknownIssuer => (
            "its issuer is unknown to this system".to_owned(),
            "if a proxy inspects TLS here, or the server has a private CA, set SSL_CERT_FILE to a PEM file with the CA \
             certificates",
        ),
        Expired | ExpiredContext { .. } => ("it has expired".to_owned(), "check the clock of this machine"),
        NotValidYet | NotValidYetContext { .. } => {
            ("it is not valid yet".to_owned(), "check the clock of this machine")
        }
        NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            (format!("it belongs to {}", hosts(presented)), "check the address")
        }
        NotValidForName | NotValidForNameContext { .. } => {
            ("it belongs to another host".to_owned(), "check the address")
        }
        Revoked => ("it has been revoked".to_owned(), "do not use this server"),
        other => (other.to_string(), "check the address and the proxy"),
    };
    format!("the certificate of {host} is not trusted: {why}; {advice}")
}

/// The first hosts of a certificate, which rustls writes as `DnsName("example.com")`.
fn hosts(presented: &[String]) -> String {
    const SHOWN: usize = 3;
    let host = |name: &String| name.split(['(', ')', '"']).filter(|part| !part.is_empty()).nth(1).map(str::to_owned);
    let mut hosts = presented.iter().take(SHOWN).filter_map(host).collect::<Vec<_>>().join(", ");
    if presented.len() > SHOWN {
        hosts.push_str(" and others");
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_of_a_certificate_are_shown_without_their_types() {
        let names = ["DnsName(\"a.example\")", "IpAddress(127.0.0.1)", "DnsName(\"*.b\")", "DnsName(\"c\")"];
        let names = names.map(str::to_owned);
        assert_eq!(hosts(&names[..1]), "a.example");
        assert_eq!(hosts(&names), "a.example, 127.0.0.1, *.b and others");
    }
}

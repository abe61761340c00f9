//! The name by which a client calls the server. A web page can give its own name the address of this machine (DNS
//! rebinding); the name of the host then is the page's.

use std::net::{IpAddr, Ipv6Addr};

use axum::extract::Request;
use axum::http::{StatusCode, Version, header};

use crate::error::ApiError;
use crate::transport::Peer;

/// The names by which clients on this machine may call the server.
#[derive(Debug)]
pub(super) struct Hosts {
    allowed: Vec<String>,
}

impl Hosts {
    pub(super) fn new(allowed: &[String]) -> Self {
        Self { allowed: allowed.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// # Errors
    /// If a client on this machine calls the server by a name that may be a web page's, or by none.
    pub(super) fn check(&self, request: &Request, peer: Option<Peer>) -> Result<(), ApiError> {
        let mut given = request.headers().get_all(header::HOST).iter();
        let host = match (given.next(), given.next()) {
            (Some(_), Some(_)) => return Err(ApiError::invalid("the request has more than one Host header")),
            (Some(host), None) => {
                Some(host.to_str().map_err(|_| ApiError::invalid("the Host header is not the name of a host"))?)
            }
            (None, _) if request.version() >= Version::HTTP_11 && request.uri().host().is_none() => {
                return Err(ApiError::invalid("the request has no Host header"));
            }
            (None, _) => None,
        };
        // Browsers reach no Unix socket, and beyond this machine the names of hosts are not known here. A mounted router
        // does not know its peers, so it checks all of them.
        if peer.is_some_and(|peer| !peer.is_loopback()) || self.allowed.iter().any(|name| name == "*") {
            return Ok(());
        }
        match [host, request.uri().host()].into_iter().flatten().find(|host| !self.allows(host)) {
            Some(host) => Err(refused(host)),
            None => Ok(()),
        }
    }

    fn allows(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let is_address = name.parse::<IpAddr>().is_ok()
            || name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).is_some_and(is_ipv6);
        is_address
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.allowed.iter().any(|allowed| allowed == name)
    }
}

fn is_ipv6(name: &str) -> bool {
    name.parse::<Ipv6Addr>().is_ok()
}

/// A host without the port that may follow it.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => {
            // The colons of an address without brackets are no port's.
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    }
}

fn refused(host: &str) -> ApiError {
    let shown: String = host.chars().take(128).collect();
    let message = if shown.is_empty() {
        "the Host header is empty; use localhost or an IP address".to_owned()
    } else {
        format!("Host {shown} is not allowed; use localhost or an IP address, or add it to allowed_hosts")
    };
    ApiError::new(StatusCode::FORBIDDEN, "HOST_NOT_ALLOWED", message)
}

#[cfg(test)]
mod tests {
    use super::{Hosts, refused};

    #[test]
    fn the_host_that_is_refused_is_named() {
        assert!(refused("evil.com").message.starts_with("Host evil.com is not allowed; "));
        assert!(refused("").message.starts_with("the Host header is empty; "));
    }

    #[test]
    fn addresses_and_localhost_and_the_names_that_are_given_are_allowed() {
        let hosts = Hosts::new(&["My.box".to_owned()]);
        for host in [
            "localhost",
            "localhost:8080",
            "LOCALHOST",
            "localhost.",
            "app.localhost:1",
            "127.0.0.1",
            "127.0.0.1:8080",
            "::",
            "[::1]",
            "[::1]:8080",
            "192.168.1.2:80",
            "my.box",
            "my.box:8080",
            "MY.BOX.",
        ] {
            assert!(hosts.allows(host), "{host}");
        }
    }

    #[test]
    fn names_that_a_web_page_may_have_are_refused() {
        let hosts = Hosts::new(&["my.box".to_owned()]);
        for host in [
            "",
            "evil.com",
            "evil.com:8080",
            "localhost.evil.com",
            "evil-localhost",
            "127.0.0.1.evil.com",
            "notmy.box",
            "my.box.evil.com",
            "localhost:evil",
            "[evil]",
            "127.0.0.1@evil.com",
            "evil.com:80:80",
            ":80",
        ] {
            assert!(!hosts.allows(host), "{host}");
        }
    }
}

//! Where hostd listens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Uri;

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The address is no `https://HOST:PORT/sdk`.
    #[error(
        "'{address}' is no address of hostd ({why}); the host's own is https://localhost:443/sdk"
    )]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Only a host's own hostd may go unverified.
    #[error(
        "the certificate of {0} must be pinned: only hostd on this host itself may go unverified; name the file with \
         its certificate"
    )]
    Unverified(String),
    /// Nobody to log in as.
    #[error("no user to log in as is configured")]
    NoCredentials,
}

/// Where hostd listens.
///
/// A host's agent has no resolver to ask: the host is `localhost` or an IP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) path: String,
}

impl Endpoint {
    /// Reads `https://HOST[:PORT][/PATH]`; `http` only for this machine itself. The path is `/sdk` unless given.
    ///
    /// # Errors
    /// [`ConfigError::Address`]
    pub fn parse(address: &str) -> Result<Self, ConfigError> {
        let fail = |why| ConfigError::Address {
            address: address.chars().take(200).collect(),
            why,
        };
        let uri: Uri = address.parse().map_err(|_| fail("it is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(fail("it does not begin with https://")),
        };
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(fail("user and password do not belong in it"));
        }
        let host = uri.host().ok_or_else(|| fail("it has no host"))?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let addresses: Vec<SocketAddr> = if host.eq_ignore_ascii_case("localhost") {
            let both = [
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ];
            both.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
        } else {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let ip: IpAddr = bare
                .parse()
                .map_err(|_| fail("its host is neither localhost nor an IP address"))?;
            vec![SocketAddr::new(ip, port)]
        };
        let endpoint = Self {
            tls,
            host: host.to_owned(),
            addresses,
            path: match uri.path() {
                "" | "/" => "/sdk".to_owned(),
                path => path.to_owned(),
            },
        };
        if !tls && !endpoint.is_loopback() {
            return Err(fail("without TLS only this machine itself is spoken to"));
        }
        Ok(endpoint)
    }

    /// Whether it is this machine itself.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.addresses.iter().all(|a| a.ip().is_loopback())
    }

    /// What goes into `Host`.
    pub(crate) fn authority(&self) -> String {
        let port = self.addresses.first().map_or(443, SocketAddr::port);
        format!("{}:{port}", self.host)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_and_addresses_are_understood() {
        let endpoint = Endpoint::parse("https://localhost:443/sdk").expect("it is one");
        assert!(endpoint.is_loopback() && endpoint.tls);
        assert_eq!(endpoint.addresses.len(), 2);
        assert_eq!(endpoint.to_string(), "https://localhost:443/sdk");
        let endpoint = Endpoint::parse("https://[::1]:8989").expect("it is one");
        assert_eq!(
            endpoint.addresses,
            ["[::1]:8989".parse().expect("it is one")]
        );
        assert_eq!(endpoint.path, "/sdk");
        assert!(
            !Endpoint::parse("https://192.0.2.1/sdk")
                .expect("it is one")
                .is_loopback()
        );
    }

    #[test]
    fn what_would_need_a_resolver_or_goes_in_the_clear_is_refused() {
        for bad in [
            "",
            "localhost",
            "ftp://localhost/",
            "https://esx.example/sdk",
            "http://192.0.2.1/sdk",
            "https://user:pw@localhost/sdk",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}

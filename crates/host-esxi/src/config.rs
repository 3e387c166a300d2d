//! How hostd is reached.

use std::fmt;
use std::path::PathBuf;

use vdvs_vim::{Client, Config, ConfigError, Credentials, Endpoint, Secret, Trust};

/// hostd on the host itself.
pub const LOCAL_URL: &str = "https://localhost:443/sdk";

/// Users whose local ticket is tried, in this order: `dcui` keeps its rights in normal lockdown mode.
const TICKET_USERS: [&str; 2] = ["dcui", "root"];

/// Who logs in.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A ticket that hostd leaves in a file of this host for its own users. The named user is tried first.
    Ticket {
        /// Before `dcui` and `root`.
        user: Option<String>,
    },
    /// A user and a password, for hosts that are not this machine.
    Password {
        /// User.
        user: String,
        /// Password.
        password: String,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ticket { user } => f.debug_struct("Ticket").field("user", user).finish(),
            Self::Password { user, .. } => f
                .debug_struct("Password")
                .field("user", user)
                .finish_non_exhaustive(),
        }
    }
}

/// How hostd is reached, and where this host's identity is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EsxiConfig {
    /// Address of the API, [`LOCAL_URL`] on a host.
    pub url: String,
    /// Who logs in.
    pub login: Login,
    /// The certificate hostd must show (PEM). None: any, and then only on this machine itself.
    pub certificate: Option<PathBuf>,
    /// This host's name in the inventory. Needed where that has several hosts, a vCenter; none on a host by itself.
    pub host: Option<String>,
    /// A folder of this host that outlives restarts: the identity is kept in it.
    pub state: PathBuf,
}

impl EsxiConfig {
    /// The host we run on.
    #[must_use]
    pub fn local(state: PathBuf) -> Self {
        Self {
            url: LOCAL_URL.to_owned(),
            login: Login::Ticket { user: None },
            certificate: None,
            host: None,
            state,
        }
    }

    /// As this one, for the ticket of one user.
    pub(crate) fn client_of(&self, user: &str) -> Result<Client, ConfigError> {
        let user = user.to_owned();
        let trust = self.certificate.clone();
        let trust = trust.map_or(Trust::Loopback, Trust::Pinned);
        let credentials = vec![Credentials::LocalTicket { user }];
        Ok(Client::new(Config::new(
            Endpoint::parse(&self.url)?,
            trust,
            credentials,
        )?))
    }

    pub(crate) fn client(&self) -> Result<Client, ConfigError> {
        let credentials = match &self.login {
            Login::Ticket { user } => {
                let mut users: Vec<String> = user.iter().cloned().collect();
                for other in TICKET_USERS {
                    if !users.iter().any(|u| u == other) {
                        users.push(other.to_owned());
                    }
                }
                let ticket = |user| Credentials::LocalTicket { user };
                users.into_iter().map(ticket).collect()
            }
            Login::Password { user, password } => vec![Credentials::Password {
                user: user.clone(),
                password: Secret::new(password.clone()),
            }],
        };
        let trust = self
            .certificate
            .clone()
            .map_or(Trust::Loopback, Trust::Pinned);
        Ok(Client::new(Config::new(
            Endpoint::parse(&self.url)?,
            trust,
            credentials,
        )?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let login = Login::Password {
            user: "root".to_owned(),
            password: "secret".to_owned(),
        };
        assert!(!format!("{login:?}").contains("secret"));
    }

    #[test]
    fn another_machine_must_show_its_certificate() {
        let mut config = EsxiConfig::local(PathBuf::from("/tmp"));
        assert!(config.client().is_ok());
        config.url = "https://192.0.2.1/sdk".to_owned();
        assert!(config.client().is_err());
        config.certificate = Some(PathBuf::from("/etc/vmware/ssl/rui.crt"));
        assert!(config.client().is_ok());
    }
}

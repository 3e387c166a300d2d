//! How a client is set up.

use std::fmt;
use std::time::Duration;

use crate::link::{ConfigError, Endpoint, Trust};

/// How long a call waits for hostd to come back before it says that it does not, unless its deadline is nearer. A call
/// that waits has not been sent.
const PATIENCE: Duration = Duration::from_secs(5);

/// A password. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A password.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Whom to log in as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user with a password.
    Password {
        /// User.
        user: String,
        /// Password.
        password: Secret,
    },
    /// A user of this host, by a ticket that hostd leaves in a file for it.
    LocalTicket {
        /// User.
        user: String,
    },
}

impl Credentials {
    /// The user.
    #[must_use]
    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } | Self::LocalTicket { user } => user,
        }
    }
}

/// How a client is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub(crate) endpoint: Endpoint,
    pub(crate) trust: Trust,
    pub(crate) credentials: Vec<Credentials>,
    pub(crate) patience: Duration,
}

impl Config {
    /// A client's settings. `credentials` are tried in this order.
    ///
    /// # Errors
    /// [`ConfigError::Unverified`] when a host that is not this one would be trusted blindly,
    /// [`ConfigError::NoCredentials`].
    pub fn new(
        endpoint: Endpoint,
        trust: Trust,
        credentials: Vec<Credentials>,
    ) -> Result<Self, ConfigError> {
        if trust == Trust::Loopback && !endpoint.is_loopback() {
            return Err(ConfigError::Unverified(endpoint.to_string()));
        }
        if credentials.is_empty() {
            return Err(ConfigError::NoCredentials);
        }
        Ok(Self {
            endpoint,
            trust,
            credentials,
            patience: PATIENCE,
        })
    }

    /// Another patience: how long a call waits for hostd to come back before it says that it does not.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Where hostd listens.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

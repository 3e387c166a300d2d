//! Who is at the other end of a connection. Given by the listener, never by what the peer says.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

/// Whom a listener serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A virtual machine, as the hypervisor names it.
    Vm {
        /// Its instance UUID.
        instance_uuid: Uuid,
        /// The path of its configuration file.
        config_path: String,
        /// Its name, for messages only.
        name: String,
    },
    /// The host's administrator: only root can open the socket.
    Admin,
    /// A virtual machine that the hypervisor cannot name yet; it is asked to come again.
    Unnamed {
        /// The number of its process group, as the socket says.
        vm: u32,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vm { name, .. } => write!(f, "VM {name}"),
            Self::Admin => f.write_str("administrator"),
            Self::Unnamed { vm } => write!(f, "VM of process group {vm}"),
        }
    }
}

/// One connection's other end. Handlers find it in a request's extensions.
#[derive(Debug, Clone)]
pub struct Peer {
    identity: Arc<Identity>,
    connection: u64,
    uid: Option<u32>,
}

impl Peer {
    pub(crate) fn new(identity: Arc<Identity>, connection: u64, uid: Option<u32>) -> Self {
        Self {
            identity,
            connection,
            uid,
        }
    }

    /// The user of this machine at the other end, as the kernel says; none where it cannot.
    #[must_use]
    pub const fn uid(&self) -> Option<u32> {
        self.uid
    }

    pub(crate) fn shared_identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity)
    }

    /// Whom it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Number of the connection on its listener, for logs: 1 is the first.
    #[must_use]
    pub const fn connection(&self) -> u64 {
        self.connection
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (connection {})", self.identity, self.connection)
    }
}

//! The way to hostd: address, TLS, connections, and when to try again. Knows bytes and time, no SOAP.

mod breaker;
mod connection;
mod endpoint;
mod pace;
mod pool;
mod tls;

pub(crate) use breaker::{Admission, Breaker};
pub(crate) use connection::{Connection, Exchange, Sent, connect};
pub use endpoint::{ConfigError, Endpoint};
pub(crate) use pace::Pace;
pub(crate) use pool::Pool;
pub(crate) use tls::TlsSetup;
pub use tls::Trust;

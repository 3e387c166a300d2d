//! gRPC on our streams: dialling, and the settings of both ends.
//!
//! A [`channel`] connects at its first call and again at the first call after a connection was lost; a call made while
//! nobody answers fails at once and says so. Whoever wants to be connected calls until one succeeds, with a
//! [`Backoff`](crate::Backoff) between.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use vdvs_transport::{Address, channel};
//!
//! let address: Address = "unix:/run/vdvs-vsock/1019".parse()?;
//! let channel = channel(address); // give it to a generated client; clones share the connection
//! # Ok(())
//! # }
//! ```

use std::io;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::transport::{Channel, Endpoint, Server};
use tower::service_fn;

use crate::address::Address;
use crate::conn::Conn;
use crate::vsock;

/// Both ends ask for a sign of life after this much silence: a vMotion pauses a guest for less.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// And wait this long for it. A guest under memory pressure answers late, a dead one never.
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(20);
/// A connection to the own host is made in microseconds or not at all.
const CONNECT: Duration = Duration::from_secs(5);
/// Calls at once on one connection: every disk a VM can have may wait for attachment (256), and the rest goes on.
const STREAMS: u32 = 512;
/// What a guest may send ahead on one call, and on all together. Requests are at most 64 KiB.
const REQUEST_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// What the agent may send ahead to a guest: a list of ten thousand volumes should not wait for round trips.
const REPLY_WINDOW: u32 = 1024 * 1024;
const REPLY_CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Headers are a path, a deadline and a reason; error texts are bounded by the API.
const HEADERS: u32 = 16 * 1024;
/// Calls that wait inside a client for the connection.
const CLIENT_QUEUE: usize = 256;

/// Connects to an agent.
///
/// # Errors
/// The connection's failure; [`io::ErrorKind::TimedOut`] after five seconds.
pub async fn dial(address: &Address) -> io::Result<UnixStream> {
    let connect = async {
        match address {
            Address::Unix(path) => UnixStream::connect(path).await,
            Address::Vsock { cid, port } => vsock::dial(*cid, *port).await,
        }
    };
    timeout(CONNECT, connect).await.unwrap_or_else(|_| {
        let text = format!("{address} did not answer within {CONNECT:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

/// A client's end. Does not connect yet; must be called inside a runtime.
#[must_use]
pub fn channel(address: Address) -> Channel {
    // The name is never resolved: HTTP/2 wants an authority, the connector ignores it.
    Endpoint::from_static("http://agent")
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(REPLY_WINDOW)
        .initial_connection_window_size(REPLY_CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADERS)
        .buffer_size(CLIENT_QUEUE)
        .connect_with_connector_lazy(service_fn(move |_: Uri| {
            let address = address.clone();
            async move { dial(&address).await.map(TokioIo::new) }
        }))
}

/// A server's end, without services yet.
#[must_use]
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_ANSWER))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(REQUEST_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADERS)
}

/// The connections of all listeners, as the server takes them.
pub fn incoming(conns: mpsc::Receiver<Conn>) -> impl Stream<Item = io::Result<Conn>> {
    ReceiverStream::new(conns).map(Ok)
}

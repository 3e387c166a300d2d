//! One HTTP/1.1 connection, and one exchange on it.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::task::TaskTracker;

use super::{Endpoint, TlsSetup};
use crate::{Limits, Lost, NotSent};

/// Longest time for a connection to come up. hostd is on this host.
const CONNECT: Duration = Duration::from_secs(10);

/// Bytes of an answer's head: hyper's smallest buffer, and far more than hostd sends.
const HEAD: usize = 64 * 1024;

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// It has carried an exchange before: the peer may have closed it since.
    pub(crate) reused: bool,
    /// When it was put away.
    pub(crate) since: Instant,
}

/// An answer that arrived.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) status: StatusCode,
    pub(crate) cookie: Option<String>,
    pub(crate) body: Bytes,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Sent {
    /// It was answered. The connection, if it can be used again.
    Answered(Exchange, Option<Connection>),
    /// Not a byte of it went out.
    Unsent(String),
    /// It went out on a connection that had been used before, and the connection closed before a byte came back.
    ClosedUnread(String),
    /// It went out and the answer did not come, or not whole.
    Lost(Lost),
}

/// Opens a connection.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    tls: &TlsSetup,
    tasks: &TaskTracker,
    deadline: Instant,
) -> Result<Connection, NotSent> {
    let until = deadline.min(Instant::now() + CONNECT);
    let mut failed = NotSent::NotListening(endpoint.to_string());
    for address in &endpoint.addresses {
        match timeout_at(until, open(endpoint, *address, tls, tasks)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(why)) => failed = why,
            Err(_) if Instant::now() >= deadline => return Err(NotSent::Deadline),
            Err(_) => {
                failed = NotSent::Connect {
                    address: address.to_string(),
                    cause: "it took too long".to_owned(),
                };
            }
        }
    }
    Err(failed)
}

async fn open(
    endpoint: &Endpoint,
    address: SocketAddr,
    tls: &TlsSetup,
    tasks: &TaskTracker,
) -> Result<Connection, NotSent> {
    let failed = |why: io::Error| NotSent::Connect {
        address: address.to_string(),
        cause: why.to_string(),
    };
    let stream = TcpStream::connect(address)
        .await
        .map_err(|why| match why.kind() {
            io::ErrorKind::ConnectionRefused => NotSent::NotListening(address.to_string()),
            _ => failed(why),
        })?;
    stream.set_nodelay(true).map_err(failed)?;
    if !endpoint.tls {
        return handshake(stream, address, tasks).await;
    }
    let untrusted = |cause: String| NotSent::Tls {
        address: address.to_string(),
        cause,
    };
    let connector = tls.connector().map_err(untrusted)?;
    let stream = connector
        .connect(ServerName::IpAddress(address.ip().into()), stream)
        .await
        .map_err(|why| match why.kind() {
            // rustls' own complaints; everything else is the connection's.
            io::ErrorKind::InvalidData => untrusted(why.to_string()),
            _ => failed(why),
        })?;
    handshake(stream, address, tasks).await
}

async fn handshake<S>(
    stream: S,
    address: SocketAddr,
    tasks: &TaskTracker,
) -> Result<Connection, NotSent>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, driver) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|why| NotSent::Connect {
            address: address.to_string(),
            cause: why.to_string(),
        })?;
    // Ends with the connection. What it has to say is said to the sender.
    tasks.spawn(async move {
        if let Err(why) = driver.await {
            tracing::debug!(%why, "a connection to hostd ended");
        }
    });
    Ok(Connection {
        sender,
        reused: false,
        since: Instant::now(),
    })
}

impl Connection {
    /// Whether the peer has closed it.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// One request and its answer.
    pub(crate) async fn exchange(
        mut self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Sent {
        match timeout_at(deadline, self.sender.ready()).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Sent::Unsent(why.to_string()),
            Err(_) => return Sent::Unsent("no time left".to_owned()),
        }
        let response = match timeout_at(deadline, self.sender.try_send_request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(mut why)) => {
                let unsent = why.take_message().is_some();
                let error = why.into_error();
                return if unsent {
                    Sent::Unsent(error.to_string())
                } else if self.reused && closed_unread(&error) {
                    Sent::ClosedUnread(error.to_string())
                } else {
                    Sent::Lost(Lost::Connection(error.to_string()))
                };
            }
            Err(_) => return Sent::Lost(Lost::Deadline),
        };
        match timeout_at(deadline, receive(response)).await {
            Ok(Ok(exchange)) => {
                let usable = timeout_at(deadline, self.sender.ready()).await;
                let again = matches!(usable, Ok(Ok(())));
                self.reused = true;
                self.since = Instant::now();
                Sent::Answered(exchange, again.then_some(self))
            }
            Ok(Err(lost)) => Sent::Lost(lost),
            Err(_) => Sent::Lost(Lost::Deadline),
        }
    }
}

/// The connection ended before a byte of the answer: what a peer does that closes idle connections.
fn closed_unread(error: &hyper::Error) -> bool {
    let reset = || {
        let source = error.source();
        source
            .and_then(|s| s.downcast_ref::<io::Error>())
            .is_some_and(|e| {
                matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionReset
                        | io::ErrorKind::BrokenPipe
                        | io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::ConnectionAborted
                )
            })
    };
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || reset()
}

async fn receive(response: Response<Incoming>) -> Result<Exchange, Lost> {
    let (head, body) = response.into_parts();
    let cookie = head
        .headers
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .filter_map(|v| v.split(';').next())
        .find(|v| v.starts_with(SESSION_COOKIE) && v.len() <= LONGEST_COOKIE)
        .map(str::to_owned);
    let body = Limited::new(body, Limits::ANSWER.bytes)
        .collect()
        .await
        .map_err(|why| Lost::Connection(why.to_string()))?
        .to_bytes();
    Ok(Exchange {
        status: head.status,
        cookie,
        body,
    })
}

/// The cookie that is the session.
const SESSION_COOKIE: &str = "vmware_soap_session=";

/// Longest cookie sent back; hostd's has some sixty characters.
const LONGEST_COOKIE: usize = 1024;

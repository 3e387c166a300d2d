//! Sending one call: which failures are made up for, and which are told.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use tokio::time::{Instant, sleep};

use super::login::Session;
use super::{Client, not_sent, unknown};
use crate::link::{Admission, Connection, Exchange, Pace, Sent, connect};
use crate::soap::{Answer, Call, Repeat, read};
use crate::{Error, Lost, NotSent};

/// What is sent, ready to be sent again.
pub(super) struct Message<'c> {
    pub(super) name: &'static str,
    pub(super) repeat: Repeat,
    pub(super) method: Method,
    pub(super) path: &'c str,
    pub(super) action: Option<String>,
    pub(super) cookie: Option<&'c str>,
    pub(super) body: Bytes,
}

impl Client {
    /// Sends a call in a session.
    pub(super) async fn send(
        &self,
        call: &Call,
        session: &Session,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let action = session.versions.action(call.since);
        let message = self.message(call, action, session.cookie.as_deref())?;
        let exchange = self.exchange(&message, deadline).await?;
        session.touch();
        read(call.name, &exchange.body)
    }

    /// The message for a call.
    pub(super) fn message<'c>(
        &'c self,
        call: &Call,
        action: String,
        cookie: Option<&'c str>,
    ) -> Result<Message<'c>, Error> {
        let body = call
            .envelope()
            .map_err(|why| not_sent(call.name, NotSent::Argument(why.to_string())))?;
        Ok(Message {
            name: call.name,
            repeat: call.repeat,
            method: Method::POST,
            path: &self.0.config.endpoint.path,
            action: Some(action),
            cookie,
            body: Bytes::from(body),
        })
    }

    /// Sends a message until it is answered, it is known to be lost, or patience or time are over.
    pub(super) async fn exchange(
        &self,
        message: &Message<'_>,
        deadline: Instant,
    ) -> Result<Exchange, Error> {
        let name = message.name;
        let give_up = deadline.min(Instant::now() + self.0.config.patience);
        let mut pace = Pace::of_call();
        let mut sent_again = false;
        loop {
            if Instant::now() >= deadline {
                return Err(not_sent(name, NotSent::Deadline));
            }
            let attempt = match self.0.breaker.admit() {
                Admission::Go(attempt) => attempt,
                Admission::Rest(retry_in) => {
                    if Instant::now() + retry_in >= give_up {
                        return Err(not_sent(name, NotSent::Resting { retry_in }));
                    }
                    sleep(retry_in).await;
                    continue;
                }
            };
            let failed = match self.attempt(message, deadline).await {
                Attempted::Answered(exchange) => {
                    attempt.succeeded();
                    return Ok(exchange);
                }
                // The peer closed a connection we had put away: the next one is not that old.
                Attempted::StaleUnsent => continue,
                Attempted::StaleUnread(why) => {
                    if message.repeat == Repeat::Never || sent_again {
                        return Err(unknown(name, Lost::Connection(why)));
                    }
                    sent_again = true;
                    continue;
                }
                Attempted::Lost(lost) => {
                    if lost != Lost::Deadline {
                        attempt.failed();
                    }
                    return Err(unknown(name, lost));
                }
                Attempted::Untrusted(why) => {
                    attempt.failed();
                    return Err(not_sent(name, why));
                }
                Attempted::NotSent(why) => why,
            };
            attempt.failed();
            let wait = pace.next();
            if Instant::now() + wait >= give_up {
                return Err(not_sent(name, failed));
            }
            tracing::debug!(call = name, why = %failed, ?wait, "trying hostd again");
            sleep(wait).await;
        }
    }

    async fn attempt(&self, message: &Message<'_>, deadline: Instant) -> Attempted {
        let connection = match self.connection(message.repeat, deadline).await {
            Ok(connection) => connection,
            Err(why @ NotSent::Tls { .. }) => return Attempted::Untrusted(why),
            Err(why) => return Attempted::NotSent(why),
        };
        let reused = connection.reused;
        let request = match self.request(message) {
            Ok(request) => request,
            Err(why) => return Attempted::Untrusted(why),
        };
        match connection.exchange(request, deadline).await {
            Sent::Answered(exchange, connection) => {
                if let Some(connection) = connection {
                    self.0.pool.put(connection, &self.0.tasks);
                }
                judge(message, exchange)
            }
            Sent::Unsent(_) if reused => Attempted::StaleUnsent,
            Sent::Unsent(cause) => Attempted::NotSent(NotSent::Connect {
                address: self.0.config.endpoint.to_string(),
                cause,
            }),
            Sent::ClosedUnread(why) => Attempted::StaleUnread(why),
            Sent::Lost(lost) => Attempted::Lost(lost),
        }
    }

    async fn connection(&self, repeat: Repeat, deadline: Instant) -> Result<Connection, NotSent> {
        if let Some(connection) = self.0.pool.take(repeat == Repeat::Never) {
            return Ok(connection);
        }
        let shared = &self.0;
        connect(
            &shared.config.endpoint,
            &shared.tls,
            &shared.tasks,
            deadline,
        )
        .await
    }

    fn request(&self, message: &Message<'_>) -> Result<Request<Full<Bytes>>, NotSent> {
        let mut request = Request::builder()
            .method(&message.method)
            .uri(message.path)
            .header(HOST, self.0.config.endpoint.authority())
            .header(USER_AGENT, "vdvsd");
        if let Some(action) = &message.action {
            request = request
                .header(CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
                .header("SOAPAction", action);
        }
        if let Some(cookie) = message.cookie {
            let argument = |_| NotSent::Argument("the session's cookie".to_owned());
            let value = HeaderValue::from_str(cookie).map_err(argument)?;
            request = request.header(COOKIE, value);
        }
        request
            .body(Full::new(message.body.clone()))
            .map_err(|why| NotSent::Argument(why.to_string()))
    }
}

/// What an attempt came to.
enum Attempted {
    Answered(Exchange),
    StaleUnsent,
    StaleUnread(String),
    Lost(Lost),
    Untrusted(NotSent),
    NotSent(NotSent),
}

/// A SOAP answer comes with 200, a fault with 500. 503 comes from the proxy before hostd; it may have handed the request
/// over before hostd died, so only what may be repeated is.
fn judge(message: &Message<'_>, exchange: Exchange) -> Attempted {
    match exchange.status {
        StatusCode::OK | StatusCode::INTERNAL_SERVER_ERROR => Attempted::Answered(exchange),
        StatusCode::SERVICE_UNAVAILABLE if message.repeat == Repeat::Safe => {
            Attempted::NotSent(NotSent::Unavailable)
        }
        // A file that is not there, as the list of versions on a host that has none.
        StatusCode::NOT_FOUND if message.method == Method::GET => Attempted::Answered(exchange),
        status => Attempted::Lost(Lost::Status(status.as_u16())),
    }
}

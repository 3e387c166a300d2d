//! From a request to the service and back.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE as LABEL, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::patience::Turn;
use super::wire::{self, Ask, Unread};
use super::{HangUp, REQUEST_TIME, Server};
use crate::service::Failure;

type Reply = Response<Full<Bytes>>;

impl Server {
    pub(super) async fn request(
        &self,
        request: Request<Incoming>,
        turn: &Turn,
    ) -> Result<Reply, HangUp> {
        let Some(entered) = self.enter() else {
            return Err(HangUp("too many requests".into()));
        };
        let path = request.uri().path().to_owned();
        let body = match read(request).await? {
            Body::Whole(body) => body,
            Body::TooLarge => {
                let text = format!("the body has more than {} bytes", wire::MAX_BODY);
                return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, text).into());
            }
        };
        turn.ours();
        let answer = self.handle(&path, &body).await;
        turn.theirs();
        drop(entered);
        answer.map(Reply::from)
    }

    /// One request that came whole. Dropping the future means that the caller has gone.
    ///
    /// # Errors
    /// [`HangUp`]: the connection is to be closed without an answer.
    pub async fn handle(&self, path: &str, body: &[u8]) -> Result<Answer, HangUp> {
        let answer = match Ask::read(path, body) {
            Ok(ask) => self.answer(ask).await,
            Err(Unread::EmptyBody) => Err(HangUp(format!("{path} came with an empty body"))),
            Err(Unread::UnknownPath) => {
                Ok(plain(StatusCode::NOT_FOUND, "404 page not found".into()))
            }
            Err(Unread::Malformed(why)) => Ok(plain(StatusCode::BAD_REQUEST, why)),
        };
        answer.inspect_err(|hang_up| debug!(%path, %hang_up, "no answer"))
    }

    async fn answer(&self, ask: Ask) -> Result<Answer, HangUp> {
        debug!(?ask, "asked");
        let volumes = &self.volumes;
        let done = |()| Bytes::from_static(wire::DONE);
        let answered: Result<Bytes, Failure> = match &ask {
            Ask::Activate => Ok(Bytes::from_static(wire::ACTIVATED)),
            Ask::Capabilities => Ok(Bytes::from_static(wire::CAPABILITIES)),
            Ask::List => volumes.list().await.map(|all| wire::volumes(&all).into()),
            Ask::Create { name, options } => volumes.create(name, options).await.map(done),
            Ask::Remove(name) => volumes.remove(name).await.map(done),
            Ask::Get(name) => volumes.get(name).await.map(|one| wire::volume(&one).into()),
            Ask::Path(name) => volumes
                .path(name)
                .await
                .map(|p| wire::mountpoint(&p).into()),
            Ask::Mount { name, id } => {
                let path = volumes.mount(name, id).await;
                path.map(|p| wire::mountpoint(&p).into())
            }
            Ask::Unmount { name, id } => volumes.unmount(name, id).await.map(done),
        };
        match answered {
            Ok(body) => Ok(labelled(StatusCode::OK, body)),
            Err(Failure::Said(text)) => {
                if matches!(ask, Ask::Get(_) | Ask::Path(_)) {
                    debug!(?ask, %text, "no");
                } else {
                    info!(?ask, %text, "refused");
                }
                Ok(labelled(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    wire::error(&text).into(),
                ))
            }
            Err(Failure::Unknown(why)) => {
                warn!(?ask, %why, "not known now; the connection is closed without an answer");
                Err(HangUp(why))
            }
        }
    }
}

enum Body {
    Whole(Bytes),
    TooLarge,
}

async fn read(request: Request<Incoming>) -> Result<Body, HangUp> {
    timeout(REQUEST_TIME, whole(request.into_body()))
        .await
        .unwrap_or_else(|_| Err(HangUp("the body did not arrive in time".into())))
}

/// Each piece is copied: kept as it came, a byte would keep the whole buffer it was read into, and a caller who sends a
/// body byte by byte would make us hold thousands of times its size.
async fn whole(mut incoming: Incoming) -> Result<Body, HangUp> {
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|e| HangUp(e.to_string()))?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if body.len() + piece.len() > wire::MAX_BODY {
            return Ok(Body::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Body::Whole(body.into()))
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether it went well, as HTTP says it.
    pub status: StatusCode,
    /// What it is labelled with.
    label: &'static str,
    /// JSON, or plain text where nothing was understood.
    pub body: Bytes,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        let mut reply = Self::new(Full::new(answer.body));
        *reply.status_mut() = answer.status;
        let label = HeaderValue::from_static(answer.label);
        reply.headers_mut().insert(LABEL, label);
        reply
    }
}

fn labelled(status: StatusCode, body: Bytes) -> Answer {
    let label = wire::CONTENT_TYPE;
    Answer {
        status,
        label,
        body,
    }
}

fn plain(status: StatusCode, text: String) -> Answer {
    Answer {
        status,
        label: "text/plain; charset=utf-8",
        body: Bytes::from(text + "\n"),
    }
}

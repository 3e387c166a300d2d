//! As much of HTTP/1.1 as our own client needs.

use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::reply::{answer, fault};
use super::{Reply, Seen, State};

/// Serves one connection until either side closes it.
pub(super) async fn serve(stream: TcpStream, connection: usize, state: Arc<Mutex<State>>) {
    // An answer goes out in pieces: none may wait for the other side to confirm the one before.
    stream.set_nodelay(true).ok();
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Ok(Some(request)) = receive(&mut read, connection).await {
        let versions = || {
            state
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .versions
                .clone()
        };
        let went_on = match request {
            Request::Versions => match versions() {
                Some(list) => send(&mut write, 200, list.as_bytes(), None).await,
                None => send(&mut write, 404, b"", None).await,
            },
            Request::Call(seen) => {
                let decided = state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .decide(&seen);
                perform(&mut write, &seen.call, decided).await
            }
        };
        if went_on.is_err() {
            return;
        }
    }
}

enum Request {
    Versions,
    Call(Seen),
}

async fn receive(
    read: &mut BufReader<OwnedReadHalf>,
    connection: usize,
) -> io::Result<Option<Request>> {
    let (mut length, mut action, mut cookie) = (0, String::new(), None);
    let mut is_get = false;
    loop {
        let mut line = String::new();
        if read.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        is_get |= line.starts_with("GET ");
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "soapaction" => value.trim().clone_into(&mut action),
            "cookie" => cookie = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    if is_get {
        return Ok(Some(Request::Versions));
    }
    let mut body = vec![0; length];
    read.read_exact(&mut body).await?;
    let envelope = String::from_utf8_lossy(&body);
    let inside = envelope
        .split_once("<soapenv:Body>")
        .and_then(|(_, rest)| rest.split_once("</soapenv:Body>"))
        .map_or("", |(inside, _)| inside);
    let call = inside
        .trim_start_matches('<')
        .split([' ', '>'])
        .next()
        .unwrap_or_default();
    Ok(Some(Request::Call(Seen {
        call: call.to_owned(),
        action,
        cookie,
        body: inside.to_owned(),
        connection,
    })))
}

/// Answers. An error ends the connection.
async fn perform(
    write: &mut OwnedWriteHalf,
    call: &str,
    (reply, cookie): (Reply, Option<String>),
) -> io::Result<()> {
    let cookie = cookie.as_deref();
    match reply {
        Reply::Answer(inside) => send(write, 200, answer(call, &inside).as_bytes(), cookie).await,
        Reply::Fault(kind, inside) => send(write, 500, fault(kind, &inside).as_bytes(), None).await,
        Reply::Status(status) => send(write, status, b"", None).await,
        Reply::Raw(bytes) => send(write, 200, &bytes, None).await,
        Reply::Cut(inside, at) => {
            let whole = answer(call, &inside);
            let part = whole.as_bytes().get(..at).unwrap_or_default();
            head(write, 200, whole.len(), None).await?;
            write.write_all(part).await?;
            write.flush().await?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        Reply::HangUp => Err(io::ErrorKind::ConnectionAborted.into()),
        Reply::Silence => pending().await,
    }
}

async fn send(
    write: &mut OwnedWriteHalf,
    status: u16,
    body: &[u8],
    cookie: Option<&str>,
) -> io::Result<()> {
    head(write, status, body.len(), cookie).await?;
    write.write_all(body).await?;
    write.flush().await
}

async fn head(
    write: &mut OwnedWriteHalf,
    status: u16,
    length: usize,
    cookie: Option<&str>,
) -> io::Result<()> {
    let cookie = cookie.map_or(String::new(), |c| {
        format!("Set-Cookie: {c}; Path=/; HttpOnly; Secure\r\n")
    });
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n{cookie}\r\n"
    );
    write.write_all(head.as_bytes()).await
}

//! Requests as each engine spells them, and replies as they come.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Who is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// dockerd 20.10: an empty `Host`.
    Docker20,
    /// dockerd 26 and later.
    Docker26,
    /// podman: labelled bodies without a line end, a connection per command.
    Podman,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire(pub(crate) UnixStream);

impl Dialect {
    /// The request's bytes. Bodies are given as dockerd sends them.
    pub(crate) fn request(self, path: &str, body: &str) -> String {
        match self {
            Self::Docker20 | Self::Docker26 => {
                let host = if self == Self::Docker20 {
                    ""
                } else {
                    "plugin.moby.localhost"
                };
                format!(
                    "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\nAccept-Encoding: gzip\r\n\r\n{body}",
                    body.len()
                )
            }
            Self::Podman => {
                let body = body.trim_end();
                format!(
                    "POST {path} HTTP/1.1\r\nHost: plugin\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\nContent-Type: application/vnd.docker.plugins.v1.1+json\r\nAccept-Encoding: gzip\r\n\r\n{body}",
                    body.len()
                )
            }
        }
    }
}

impl Wire {
    /// Sends and reads one reply; none when the other end hung up.
    pub(crate) async fn post(&mut self, dialect: Dialect, path: &str, body: &str) -> Option<Got> {
        let text = self.raw(dialect.request(path, body).as_bytes()).await?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status == 200 || status == 500 {
            let label = "content-type: application/vnd.docker.plugins.v1.1+json";
            assert!(head.contains(label), "{head}");
        }
        Some(Got {
            status,
            body: body.to_owned(),
        })
    }

    /// Sends bytes and reads one reply's bytes.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) -> Option<String> {
        if let Err(e) = self.0.write_all(bytes).await {
            // A server may refuse before it has read everything.
            assert!(matches!(
                e.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            ));
        }
        let mut reply = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let read = match self.0.read(&mut chunk).await {
                Ok(read) => read,
                Err(e) if e.kind() == ErrorKind::ConnectionReset => 0,
                Err(e) => panic!("{e}"),
            };
            reply.extend_from_slice(&chunk[..read]);
            if let Some(text) = whole(&reply) {
                return Some(text);
            }
            if read == 0 {
                assert!(reply.is_empty(), "{}", String::from_utf8_lossy(&reply));
                return None;
            }
        }
    }
}

fn whole(reply: &[u8]) -> Option<String> {
    let text = String::from_utf8(reply.to_vec()).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?
        .parse()
        .ok()?;
    (body.len() >= length).then_some(text)
}

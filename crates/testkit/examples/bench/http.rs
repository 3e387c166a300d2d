//! dockerd's side of a plugin's socket: HTTP/1.1 with one connection that is kept, one request at a time.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Above every deadline the plugin has itself.
const LIMIT: Duration = Duration::from_secs(180);

/// A connection.
#[derive(Debug)]
pub(crate) struct Http {
    stream: BufReader<UnixStream>,
}

impl Http {
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Calls the plugin; an error it names is an error here.
    pub(crate) fn plugin(&mut self, verb: &str, body: &Value) -> Result<Value> {
        let answer = self.post(&format!("/VolumeDriver.{verb}"), body)?;
        if let Some(text) = answer.get("Err").and_then(Value::as_str)
            && !text.is_empty()
        {
            bail!("{verb}: {text}");
        }
        Ok(answer)
    }

    /// Posts JSON and returns the JSON that comes back.
    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: plugin\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let mut length = None;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        let length = length.with_context(|| format!("{path}: {status}, of unknown length"))?;
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        let text = String::from_utf8_lossy(&answer);
        let code = status.split(' ').nth(1).unwrap_or_default();
        ensure!(code.starts_with('2'), "{path}: {status}: {text}");
        serde_json::from_str(&text).with_context(|| format!("{path} answered: {text}"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line)?;
        ensure!(read > 0, "the connection was closed");
        Ok(line.trim_end().to_owned())
    }
}

//! Docker's side of the plugin's socket, one connection a call.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Above every deadline the plugin has itself.
const LIMIT: Duration = Duration::from_secs(180);

/// Calls a verb; an error that the plugin names is an error here.
///
/// # Errors
/// Nobody listens, the connection is closed without an answer, or the plugin refuses.
pub fn call(socket: &Path, verb: &str, body: &Value) -> Result<Value> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let body = body.to_string();
    let request = format!(
        "POST /VolumeDriver.{verb} HTTP/1.1\r\nHost: plugin\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .with_context(|| format!("{verb}: no answer: '{text}'"))?;
    let answer: Value = serde_json::from_str(body).with_context(|| format!("{verb}: {text}"))?;
    if let Some(said) = answer.get("Err").and_then(Value::as_str)
        && !said.is_empty()
    {
        bail!("{verb}: {said}");
    }
    ensure!(head.starts_with("HTTP/1.1 200 "), "{verb}: {text}");
    Ok(answer)
}

//! A node's engine through its own CLI: `docker -H unix://<node's socket>`.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{Cmd, tool};
use crate::wait;

/// How long an engine may take to say that it is there.
const PING_LIMIT: Duration = Duration::from_secs(20);

/// One engine.
#[derive(Debug, Clone)]
pub struct Docker {
    socket: PathBuf,
}

impl Docker {
    /// The engine that listens on `socket`.
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The engine's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The CLI with these arguments, not yet run.
    pub fn cmd<I, S>(&self, args: I) -> Cmd
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        // The configuration folder of whoever runs this is none of the lab's business.
        Cmd::new(tool::DOCKER)
            .clean_env()
            .env("DOCKER_CONFIG", "/nonexistent")
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .args(args)
            .limit(Duration::from_secs(150))
    }

    /// Runs the CLI and returns what it printed, without the line's end.
    ///
    /// # Errors
    /// The CLI fails; its text is in the error.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String> {
        Ok(self.cmd(args).run()?.trim_end().to_owned())
    }

    /// Runs the CLI and parses what it printed as JSON.
    ///
    /// # Errors
    /// The CLI fails or prints something else.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.run(args)?;
        serde_json::from_str(&text).with_context(|| format!("docker {args:?} printed: {text}"))
    }

    /// The engine answers a ping.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.ping().is_ok_and(|answer| answer.contains("200 OK"))
    }

    /// Waits until the engine answers.
    ///
    /// # Errors
    /// Not within `limit`.
    pub fn wait_ready(&self, limit: Duration) -> Result<()> {
        let what = format!("engine at {} answers", self.socket.display());
        wait::until_true(limit, &what, || Ok(self.answers()))
    }

    /// The engine has an image of this name.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn has_image(&self, image: &str) -> Result<bool> {
        Ok(!self.run(&["images", "--quiet", image])?.is_empty())
    }

    /// Volume drivers the engine knows of.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn volume_drivers(&self) -> Result<Vec<String>> {
        let drivers = self.json(&["info", "--format", "{{json .Plugins.Volume}}"])?;
        Ok(serde_json::from_value(drivers)?)
    }

    fn ping(&self) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PING_LIMIT))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut head = [0; 64];
        let read = stream.read(&mut head)?;
        Ok(String::from_utf8_lossy(head.get(..read).unwrap_or_default()).into_owned())
    }
}

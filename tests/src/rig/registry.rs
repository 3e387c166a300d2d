//! A registry for plugins, as much of one as `docker plugin push` and `docker plugin upgrade` need, in memory.
//!
//! It listens inside a node's network namespace at [`Registry::AT`], which engines reach without TLS because it is the
//! loopback. It answers one request per connection, believes whoever asks, and goes with the process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use vdvs_testkit::lab::Node;
use vdvs_testkit::process::Cmd;

/// Above any plugin's layer.
const BODY_MAX: u64 = 256 * 1024 * 1024;
/// A peer that stops in the middle of a request.
const PATIENCE: Duration = Duration::from_secs(90);
/// coreutils.
const SHA256SUM: &str = "/usr/bin/sha256sum";

/// A registry that serves one node.
#[derive(Debug)]
pub struct Registry;

impl Registry {
    /// Where it is, for the node.
    pub const AT: &str = "127.0.0.1:5000";

    /// Starts one for a node that is on.
    ///
    /// # Errors
    /// The node is off.
    pub fn start(node: &Node) -> Result<Self> {
        let namespace = format!("/proc/{}/ns/net", node.init()?.pid);
        let namespace = File::open(&namespace).with_context(|| format!("open {namespace}"))?;
        let (listens, listening) = sync_channel(1);
        // Only this thread moves into the namespace, and a socket stays in the one it was made in.
        thread::spawn(move || {
            let bound = setns(&namespace, CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .and_then(|()| TcpListener::bind(Self::AT));
            match bound {
                Ok(listener) => {
                    listens.send(Ok(())).ok();
                    serve(&listener);
                }
                Err(error) => {
                    listens.send(Err(error)).ok();
                }
            }
        });
        listening
            .recv()
            .context("the registry's thread")?
            .context("listen in the node")?;
        Ok(Self)
    }
}

/// What was pushed: the path below `/v2/` → its type and its bytes.
type Store = BTreeMap<String, (String, Vec<u8>)>;

fn serve(listener: &TcpListener) {
    let mut store = Store::new();
    for stream in listener.incoming().flatten() {
        if let Err(error) = answer(&mut store, &stream) {
            eprintln!("registry: {error:#}");
        }
    }
}

#[derive(Debug)]
struct Request {
    method: String,
    path: String,
    query: String,
    kind: String,
    body: Vec<u8>,
}

fn answer(store: &mut Store, stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let Some(request) = read(stream)? else {
        return Ok(());
    };
    let path = request.path.trim_start_matches("/v2/").to_owned();
    match (request.method.as_str(), path.rsplit_once('/')) {
        ("GET", None) => reply(stream, "200 OK", "", &[], true),
        ("GET" | "HEAD", _) => match store.get(&path) {
            Some((kind, bytes)) => {
                let head = format!(
                    "Content-Type: {kind}\r\nDocker-Content-Digest: {}\r\n",
                    digest(bytes)?
                );
                reply(stream, "200 OK", &head, bytes, request.method == "GET")
            }
            None => reply(stream, "404 Not Found", "", &[], true),
        },
        ("POST", _) => {
            let head = format!("Location: {}upload\r\n", request.path);
            reply(stream, "202 Accepted", &head, &[], true)
        }
        ("PUT", Some((folder, _))) => {
            let digest = digest(&request.body)?;
            let name = match folder.strip_suffix("/blobs/uploads") {
                Some(name) => {
                    let asked = request.query.replace("%3A", ":");
                    ensure!(
                        asked.contains(&digest),
                        "{digest} is not what was announced: {asked}"
                    );
                    format!("{name}/blobs/{digest}")
                }
                None => {
                    let by_digest = format!("{folder}/{digest}");
                    store.insert(by_digest, (request.kind.clone(), request.body.clone()));
                    path.clone()
                }
            };
            let kind = if request.kind.is_empty() {
                "application/octet-stream"
            } else {
                &request.kind
            };
            store.insert(name, (kind.to_owned(), request.body));
            let head = format!("Docker-Content-Digest: {digest}\r\n");
            reply(stream, "201 Created", &head, &[], true)
        }
        _ => bail!("nobody expects {} {}", request.method, request.path),
    }
}

fn read(stream: &TcpStream) -> Result<Option<Request>> {
    let mut reader = BufReader::new(stream);
    // Engines try TLS first; its greeting begins with this byte.
    if reader.fill_buf()?.first() == Some(&0x16) {
        return Ok(None);
    }
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        kind: String::new(),
        body: Vec::new(),
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse()?,
            "content-type" => value.clone_into(&mut request.kind),
            "transfer-encoding" => bail!("a body of unknown length"),
            _ => {}
        }
    }
    ensure!(length <= BODY_MAX, "{length} bytes are too many");
    reader.take(length).read_to_end(&mut request.body)?;
    Ok(Some(request))
}

fn reply(mut stream: &TcpStream, status: &str, head: &str, body: &[u8], whole: bool) -> Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{head}Docker-Distribution-Api-Version: registry/2.0\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if whole {
        stream.write_all(body)?;
    }
    Ok(())
}

fn digest(bytes: &[u8]) -> Result<String> {
    let said = Cmd::new(SHA256SUM).input(bytes).run()?;
    let hash = said.split(' ').next().unwrap_or_default();
    Ok(format!("sha256:{hash}"))
}

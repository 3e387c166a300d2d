//! Requests to the plugin that nobody should send.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::bare::dice::Dice;

/// The longest anything may take to be answered or hung up on: a request has ten seconds to arrive.
const LIMIT: Duration = Duration::from_secs(40);
const VERBS: [&str; 8] = [
    "Create",
    "Remove",
    "Get",
    "Path",
    "Mount",
    "Unmount",
    "List",
    "Capabilities",
];
/// Those that need a name.
const NAMED: [&str; 6] = ["Create", "Remove", "Get", "Path", "Mount", "Unmount"];

/// How attacks ended, by kind and status; 0: hung up on.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<(&'static str, u16), usize>>);

impl Tally {
    fn note(&self, kind: &'static str, status: u16) {
        *self.0.lock().unwrap().entry((kind, status)).or_default() += 1;
    }

    pub(crate) fn all(&self) -> usize {
        self.0.lock().unwrap().values().sum()
    }

    pub(crate) fn text(&self) -> String {
        let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ((kind, status), count) in self.0.lock().unwrap().iter() {
            let status = if *status == 0 {
                "closed".to_owned()
            } else {
                status.to_string()
            };
            lines
                .entry(kind)
                .or_default()
                .push(format!("{status}×{count}"));
        }
        let lines: Vec<_> = lines
            .iter()
            .map(|(kind, all)| format!("{kind}: {}", all.join(" ")))
            .collect();
        lines.join("; ")
    }
}

/// What is sent, and which answers are right. Being hung up on always is.
struct Attack {
    kind: &'static str,
    bytes: Vec<u8>,
    right: &'static [u16],
    end: End,
}

/// How the attacker ends.
enum End {
    /// It reads to the end.
    Reads,
    /// It has sent everything it will ever send, and says so.
    HalfCloses,
    /// It goes away without a word.
    Leaves,
    /// It sends the rest byte by byte.
    Trickles(Vec<u8>),
}

/// One attack; an answer that is not right is an error.
pub(crate) fn attack(socket: &Path, dice: &mut Dice, tally: &Tally) -> Result<()> {
    if dice.once_in(16) {
        return pipeline(socket, dice, tally);
    }
    let attack = make(dice);
    let mut stream = connect(socket)?;
    // Whoever is refused early cannot send the rest.
    let sent = stream.write_all(&attack.bytes);
    if let Err(error) = sent
        && !is_closed(error.kind())
    {
        return Err(error).context(attack.kind);
    }
    match attack.end {
        End::Reads => {}
        End::HalfCloses => {
            stream.shutdown(Shutdown::Write).ok();
        }
        End::Leaves => {
            tally.note(attack.kind, 0);
            return Ok(());
        }
        End::Trickles(rest) => {
            for byte in rest {
                sleep(Duration::from_millis(15));
                if stream.write_all(&[byte]).is_err() {
                    break;
                }
            }
            // Being shown out takes ten seconds; see `slow`.
            tally.note(attack.kind, 0);
            return Ok(());
        }
    }
    let answer = read(&mut stream).with_context(|| attack.kind)?;
    let status = status(&answer)?;
    tally.note(attack.kind, status);
    ensure!(
        status == 0 || attack.right.contains(&status),
        "{}: {}\n→ {}",
        attack.kind,
        attack
            .bytes
            .escape_ascii()
            .to_string()
            .chars()
            .take(600)
            .collect::<String>(),
        String::from_utf8_lossy(&answer)
            .chars()
            .take(600)
            .collect::<String>()
    );
    Ok(())
}

/// Requests that never become whole, a byte now and then: each is hung up on, not waited for.
pub(crate) fn slow(socket: &Path) -> Result<()> {
    let starve = || -> Result<()> {
        let mut stream = connect(socket)?;
        stream.write_all(
            b"POST /VolumeDriver.Get HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{",
        )?;
        let begin = Instant::now();
        while stream.write_all(b" ").is_ok() {
            ensure!(
                begin.elapsed() < LIMIT,
                "a request without an end is waited for"
            );
            sleep(Duration::from_millis(20));
        }
        let answer = read(&mut stream)?;
        ensure!(answer.is_empty(), "it was answered");
        Ok(())
    };
    let ends: Vec<Result<()>> = thread::scope(|scope| {
        let running: Vec<_> = (0..16).map(|_| scope.spawn(starve)).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    ends.into_iter().collect()
}

fn connect(socket: &Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(socket).context("the plugin listens no longer")?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

fn read(stream: &mut UnixStream) -> Result<Vec<u8>> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if is_closed(error.kind()) => {}
        Err(error) => return Err(error).context("neither answered nor hung up on"),
    }
    Ok(answer)
}

/// The first answer's status; 0: none.
fn status(answer: &[u8]) -> Result<u16> {
    if answer.is_empty() {
        return Ok(0);
    }
    let text = String::from_utf8_lossy(answer);
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.with_context(|| format!("no HTTP: {}", text.chars().take(200).collect::<String>()))
}

/// A request whose connection closes after its answer.
fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend(body);
    bytes
}

fn make(dice: &mut Dice) -> Attack {
    let verb = *dice.pick(&VERBS);
    let path = format!("/VolumeDriver.{verb}");
    let named = format!("/VolumeDriver.{}", dice.pick(&NAMED));
    match dice.below(17) {
        0 => Attack {
            kind: "giant head",
            bytes: giant_head(dice),
            // One that just fits is a request like any other.
            right: &[200, 400, 404, 414, 431],
            end: End::Reads,
        },
        1 => giant_body(&named, dice),
        2 => Attack {
            kind: "bad length",
            bytes: bad_length(&path, dice),
            right: &[400, 413, 431, 501],
            end: End::HalfCloses,
        },
        3 => Attack {
            kind: "bad chunks",
            bytes: bad_chunks(&named, dice),
            right: &[400, 413],
            end: End::HalfCloses,
        },
        4 => {
            let body = br#"{"Name":"trickle"}"#.to_vec();
            let mut bytes = post("/VolumeDriver.Get", &body);
            bytes.truncate(bytes.len() - body.len());
            let keep = dice.below(body.len());
            let rest = body[..keep].to_vec();
            Attack {
                kind: "slow body",
                bytes,
                right: &[],
                end: if dice.once_in(8) {
                    End::Trickles(rest)
                } else {
                    End::Leaves
                },
            }
        }
        5 => Attack {
            kind: "deep JSON",
            bytes: post(&named, &deep(dice)),
            right: &[200, 400, 500],
            end: End::Reads,
        },
        6 => Attack {
            kind: "wrong types",
            bytes: post(&named, &wrong_types(dice)),
            // Whatever is to be unmounted is not mounted.
            right: &[200, 400, 500],
            end: End::Reads,
        },
        7 | 8 => hostile_name(dice),
        9 => {
            let whole = post(&path, br#"{"Name":"half"}"#);
            let keep = dice.between(1, whole.len() - 1);
            Attack {
                kind: "half a request",
                bytes: whole[..keep].to_vec(),
                right: &[400],
                end: if dice.once_in(2) {
                    End::HalfCloses
                } else {
                    End::Leaves
                },
            }
        }
        10 => {
            let length = dice.between(1, 2000);
            let mut bytes = dice.bytes(length);
            bytes.extend(b"\r\n\r\n");
            Attack {
                kind: "random bytes",
                bytes,
                right: &[400, 414, 431],
                end: End::HalfCloses,
            }
        }
        11 => Attack {
            kind: "no body",
            bytes: post(&named, if dice.once_in(2) { b"" } else { b" \n" }),
            right: &[],
            end: End::Reads,
        },
        12 => {
            let body =
                json!({"Name": format!("nobody-{}", dice.below(1000)), "ID": "x"}).to_string();
            let verb = *dice.pick(&["Mount", "Get", "Remove"]);
            Attack {
                kind: "gone at once",
                bytes: post(&format!("/VolumeDriver.{verb}"), body.as_bytes()),
                right: &[],
                end: End::Leaves,
            }
        }
        13 => {
            let text = dice.bytes(12);
            let path = format!("/{}", text.escape_ascii()).replace(['\\', ' '], "_");
            Attack {
                kind: "no such path",
                bytes: post(&path, b"{}"),
                right: &[404, 400],
                end: End::Reads,
            }
        }
        14 => {
            let body = br#"{"Name":"canary"#;
            Attack {
                kind: "cut JSON",
                bytes: post(&named, &body[..dice.between(1, body.len())]),
                right: &[400],
                end: End::Reads,
            }
        }
        15 => {
            let line = *dice.pick(&[
                "FOO / HTTP/9.9\r\n\r\n",
                "POST\r\n\r\n",
                "\0\0\0\0\r\n\r\n",
                "POST / HTTP/1.1 HTTP/1.1\r\n\r\n",
                "POST /VolumeDriver.List HTTP/1.1\r\nA\u{7f}: b\r\n\r\n",
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            ]);
            Attack {
                kind: "no request line",
                bytes: line.as_bytes().to_vec(),
                right: &[400, 404, 505],
                end: End::HalfCloses,
            }
        }
        _ => {
            // A right one, from somebody who closes his half: an answer or none, but nothing else.
            Attack {
                kind: "half-closed",
                bytes: post("/VolumeDriver.Get", br#"{"Name":"canary"}"#),
                right: &[200],
                end: End::HalfCloses,
            }
        }
    }
}

fn giant_head(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = b"POST /VolumeDriver.List HTTP/1.1\r\nHost: x\r\n".to_vec();
    match dice.below(3) {
        0 => {
            let long = dice.between(70_000, 300_000);
            bytes.extend(format!("X-Long: {}\r\n", "a".repeat(long)).as_bytes());
        }
        1 => {
            for number in 0..dice.between(200, 2000) {
                bytes.extend(format!("X-{number}: v\r\n").as_bytes());
            }
        }
        _ => {
            let long = dice.between(70_000, 200_000);
            bytes = format!("POST /{} HTTP/1.1\r\n", "p".repeat(long)).into_bytes();
        }
    }
    bytes.extend(b"Connection: close\r\nContent-Length: 0\r\n\r\n");
    bytes
}

fn giant_body(path: &str, dice: &mut Dice) -> Attack {
    if dice.once_in(2) {
        let claimed = dice.pick(&[
            "9223372036854775807",
            "1099511627776",
            "18446744073709551615",
        ]);
        let bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {claimed}\r\n\r\n{{\"Name\":"
        );
        return Attack {
            kind: "giant length",
            bytes: bytes.into_bytes(),
            right: &[400, 413, 431],
            end: End::HalfCloses,
        };
    }
    let size = dice.between(65 * 1024, 1024 * 1024);
    let body = format!("{{\"Name\":\"{}\"}}", "n".repeat(size));
    Attack {
        kind: "giant body",
        bytes: post(path, body.as_bytes()),
        right: &[413],
        end: End::Reads,
    }
}

fn bad_length(path: &str, dice: &mut Dice) -> Vec<u8> {
    let header = *dice.pick(&[
        "Content-Length: -1",
        "Content-Length: abc",
        "Content-Length: 1, 2",
        "Content-Length: 5\r\nContent-Length: 7",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 0x10",
        "Content-Length: +3",
        "Content-Length:",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Content-Length: 5\r\nTransfer-Encoding: identity",
    ]);
    format!("POST {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n{{\"Name\":5}}").into_bytes()
}

fn bad_chunks(path: &str, dice: &mut Dice) -> Vec<u8> {
    let body = *dice.pick(&[
        "zz\r\nabc\r\n0\r\n\r\n",
        "-5\r\nabcde\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nabc",
        "5\r\nabc",
        "3\r\nabcXX0\r\n\r\n",
        "7fffffff\r\n{",
        "1;ext=\"\r\n\r\n",
        "0\r\nTrailer: x",
    ]);
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
}

/// As deep as a body can be; half of them are complete. In a field that nobody reads it is no mistake, but the name is
/// missing.
fn deep(dice: &mut Dice) -> Vec<u8> {
    let depth = dice.between(200, 10_000);
    let (open, close) = *dice.pick(&[("[", "]"), ("{\"a\":", "}")]);
    let field = *dice.pick(&["Name", "Opts", "Else"]);
    let end = if dice.once_in(2) {
        close.repeat(depth) + "}"
    } else {
        String::new()
    };
    format!("{{\"{field}\":{}1{end}", open.repeat(depth)).into_bytes()
}

fn wrong_types(dice: &mut Dice) -> Vec<u8> {
    let wrong = dice
        .pick(&[
            json!(5),
            json!([]),
            json!({}),
            json!(true),
            json!(1e300),
            json!(["a"]),
        ])
        .clone();
    let body = match dice.below(5) {
        0 => json!({"Name": wrong}),
        1 => json!({"Name": "x/y", "ID": wrong}),
        2 => json!({"Name": "", "Opts": {"size": wrong, "": wrong}}),
        3 => json!({"Name": wrong, "Opts": [wrong]}),
        _ => return json!([wrong]).to_string().into_bytes(),
    };
    body.to_string().into_bytes()
}

/// Names that no volume can have, and names that none has.
fn hostile_name(dice: &mut Dice) -> Attack {
    let number = dice.below(1000);
    let name = match dice.below(12) {
        0 => format!("../../etc/passwd{number}"),
        1 => format!("a/b{number}"),
        2 => format!("nul\0{number}"),
        3 => format!("line\nWARN forged{number}"),
        4 => "x".repeat(dice.between(101, 60_000)),
        5 => format!("$(reboot){number}/"),
        6 => format!("v@{}", "d".repeat(dice.between(0, 5_000))),
        7 => ".".repeat(dice.between(1, 2)),
        8 => format!("{number}-flat"),
        9 => "\u{202e}\u{0}\u{7f}".repeat(dice.between(1, 20)),
        10 => "💾".repeat(dice.between(51, 2_000)),
        _ => format!("v{number}-{:06}", dice.below(1_000_000)),
    };
    let verb = *dice.pick(&NAMED);
    let body: Value = match verb {
        "Create" => json!({"Name": name, "Opts": {"size": "64mb"}}),
        "Mount" | "Unmount" => json!({"Name": name, "ID": "\u{0}".repeat(dice.below(64))}),
        _ => json!({"Name": name}),
    };
    // Unmounting what is not mounted succeeds: dockerd repeats Unmounts.
    let right: &[u16] = if verb == "Unmount" {
        &[200, 500]
    } else {
        &[500]
    };
    Attack {
        kind: "hostile name",
        bytes: post(
            &format!("/VolumeDriver.{verb}"),
            body.to_string().as_bytes(),
        ),
        right,
        end: End::Reads,
    }
}

/// Many requests in one breath: as many answers, in order, each right.
fn pipeline(socket: &Path, dice: &mut Dice, tally: &Tally) -> Result<()> {
    let count = dice.between(2, 40);
    let mut bytes = Vec::new();
    for number in 1..=count {
        let close = if number == count {
            "Connection: close\r\n"
        } else {
            ""
        };
        let body = r#"{"Name":"canary"}"#;
        bytes.extend(
            format!(
                "POST /VolumeDriver.Get HTTP/1.1\r\nHost: x\r\n{close}Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
    }
    let mut stream = connect(socket)?;
    stream.write_all(&bytes)?;
    let answer = read(&mut stream).context("pipeline")?;
    let text = String::from_utf8_lossy(&answer);
    let answers = text.matches("HTTP/1.1 200 OK").count();
    ensure!(
        answers == count,
        "{count} requests in one breath had {answers} answers:\n{text}"
    );
    tally.note("pipeline", 200);
    Ok(())
}

//! Connections to the agent that say nothing right.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bare::dice::Dice;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LEGACY: [u8; 4] = 0x0BAD_BEEF_u32.to_le_bytes();
/// The longest anything may take to be refused: the agent's patience is ten seconds.
const LIMIT: Duration = Duration::from_secs(40);

/// One connection; says which kind.
pub(crate) fn attack(socket: &Path, dice: &mut Dice) -> Result<&'static str> {
    let length = dice.between(1, 300);
    let noise = dice.bytes(length);
    let (kind, bytes, waits) = match dice.below(12) {
        0 => ("random bytes", strange(noise), true),
        1 => ("a connection and no word", Vec::new(), false),
        2 => (
            "half a preface",
            PREFACE[..dice.between(1, PREFACE.len() - 1)].to_vec(),
            false,
        ),
        3 => (
            "a preface that goes wrong",
            [&PREFACE[..dice.between(1, 23)], b"\0", &noise].concat(),
            true,
        ),
        4 => ("the original's frame", [&LEGACY[..], &noise].concat(), true),
        5 => (
            "half the original's magic",
            LEGACY[..dice.between(1, 3)].to_vec(),
            false,
        ),
        6 => (
            "an HTTP/1 request",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            true,
        ),
        7 => ("a preface and noise", [PREFACE, &noise].concat(), false),
        8 => ("frames of any kind", frames(dice), false),
        9 => ("requests begun and reset", resets(dice), false),
        10 => ("a header without an end", continuations(dice), false),
        _ => ("a call whose message is noise", call(&noise), false),
    };
    let mut stream = connect(socket)?;
    match stream.write_all(&bytes) {
        // Refused while we still spoke.
        Err(error) if is_closed(error.kind()) => return Ok(kind),
        written => written?,
    }
    if waits {
        let answer = wait_closed(stream).with_context(|| format!("{kind}: {bytes:?}"))?;
        ensure!(
            answer.is_empty() || bytes.starts_with(&LEGACY) && is_refusal(&answer),
            "{kind}: {bytes:?} was answered: {answer:?}"
        );
    } else if dice.once_in(2) {
        // What it has to say about that is read, or not.
        stream.set_read_timeout(Some(Duration::from_millis(5)))?;
        let mut answer = [0; 512];
        drop(stream.read(&mut answer));
    }
    Ok(kind)
}

/// All places of the VM's taken by peers that say nothing: they are shown out, and the next one is served.
pub(crate) fn silence(socket: &Path) -> Result<()> {
    let silent: Vec<UnixStream> = (0..7).map(|_| connect(socket)).collect::<Result<_>>()?;
    let ends: Vec<Result<()>> = thread::scope(|scope| {
        let ends: Vec<_> = silent
            .into_iter()
            .map(|one| scope.spawn(|| nothing_said(one)))
            .collect();
        ends.into_iter().map(|end| end.join().unwrap()).collect()
    });
    ends.into_iter().collect()
}

fn connect(socket: &Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(socket).context("the agent listens no longer")?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// What is said before the connection is closed.
fn wait_closed(mut stream: UnixStream) -> Result<Vec<u8>> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if is_closed(error.kind()) => {}
        Err(error) => return Err(error).context("it was not shown out"),
    }
    Ok(answer)
}

fn nothing_said(stream: UnixStream) -> Result<()> {
    let answer = wait_closed(stream)?;
    ensure!(answer.is_empty(), "it was answered: {answer:?}");
    Ok(())
}

/// Whether it is one frame of the original's, of the length it says, with an error in it.
fn is_refusal(answer: &[u8]) -> bool {
    let Some((head, text)) = answer.split_at_checked(8) else {
        return false;
    };
    let length = u32::try_from(text.len()).unwrap_or_default().to_le_bytes();
    head == [LEGACY, length].concat() && text.starts_with(b"{\"Error\":")
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Bytes that do not happen to begin one of the protocols.
fn strange(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(first) = bytes.first_mut()
        && (*first == PREFACE[0] || *first == LEGACY[0])
    {
        *first ^= 0x80;
    }
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn settings() -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[])].concat()
}

fn frames(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = settings();
    for _ in 0..dice.between(1, 20) {
        let length = dice.below(40);
        let payload = dice.bytes(length);
        let stream = u32::try_from(dice.below(6)).unwrap();
        let kind = dice.bytes(2);
        bytes.extend(frame(kind[0] % 12, kind[1], stream, &payload));
    }
    bytes
}

/// As the client of RFC 9113 would, but it takes every request back at once.
fn resets(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = settings();
    for number in 0..u32::try_from(dice.between(1, 200)).unwrap() {
        let stream = number * 2 + 1;
        bytes.extend(frame(1, 4, stream, &headers()));
        bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    bytes
}

fn continuations(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = settings();
    bytes.extend(frame(1, 0, 1, &headers()));
    for _ in 0..dice.between(1, 40) {
        let text = "a".repeat(dice.between(1, 120));
        bytes.extend(frame(9, 0, 1, &literal("x-more", &text)));
    }
    bytes
}

fn call(message: &[u8]) -> Vec<u8> {
    let mut bytes = settings();
    bytes.extend(frame(1, 4, 1, &headers()));
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    bytes.extend(frame(0, 1, 1, &[&[0][..], &length, message].concat()));
    bytes
}

fn headers() -> Vec<u8> {
    // `:method POST` and `:scheme http` stand in the static table.
    let mut block = vec![0x83, 0x86];
    block.extend(literal(":path", "/vdvs.v1.VolumeService/CreateVolume"));
    block.extend(literal(":authority", "agent"));
    block.extend(literal("content-type", "application/grpc"));
    block.extend(literal("te", "trailers"));
    block
}

/// A header that enters no table, its texts as they are.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend(text.as_bytes());
    }
    bytes
}

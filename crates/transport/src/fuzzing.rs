//! What fuzzers check of this crate (`docs/fuzzing.md`). Each function panics when a promise does not hold.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::runtime::Builder;

use crate::address::{Address, MAX_SOCKET_PATH};
use crate::legacy::{self, MAX_REQUEST, NoRequest};
use crate::sniff::{HTTP2_PREFACE, LEGACY_MAGIC, Protocol, Unspoken, classify, first_bytes};

/// The first bytes of a connection: a judgement once made stands, and no byte is lost or read twice.
pub fn connections(bytes: &[u8]) {
    let mut known = Protocol::NeedMore;
    for length in 0..=bytes.len().min(2 * HTTP2_PREFACE.len()) {
        let now = classify(bytes.get(..length).unwrap_or_default());
        assert!(known == Protocol::NeedMore || now == known);
        known = now;
    }
    match known {
        Protocol::Grpc => assert!(bytes.starts_with(HTTP2_PREFACE)),
        Protocol::Legacy => assert!(bytes.starts_with(&LEGACY_MAGIC)),
        Protocol::NeedMore => assert!(bytes.len() < HTTP2_PREFACE.len()),
        Protocol::Unknown => assert!(!bytes.is_empty()),
    }
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without I/O takes no descriptors");
    runtime.block_on(handed_on(bytes, known));
}

async fn handed_on(bytes: &[u8], known: Protocol) {
    let mut stream = bytes;
    match first_bytes(&mut stream, Duration::from_secs(600)).await {
        Ok((protocol, mut first)) => {
            assert_eq!(protocol, known);
            let mut all = first.take(3).to_vec();
            all.extend_from_slice(first.take(usize::MAX));
            stream
                .read_to_end(&mut all)
                .await
                .expect("reading memory cannot fail");
            assert_eq!(all, bytes);
        }
        Err(why) => {
            assert!(matches!(why, Unspoken::Closed));
            assert_eq!(known, Protocol::NeedMore);
        }
    }
}

/// The original's frames: a request that is read is what was framed, byte for byte; any other is refused, and nothing is
/// kept that is longer than allowed.
pub fn frames(bytes: &[u8]) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without I/O takes no descriptors");
    let mut stream = bytes;
    match runtime.block_on(legacy::receive(&mut stream, Duration::from_secs(600))) {
        Ok(text) => {
            assert!(text.len() < MAX_REQUEST);
            let framed = legacy::frame(&text).expect("what was read can be written");
            assert!(bytes.starts_with(&framed));
            assert_eq!(stream.len(), bytes.len() - framed.len());
        }
        Err(NoRequest::Refused(why)) => assert!(why.to_string().len() < 200),
        Err(NoRequest::Closed) => assert!(stream.is_empty()),
        Err(why @ (NoRequest::Slow(_) | NoRequest::Failed(_))) => panic!("{why}"),
    }
}

/// Addresses of agents: what parses prints back and fits a socket address.
pub fn agent_addresses(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<Address>() {
        Ok(address) => {
            if let Address::Unix(path) = &address {
                assert!(path.is_absolute() && path.as_os_str().len() <= MAX_SOCKET_PATH);
            }
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        Err(why) => assert!(why.to_string().len() < 64 * 1024),
    }
}

#[cfg(test)]
mod tests {
    use vdvs_corpus::check;

    #[test]
    fn any_first_bytes_are_judged_once_and_handed_on_whole() {
        check("connections", super::connections);
    }

    #[test]
    fn any_frame_of_the_original_is_read_whole_or_refused() {
        check("frames", super::frames);
    }

    #[test]
    fn any_agent_address_is_refused_or_prints_back() {
        check("agent_addresses", super::agent_addresses);
    }
}

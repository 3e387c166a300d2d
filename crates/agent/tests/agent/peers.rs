//! Peers that behave badly hurt nobody else, and not even themselves for long.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::Code;
use vdvs_api::{RemoteError, v1};

use crate::process::{LONG, Vdvsd, create};

#[tokio::test]
async fn unknown_bytes_close_their_connection_and_nothing_else() {
    let agent = Vdvsd::start(&["a", "b"]);
    let garbage: [&[u8]; 4] = [
        b"GET /VolumeDriver.Get HTTP/1.1\r\n\r\n",
        &[0xef, 0xbe, 0xad, 0x0b, 0xff, 0xff, 0xff, 0x7f],
        &[0; 4096],
        // The preface, and then no HTTP/2.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense that is long enough to be a frame",
    ];
    for bytes in garbage.iter().cycle().take(40) {
        let mut stream = UnixStream::connect(agent.socket("a")).await.unwrap();
        // The agent may close while we still write.
        stream.write_all(bytes).await.ok();
        let mut rest = Vec::new();
        let read = timeout(LONG, stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "not closed after {bytes:?}");
    }
    for vm in ["a", "b"] {
        agent.guest(vm).create_volume(create(vm)).await.unwrap();
    }
    agent.assert_quiet();
    let lines = agent.log().matches("speaks no protocol").count();
    assert!(lines <= 2, "{lines} lines about one VM's garbage");
}

#[tokio::test]
async fn silent_peers_keep_nobody_else_out() {
    let agent = Vdvsd::start(&["a", "b"]);
    let mut silent = Vec::new();
    // More than a VM's places, so that some wait in the kernel's queue.
    for _ in 0..12 {
        silent.push(UnixStream::connect(agent.socket("a")).await.unwrap());
    }
    let other = agent.guest("b").create_volume(create("v")).await;
    assert!(other.is_ok(), "{other:?}");
    // The VM itself gets in again when its silent connections are given up.
    let mut own = agent.guest("a");
    let mut last = None;
    let served = timeout(LONG, async {
        loop {
            match own.list_volumes(v1::ListVolumesRequest {}).await {
                Ok(_) => return,
                Err(e) => last = Some(e),
            }
        }
    });
    assert!(served.await.is_ok(), "{last:?}");
    agent.assert_quiet();
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_and_the_connection_lives() {
    let agent = Vdvsd::start(&["a", "b"]);
    let mut guest = agent.guest("a").max_encoding_message_size(64 << 20);
    let mut huge = create("v");
    huge.name = "x".repeat(8 << 20);
    let refused = guest.create_volume(huge).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    assert!(RemoteError::from(refused).transport, "no use case said so");
    guest.create_volume(create("v")).await.unwrap();
    agent.guest("b").create_volume(create("w")).await.unwrap();
    agent.assert_quiet();
}

use std::collections::HashMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use super::*;
use crate::conn::Conn;
use crate::sniff::{HTTP2_PREFACE, LEGACY_MAGIC};

/// Far above what any step here takes.
const LONG: Duration = Duration::from_secs(20);

fn identity(name: &str) -> Identity {
    Identity::Vm {
        instance_uuid: Uuid::nil(),
        config_path: format!("[ds] {name}.vmx"),
        name: name.to_owned(),
    }
}

#[derive(Debug, Default)]
struct Hypervisor {
    vms: HashMap<u32, &'static str>,
    down: bool,
    came: Mutex<Vec<(String, Gauge)>>,
    refused: Mutex<Vec<u32>>,
}

#[async_trait]
impl Porter for Hypervisor {
    async fn who(&self, vm: u32) -> Result<Option<Identity>, String> {
        if self.down {
            return Err("it is starting".to_owned());
        }
        Ok(self.vms.get(&vm).map(|name| identity(name)))
    }

    fn came(&self, identity: &Identity, gauge: Gauge) {
        self.came
            .lock()
            .unwrap()
            .push((identity.to_string(), gauge));
    }

    fn refused(&self, vm: u32) {
        self.refused.lock().unwrap().push(vm);
    }
}

struct World {
    door: Arc<Door>,
    hypervisor: Arc<Hypervisor>,
    named: mpsc::Receiver<Conn>,
    legacy: mpsc::Receiver<Conn>,
    unnamed: mpsc::Receiver<Conn>,
}

fn world(hypervisor: Hypervisor) -> World {
    let hypervisor = Arc::new(hypervisor);
    let (grpc, named) = mpsc::channel(64);
    let (frames, legacy) = mpsc::channel(64);
    let (other, unnamed) = mpsc::channel(64);
    let known = Sinks {
        grpc,
        legacy: Some(frames),
    };
    let unknown = Sinks {
        grpc: other.clone(),
        legacy: Some(other),
    };
    let limits = Limits {
        connections: 2,
        patience: LONG * 100,
    };
    let door = Door::new(
        hypervisor.clone(),
        limits,
        known,
        unknown,
        CancellationToken::new(),
        TaskTracker::new(),
    );
    World {
        door,
        hypervisor,
        named,
        legacy,
        unnamed,
    }
}

impl World {
    fn connect(&self, vm: u32) -> UnixStream {
        let (near, far) = UnixStream::pair().unwrap();
        self.door.admit(near, vm, None);
        far
    }
}

async fn is_closed(stream: &mut UnixStream) {
    let read = timeout(LONG, stream.read(&mut [0; 8])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
}

#[tokio::test]
async fn a_connection_is_its_vms_as_the_hypervisor_says() {
    let vms = HashMap::from([(7, "seven"), (8, "eight")]);
    let mut world = world(Hypervisor {
        vms,
        ..Hypervisor::default()
    });
    let mut guest = world.connect(7);
    guest.write_all(HTTP2_PREFACE).await.unwrap();
    let conn = timeout(LONG, world.named.recv()).await.unwrap().unwrap();
    assert_eq!(*conn.peer().identity(), identity("seven"));
    let mut old = world.connect(8);
    old.write_all(&LEGACY_MAGIC).await.unwrap();
    let frames = timeout(LONG, world.legacy.recv()).await.unwrap().unwrap();
    assert_eq!(*frames.peer().identity(), identity("eight"));
    let came = world.hypervisor.came.lock().unwrap();
    assert_eq!(came.len(), 2);
    assert_eq!(came[0].1.connections(), 1);
}

#[tokio::test]
async fn who_is_no_vm_is_refused_and_told_about() {
    let world = world(Hypervisor::default());
    let mut nobody = world.connect(666);
    is_closed(&mut nobody).await;
    assert_eq!(*world.hypervisor.refused.lock().unwrap(), [666]);
}

#[tokio::test(start_paused = true)]
async fn while_nobody_can_say_who_calls_a_connection_is_answered_unnamed_and_ended_soon() {
    let down = true;
    let mut world = world(Hypervisor {
        down,
        ..Hypervisor::default()
    });
    let mut guest = world.connect(7);
    guest.write_all(HTTP2_PREFACE).await.unwrap();
    let mut conn = world.unnamed.recv().await.unwrap();
    assert_eq!(*conn.peer().identity(), Identity::Unnamed { vm: 7 });
    let mut all = Vec::new();
    conn.read_to_end(&mut all).await.unwrap();
    assert_eq!(
        all, HTTP2_PREFACE,
        "and then its end, though the guest said nothing"
    );
    assert!(world.named.try_recv().is_err());
    assert!(world.hypervisor.refused.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_vms_flood_costs_its_own_places_only_and_silence_keeps_none() {
    let vms = HashMap::from([(7, "seven"), (8, "eight")]);
    let mut world = world(Hypervisor {
        vms,
        ..Hypervisor::default()
    });
    let mut crowd: Vec<_> = (0..100).map(|_| world.connect(7)).collect();
    for vm in [7, 8] {
        let mut guest = world.connect(vm);
        guest.write_all(HTTP2_PREFACE).await.unwrap();
        let conn = timeout(LONG, world.named.recv()).await.unwrap().unwrap();
        drop(conn);
    }
    for silent in crowd.iter_mut().take(98) {
        is_closed(silent).await;
    }
    // Two that stay: a third has no room, and nobody waits for it.
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut guest = world.connect(8);
        guest.write_all(HTTP2_PREFACE).await.unwrap();
        held.push((world.named.recv().await.unwrap(), guest));
    }
    is_closed(&mut world.connect(8)).await;
}

//! The agent as a process on a simulated ESXi host: guests dial it as they would through the vSocket, hostd is killed and
//! comes back, and pyvmomi says what the VM really has.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where, and fails"
)]

use std::collections::BTreeMap;
use std::env::var_os;
use std::fs::read_to_string;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::{TempDir, tempdir};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::Channel;
use tonic::{Request, Status};
use uuid::Uuid;
use vdvs_api::v1::volume_service_client::VolumeServiceClient;
use vdvs_api::{RemoteError, v1, volume_client};
use vdvs_domain::ErrorKind;
use vdvs_testkit::lab::{ADMIN, Profile, built};
use vdvs_testkit::process::Cmd;
use vdvs_testkit::vcsim::{Agent, Mode, Peers, REQUIRED, Vcsim, Witness};
use vdvs_testkit::wait::until_true;
use vdvs_transport::{Address, channel};

/// For what takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);
/// No VM has it.
const NOBODYS: &str = "1999";

/// A host with its agent.
struct Host {
    runtime: Arc<Runtime>,
    agent: Agent,
    witness: Witness,
    sim: Vcsim,
    _dir: TempDir,
}

/// None after saying why. Where the peers were prepared they must be there.
fn host() -> Option<Host> {
    host_with(true)
}

fn host_with(has_hostd: bool) -> Option<Host> {
    let peers = match Peers::find() {
        Ok(peers) => peers,
        Err(why) if var_os(REQUIRED).is_some() => panic!("{why}"),
        Err(why) => {
            eprintln!("skipped: {why}");
            return None;
        }
    };
    let dir = tempdir().unwrap();
    let mut sim = Vcsim::start(&peers, Mode::Esx, &dir.path().join("sim"), &[]).unwrap();
    let witness = sim.witness().unwrap();
    if !has_hostd {
        sim.kill().unwrap();
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let host = Host {
        runtime: Arc::new(runtime),
        agent: Agent::start(Profile::Debug, &sim, &dir.path().join("agent")).unwrap(),
        witness,
        sim,
        _dir: dir,
    };
    Some(host)
}

impl Host {
    fn vm(&self, number: usize) -> String {
        self.sim.mode().vm(0, number)
    }

    /// A client in a VM that the agent serves.
    fn guest(&mut self, number: usize) -> Guest {
        let cartel = format!("cartel {}", self.vm(number));
        let cartel = self.sim.order(&cartel).unwrap();
        let socket = self.agent.socket(&cartel).unwrap();
        let client = {
            let _inside = self.runtime.enter();
            volume_client(channel(Address::Unix(socket)))
        };
        let mut guest = Guest {
            runtime: Arc::clone(&self.runtime),
            client,
        };
        until_true(SOON, "the agent serves", || Ok(guest.hello().is_ok())).unwrap();
        guest
    }

    fn admin(&self, words: &[&str]) -> Cmd {
        Cmd::new(built(Profile::Debug, ADMIN).unwrap())
            .arg("--socket")
            .arg(self.agent.admin())
            .args(words)
    }

    fn audit(&self) -> String {
        let all = self.admin(&["audit", "ls", "--output", "json"]);
        all.run().unwrap()
    }

    /// Lines a person would have to look at, but for those.
    fn complaints(&self, but: &[&str]) -> Vec<String> {
        let log = read_to_string(self.agent.log()).unwrap();
        let loud = |line: &&str| {
            let level = line.split_whitespace().nth(1);
            matches!(level, Some("WARN" | "ERROR")) || line.contains("panicked at")
        };
        log.lines()
            .filter(loud)
            .filter(|line| !but.iter().any(|text| line.contains(text)))
            .map(str::to_owned)
            .collect()
    }
}

struct Guest {
    runtime: Arc<Runtime>,
    client: VolumeServiceClient<Channel>,
}

fn head() -> Option<v1::RequestHead> {
    Some(v1::RequestHead {
        request_id: Uuid::new_v4().to_string(),
    })
}

impl Guest {
    fn hello(&mut self) -> Result<v1::HelloReply, Status> {
        let hello = v1::HelloRequest {
            versions: Some(v1::VersionRange { min: 1, max: 1 }),
            program: "suite".to_owned(),
            features: Vec::new(),
        };
        let answer = self.runtime.block_on(self.client.hello(hello));
        answer.map(tonic::Response::into_inner)
    }

    fn create(&mut self, name: &str) -> v1::Volume {
        let asked = v1::CreateVolumeRequest {
            head: head(),
            name: name.to_owned(),
            options: BTreeMap::from([("size".to_owned(), "64mb".to_owned())]),
        };
        let made = self.runtime.block_on(self.client.create_volume(asked));
        made.unwrap().into_inner().volume.unwrap()
    }

    fn attach(&mut self, name: &str) -> Result<v1::AttachVolumeReply, RemoteError> {
        let asked = v1::AttachVolumeRequest {
            head: head(),
            name: name.to_owned(),
            read_only: false,
            wait_budget_ms: 0,
        };
        // A plugin waits no longer than this either.
        let mut asked = Request::new(asked);
        asked.set_timeout(SOON);
        let answer = self.runtime.block_on(self.client.attach_volume(asked));
        answer
            .map(tonic::Response::into_inner)
            .map_err(RemoteError::from)
    }

    fn detach(&mut self, attached: &v1::AttachVolumeReply) -> bool {
        let asked = v1::DetachVolumeRequest {
            head: head(),
            volume_id: attached.volume.as_ref().unwrap().id.clone(),
            epoch: attached.epoch,
        };
        let answer = self.runtime.block_on(self.client.detach_volume(asked));
        answer.unwrap().into_inner().changed
    }

    fn delete(&mut self, name: &str) {
        let asked = v1::DeleteVolumeRequest {
            head: head(),
            name: name.to_owned(),
            volume_id: String::new(),
        };
        self.runtime
            .block_on(self.client.delete_volume(asked))
            .unwrap();
    }

    fn get(&mut self, name: &str) -> Result<v1::Volume, RemoteError> {
        let asked = v1::GetVolumeRequest {
            name: name.to_owned(),
        };
        let answer = self.runtime.block_on(self.client.get_volume(asked));
        let found = answer.map_err(RemoteError::from)?.into_inner();
        Ok(found.volume.unwrap())
    }

    fn list(&mut self) -> Vec<String> {
        let asked = v1::ListVolumesRequest {};
        let answer = self.runtime.block_on(self.client.list_volumes(asked));
        let listing = answer.unwrap().into_inner();
        assert!(listing.unreadable_datastores.is_empty());
        listing
            .volumes()
            .unwrap()
            .into_iter()
            .map(|v| v.name)
            .collect()
    }
}

/// Where a volume's disk is, as hostd writes it.
fn disk(volume: &v1::Volume) -> String {
    let id8 = volume.id.get(volume.id.len() - 8..).unwrap();
    format!("/{}.{id8}.vmdk", volume.name)
}

fn has(witness: &mut Witness, vm: &str, volume: &v1::Volume) -> bool {
    let disks = witness.disks(vm).unwrap();
    let file = disk(volume);
    disks
        .iter()
        .any(|d| d["file"].as_str().is_some_and(|f| f.ends_with(&file)))
}

/// What comes back from a connection that the agent does not want.
fn said_to(socket: &Path) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // Closed, with or without what was sent being read.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").ok();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).ok();
    said
}

#[test]
fn guests_live_with_an_agent_whose_hostd_dies_and_comes_back() {
    let Some(mut host) = host() else { return };
    let (first, second) = (host.vm(0), host.vm(1));
    let (mut one, mut two) = (host.guest(0), host.guest(1));

    let volume = one.create("data");
    let attached = one.attach("data").unwrap();
    assert!(!attached.disk_uuid.is_empty(), "{attached:?}");
    assert!(has(&mut host.witness, &first, &volume));
    let seen = two.get("data").unwrap();
    assert_eq!(seen.state, "attached");
    assert_eq!(seen.attachment.unwrap().vm_name, first);
    let refused = two.attach("data").unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InUse, "{refused}");

    // Without hostd nobody vouches for who is calling: guests hear that, and nothing is answered from memory.
    host.sim.kill().unwrap();
    until_true(SOON, "the agent finds hostd gone", || {
        Ok(two.get("data").is_err())
    })
    .unwrap();
    let refused = two.get("data").unwrap_err();
    assert_eq!(refused.kind, ErrorKind::HostFailed, "{refused}");
    assert!(refused.to_string().contains("try again"), "{refused}");
    host.sim.restart().unwrap();
    until_true(SOON, "hostd is found again", || Ok(two.get("data").is_ok())).unwrap();

    // Those who were connected go on, and those who come now are known.
    assert!(has(&mut host.witness, &first, &volume), "it outlived hostd");
    assert!(one.detach(&attached));
    assert!(!has(&mut host.witness, &first, &volume));
    let mut third = host.guest(2);
    assert_eq!(third.list(), ["data"]);
    let moved = two.attach("data").unwrap();
    assert!(moved.epoch > attached.epoch);
    assert!(has(&mut host.witness, &second, &volume));
    assert!(!one.detach(&attached), "an old epoch changes nothing");
    assert!(has(&mut host.witness, &second, &volume));
    assert!(two.detach(&moved));
    two.delete("data");
    let gone = one.get("data").unwrap_err();
    assert_eq!(gone.kind, ErrorKind::NotFound, "{gone}");
    assert_eq!(third.list(), Vec::<String>::new());
    // Whoever asked hostd while it was dead says so: how many did depends on how long that was.
    let dead = ["was not sent: ", "it is not known what became of "];
    let complaints = host.complaints(&["hostd", dead[0], dead[1]]);
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn an_agent_that_is_there_before_hostd_says_what_it_waits_for() {
    let Some(mut host) = host_with(false) else {
        return;
    };
    // Of the agent itself, not of a socket that nobody serves.
    until_true(SOON, "the administrator is answered", || {
        let refused = host.admin(&["volume", "ls"]).output()?;
        Ok(refused.stderr.contains("answer its agent"))
    })
    .unwrap();
    let refused = host.admin(&["volume", "ls"]).output().unwrap();
    assert!(refused.stderr.contains("try again"), "{refused:?}");
    host.sim.restart().unwrap();
    until_true(SOON, "the agent serves", || {
        Ok(host.admin(&["volume", "ls"]).output()?.success())
    })
    .unwrap();
    assert_eq!(host.guest(0).list(), Vec::<String>::new());
    let complaints = host.complaints(&["trying again"]);
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn a_caller_of_whom_hostd_knows_nothing_is_refused_and_written_down() {
    let Some(mut host) = host() else { return };
    assert_eq!(host.guest(0).list(), Vec::<String>::new());
    let stranger = host.agent.socket(NOBODYS).unwrap();
    let said = said_to(&stranger);
    assert!(said.is_empty(), "{said:?}");
    until_true(SOON, "it is in the audit", || {
        let audit = host.audit();
        Ok(audit.contains("process group 1999") && audit.contains("UNKNOWN_CALLER"))
    })
    .unwrap();
    let complaints = host.complaints(&["lists no VM of process group 1999"]);
    assert!(complaints.is_empty(), "{complaints:#?}");
}

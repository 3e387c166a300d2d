//! Thousands of volumes on three datastores: listed, looked up, created, attached, across restarts of agent and plugin
//! and with an empty index. Every answer is compared with what was planted; figures are printed, none is asserted but
//! that every call comes back well within Docker's patience.
//!
//! An ordinary run has two thousand, so that the stage stays short; `VDVS_MANY=10000` is the whole.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where, and fails"
)]

mod bare;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tonic::Request;
use vdvs_api::v1;
use vdvs_testkit::planting;

use bare::dice::{Dice, seed};
use bare::{Bare, Guest, docker, head, hello, median, memory_kib};

const DATASTORES: [&str; 3] = ["vsanDatastore", "nfs1", "vmfs1"];
/// Of an ordinary run.
const VOLUMES: usize = 2_000;
/// Volumes asked for by name, and made and removed again.
const ASKED: usize = 300;
const MADE: usize = 20;
const ATTACHED: usize = 6;
/// dockerd waits twice as long for anything.
const PATIENCE: Duration = Duration::from_secs(25);

struct Many {
    bare: Bare,
    runtime: Runtime,
    /// Full names of all that must be there.
    names: BTreeSet<String>,
}

/// Says how long something took, which must be less than Docker waits.
fn timed<T>(what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    let made = act().with_context(|| what.to_owned())?;
    let took = begin.elapsed();
    eprintln!("figure: {what}: {took:.1?}");
    ensure!(took < PATIENCE, "{what} took {took:.1?}");
    Ok(made)
}

impl Many {
    fn plant(mut bare: Bare, count: usize) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut names = BTreeSet::new();
        {
            let _inside = runtime.enter();
            let mut guest = bare.guest("swarm01");
            for (n, datastore) in DATASTORES.iter().enumerate() {
                let name = format!("template{n}@{datastore}");
                runtime.block_on(create(&mut guest, &name))?;
                names.insert(name);
            }
        }
        bare.kill_agent()?;
        let begin = Instant::now();
        for (n, datastore) in DATASTORES.iter().enumerate() {
            let own: Vec<String> = (0..count)
                .filter(|number| number % DATASTORES.len() == n)
                .map(|number| format!("p-{number:05}"))
                .collect();
            names.extend(own.iter().map(|name| format!("{name}@{datastore}")));
            let folder = bare.datastore(datastore);
            planting::copies(&folder, &format!("template{n}"), own.into_iter())?;
        }
        eprintln!("planted {count} volumes in {:.1?}", begin.elapsed());
        Ok(Self {
            bare,
            runtime,
            names,
        })
    }

    fn guest(&self, vm: &str) -> Guest {
        let _inside = self.runtime.enter();
        self.bare.guest(vm)
    }

    /// The agent's list: exactly what there is.
    fn list(&self, what: &str) -> Result<()> {
        let mut guest = self.guest("swarm01");
        self.runtime.block_on(guest.hello(hello()))?;
        let listing = timed(what, || {
            let mut request = Request::new(v1::ListVolumesRequest {});
            request.set_timeout(PATIENCE);
            Ok(self
                .runtime
                .block_on(guest.list_volumes(request))?
                .into_inner())
        })?;
        ensure!(
            listing.unreadable_datastores.is_empty(),
            "{what}: not readable: {:?}",
            listing.unreadable_datastores
        );
        let volumes = listing.volumes()?;
        let found = volumes
            .iter()
            .map(|v| format!("{}@{}", v.name, v.datastore));
        self.must_be_all(what, found.collect())
    }

    /// The plugin's list, as dockerd would ask.
    fn docker_list(&self, what: &str) -> Result<()> {
        let socket = self.bare.plugin_socket();
        let answer = timed(what, || docker::call(&socket, "List", &json!({})))?;
        let volumes = answer["Volumes"].as_array().into_iter().flatten();
        let names = volumes.filter_map(|one| one["Name"].as_str().map(str::to_owned));
        self.must_be_all(what, names.collect())
    }

    fn must_be_all(&self, what: &str, found: Vec<String>) -> Result<()> {
        let set: BTreeSet<String> = found.iter().cloned().collect();
        ensure!(
            set.len() == found.len(),
            "{what}: something is listed twice"
        );
        let missing: Vec<_> = self.names.difference(&set).take(5).collect();
        let strange: Vec<_> = set.difference(&self.names).take(5).collect();
        ensure!(
            missing.is_empty() && strange.is_empty(),
            "{what}: {} of {}; missing {missing:?}, strange {strange:?}",
            set.len(),
            self.names.len()
        );
        Ok(())
    }

    /// Some by name, each found where it is. A short name means those of the VM's own datastore: the others were created
    /// under their full names.
    fn ask(&self, dice: &mut Dice) -> Result<()> {
        let mut guest = self.guest("swarm02");
        let all: Vec<&String> = self.names.iter().collect();
        let mut times = Vec::new();
        for _ in 0..ASKED {
            let full = *dice.pick(&all);
            let (name, datastore) = full.split_once('@').context("a full name")?;
            let begin = Instant::now();
            let asked = if datastore == DATASTORES[0] {
                name
            } else {
                full
            };
            let request = v1::GetVolumeRequest {
                name: asked.to_owned(),
            };
            let got = self
                .runtime
                .block_on(guest.get_volume(request))?
                .into_inner();
            times.push(begin.elapsed());
            let volume = got.volume.context("a reply holds a volume")?;
            ensure!(
                volume.datastore == datastore,
                "{full} is told to be on {}",
                volume.datastore
            );
        }
        let nobody = v1::GetVolumeRequest {
            name: "nobody".to_owned(),
        };
        let answer = self.runtime.block_on(guest.get_volume(nobody));
        ensure!(answer.is_err(), "a volume that is not there was found");
        eprintln!(
            "figure: GetVolume among {}: p50 {:.1?}",
            self.names.len(),
            median(&times)?
        );
        Ok(())
    }

    /// Some are made and removed again, on every datastore.
    fn make(&self) -> Result<()> {
        let mut guest = self.guest("swarm01");
        let (mut made, mut removed) = (Vec::new(), Vec::new());
        for n in 0..MADE {
            let name = format!("made{n}@{}", DATASTORES[n % DATASTORES.len()]);
            let begin = Instant::now();
            self.runtime.block_on(create(&mut guest, &name))?;
            made.push(begin.elapsed());
        }
        for n in 0..MADE {
            let name = format!("made{n}@{}", DATASTORES[n % DATASTORES.len()]);
            let request = v1::DeleteVolumeRequest {
                head: head(),
                name,
                volume_id: String::new(),
            };
            let begin = Instant::now();
            self.runtime.block_on(guest.delete_volume(request))?;
            removed.push(begin.elapsed());
        }
        eprintln!(
            "figure: among {}: create p50 {:.1?}, delete p50 {:.1?}",
            self.names.len(),
            median(&made)?,
            median(&removed)?
        );
        Ok(())
    }

    /// Attaches some to a VM without a plugin; says their epochs.
    fn attach(&self) -> Result<Vec<v1::AttachVolumeReply>> {
        let mut guest = self.guest("swarm02");
        let mut replies = Vec::new();
        let mut times = Vec::new();
        for n in 0..ATTACHED {
            let request = v1::AttachVolumeRequest {
                head: head(),
                name: format!("p-{n:05}@{}", DATASTORES[n % DATASTORES.len()]),
                read_only: false,
                wait_budget_ms: 0,
            };
            let begin = Instant::now();
            replies.push(
                self.runtime
                    .block_on(guest.attach_volume(request))?
                    .into_inner(),
            );
            times.push(begin.elapsed());
        }
        eprintln!(
            "figure: attach among {}: p50 {:.1?}",
            self.names.len(),
            median(&times)?
        );
        Ok(replies)
    }

    fn detach(&self, attached: Vec<v1::AttachVolumeReply>) -> Result<()> {
        let mut guest = self.guest("swarm02");
        for one in attached {
            let volume = one.volume.context("a reply holds a volume")?;
            let request = v1::DetachVolumeRequest {
                head: head(),
                volume_id: volume.id,
                epoch: one.epoch,
            };
            self.runtime.block_on(guest.detach_volume(request))?;
        }
        Ok(())
    }

    fn memory(&self, when: &str) -> Result<()> {
        let agent = self.bare.agent()?;
        eprintln!(
            "figure: vdvsd {when}: {} KiB, at most {} KiB",
            memory_kib(agent, "VmRSS")?,
            memory_kib(agent, "VmHWM")?
        );
        if let Ok(plugin) = self.bare.plugin() {
            eprintln!(
                "figure: vdvs-plugin {when}: {} KiB",
                memory_kib(plugin, "VmRSS")?
            );
        }
        Ok(())
    }
}

async fn create(guest: &mut Guest, name: &str) -> Result<()> {
    let request = v1::CreateVolumeRequest {
        head: head(),
        name: name.to_owned(),
        options: [("size".to_owned(), "64mb".to_owned())].into(),
    };
    guest
        .create_volume(request)
        .await
        .with_context(|| format!("create {name}"))?;
    Ok(())
}

#[test]
fn thousands_of_volumes_on_three_datastores_are_all_there_whoever_restarts() -> Result<()> {
    let count = env::var("VDVS_MANY")
        .ok()
        .and_then(|text| text.parse().ok());
    let mut dice = Dice::new(seed("many volumes"));
    let Some(bare) = Bare::lab(&DATASTORES, &["swarm01", "swarm02"])? else {
        return Ok(());
    };
    let mut many = Many::plant(bare, count.unwrap_or(VOLUMES))?;
    timed("an agent that knew three of them starts", || {
        many.bare.start_agent()
    })?;
    many.list("its first list")?;
    many.list("its second list")?;
    many.ask(&mut dice)?;
    many.make()?;
    let attached = many.attach()?;
    many.memory("after all that")?;

    timed("the plugin starts", || many.bare.start_plugin("swarm01"))?;
    many.docker_list("List")?;
    many.bare.kill_plugin()?;
    timed("the plugin starts again", || {
        many.bare.start_plugin("swarm01")
    })?;
    many.docker_list("List of the next plugin")?;

    many.bare.kill_agent()?;
    many.docker_list("List without an agent, from the journal")?;
    timed("the agent starts again", || many.bare.start_agent())?;
    many.list("its first list with an index")?;
    many.detach(attached)?;
    many.ask(&mut dice)?;

    many.bare.kill_agent()?;
    let state = many.bare.path().join("agent");
    for entry in fs::read_dir(&state)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("store.sqlite") {
            fs::remove_file(path)?;
        }
    }
    timed("an agent without any memory starts", || {
        many.bare.start_agent()
    })?;
    many.list("its first list, the index rebuilt")?;
    many.make()?;
    many.docker_list("List in the end")?;
    many.memory("in the end")?;
    many.bare
        .assert_quiet_but(&["no agent; the journal answers"])
}

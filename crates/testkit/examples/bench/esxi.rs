//! The agent at a simulated hostd, beside the same work by pyvmomi, an independent client of it; and many VMs at once.
//!
//! A round is create, attach, detach and delete of one thin volume. Both sides' rounds alternate, each with one VM and a
//! session that was opened before. A simulated hostd makes changes in no time, so beside it every sync of a record counts
//! twice over. And how 64 VMs get on tells of our locks only where the time is spent waiting: the simulator has a common
//! lock itself, and this machine few cores. So hostd is made slow as well, for both sides, each change by as much.

use std::collections::BTreeMap;
use std::env::temp_dir;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;
use vdvs_api::{v1, volume_client};
use vdvs_testkit::lab::{Profile, ensure_packages};
use vdvs_testkit::vcsim::{Agent, Mode, PACKAGES, Vcsim, Witness, prepare};
use vdvs_testkit::wait::until_true;
use vdvs_transport::{Address, channel};

use crate::figures::{Sheet, median, ms, timed};
use crate::world::{Guest, hello};

const VMS: usize = 64;
const ROUNDS: usize = 60;
/// Where each takes seconds.
const SLOW_ROUNDS: usize = 10;
const WARM_UP: usize = 5;
/// Rounds of each VM, where throughput is counted.
const EACH: usize = 3;
/// How much longer hostd takes for each change when it is slow.
const SLOW: Duration = Duration::from_millis(250);
/// The calls that change something. A round makes four, `ReconfigVM_Task` twice.
const CHANGES: [&str; 3] = [
    "CreateVirtualDisk_Task",
    "ReconfigVM_Task",
    "DeleteVirtualDisk_Task",
];
const KEYS: [&str; 8] = [
    "esxi.ratio",
    "esxi.instant",
    "esxi.vdvsd",
    "esxi.pyvmomi",
    "esxi.fsync",
    "esxi.alone",
    "esxi.many",
    "esxi.slow64",
];
/// 64 MiB, which is how a volume's size is given.
const SIZE_KB: u64 = 64 * 1024;
const SOON: Duration = Duration::from_secs(60);
/// What was counted and is printed when it is asked how many calls a round makes.
const COUNTED: [&str; 9] = [
    "CreateVirtualDisk_Task",
    "ReconfigVM_Task",
    "DeleteVirtualDisk_Task",
    "SetVirtualDiskUuid",
    "QueryFileLockInfo",
    "RetrievePropertiesEx",
    "CreatePropertyCollector",
    "WaitForUpdatesEx",
    "RetrieveServiceContent",
];

/// All of it. Where the simulator cannot be had there are no figures, and why is said.
pub(crate) fn measure(sheet: &Sheet) -> Result<()> {
    let folder = temp_dir().join(format!("vdvs-bench-esxi-{}", process::id()));
    let measured = match Hostd::up(&folder) {
        Ok(Ok(mut hostd)) => hostd.all(sheet),
        Ok(Err(why)) => KEYS.iter().try_for_each(|key| sheet.write(key, None, &why)),
        Err(why) => Err(why),
    };
    fs::remove_dir_all(&folder).ok();
    measured
}

/// A simulated hostd with an agent, pyvmomi, and guests.
struct Hostd {
    runtime: Runtime,
    guests: Vec<Guest>,
    witness: Witness,
    /// Ended before what it speaks with.
    _agent: Agent,
    sim: Vcsim,
    folder: PathBuf,
}

impl Hostd {
    fn up(folder: &Path) -> Result<Result<Self, String>> {
        let ready = ensure_packages(PACKAGES, &|line| eprintln!("{line}"));
        let peers = match ready.and_then(|_| Ok(prepare()?)) {
            Ok(peers) => peers,
            Err(why) => return Ok(Err(format!("{why:#}"))),
        };
        let vms = VMS.to_string();
        let mut sim = Vcsim::start(&peers, Mode::Esx, &folder.join("sim"), &["-vms", &vms])?;
        let agent = Agent::start(Profile::Release, &sim, &folder.join("agent"))?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut guests = Vec::new();
        for number in 0..VMS {
            let vm = sim.mode().vm(0, number);
            let cartel = sim.order(&format!("cartel {vm}"))?;
            let socket = agent.socket(&cartel)?;
            let mut guest =
                runtime.block_on(async { volume_client(channel(Address::Unix(socket))) });
            until_true(SOON, "the agent serves", || {
                Ok(runtime.block_on(guest.hello(hello())).is_ok())
            })?;
            guests.push(guest);
        }
        let witness = sim.witness()?;
        Ok(Ok(Self {
            runtime,
            guests,
            witness,
            _agent: agent,
            sim,
            folder: folder.to_owned(),
        }))
    }

    fn all(&mut self, sheet: &Sheet) -> Result<()> {
        let instant = self.beside_pyvmomi(ROUNDS, "b")?;
        let note = format!("{ROUNDS} rounds of each in turn; hostd makes changes in no time");
        sheet.write("esxi.instant", Some(instant.ratio()?), &note)?;
        sheet.write(
            "esxi.vdvsd",
            Some(whole(&instant.ours)?),
            &by_step(&instant.ours)?,
        )?;
        sheet.write(
            "esxi.pyvmomi",
            Some(whole(&instant.theirs)?),
            &by_step(&instant.theirs)?,
        )?;
        sheet.write("esxi.fsync", Some(median(&instant.syncs)?), "same disk")?;
        instant.tell_calls();
        let alone = self.rounds(1, EACH * 10, "one")?;
        let many = self.rounds(VMS, EACH, "many")?;
        let a_second = |rounds: usize, took: Duration| {
            Ok::<_, anyhow::Error>(f64::from(u32::try_from(rounds)?) / took.as_secs_f64())
        };
        sheet.write("esxi.alone", Some(a_second(EACH * 10, alone)?), "")?;
        sheet.write(
            "esxi.many",
            Some(a_second(VMS * EACH, many)?),
            "on as many cores as there are",
        )?;
        for change in CHANGES {
            self.sim
                .order(&format!("slow {change} {}", SLOW.as_millis()))?;
        }
        let slow = self.beside_pyvmomi(SLOW_ROUNDS, "s")?;
        let note = format!(
            "{SLOW_ROUNDS} rounds of each in turn; {:.0} over {:.0} ms, of which hostd takes {}",
            whole(&slow.ours)?,
            whole(&slow.theirs)?,
            (SLOW * 4).as_millis(),
        );
        sheet.write("esxi.ratio", Some(slow.ratio()?), &note)?;
        self.many_at_a_slow_one(sheet)
    }

    fn beside_pyvmomi(&mut self, rounds: usize, mark: &str) -> Result<Beside> {
        let mut beside = Beside::default();
        let vm = self.sim.mode().vm(0, 1);
        for number in 0..WARM_UP + rounds {
            let before = self.counts()?;
            let our = {
                let guest = self.guests.first_mut().context("a VM")?;
                let name = format!("{mark}-{number}");
                self.runtime.block_on(round(guest, &name))?
            };
            let between = self.counts()?;
            let ask = json!({"do": "bench_round", "vm": vm, "number": number, "kb": SIZE_KB});
            let their = steps(&self.witness.ask(&ask)?)?;
            let after = self.counts()?;
            if number < WARM_UP {
                continue;
            }
            beside.ours.push(our);
            beside.theirs.push(their);
            beside.syncs.push(self.sync()?);
            beside.count(&before, &between, &after);
        }
        Ok(beside)
    }

    fn counts(&mut self) -> Result<Vec<u64>> {
        COUNTED
            .iter()
            .map(|name| Ok(self.sim.order(&format!("count {name}"))?.parse()?))
            .collect()
    }

    /// A small file written, it and its folder synced.
    fn sync(&self) -> Result<f64> {
        let path = self.folder.join("sync");
        let (took, ()) = timed(|| {
            let mut file = File::create(&path)?;
            file.write_all(&[0; 1024])?;
            file.sync_all()?;
            Ok(File::open(&self.folder)?.sync_all()?)
        })?;
        Ok(ms(took))
    }

    fn many_at_a_slow_one(&mut self, sheet: &Sheet) -> Result<()> {
        let one = self.rounds(1, 1, "slow-one")?;
        let all = self.rounds(VMS, 1, "slow-all")?;
        let in_turn = (one * u32::try_from(VMS)?).as_secs_f64();
        let note = format!(
            "{:.1} s, one VM {:.2} s, of which hostd takes {:.2} s",
            all.as_secs_f64(),
            one.as_secs_f64(),
            (SLOW * 4).as_secs_f64(),
        );
        sheet.write("esxi.slow64", Some(all.as_secs_f64() / in_turn), &note)
    }

    /// So many VMs make so many rounds each, all at once.
    fn rounds(&mut self, vms: usize, each: usize, mark: &str) -> Result<Duration> {
        let guests = self.guests.iter_mut().take(vms).enumerate();
        let work = guests.map(|(vm, guest)| async move {
            for number in 0..each {
                round(guest, &format!("{mark}-{vm}-{number}")).await?;
            }
            anyhow::Ok(())
        });
        let begun = Instant::now();
        self.runtime.block_on(async { try_join_all(work).await })?;
        Ok(begun.elapsed())
    }
}

/// Milliseconds of create, attach, detach and delete.
type Steps = [f64; 4];

/// Rounds of both sides, made in turn.
#[derive(Default)]
struct Beside {
    ours: Vec<Steps>,
    theirs: Vec<Steps>,
    /// How long a small file and its folder took to be synced, meanwhile.
    syncs: Vec<f64>,
    /// Calls by their place in [`COUNTED`]: the agent's, pyvmomi's.
    calls: BTreeMap<usize, [u64; 2]>,
}

impl Beside {
    fn count(&mut self, before: &[u64], between: &[u64], after: &[u64]) {
        let made = |late: &[u64], early: &[u64], at| {
            late.get(at).zip(early.get(at)).map_or(0, |(l, e)| l - e)
        };
        for at in 0..COUNTED.len() {
            let [ours, theirs] = self.calls.entry(at).or_default();
            *ours += made(between, before, at);
            *theirs += made(after, between, at);
        }
    }

    fn ratio(&self) -> Result<f64> {
        Ok(whole(&self.ours)? / whole(&self.theirs)?)
    }

    fn tell_calls(&self) {
        let rounds = u64::try_from(self.ours.len()).unwrap_or(1);
        for (name, [ours, theirs]) in COUNTED.iter().zip(self.calls.values()) {
            let (ours, theirs) = (ours / rounds, theirs / rounds);
            eprintln!("  {name} a round: vdvsd {ours}, pyvmomi {theirs}");
        }
    }
}

/// The median of whole rounds.
fn whole(rounds: &[Steps]) -> Result<f64> {
    let sums: Vec<f64> = rounds.iter().map(|r| r.iter().sum()).collect();
    median(&sums)
}

/// One volume's life.
async fn round(guest: &mut Guest, name: &str) -> Result<Steps> {
    let head = || {
        Some(v1::RequestHead {
            request_id: Uuid::new_v4().to_string(),
        })
    };
    let create = v1::CreateVolumeRequest {
        head: head(),
        name: name.to_owned(),
        options: BTreeMap::from([("size".to_owned(), "64mb".to_owned())]),
    };
    let attach = v1::AttachVolumeRequest {
        head: head(),
        name: name.to_owned(),
        read_only: false,
        wait_budget_ms: 0,
    };
    let delete = v1::DeleteVolumeRequest {
        head: head(),
        name: name.to_owned(),
        volume_id: String::new(),
    };
    let begun = Instant::now();
    guest.create_volume(create).await?;
    let created = Instant::now();
    let attached = guest.attach_volume(attach).await?.into_inner();
    let there = Instant::now();
    let detach = v1::DetachVolumeRequest {
        head: head(),
        volume_id: attached.volume.context("a reply names its volume")?.id,
        epoch: attached.epoch,
    };
    let changed = guest.detach_volume(detach).await?.into_inner().changed;
    ensure!(changed, "{name} was not attached");
    let gone = Instant::now();
    guest.delete_volume(delete).await?;
    let end = Instant::now();
    Ok([
        ms(created - begun),
        ms(there - created),
        ms(gone - there),
        ms(end - gone),
    ])
}

fn steps(answer: &Value) -> Result<Steps> {
    let seconds: Vec<f64> = serde_json::from_value(answer.clone())?;
    let steps: [f64; 4] = seconds.try_into().ok().context("four steps make a round")?;
    Ok(steps.map(|s| s * 1e3))
}

/// The medians of the steps, in words.
fn by_step(rounds: &[Steps]) -> Result<String> {
    let names = ["create", "attach", "detach", "delete"];
    let mut said = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let times: Vec<f64> = rounds.iter().filter_map(|r| r.get(at).copied()).collect();
        said.push(format!("{name} {:.1}", median(&times)?));
    }
    Ok(said.join(", "))
}

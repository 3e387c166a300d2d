//! The stage: a lab of two hosts, a swarm, two services and the client of one of them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use vdvs_testkit::lab::{
    DEFAULT_DATASTORE, DRIVER, Datastore, Docker, Images, LabConfig, Node, Swarm, each,
};
use vdvs_testkit::postgres::{Lan, SERVICE, STACK_NAME, VOLUME, Writer, deploy};
use vdvs_testkit::wait;
use vdvs_tests::rig::{Rig, Setup, lines};

/// The stack file.
pub(crate) const STACK: &str = include_str!("stack.yml");
/// The service that writes lines.
pub(crate) const LINES: &str = "postgres_lines";
/// Its volume.
pub(crate) const LINES_VOLUME: &str = "postgres_lines_vol";
/// Where its acknowledged lines are noted.
const NOTES: &str = "acknowledged";
/// A swarm gives a node up 10 to 16 s after it has gone silent, 33 s when its leader has just changed. Several times
/// that on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Between two kills a hypervisor is away for less than a second; several times that on a busy machine.
const SETTLE: Duration = Duration::from_secs(60);
/// Locks of a dead host are held so long.
const LAPSE: Duration = Duration::from_secs(3);
/// As a managed plugin's: the agent waits 15 s for a volume, then the task is rejected and swarm makes another.
const MOUNT_BUDGET: u64 = 25;
/// The client's pause between two rows.
const PACE: Duration = Duration::from_millis(40);
/// Rows and lines that show that a service works.
const SOME: usize = 10;

/// The stage.
pub(crate) struct Story {
    pub(crate) rig: Rig,
    pub(crate) swarm: Swarm,
    pub(crate) lan: Lan,
    writer: Writer,
}

/// What was acknowledged by a node up to a moment.
pub(crate) struct Moment {
    pub(crate) at: Instant,
    lines: usize,
}

impl Story {
    /// Both services run on `swarm02`, and write.
    pub(crate) fn begin(name: &str) -> Result<Option<Self>> {
        let nfs = "nfsDatastore";
        let datastores = [(DEFAULT_DATASTORE, "vsan"), (nfs, "nfs")];
        let datastores = datastores.map(|(name, kind)| Datastore::new(name, kind).lapsing(LAPSE));
        let config = LabConfig::spread(&format!("e-{name}"), 3, 2)
            .with_datastores(&datastores)
            .with_home("swarm03", nfs);
        let setup = Setup {
            mount_budget: Some(MOUNT_BUDGET),
            // As shipped: a service that moves leaves a count without a user for a moment, and nobody shall doubt it.
            doubt_after: None,
            ..Setup::default()
        };
        let Some(mut rig) = Rig::up_lab(&config, setup)? else {
            return Ok(None);
        };
        rig.watch_writers()?;
        let nodes = rig.lab().nodes()?;
        let images = Images::prepare()?;
        each(&nodes, |node| {
            lines::install(node)?;
            images.import_postgres(&node.docker())
        })?;
        let swarm = Swarm::form(&nodes)?;
        swarm.wait_driver(DRIVER)?;
        let lan = Lan::of(rig.lab(), &swarm)?;
        // One worker only, so that both services begin on it.
        availability(&swarm, "swarm03", "drain")?;
        deploy(rig.lab(), &swarm, STACK)?;
        wait::until_true(PATIENCE, "the database answers", || {
            Ok(lan.query("SELECT 1").is_ok())
        })?;
        lan.create_ledger()?;
        let notes = rig.lab().layout().root().join("acknowledged.txt");
        let writer = Writer::paced(&lan, 1, &notes, PACE)?;
        let story = Self {
            rig,
            swarm,
            lan,
            writer,
        };
        let on = story.node("swarm02")?;
        story.wait_both_on(&on, &story.moment(&on)?)?;
        availability(&story.swarm, "swarm03", "active")?;
        Ok(Some(story))
    }

    pub(crate) fn node(&self, name: &str) -> Result<Node> {
        self.rig.node(name)
    }

    pub(crate) fn docker(&self) -> Docker {
        self.swarm.docker()
    }

    /// The worker both services run on, and the other one.
    pub(crate) fn workers(&self) -> Result<(Node, Node)> {
        let what = "both services run on one node";
        let name = wait::until(PATIENCE, what, || {
            let (one, two) = (
                self.swarm.running_on(SERVICE)?,
                self.swarm.running_on(LINES)?,
            );
            Ok(one.filter(|one| two.as_ref() == Some(one)))
        })?;
        let other = self.swarm.workers().iter().find(|one| one.name() != name);
        let other = other.context("a swarm with two workers has another one")?;
        Ok((self.node(&name)?, other.clone()))
    }

    pub(crate) fn moment(&self, node: &Node) -> Result<Moment> {
        Ok(Moment {
            at: Instant::now(),
            lines: lines::acknowledged(node, NOTES)?.len(),
        })
    }

    /// Waits until both services run on this node and have acknowledged something there since. Says when each first did.
    pub(crate) fn wait_both_on(&self, node: &Node, since: &Moment) -> Result<(Duration, Duration)> {
        let lines = thread::scope(|scope| {
            let lines = scope.spawn(|| self.wait_lines_on(node, since));
            let rows = self.wait_rows_on(node, since)?;
            let lines = lines.join().map_err(|_| anyhow!("a thread panicked"))??;
            anyhow::Ok((rows, lines))
        })?;
        self.one_holder(node)?;
        Ok(lines)
    }

    pub(crate) fn wait_rows_on(&self, node: &Node, since: &Moment) -> Result<Duration> {
        let (what, address) = (format!("rows go to {}", node.name()), node.address()?);
        let first = wait::until(PATIENCE, &what, || {
            Ok(self.writer.told().first_after(&address, since.at))
        })?;
        Ok(first.duration_since(since.at))
    }

    /// Waits until rows are acknowledged again, by whichever node.
    pub(crate) fn wait_rows(&self, since: &Moment) -> Result<Duration> {
        let first = wait::until(PATIENCE, "rows are acknowledged", || {
            Ok(self.writer.told().first_since(since.at))
        })?;
        Ok(first.duration_since(since.at))
    }

    pub(crate) fn wait_lines_on(&self, node: &Node, since: &Moment) -> Result<Duration> {
        let what = format!("lines are written on {}", node.name());
        wait::until_true(PATIENCE, &what, || {
            Ok(lines::acknowledged(node, NOTES)?.len() > since.lines)
        })?;
        Ok(since.at.elapsed())
    }

    /// Both volumes' disks are in the configuration of this node's VM, and of no other. Asked until it is so: a
    /// hypervisor may have been killed just now.
    pub(crate) fn one_holder(&self, node: &Node) -> Result<()> {
        for volume in [VOLUME, LINES_VOLUME] {
            let mut last = String::new();
            let what = format!("{volume} is attached to {} alone", node.name());
            wait::until_true(SETTLE, &what, || {
                let holders = self.rig.holders(volume);
                last = format!("{holders:?}");
                Ok(holders.is_ok_and(|holders| holders == [node.name()]))
            })
            .with_context(|| format!("it is attached to {last}"))?;
        }
        Ok(())
    }

    /// Every row and every line that was acknowledged is there, and the independent check has found nothing.
    pub(crate) fn all_there(&self, node: &Node, after: &str) -> Result<()> {
        let kept = self.lan.compare(&self.writer.told())?;
        ensure!(kept.found == kept.acknowledged, "after {after}: {kept:?}");
        let nodes = self.rig.lab().nodes()?;
        let kept_lines = lines::must_be_kept(node, &nodes, NOTES)?;
        self.rig.one_writer()?;
        let (found, told) = (kept.found, kept.acknowledged);
        let text = format!("{found} of {told} rows, all of {kept_lines} lines");
        self.rig.note(&format!("kept after {after}"), &text);
        Ok(())
    }

    /// Both services go on where they are.
    pub(crate) fn goes_on(&self, node: &Node) -> Result<()> {
        let (rows, lines) = (self.writer.count(), self.moment(node)?.lines);
        wait::until_true(PATIENCE, "rows and lines go on", || {
            let done = self.writer.count() >= rows + SOME;
            Ok(done && self.moment(node)?.lines >= lines + SOME)
        })
    }

    /// Moves both services by taking the work from their node.
    pub(crate) fn drain(&self, how: &str) -> Result<()> {
        let (from, to) = self.workers()?;
        let moment = self.moment(&to)?;
        availability(&self.swarm, from.name(), "drain")?;
        let (rows, lines) = self.wait_both_on(&to, &moment)?;
        let text = format!("{how}: rows after {rows:?}, lines after {lines:?}");
        self.rig.note("drain", &text);
        availability(&self.swarm, from.name(), "active")
    }

    /// Asks for an update of both services, waits until each has had one and brings them together again.
    pub(crate) fn updated(&self, ask: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let begun = Instant::now();
        let services = [SERVICE, LINES];
        let before: Vec<_> = services.iter().map(|one| self.update_of(one)).collect();
        let before: Vec<_> = before.into_iter().collect::<Result<_>>()?;
        ask()?;
        for (service, before) in services.iter().zip(before) {
            wait::until_true(PATIENCE, &format!("{service} is updated"), || {
                let now = self.update_of(service)?;
                let done = field(&now, "State").is_some_and(|state| state == "completed");
                Ok(done && field(&now, "StartedAt") != field(&before, "StartedAt"))
            })?;
        }
        Ok(begun.elapsed())
    }

    /// The tasks that shall run.
    pub(crate) fn tasks(&self) -> Result<Vec<String>> {
        let filter = "desired-state=running";
        [SERVICE, LINES]
            .iter()
            .map(|service| {
                let args = ["service", "ps", "--quiet", "--filter", filter, service];
                self.docker().run(&args)
            })
            .collect()
    }

    /// The epoch of a volume's attachment.
    pub(crate) fn epoch(&self, volume: &str) -> Result<u64> {
        let seen = self.rig.volume(volume)?;
        let epoch = seen.get("epoch").and_then(Value::as_u64);
        epoch.with_context(|| format!("no epoch in {seen}"))
    }

    fn update_of(&self, service: &str) -> Result<Value> {
        let format = "{{json .UpdateStatus}}";
        self.docker()
            .json(&["service", "inspect", "--format", format, service])
    }

    /// Brings both services to this node.
    pub(crate) fn gather(&self, node: &str) -> Result<()> {
        let other = self.swarm.workers().iter().find(|one| one.name() != node);
        let other = other.context("a swarm with two workers has another one")?;
        let on = self.node(node)?;
        let moment = self.moment(&on)?;
        availability(&self.swarm, other.name(), "drain")?;
        self.wait_both_on(&on, &moment)?;
        availability(&self.swarm, other.name(), "active")
    }

    /// A node that was off or away takes part again.
    pub(crate) fn is_back(&self, node: &Node) -> Result<()> {
        self.swarm.wait_node_state(node.name(), "ready", PATIENCE)
    }

    /// The services go, then their volumes; nothing is left of anything.
    pub(crate) fn end(self) -> Result<()> {
        let Self {
            rig, swarm, writer, ..
        } = self;
        writer.finish()?;
        let docker = swarm.docker();
        // The engine refuses to remove the network while a task that is ending still uses it; asked again, it goes on.
        wait::until_true(PATIENCE, "the stack is removed", || {
            Ok(docker.run(&["stack", "rm", STACK_NAME]).is_ok())
        })?;
        for volume in [VOLUME, LINES_VOLUME] {
            rig.wait_detached(volume)?;
            docker.run(&["volume", "rm", volume])?;
        }
        rig.finish_empty()
    }
}

/// Whether the scheduler may use a node.
fn availability(swarm: &Swarm, node: &str, how: &str) -> Result<()> {
    let args = ["node", "update", "--availability", how, node];
    swarm.docker().run(&args).map(drop)
}

fn field(status: &Value, name: &str) -> Option<String> {
    status.get(name)?.as_str().map(str::to_owned)
}

//! PostgreSQL as a stack in a real swarm of three, as people deploy it, with everything at its default: whatever happens
//! to the machine it runs on, the service comes back on the other worker with every row a client was told is committed.
//! (Drains, updates, partitions and several hosts: `swarm_hosts`.)

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use vdvs_testkit::lab::{DRIVER, Docker, Images, Lab, Node, Swarm, each};
use vdvs_testkit::postgres::{Lan, SERVICE, STACK, STACK_NAME, VOLUME, Writer, deploy};
use vdvs_testkit::{mount_times, wait};
use vdvs_tests::rig::Rig;

/// A swarm gives a node up 10 to 16 s after it has gone silent, 33 s when its leader has just changed; the database
/// recovers in a few more. Several times that on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Rows the client has written before the power is cut, so that there is something to lose.
const ROWS_BEFORE: usize = 100;
/// Rows it writes beside the machine that comes back.
const ROWS_AFTER: usize = 50;
/// Budget of a failover at the engine's own heartbeat; reported.
const FAILOVER_BUDGET: Duration = Duration::from_secs(35);
/// Asserted.
const FAILOVER_LIMIT: Duration = Duration::from_secs(60);
/// Budget of our share, Mount request to mounted, with the old owner proven dead; reported, five times it asserted.
const OURS_BUDGET: Duration = Duration::from_secs(1);

/// A swarm with the stack deployed and a table filled.
struct Story {
    rig: Rig,
    lab: Lab,
    swarm: Swarm,
    lan: Lan,
    /// Over the table that never changes again.
    checksum: String,
}

impl Story {
    fn begin(name: &str, stack: &str) -> Result<Option<Self>> {
        let Some(mut rig) = Rig::up(name, 3)? else {
            return Ok(None);
        };
        rig.watch_writers()?;
        let lab = Lab::open(&format!("e-{name}"))?;
        let nodes = lab.nodes()?;
        let images = Images::prepare()?;
        each(&nodes, |node| images.import_postgres(&node.docker()))?;
        let swarm = Swarm::form(&nodes)?;
        swarm.wait_driver(DRIVER)?;
        let lan = Lan::of(&lab, &swarm)?;
        let mut story = Self {
            rig,
            lab,
            swarm,
            lan,
            checksum: String::new(),
        };
        story.deploy(stack)?;
        story.lan.query(
            "CREATE TABLE filled AS SELECT n, md5(n::text) AS text FROM generate_series(1, 10000) AS n; \
             CHECKPOINT;",
        )?;
        story.checksum = story.sum()?;
        Ok(Some(story))
    }

    fn docker(&self) -> Docker {
        self.swarm.docker()
    }

    fn deploy(&self, stack: &str) -> Result<()> {
        deploy(&self.lab, &self.swarm, stack)?;
        self.wait_answer()
    }

    fn wait_answer(&self) -> Result<()> {
        wait::until_true(PATIENCE, "the database answers", || {
            Ok(self.lan.query("SELECT 1").is_ok())
        })
    }

    fn sum(&self) -> Result<String> {
        self.lan
            .query("SELECT count(*) || ' ' || md5(string_agg(text, '' ORDER BY n)) FROM filled")
    }

    /// The worker that runs the task, and the one that does not.
    fn workers(&self) -> Result<(Node, Node)> {
        let name = wait::until(PATIENCE, "a task runs", || self.swarm.running_on(SERVICE))?;
        let spare = self.swarm.workers().iter().find(|one| one.name() != name);
        let spare = spare.context("a swarm with two workers has a spare one")?;
        Ok((self.lab.node(&name)?, spare.clone()))
    }

    /// Waits until the service answers on this node, and only the disk of this node's VM is the volume's; then the
    /// rows must be there.
    fn wait_moved(&self, to: &Node) -> Result<()> {
        let what = format!("the task runs on {}", to.name());
        wait::until_true(PATIENCE, &what, || {
            Ok(self.swarm.running_on(SERVICE)?.as_deref() == Some(to.name()))
        })?;
        self.wait_answer()?;
        self.must_be_whole_on(to)
    }

    fn must_be_whole_on(&self, node: &Node) -> Result<()> {
        let (sum, holders) = (self.sum()?, self.rig.holders(VOLUME)?);
        ensure!(sum == self.checksum, "was {}, is {sum}", self.checksum);
        ensure!(holders == [node.name()], "attached to {holders:?}");
        Ok(())
    }

    fn remove_stack(&self) -> Result<()> {
        // The engine refuses to remove the network while a task that is ending still uses it; asked again, it goes on.
        wait::until_true(PATIENCE, "the stack is removed", || {
            Ok(self.docker().run(&["stack", "rm", STACK_NAME]).is_ok())
        })?;
        // The name of the stack's network can be taken again when it is gone, which is after its last task.
        let network = format!("name={STACK_NAME}_default");
        for args in [
            ["service", "ls", "--quiet", "--filter", "name=postgres"],
            ["network", "ls", "--quiet", "--filter", &network],
        ] {
            wait::until_true(PATIENCE, &format!("docker {args:?} is empty"), || {
                Ok(self.docker().run(&args)?.is_empty())
            })?;
        }
        self.rig.wait_detached(VOLUME)
    }

    fn end(self) -> Result<()> {
        self.remove_stack()?;
        self.docker().run(&["volume", "rm", VOLUME])?;
        self.rig.finish_empty()
    }
}

#[test]
fn no_acknowledged_row_is_lost_when_its_machine_is_shut_down_or_loses_its_power() -> Result<()> {
    let Some(story) = Story::begin("story", STACK)? else {
        return Ok(());
    };
    an_orderly_shutdown_moves_the_service(&story)?;
    story.lan.create_ledger()?;
    a_power_cut_loses_nothing(&story)?;
    the_volume_outlives_the_stack(&story)?;
    story.end()
}

fn an_orderly_shutdown_moves_the_service(story: &Story) -> Result<()> {
    let (from, to) = story.workers()?;
    let begun = Instant::now();
    from.shutdown()?;
    story.wait_moved(&to)?;
    let took = begun.elapsed();
    story
        .rig
        .note("orderly shutdown", &format!("away {took:?}"));
    come_back(story, &from)
}

fn come_back(story: &Story, node: &Node) -> Result<()> {
    story.rig.power_on(node.name())?;
    story
        .swarm
        .wait_node_state(node.name(), "ready", PATIENCE)?;
    story.swarm.wait_driver(DRIVER)
}

/// And the machine that comes back afterwards disturbs nobody, whatever it still believes and reports.
fn a_power_cut_loses_nothing(story: &Story) -> Result<()> {
    let (from, to) = story.workers()?;
    let notes = story.lab.layout().root().join("acknowledged.txt");
    let writer = Writer::start(&story.lan, 1, &notes)?;
    wait::until_true(PATIENCE, "the client writes", || {
        Ok(writer.count() >= ROWS_BEFORE)
    })?;
    let served = mount_times::served(&to)?.len();
    let cut = Instant::now();
    story.rig.power_cut(from.name())?;
    let address = to.address()?;
    let back = wait::until(PATIENCE, "the client writes to the other node", || {
        Ok(writer.told().first_by(&address))
    })?;
    let mounts = mount_times::served(&to)?;
    let ours = mounts.get(served).context("a Mount was served")?;
    judge_failover(story, back.duration_since(cut), *ours)?;
    story.must_be_whole_on(&to)?;

    let told = writer.count();
    come_back(story, &from)?;
    wait::until_true(PATIENCE, "the client goes on writing", || {
        Ok(writer.count() >= told + ROWS_AFTER)
    })?;
    story.must_be_whole_on(&to)?;
    let kept = story.lan.compare(&writer.finish()?)?;
    story.rig.note("rows", &format!("{kept:?}"));
    ensure!(kept.found == kept.acknowledged, "{kept:?}");
    ensure!(
        mount_times::served(&to)?.len() == mounts.len(),
        "mounted again"
    );
    Ok(())
}

fn judge_failover(story: &Story, took: Duration, ours: Duration) -> Result<()> {
    let text = format!("{took:?} of {FAILOVER_BUDGET:?}, ours {ours:?} of {OURS_BUDGET:?}");
    story.rig.note("failover", &text);
    ensure!(took < FAILOVER_LIMIT, "{text}");
    ensure!(ours < OURS_BUDGET * 5, "{text}");
    Ok(())
}

fn the_volume_outlives_the_stack(story: &Story) -> Result<()> {
    story.remove_stack()?;
    let there = story.docker().run(&["volume", "ls", "--quiet"])?;
    ensure!(there.contains(VOLUME), "volumes: {there}");
    let begun = Instant::now();
    story.deploy(STACK)?;
    let took = begun.elapsed();
    story.rig.note("deployed again", &format!("{took:?}"));
    story.must_be_whole_on(&story.workers()?.0)
}

//! The story, act by act.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use vdvs_testkit::lab::{
    DRIVER, Docker, Images, Lab, LabConfig, Node, PACKAGES, Swarm, ensure_packages,
};
use vdvs_testkit::postgres::{self, Lan, SERVICE, STACK, Told, VOLUME, Writer};
use vdvs_testkit::{mount_times, wait};

use super::report::{Failover, Report};
use super::timeline::Timeline;
use crate::program;

/// Name of the demo's lab, so that one a person plays with is left alone.
const LAB: &str = "demo";

/// A swarm notices new plugins up to 20 s late, a lost node after 16 s (33 s when its leader changed); the database
/// recovers in a few more. Several times that on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// Rows the client should have written before the power is cut, so that there is something to lose.
const ROWS_BEFORE_CUT: usize = 200;

/// How often the swarm is asked what it does while the service is away; asking costs it something, too.
const LOOK: Duration = Duration::from_millis(250);

/// What the acts play with.
struct Stage<'a> {
    t: &'a Timeline,
    lab: &'a Lab,
    swarm: Swarm,
    lan: Lan,
}

/// Tells the story; figures go into `report`.
pub(super) fn tell(t: &Timeline, rounds: u32, keep: bool, report: &mut Report) -> Result<()> {
    let begun = Instant::now();
    t.act("The machine");
    t.step("machine", "packages", || ensure_packages(PACKAGES, &|_| ()))?;
    t.event("machine", "packages ready");
    let ready = Instant::now();
    t.event("machine", "building vdvsd, vdvs, vdvs-plugin, vdvs-labhv");
    let built = program::cargo(&["build", "--locked", "--workspace", "--bins"], &[])?;
    ensure!(built.ok, "the programs do not build");
    let images = t.step("machine", "images: busybox, PostgreSQL 15", Images::prepare)?;

    t.act("A host, three virtual machines, a swarm");
    let what = "host esx01 with vsanDatastore; swarm01, swarm02, swarm03 with their engines";
    let config = LabConfig::new(LAB, 3);
    let up = t.step("esx01", what, || {
        Lab::down(LAB)?;
        Lab::up(&config)
    });
    let told = up.and_then(|lab| {
        let told = acts(t, &lab, &images, rounds, report);
        if keep {
            hints(t, &lab);
        }
        told
    });
    report.since_packages_s = ready.elapsed().as_secs_f64();
    report.total_s = begun.elapsed().as_secs_f64();
    if keep {
        return told;
    }
    if told.is_err() {
        t.event(
            "machine",
            "the lab goes; '--keep' leaves it to be looked at",
        );
    }
    let down = t.step("machine", "taking the lab down", || Lab::down(LAB));
    told.and(down)
}

fn acts(t: &Timeline, lab: &Lab, images: &Images, rounds: u32, report: &mut Report) -> Result<()> {
    let nodes = lab.nodes()?;
    let engines: Vec<Docker> = nodes.iter().map(Node::docker).collect();
    t.step("swarm", "images into three engines", || {
        images.import_all(&engines)
    })?;
    let swarm = t.step("swarm", "docker swarm init, join, join", || {
        Swarm::form(&nodes)
    })?;
    t.step(
        "swarm",
        "the scheduler sees our driver on every node",
        || swarm.wait_driver(DRIVER),
    )?;
    let lan = Lan::of(lab, &swarm)?;
    let stage = Stage { t, lab, swarm, lan };

    t.act("The stack");
    stage.deploy()?;
    stage.show_volume()?;

    t.act("An orderly shutdown");
    report.orderly_s = stage.orderly_shutdown()?;

    stage.lan.create_ledger()?;
    let mut next = 1;
    for round in 1..=rounds {
        t.act(&format!("A power cut ({round} of {rounds})"));
        let failover = stage.power_cut(&mut next)?;
        report.failovers.push(failover);
    }
    Ok(())
}

impl Stage<'_> {
    fn deploy(&self) -> Result<()> {
        let t = self.t;
        t.event(
            "swarm",
            "the routing mesh needs IP_VS; the port is published in host mode instead",
        );
        t.event("swarm01", "docker stack deploy -c stack.yml postgres");
        postgres::deploy(self.lab, &self.swarm, STACK)?;
        t.step(
            "swarm",
            "PostgreSQL initialises its volume and answers",
            || self.wait_answer(),
        )?;
        self.lan.query(
            "CREATE TABLE \"user\" (name text PRIMARY KEY, department text NOT NULL); \
             INSERT INTO \"user\" VALUES ('ada', 'engines'), ('grace', 'compilers'), ('barbara', 'data');",
        )?;
        t.event("client", "SELECT name, department FROM \"user\"");
        t.quote(
            &self
                .lan
                .show("SELECT name, department FROM \"user\" ORDER BY name")?,
        );
        Ok(())
    }

    fn wait_answer(&self) -> Result<()> {
        wait::until_true(PATIENCE, "the database answers", || {
            Ok(self.lan.query("SELECT 1").is_ok())
        })
    }

    fn show_volume(&self) -> Result<()> {
        let worker = self.running_on()?;
        let docker = worker.docker();
        self.t
            .event(worker.name(), &format!("docker volume inspect {VOLUME}"));
        self.t.quote(&docker.run(&["volume", "inspect", VOLUME])?);
        let container = docker.run(&["ps", "-q", "--filter", &format!("name={SERVICE}")])?;
        self.t.event(
            worker.name(),
            &format!("docker inspect {container} (its mounts)"),
        );
        let mounts = docker.json(&["inspect", "--format", "{{json .Mounts}}", &container])?;
        self.t.quote(&serde_json::to_string_pretty(&mounts)?);
        Ok(())
    }

    /// The node that runs the task now.
    fn running_on(&self) -> Result<Node> {
        let node = wait::until(PATIENCE, "a task runs", || self.swarm.running_on(SERVICE))?;
        self.lab.node(&node)
    }

    fn other_worker(&self, than: &Node) -> Result<Node> {
        let other = self
            .swarm
            .workers()
            .iter()
            .find(|w| w.name() != than.name());
        other
            .cloned()
            .context("a swarm with two workers has another one")
    }

    fn users(&self) -> Result<String> {
        self.lan.query(
            "SELECT count(*) || ' rows, md5 ' || md5(string_agg(name || department, ',' ORDER BY name)) FROM \"user\"",
        )
    }

    fn orderly_shutdown(&self) -> Result<f64> {
        let (t, worker, before) = (self.t, self.running_on()?, self.users()?);
        let begun = Instant::now();
        t.step(worker.name(), "orderly shutdown", || worker.shutdown())?;
        t.step("swarm", "the task moves", || self.wait_answer())?;
        let away = begun.elapsed().as_secs_f64();
        let after = self.users()?;
        t.event(
            "client",
            &format!(
                "PostgreSQL answers on {}: {after}",
                self.running_on()?.name()
            ),
        );
        ensure!(
            before == after,
            "table user was '{before}', after the shutdown it is '{after}'"
        );
        self.power_back(&worker)?;
        Ok(away)
    }

    fn power_back(&self, worker: &Node) -> Result<()> {
        self.t
            .step(worker.name(), "power on, joins the swarm again", || {
                worker.power_on()?;
                self.swarm
                    .wait_node_state(worker.name(), "ready", PATIENCE)?;
                self.swarm.wait_driver(DRIVER)
            })
    }

    fn power_cut(&self, next: &mut u64) -> Result<Failover> {
        let (t, victim) = (self.t, self.running_on()?);
        let heir = self.other_worker(&victim)?;
        let before = self.users()?;
        let notes = self.lab.layout().root().join("acknowledged.txt");
        let writer = Writer::start(&self.lan, *next, &notes)?;
        wait::until_true(PATIENCE, "the client writes", || {
            Ok(writer.count() >= ROWS_BEFORE_CUT)
        })?;
        t.event(
            "client",
            &format!("{} rows acknowledged and counting", writer.count()),
        );

        let heard = mount_times::served(&heir)?.len();
        let cut = Instant::now();
        victim.power_cut()?;
        t.event(victim.name(), "POWER CUT: caches lost, every process gone");
        if let Some(last) = writer.told().highest() {
            t.event("client", &format!("last acknowledged row: {last}"));
        }
        let back = self.wait_for_inserts(&writer, &heir, cut)?;
        let mount = wait::until(PATIENCE, "the plugin tells of its mount", || {
            Ok(mount_times::served(&heir)?.get(heard).copied())
        })?;
        t.event(
            heir.name(),
            &format!("Mount request to mounted: {:.2} s", mount.as_secs_f64()),
        );
        t.event(
            heir.name(),
            &format!("PostgreSQL commits again, {back:.1} s after the cut"),
        );
        let told = writer.finish()?;
        // Far above anything that may have been sent without an answer.
        *next = told.highest().map_or(*next, |n| n + 100_000);
        let after = self.users()?;
        ensure!(
            before == after,
            "table user was '{before}', after the power cut it is '{after}'"
        );
        let failover = self.compare(&told, (&victim, &heir), back, mount)?;
        self.power_back(&victim)?;
        Ok(failover)
    }

    /// Waits until the client's inserts are acknowledged by the heir, telling what the swarm does meanwhile. Seconds
    /// since the cut.
    fn wait_for_inserts(&self, writer: &Writer, heir: &Node, cut: Instant) -> Result<f64> {
        let address = heir.address()?;
        let (mut told, mut looked) = (String::new(), Instant::now());
        wait::until(
            PATIENCE,
            "the client's inserts are acknowledged again",
            || {
                if let Some(resumed) = writer.told().first_by(&address) {
                    return Ok(Some(resumed.duration_since(cut).as_secs_f64()));
                }
                if looked.elapsed() >= LOOK {
                    looked = Instant::now();
                    let now = self.tasks()?;
                    if now != told {
                        self.t.event("swarm", &now);
                        told = now;
                    }
                }
                Ok(None)
            },
        )
    }

    /// Where the swarm wants the task and how far it is, in words.
    fn tasks(&self) -> Result<String> {
        let filter = "desired-state=running";
        let format = "{{.Node}} {{.CurrentState}}";
        let tasks = self.swarm.docker().run(&[
            "service", "ps", SERVICE, "--filter", filter, "--format", format,
        ])?;
        // "Running 3 minutes ago" changes with the clock; node and state are its first words.
        let states: Vec<String> = tasks
            .lines()
            .map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(": "))
            .collect();
        if states.is_empty() {
            return Ok("the node is given up, a new task is made".to_owned());
        }
        Ok(format!("task on {}", states.join(", ")))
    }

    fn compare(
        &self,
        told: &Told,
        (from, to): (&Node, &Node),
        total_s: f64,
        ours: Duration,
    ) -> Result<Failover> {
        let kept = self.lan.compare(told)?;
        let (rows, sum) = (kept.rows, &kept.checksum);
        self.t
            .event("client", &format!("{rows} rows in the table, md5 {sum}"));
        let (acknowledged, found) = (kept.acknowledged, kept.found);
        self.t.event(
            "client",
            &format!("{acknowledged} acknowledged, {found} of them found"),
        );
        Ok(Failover {
            from: from.name().to_owned(),
            to: to.name().to_owned(),
            total_s,
            docker_s: total_s - ours.as_secs_f64(),
            ours_s: ours.as_secs_f64(),
            acknowledged,
            found,
            rows,
        })
    }
}

fn hints(t: &Timeline, lab: &Lab) {
    let name = lab.layout().name();
    t.act("The lab is yours");
    t.quote(&format!(
        "cargo xtask lab status --name {name}\n\
         cargo xtask lab exec --name {name} swarm02 docker ps\n\
         cargo xtask lab exec --name {name} swarm02 docker volume inspect {VOLUME}\n\
         cargo xtask lab power-cut --name {name} swarm02\n\
         target/debug/vdvs --socket {} volume ls\n\
         cargo xtask lab down --name {name}",
        lab.layout().admin_socket("esx01").display()
    ));
}

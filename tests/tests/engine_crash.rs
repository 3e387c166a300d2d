//! One engine, and what dies around it: the engine itself, the plugin, the agent, the machine. Nothing is lost, and
//! nothing is left behind.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use vdvs_tests::rig::{Program, Rig, Setup, refusal, run_in};

const SECOND: Duration = Duration::from_secs(1);
/// What a plugin says of a count that has no user.
const LOST_UNMOUNT: &str = "dockerd lost the Unmount";
/// What a plugin says once when it loses the agent.
const NO_AGENT: &str = "no agent; the journal answers";

#[test]
fn the_engine_is_terminated_and_killed_under_a_running_container() -> Result<()> {
    let Some(rig) = Rig::up("dterm", 1)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    rig.create("v1")?;
    let script = "trap exit TERM; while :; do date +%s >> /data/log; sync; sleep 1 & wait $!; done";
    let run = [
        "run",
        "-d",
        "--name",
        "first",
        "--restart",
        "always",
        "-v",
        "v1:/data",
        "bb:1",
        "sh",
        "-c",
        script,
    ];
    docker.run(&run)?;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        rig.wait_output(
            "swarm01",
            &["exec", "first", "sh", "-c", "test -s /data/log && echo yes"],
            "yes",
        )?;
        let before = docker.run(&["exec", "first", "head", "-n", "1", "/data/log"])?;
        rig.restart_dockerd("swarm01", signal)?;
        rig.wait_running("swarm01", "first")?;
        let after = docker.run(&["exec", "first", "head", "-n", "1", "/data/log"])?;
        ensure!(
            before == after,
            "after {signal} the log begins with {after}, not {before}"
        );
        ensure!(rig.attached("v1")?, "after {signal}");
    }
    rig.expect_complaint(
        Program::Plugin,
        LOST_UNMOUNT,
        "a killed engine mounts again with the old id and unmounts once",
    );
    docker.run(&["rm", "-f", "first"])?;
    rig.wait_detached("v1")?;
    docker.run(&["volume", "rm", "v1"])?;
    rig.finish_empty()
}

#[test]
fn the_engine_is_killed_and_terminated_and_containers_live_on() -> Result<()> {
    let setup = Setup {
        live_restore: true,
        ..Setup::default()
    };
    let Some(rig) = Rig::up_with("dlive", 1, setup)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    rig.create("v1")?;
    docker.run(&[
        "run", "-d", "--name", "first", "-v", "v1:/data", "bb:1", "sleep", "600",
    ])?;
    docker.run(&["exec", "first", "sh", "-c", "echo before > /data/f; sync"])?;
    let started = ["inspect", "--format", "{{.State.StartedAt}}", "first"];
    let before = docker.run(&started)?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        rig.restart_dockerd("swarm01", signal)?;
        ensure!(
            docker.run(&started)? == before,
            "{signal} restarted the container"
        );
        ensure!(
            docker.run(&["exec", "first", "cat", "/data/f"])? == "before",
            "after {signal}"
        );
        ensure!(rig.attached("v1")?, "after {signal}");
    }
    docker.run(&["rm", "-f", "first"])?;
    rig.wait_detached("v1")?;
    docker.run(&["volume", "rm", "v1"])?;
    rig.expect_complaint(
        Program::Plugin,
        LOST_UNMOUNT,
        "between a container's end and its Unmount an old count has no user",
    );
    rig.finish_empty()
}

#[test]
fn the_plugin_is_killed_in_the_middle_of_mounts_and_under_a_container() -> Result<()> {
    let Some(rig) = Rig::up("pkill", 1)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    // Each kill hits one mount at every stage: look-up, attach, format, mount, answer, unmount. An engine whose request
    // was cut off goes on asking for 15 s, so several are hit at once. Even ones are formatted for the first time.
    let mut broken = 0;
    for turn in 0u64..2 {
        let names = [0, 1, 2, 3].map(|worker| format!("turn{turn}-{worker}"));
        for (worker, name) in names.iter().enumerate() {
            rig.create(name)?;
            if worker % 2 == 1 {
                docker.run(&run_in(name, "echo kept > /data/kept; sync"))?;
            }
        }
        let workers = names.clone().map(|name| {
            let docker = docker.clone();
            rig.after(Duration::from_millis(60 + 20 * turn));
            thread::spawn(move || docker.run(&run_in(&name, "echo x > /data/x; sync; cat /data/x")))
        });
        rig.after(Duration::from_millis(40));
        rig.kill_plugin("swarm01")?;
        rig.wait_plugin("swarm01")?;
        for (worker, (running, name)) in workers.into_iter().zip(&names).enumerate() {
            // Docker may report the broken call; it must neither hang nor show anything but the data.
            let wrote = running.join().expect("the worker does not panic");
            ensure!(
                !wrote.as_ref().is_ok_and(|text| text != "x"),
                "{name}: {wrote:?}"
            );
            let wrote = wrote.is_ok();
            broken += u32::from(!wrote);
            if worker % 2 == 1 {
                ensure!(
                    docker.run(&run_in(name, "cat /data/kept"))? == "kept",
                    "{name}"
                );
            }
            let said = docker.run(&run_in(name, "cat /data/x 2> /dev/null; echo ."))?;
            ensure!(
                said == "x\n." || (!wrote && said == "."),
                "{name}, wrote {wrote}: {said}"
            );
        }
        for name in &names {
            rig.wait_detached(name)?;
            docker.run(&["volume", "rm", name.as_str()])?;
        }
    }
    rig.note(
        "plugin killed",
        &format!("{broken} of 8 containers were not started"),
    );
    // A running container does not notice.
    rig.create("v1")?;
    docker.run(&[
        "run", "-d", "--name", "first", "-v", "v1:/data", "bb:1", "sleep", "600",
    ])?;
    rig.kill_plugin("swarm01")?;
    rig.wait_plugin("swarm01")?;
    let write = [
        "exec",
        "first",
        "sh",
        "-c",
        "echo still here > /data/f; sync; cat /data/f",
    ];
    ensure!(docker.run(&write)? == "still here");
    ensure!(rig.attached("v1")?);
    docker.run(&["rm", "-f", "first"])?;
    rig.wait_detached("v1")?;
    docker.run(&["volume", "rm", "v1"])?;
    rig.expect_complaint(
        Program::Plugin,
        LOST_UNMOUNT,
        "a Mount whose answer was cut off is counted, and never unmounted",
    );
    rig.finish_empty()
}

#[test]
fn the_agent_is_killed_in_the_middle_of_create_attach_detach_and_delete() -> Result<()> {
    let Some(rig) = Rig::up("akill", 1)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    rig.create("keep")?;
    docker.run(&run_in("keep", "echo kept > /data/kept; sync"))?;
    let mut broken = Vec::new();
    for turn in 0u64..10 {
        let worker = {
            let docker = docker.clone();
            thread::spawn(move || {
                let create = [
                    "volume",
                    "create",
                    "-d",
                    "vsphere",
                    "--name",
                    "tmp",
                    "-o",
                    "size=20mb",
                ];
                [
                    docker.run(&create),
                    docker.run(&run_in("tmp", "touch /data/x && echo touched")),
                    docker.run(&run_in("keep", "cat /data/kept")),
                    docker.run(&["volume", "rm", "tmp"]),
                ]
            })
        };
        rig.after(Duration::from_millis(30 + 230 * turn));
        rig.kill_agent()?;
        rig.after(Duration::from_millis(50));
        rig.start_agent()?;
        let said = worker.join().expect("the worker does not panic");
        for (step, wanted) in said.iter().zip(["tmp", "touched", "kept", "tmp"]) {
            match step {
                Ok(text) => ensure!(text == wanted, "turn {turn}: {text}, not {wanted}"),
                Err(error) => broken.push(format!("turn {turn}: {error:#}")),
            }
        }
        // What was said to be removed is removed; what was not is removed now.
        let listed = docker.run(&["volume", "ls", "-q"])?;
        let there = listed
            .lines()
            .any(|name| name.split('@').next() == Some("tmp"));
        let removed = said.last().is_some_and(Result::is_ok);
        ensure!(!(there && removed), "turn {turn}: removed and still listed");
        if there {
            rig.wait_detached("tmp")?;
            docker.run(&["volume", "rm", "tmp"])?;
        }
    }
    rig.expect_complaint(Program::Plugin, NO_AGENT, "the agent was killed");
    rig.note(
        "agent killed",
        &format!("{} of 40 commands failed", broken.len()),
    );
    // The plugin asks again with the same request id: nobody sees that the agent was away for a moment.
    ensure!(broken.is_empty(), "{}", broken.join("\n"));
    ensure!(docker.run(&run_in("keep", "cat /data/kept"))? == "kept");
    rig.wait_detached("keep")?;
    docker.run(&["volume", "rm", "keep"])?;
    rig.finish_empty()
}

#[test]
fn without_an_agent_no_local_volume_takes_the_place_of_ours() -> Result<()> {
    let Some(rig) = Rig::up("noagent", 2)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    rig.create("v1")?;
    docker.run(&run_in("v1", "echo ours > /data/f; sync"))?;
    rig.wait_detached("v1")?;
    // This node's engine has never heard of v2; its plugin has, from the agent.
    rig.docker("swarm02").run(&[
        "volume",
        "create",
        "-d",
        "vsphere",
        "--name",
        "v2",
        "-o",
        "size=20mb",
    ])?;
    rig.kill_plugin("swarm01")?;
    rig.wait_plugin("swarm01")?;
    rig.wait_journal("swarm01", "v2")?;
    rig.kill_agent()?;

    // Get and List answer from the journal.
    let seen = docker.json(&["volume", "inspect", "v1", "--format", "{{json .Status}}"])?;
    ensure!(seen["vdvs"]["answer"] == "stale", "{seen}");
    let begun = Instant::now();
    let driver = [
        "run",
        "--rm",
        "--volume-driver",
        "vsphere",
        "-v",
        "v9:/data",
        "bb:1",
        "true",
    ];
    let attempts = [
        run_in("v1", "true"),
        run_in("v2", "true"),
        driver.map(str::to_owned).to_vec(),
    ];
    // A name the engine knows, a name only the plugin knows, and a new one with the driver named: errors, all of them.
    thread::scope(|scope| {
        let running: Vec<_> = attempts
            .iter()
            .map(|args| scope.spawn(|| refusal(docker.run(args))))
            .collect();
        running.into_iter().try_for_each(|one| {
            eprintln!("{}", one.join().expect("an attempt does not panic")?);
            anyhow::Ok(())
        })
    })?;
    rig.note(
        "agent away",
        &format!("three refusals within {:?}", begun.elapsed()),
    );
    let listed = docker.run(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"])?;
    ensure!(listed.contains("v1") && listed.contains("v2"), "{listed}");
    ensure!(
        listed.lines().all(|line| line.starts_with("vsphere ")),
        "{listed}"
    );

    rig.expect_complaint(Program::Plugin, NO_AGENT, "the agent was killed");
    rig.expect_complaint(
        Program::Plugin,
        "the connection is closed without an answer",
        "whether v9 exists is not known without the agent",
    );
    rig.start_agent()?;
    ensure!(docker.run(&run_in("v1", "cat /data/f"))? == "ours");
    for volume in ["v1", "v2"] {
        rig.wait_detached(volume)?;
        docker.run(&["volume", "rm", volume])?;
    }
    rig.finish_empty()
}

#[test]
fn a_volume_of_a_vm_that_lost_its_power_is_mounted_elsewhere_at_once() -> Result<()> {
    let Some(rig) = Rig::up("cut", 2)? else {
        return Ok(());
    };
    let two = rig.docker("swarm02");
    rig.create("v1")?;
    let script = "echo synced > /data/synced; sync; echo lost > /data/unsynced; sleep 600";
    rig.docker("swarm01").run(&[
        "run", "-d", "--name", "first", "-v", "v1:/data", "bb:1", "sh", "-c", script,
    ])?;
    rig.wait_output(
        "swarm01",
        &["exec", "first", "cat", "/data/unsynced"],
        "lost",
    )?;
    rig.power_cut("swarm01")?;
    let begun = Instant::now();
    // What was flushed is there, what was not is gone: the cut was real.
    ensure!(two.run(&run_in("v1", "cat /data/synced; ls -A /data"))? == "synced\nsynced");
    let took = begun.elapsed();
    rig.note(
        "takeover",
        &format!("docker run on the other node after the cut: {took:?}"),
    );
    ensure!(took < SECOND * 20, "{took:?}");
    rig.wait_detached("v1")?;
    // The node comes back: nothing of its old life may hurt the new.
    rig.power_on("swarm01")?;
    ensure!(
        rig.docker("swarm01")
            .run(&run_in("v1", "cat /data/synced"))?
            == "synced"
    );
    rig.wait_detached("v1")?;
    two.run(&["volume", "rm", "v1"])?;
    rig.finish_empty()
}

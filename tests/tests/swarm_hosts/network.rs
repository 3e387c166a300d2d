//! Cables, suspension, and one name wanted twice.

use std::slice::from_ref;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use vdvs_testkit::lab::Node;
use vdvs_testkit::postgres::{SERVICE, VOLUME};
use vdvs_testkit::{mount_times, wait};
use vdvs_tests::rig::{Program, lines, refusal, run_in};

use super::FENCE_AFTER;
use super::story::{LINES, LINES_VOLUME, PATIENCE, Story};

/// Promised: a fenced volume is mounted elsewhere within this after `fence-after`.
const FENCED_WITHIN: Duration = Duration::from_secs(10);
/// Promised: a service that waited for its volume runs within this after the heal.
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// Names two nodes ask for at once.
const TWINS: usize = 6;

/// A node is cut off and goes on writing. The volume that waits stays with it; the one that is fenced is taken from it.
pub(crate) fn a_partition_heals(story: &Story) -> Result<()> {
    let (from, to) = story.workers()?;
    expect_complaints(story);
    let fences = story.rig.fences()?;
    let served = mount_times::served_of(&to, LINES_VOLUME)?.len();
    let moment = story.moment(&to)?;
    from.set_cable(false)?;

    let lines = story.wait_lines_on(&to, &moment)?;
    // The longest, if the image's content was looked for first.
    let mounts = mount_times::served_of(&to, LINES_VOLUME)?;
    let mounts = mounts.iter().skip(served);
    let took = *mounts.max().context("a Mount was served")?;
    let text = format!("lines after {lines:?}, {took:?} of it the Mount");
    story.rig.note("partition, fence", &text);
    ensure!(took >= FENCE_AFTER, "fenced too early, after {took:?}");
    ensure!(took <= FENCE_AFTER + FENCED_WITHIN, "{took:?}");
    ensure!(story.rig.fences()? == fences + 1, "one fence");
    ensure!(story.rig.holders(LINES_VOLUME)? == [to.name()]);
    // Its file system tells the old writer that the disk is gone; it ends with the code for that.
    wait::until_true(PATIENCE, "the old writer gets an I/O error", || {
        Ok(lines::note(&from, "ended")?.lines().last() == Some("5"))
    })?;

    let refused = |node: &Node| mount_times::refused_of(node, VOLUME);
    wait::until_true(PATIENCE, "the task that waits is rejected", || {
        Ok(refused(&to)? > 0)
    })?;
    ensure!(story.rig.holders(VOLUME)? == [from.name()]);
    let epoch = story.epoch(LINES_VOLUME)?;
    let stale = containers(&from, SERVICE)?;
    let healed = story.moment(&to)?;
    from.set_cable(true)?;
    wait::until_true(PATIENCE, "the old task ends", || {
        let there = containers(&from, SERVICE)?;
        Ok(stale.iter().all(|one| !there.contains(one)))
    })?;
    let ended = story.moment(&to)?;
    story.wait_rows(&ended)?;
    let rows = healed.at.elapsed();
    let text = format!(
        "{} rejections, rows {rows:?} of {HEALED_WITHIN:?} after the heal",
        refused(&to)?
    );
    story.rig.note("partition, wait", &text);
    ensure!(rows <= HEALED_WITHIN, "{rows:?}");

    // What the old node still believes and says changes nothing.
    story.is_back(&from)?;
    wait::until_true(PATIENCE, "the old node's container is gone", || {
        Ok(containers(&from, LINES)?.is_empty())
    })?;
    wait::until_true(PATIENCE, "the old node has let go of the disk", || {
        let mounts = from.volume_mounts()?;
        Ok(mounts.len() <= usize::from(story.rig.holders(VOLUME)? == [from.name()]))
    })?;
    let now = story.epoch(LINES_VOLUME)?;
    ensure!(now == epoch, "attached anew: epoch {epoch}, then {now}");
    ensure!(story.rig.holders(LINES_VOLUME)? == [to.name()]);
    story.gather(to.name())?;
    story.goes_on(&to)?;
    story.all_there(&to, "a partition")
}

/// Containers of a service that run on a node, whatever the manager thinks.
fn containers(node: &Node, service: &str) -> Result<Vec<String>> {
    let filter = format!("name={service}");
    let listed = node.docker().run(&["ps", "--quiet", "--filter", &filter])?;
    Ok(listed.lines().map(str::to_owned).collect())
}

fn expect_complaints(story: &Story) {
    for (text, why) in [
        ("mount failed", "the node that is cut off holds the volume"),
        ("is lost", "the volume was fenced from the node"),
    ] {
        story.rig.expect_complaint(Program::Plugin, text, why);
    }
}

/// A machine that does not run, and whose locks are free, is not dead: it goes on writing when it is resumed.
pub(crate) fn nobody_takes_the_volume_of_a_suspended_machine(story: &Story) -> Result<()> {
    let (services, other) = story.workers()?;
    let volume = "frozen";
    let args = [
        "volume",
        "create",
        "-d",
        "vsphere",
        "--name",
        volume,
        "-o",
        "size=20mb",
    ];
    other.docker().run(&args)?;
    let script = format!(
        "exec sh /notes/writer.sh /data/writes.log {} 50000 >> /notes/{volume}",
        other.name()
    );
    let mount = format!("{volume}:/data");
    other.docker().run(&[
        "run",
        "-d",
        "--name",
        volume,
        "-v",
        &mount,
        "-v",
        "/var/lib/notes:/notes",
        "bb:1",
        "sh",
        "-c",
        &script,
    ])?;
    let written = || Ok::<_, anyhow::Error>(lines::acknowledged(&other, volume)?.len());
    let wait_for =
        |more: usize| wait::until_true(PATIENCE, "the writer writes", || Ok(written()? >= more));
    wait_for(10)?;

    other.suspend()?;
    let before = written()?;
    let begun = Instant::now();
    // Longer than a free lock has to be seen to prove a death.
    let text = refusal(services.docker().run(&run_in(volume, "true")))?;
    let took = begun.elapsed();
    ensure!(text.contains(other.name()), "the holder is named: {text}");
    ensure!(
        took >= Duration::from_secs(10),
        "refused after {took:?}: {text}"
    );
    ensure!(written()? == before, "it wrote while it was suspended");
    other.resume()?;
    wait_for(before + 10)?;
    story
        .rig
        .note("suspended", &format!("refused after {took:?}: {text}"));

    let kept = lines::must_be_kept(&other, from_ref(&other), volume)?;
    story
        .rig
        .note("kept after a suspension", &format!("all of {kept} lines"));
    other.docker().run(&["rm", "-f", volume])?;
    story.rig.wait_detached(volume)?;
    other.docker().run(&["volume", "rm", volume])?;
    story.is_back(&other)?;
    story.goes_on(&services)
}

/// Their default datastores differ, and each could make a volume of that name where the other does not look first.
pub(crate) fn two_nodes_ask_for_one_name_at_once(story: &Story) -> Result<()> {
    let nodes = [story.node("swarm02")?, story.node("swarm03")?];
    for turn in 0..TWINS {
        let name = format!("twin{turn}");
        let create = [
            "volume",
            "create",
            "-d",
            "vsphere",
            "--name",
            &name,
            "-o",
            "size=20mb",
        ];
        let made = thread::scope(|scope| {
            let running = nodes
                .each_ref()
                .map(|node| scope.spawn(|| node.docker().run(&create)));
            let ended = running.map(|one| one.join().map_err(|_| anyhow!("a thread panicked")));
            ended.into_iter().collect::<Result<Vec<_>>>()
        })?;
        ensure!(
            made.iter().any(Result::is_ok),
            "nobody made {name}: {made:?}"
        );
        one_volume(&nodes, &name)?;
        let [one, two] = &nodes;
        let remover = if turn % 2 == 0 { one } else { two };
        remover.docker().run(&["volume", "rm", &name])?;
    }
    story
        .rig
        .note("twins", &format!("{TWINS} names, one volume each"));
    Ok(())
}

/// Both nodes see the same volume under this name, and list it once.
fn one_volume(nodes: &[Node], name: &str) -> Result<()> {
    let mut ids = Vec::new();
    for node in nodes {
        let docker = node.docker();
        let format = "{{json .Status.vdvs.id}}";
        ids.push(docker.json(&["volume", "inspect", "--format", format, name])?);
        let listed = docker.run(&["volume", "ls", "--quiet"])?;
        let same = listed
            .lines()
            .filter(|one| one.split('@').next() == Some(name));
        let same: Vec<&str> = same.collect();
        ensure!(same.len() == 1, "{} lists {same:?}", node.name());
    }
    ids.dedup();
    ensure!(
        matches!(ids.as_slice(), [id] if id.is_string()),
        "{name}: {ids:?}"
    );
    Ok(())
}

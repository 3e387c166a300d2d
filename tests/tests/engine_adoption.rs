//! A volume that the archived system left on a datastore, used by a container: found where it lies, shown before
//! anything is written, its disk and its metadata file kept as they were.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use vdvs_testkit::lab::DEFAULT_DATASTORE;
use vdvs_tests::rig::{Rig, run_in};

const METADATA: &str = r#"{"status":"detached","volOpts":{"diskformat":"thin"},"created-by":"worker1","created":"Tue Jun 20 08:32:19 2017"}"#;

/// The file in a folder whose name begins and ends so.
fn file(folder: &Path, begin: &str, end: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(begin) && name.ends_with(end) {
            return Ok(entry.path());
        }
    }
    Err(anyhow::anyhow!("no {begin}…{end} in {}", folder.display()))
}

/// Copies a volume's disk to the names that the original gave its own.
fn plant(folder: &Path, from: &str, name: &str) -> Result<()> {
    let extent = file(folder, &format!("{from}."), "-flat.vmdk")?;
    let descriptor = PathBuf::from(extent.to_string_lossy().replace("-flat.vmdk", ".vmdk"));
    let extent_name = extent.file_name().context("a name")?.to_string_lossy();
    let text = fs::read_to_string(&descriptor)?;
    let renamed = text.replace(&*extent_name, &format!("{name}-flat.vmdk"));
    ensure!(renamed != text, "the descriptor names no extent:\n{text}");
    fs::copy(&extent, folder.join(format!("{name}-flat.vmdk")))?;
    fs::write(folder.join(format!("{name}.vmdk")), renamed)?;
    let metadata = format!("{METADATA:<4095}\n");
    fs::write(
        folder.join(format!("{name}-4b88db79778570b6.vmfd")),
        metadata,
    )?;
    Ok(())
}

#[test]
fn a_volume_of_the_original_is_used_where_it_lies() -> Result<()> {
    let Some(rig) = Rig::up("adoption", 2)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    // Not ext4, so that the type the metadata leaves open has to be seen on the disk.
    let order = [
        "volume",
        "create",
        "-d",
        "vsphere",
        "-o",
        "size=320mb",
        "-o",
        "fstype=xfs",
        "seed",
    ];
    docker.run(&order)?;
    docker.run(&run_in("seed", "echo from 2017 > /data/letter; sync"))?;
    let dockvols = rig.host().datastore(DEFAULT_DATASTORE).join("dockvols");
    let folder = dockvols.join("11111111-1111-1111-1111-111111111111");
    plant(&folder, "seed", "old")?;
    docker.run(&["volume", "rm", "seed"])?;
    let metadata = folder.join("old-4b88db79778570b6.vmfd");
    let before = fs::read(&metadata)?;

    // Seen by every guest, with what the original knew of it.
    let shown = rig.docker("swarm02").json(&["volume", "inspect", "old"])?;
    let created = shown.pointer("/0/Status/created by VM");
    ensure!(created.is_some_and(|vm| vm == "worker1"), "{shown}");
    let ours = fs::read_dir(&folder)?.flatten();
    let ours = ours.filter(|e| e.file_name().to_string_lossy().contains(".vdvs"));
    ensure!(ours.count() == 0, "looking at it wrote a file");

    // The whole file system is the container's, as it was; one VM after the other has it.
    let read = "cat /data/data/letter && echo more >> /data/data/letter && sync";
    let said = docker.run(&run_in("old", read))?;
    ensure!(said == "from 2017", "{said}");
    let said = rig
        .docker("swarm02")
        .run(&run_in("old", "cat /data/data/letter"))?;
    ensure!(said == "from 2017\nmore", "{said}");
    ensure!(
        fs::read(&metadata)? == before,
        "the metadata was written to"
    );
    let listed = docker.run(&["volume", "ls", "-q"])?;
    ensure!(listed == "old@vsanDatastore", "{listed}");

    rig.docker("swarm02").run(&["volume", "rm", "old"])?;
    ensure!(!metadata.exists(), "its metadata outlived it");
    rig.finish_empty()
}

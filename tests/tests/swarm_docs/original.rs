//! What a host of the original leaves behind: a volume with its metadata, and the database of its vmgroups.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;
use vdvs_testkit::lab::{DEFAULT_DATASTORE, DEFAULT_HOST, Daemon};
use vdvs_tests::rig::{Rig, run_in};

const DEFAULT_GROUP: &str = "11111111-1111-1111-1111-111111111111";
const DEV: &str = "5a1f3c1e-1111-4222-8333-aaaabbbbcccc";
/// As the VM's configuration file says it.
const BIOS: &str = "56 4d ac 34 18 8c 1e 4f-97 b1 46 9e 3d 0a 92 7f";
const BIOS_UUID: &str = "564dac34-188c-1e4f-97b1-469e3d0a927f";
const METADATA: &str = r#"{"status":"detached","volOpts":{"diskformat":"thin"},"created-by":"swarm01","created":"Tue Jun 20 08:32:19 2017"}"#;

fn file(folder: &Path, begin: &str, end: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(begin) && name.ends_with(end)
    };
    let mut found = entries.filter(fits);
    found
        .next()
        .with_context(|| format!("no {begin}…{end} in {}", folder.display()))
}

/// Copies a volume's disk to where the original had its own.
fn plant(from: &Path, volume: &str, to: &Path, name: &str) -> Result<()> {
    let extent = file(from, &format!("{volume}."), "-flat.vmdk")?;
    let descriptor = PathBuf::from(extent.to_string_lossy().replace("-flat.vmdk", ".vmdk"));
    let extent_name = extent.file_name().context("a name")?.to_string_lossy();
    let text = fs::read_to_string(&descriptor)?;
    let renamed = text.replace(&*extent_name, &format!("{name}-flat.vmdk"));
    ensure!(renamed != text, "the descriptor names no extent:\n{text}");
    fs::create_dir_all(to)?;
    fs::copy(&extent, to.join(format!("{name}-flat.vmdk")))?;
    fs::write(to.join(format!("{name}.vmdk")), renamed)?;
    let metadata = format!("{METADATA:<4095}\n");
    fs::write(to.join(format!("{name}-4b88db79778570b6.vmfd")), metadata)?;
    Ok(())
}

/// The original's database, schema 1.2: one vmgroup beside the default one.
fn database(path: &Path) -> Result<()> {
    let db = Connection::open(path)?;
    db.execute_batch(&format!(
        "CREATE TABLE tenants(id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE NOT NULL, description TEXT,
             default_datastore_url TEXT);
         CREATE TABLE vms(vm_id TEXT PRIMARY KEY NOT NULL, tenant_id TEXT NOT NULL, vm_name TEXT,
             FOREIGN KEY(tenant_id) REFERENCES tenants(id));
         CREATE TABLE privileges(tenant_id TEXT NOT NULL, datastore_url TEXT NOT NULL, allow_create INTEGER,
             max_volume_size INTEGER, usage_quota INTEGER, PRIMARY KEY(tenant_id, datastore_url),
             FOREIGN KEY(tenant_id) REFERENCES tenants(id));
         CREATE TABLE volumes(tenant_id TEXT NOT NULL, datastore_url TEXT NOT NULL, volume_name TEXT,
             volume_size INTEGER, PRIMARY KEY(tenant_id, datastore_url, volume_name));
         CREATE TABLE versions(id INTEGER PRIMARY KEY NOT NULL, major_ver INTEGER NOT NULL,
             minor_ver INTEGER NOT NULL, vmodl_major_ver INTEGER NOT NULL, vmodl_minor_ver INTEGER NOT NULL);
         INSERT INTO versions VALUES(0, 1, 2, 1, 0);
         INSERT INTO tenants VALUES('{DEFAULT_GROUP}', '_DEFAULT', 'This is a default vmgroup', '_VM_DS://');
         INSERT INTO privileges VALUES('{DEFAULT_GROUP}', '_ALL_DS://', 1, 0, 0);
         INSERT INTO privileges VALUES('{DEFAULT_GROUP}', '_VM_DS://', 1, 0, 0);
         INSERT INTO tenants VALUES('{DEV}', 'Dev', 'the developers', '/vmfs/volumes/{DEFAULT_DATASTORE}');
         INSERT INTO privileges VALUES('{DEV}', '/vmfs/volumes/{DEFAULT_DATASTORE}', 1, 1024, 2048);
         INSERT INTO vms VALUES('{BIOS_UUID}', '{DEV}', 'swarm01');
         INSERT INTO vms VALUES('564d0000-0000-0000-0000-000000000001', '{DEV}', 'long-gone');"
    ))?;
    db.close().map_err(|(_, why)| why.into())
}

/// Makes the lab's datastore what the original left: its folders, nothing of ours, and an agent that never saw it.
/// The database is the file `auth-db` in `folder`.
pub(crate) fn leave_behind(rig: &Rig, folder: &Path) -> Result<()> {
    let docker = rig.docker("swarm01");
    let order = [
        "volume",
        "create",
        "-d",
        "vsphere",
        "-o",
        "size=20mb",
        "seed",
    ];
    docker.run(&order)?;
    docker.run(&run_in("seed", "echo from 2017 > /data/letter; sync"))?;
    rig.wait_detached("seed")?;
    let datastore = rig.host().datastore(DEFAULT_DATASTORE);
    let dockvols = datastore.join("dockvols");
    let before = folder.join("dockvols");
    plant(
        &dockvols.join(DEFAULT_GROUP),
        "seed",
        &before.join(DEV),
        "letters",
    )?;
    docker.run(&["volume", "rm", "seed"])?;

    rig.lab().host(DEFAULT_HOST).stop(Daemon::Agent)?;
    fs::remove_dir_all(&dockvols)?;
    fs::create_dir_all(dockvols.join(DEFAULT_GROUP))?;
    fs::create_dir_all(dockvols.join(DEV))?;
    for entry in fs::read_dir(before.join(DEV))? {
        let entry = entry?;
        fs::copy(entry.path(), dockvols.join(DEV).join(entry.file_name()))?;
    }
    fs::remove_dir_all(&before)?;
    let state = rig.lab().layout().admin_socket(DEFAULT_HOST);
    let state = state.parent().context("a folder")?;
    for entry in fs::read_dir(state)? {
        let path = entry?.path();
        if path.to_string_lossy().contains("store.sqlite") {
            fs::remove_file(path)?;
        }
    }
    let vmx = datastore.join("swarm01/swarm01.vmx");
    let mut vmx = OpenOptions::new().append(true).open(vmx)?;
    writeln!(vmx, "uuid.bios = \"{BIOS}\"")?;
    database(&folder.join("auth-db"))?;
    rig.start(DEFAULT_HOST, Daemon::Agent)
}

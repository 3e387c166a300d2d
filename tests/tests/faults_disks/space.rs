//! No space: on a datastore under thin disks and records, and on the guest's own disk under the journal.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use vdvs_testkit::process::{Cmd, tool};

use super::tools::MOUNT;
use super::{VM, all_gone, must_fail, start, volume, wait_free, world};
use crate::bare::Bare;

const MKFS: &str = "/usr/sbin/mkfs.ext4";
/// Of the datastore that fills up.
const SIZE: u64 = 96 << 20;
const NO_SPACE: &[&str] = &[
    "no space",
    "no room",
    "input/output error",
    "read-only file system",
    "try again",
];

/// A file system of its own under a datastore's folder.
struct Small(PathBuf);

impl Small {
    fn under(bare: &Bare, datastore: &str) -> Result<Self> {
        let image = bare.path().join(format!("{datastore}.img"));
        fs::File::create(&image)?.set_len(SIZE)?;
        Cmd::new(MKFS)
            .args(["-q", "-F", "-m", "0"])
            .arg(&image)
            .run()?;
        let folder = bare.datastore(datastore);
        Cmd::new(MOUNT)
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&folder)
            .run()?;
        fs::remove_dir(folder.join("lost+found"))?;
        Ok(Self(folder))
    }

    /// Takes all that is left; gives it back when the file is removed.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut size = 1 << 20;
        let mut file = fs::File::create(&ballast).expect("an empty file takes no space");
        // In ever smaller pieces, to the last block.
        while size >= 1024 {
            let piece = vec![7; size];
            if file.write_all(&piece).is_err() || file.sync_all().is_err() {
                size /= 2;
            }
        }
        ballast
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Cmd::new(tool::UMOUNT)
            .arg("--lazy")
            .arg(&self.0)
            .output()
            .ok();
    }
}

fn put(bare: &Bare, at: &Path, what: &str, megabytes: u64) -> Result<String> {
    let file = at.join(what);
    bare.inside(
        VM,
        &format!(
            "dd if=/dev/urandom of={} bs=1M count={megabytes} conv=fsync 2>&1",
            file.display()
        ),
    )
}

#[test]
fn a_datastore_without_space_refuses_clearly_and_goes_on_when_there_is_some() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    let small = Small::under(&bare, "ds2")?;
    let (thin, late) = ("thin@ds2", "late@ds2");
    bare.create(VM, thin, &["size=200mb"])?;
    bare.write(VM, thin, "first")?;

    // A disk that promises more than there is: the guest is told, by its own kernel, when there is no more. That nobody
    // uses it any more cannot be written down either, until somebody makes room.
    let reserve = small.0.join("reserve");
    fs::write(&reserve, vec![7; 8 << 20])?;
    let at = bare.mount(VM, thin, "c1")?;
    must_fail(put(&bare, &at, "much", 150), NO_SPACE)?;
    bare.unmount(VM, thin, "c1")?;
    fs::remove_file(&reserve)?;
    ensure!(bare.read(VM, thin)? == "first");
    wait_free(&bare, thin)?;

    // Not a block is left: nothing can be written down, so nothing is done, and nothing is half done.
    let ballast = small.fill();
    must_fail(bare.create(VM, late, &["size=20mb"]), NO_SPACE)?;
    let eager = ["size=60mb", "diskformat=eagerzeroedthick"];
    must_fail(bare.create(VM, "eager@ds2", &eager), NO_SPACE)?;
    must_fail(bare.mount(VM, thin, "c1"), NO_SPACE)?;
    ensure!(volume(&bare, thin)?["state"] == "free");
    ensure!(bare.listed(VM)? == [thin], "{:?}", bare.listed(VM)?);

    fs::remove_file(&ballast)?;
    let read = bare.read(VM, thin)?;
    ensure!(read == "first", "{read}");

    // It fills up while a container runs, which then ends: the disk stays until that can be written down.
    let at = bare.mount(VM, thin, "c2")?;
    bare.inside(
        VM,
        &format!(
            "rm -f {0}/much; echo second >> {0}/lines; sync -f {0}",
            at.display()
        ),
    )?;
    let ballast = small.fill();
    let unmounted = bare.unmount(VM, thin, "c2");
    eprintln!("unmounted without space: {unmounted:?}");
    fs::remove_file(&ballast)?;
    wait_free(&bare, thin)?;
    let read = bare.read(VM, thin)?;
    ensure!(read == "first\nsecond", "{read}");
    bare.create(VM, late, &["size=20mb"])?;
    bare.write(VM, late, "first")?;
    all_gone(&bare, &[thin, late])?;
    bare.assert_quiet_but(&[
        "mount failed",
        "is lost to this guest",
        "the host did not detach the disk",
        "No space left on device",
        "has no space left",
        // The machine's own disk is busy with what was written.
        "no answer from the host",
    ])
}

#[test]
fn a_guest_without_space_for_its_journal_refuses_clearly_and_goes_on_when_there_is_some()
-> Result<()> {
    let Some(mut bare) = Bare::lab_of(&[("ds1", "vmfs")], &[VM])? else {
        return Ok(());
    };
    let state = bare.path().join(format!("state-{VM}"));
    fs::create_dir(&state)?;
    let state = state.display();
    bare.inside(VM, &format!("mount -t tmpfs -o size=256k tmpfs {state}"))?;
    start(&mut bare)?;
    for name in ["v1", "v2"] {
        bare.create(VM, name, &["size=20mb"])?;
        bare.write(VM, name, "first")?;
    }
    let at = bare.mount(VM, "v1", "c1")?;
    bare.inside(
        VM,
        &format!("dd if=/dev/urandom of={state}/ballast bs=1k 2> /dev/null || true"),
    )?;

    let said = must_fail(bare.mount(VM, "v2", "c2"), &["no space"])?;
    ensure!(said.contains("--state"), "where? {said}");
    // What runs, runs.
    bare.inside(
        VM,
        &format!("echo second >> {0}/lines; sync -f {0}", at.display()),
    )?;
    let ended = bare.unmount(VM, "v1", "c1");
    eprintln!("unmounted without space for the journal: {ended:?}");

    bare.inside(VM, &format!("rm {state}/ballast"))?;
    wait_free(&bare, "v1")?;
    wait_free(&bare, "v2")?;
    bare.write(VM, "v2", "second")?;
    for name in ["v1", "v2"] {
        let read = bare.read(VM, name)?;
        ensure!(read == "first\nsecond", "{name}: {read}");
    }
    all_gone(&bare, &["v1", "v2"])?;
    bare.assert_quiet_but(&[
        "mount failed",
        "in memory only",
        "was not shortened",
        "dockerd lost the Unmount",
    ])
}

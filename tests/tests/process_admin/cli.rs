//! The command line as the original's tests knew it.

use std::os::unix::fs::symlink;

use anyhow::{Result, ensure};
use vdvs_testkit::lab::{ADMIN, Profile, built};
use vdvs_testkit::process::Cmd;

use crate::world;

/// Columns of the first line of a table.
fn columns(table: &str) -> usize {
    let dashes = table.lines().nth(1).unwrap_or_default();
    dashes.split_whitespace().count()
}

#[test]
fn the_originals_name_gets_the_originals_columns_lines_and_exit_codes() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "data", &["size=20mb"])?;
    bare.vdvs("vmgroup create --name=team --default-datastore=vsan1 --vm-list=vm2")?;
    let link = bare.path().join("vmdkops_admin.py");
    symlink(built(Profile::Debug, ADMIN)?, &link)?;
    let run = |args: &[&str]| {
        Cmd::new(&link)
            .args(args)
            .env("VDVS_ADMIN_SOCKET", bare.path().join("agent/admin.sock"))
            .output()
    };
    for (args, expected) in [
        (&["volume", "ls"][..], 13),
        (&["vmgroup", "ls"], 5),
        (&["vmgroup", "vm", "ls", "--name", "team"], 2),
        (&["vmgroup", "access", "ls", "--name=team"], 4),
    ] {
        let done = run(args)?;
        ensure!(done.success(), "{args:?}: {}{}", done.stdout, done.stderr);
        ensure!(
            columns(&done.stdout) == expected,
            "{args:?}: {}",
            done.stdout
        );
    }
    let status = run(&["status"])?;
    ensure!(
        status.stdout.lines().filter(|l| !l.is_empty()).count() == 12,
        "{}",
        status.stdout
    );
    let failed = run(&["vmgroup", "vm", "ls", "--name", "nobody"])?;
    ensure!(
        failed
            .stdout
            .starts_with("ERROR:Vmgroup nobody does not exist"),
        "{}",
        failed.stdout
    );
    ensure!(failed.status.code() == Some(2));
    let nothing = run(&[])?;
    ensure!(nothing.status.code() == Some(3));
    bare.assert_quiet()
}

#[test]
fn every_sub_command_has_help_without_an_agent() -> Result<()> {
    let nouns = [
        "status",
        "volume",
        "vmgroup",
        "policy",
        "config",
        "vm",
        "host",
        "datastore",
        "audit",
        "doctor",
        "work",
    ];
    for noun in nouns {
        let done = Cmd::new(built(Profile::Debug, ADMIN)?)
            .args(["--socket", "/nonexistent/admin.sock", noun, "--help"])
            .output()?;
        ensure!(
            done.success() && done.stdout.contains("Usage"),
            "{noun}: {}",
            done.stderr
        );
    }
    Ok(())
}

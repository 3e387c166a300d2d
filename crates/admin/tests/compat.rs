//! The program under its other names, as a shell and esxcli start it.
#![expect(clippy::unwrap_used, reason = "a test: a failure here is the report")]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use roxmltree::Document;

#[expect(
    clippy::disallowed_methods,
    reason = "the program under test, without a shell"
)]
fn run(program: &Path, args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program)
        .args(args)
        .env("VDVS_ADMIN_SOCKET", "/nonexistent/admin.sock")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn vdvs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_vdvs"))
}

#[test]
fn a_link_of_the_originals_name_is_the_originals_script() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("vmdkops_admin.py");
    symlink(vdvs(), &script).unwrap();
    let (code, out, err) = run(&script, &["volume", "-h"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.starts_with("usage: vmdkops_admin.py volume [-h] {ls,set} ...\n"),
        "{out}"
    );
    assert_eq!(run(&script, &[]).0, 3);
    assert_eq!(run(&script, &["volume", "rm"]).0, 2);
    let (code, out, err) = run(&script, &["volume", "ls"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("Unable to connect to the host-agent"), "{err}");
    // The same face without a link.
    let behind = run(vdvs(), &["vmdkops_admin.py", "volume", "-h"]);
    assert_eq!(behind, run(&script, &["volume", "-h"]));
}

#[test]
fn esxcli_gets_a_document_and_an_exit_code_and_nothing_on_standard_error() {
    for (args, code) in [
        (&["volume", "ls"][..], 7),
        (&["volume", "rm"], 2),
        (&[], 2),
        (&["status"], 0),
    ] {
        let (got, out, err) = run(vdvs(), &[&["esxcli"], args].concat());
        assert_eq!((got, err.as_str()), (code, ""), "{args:?}");
        let document = Document::parse(&out).unwrap();
        assert_eq!(document.root_element().tag_name().name(), "output");
    }
}

#[test]
fn the_plug_ins_definition_names_the_program_it_is_written_for() {
    let (code, out, err) = run(vdvs(), &["esxcli", "--plugin-definition", "/opt/x/vdvs"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let document = Document::parse(&out).unwrap();
    let lines = document
        .descendants()
        .filter(|n| n.tag_name().name() == "execute");
    let lines: Vec<_> = lines.map(|n| n.text().unwrap()).collect();
    assert!(lines.len() > 30);
    assert!(
        lines.iter().all(|l| l.starts_with("/opt/x/vdvs esxcli ")),
        "{lines:?}"
    );
}

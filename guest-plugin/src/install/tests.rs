use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn args(root: &Path) -> InstallArgs {
    InstallArgs {
        dry_run: false,
        root: root.to_owned(),
        bin_dir: "/usr/local/bin".into(),
        no_start: false,
    }
}

fn lines(work: impl FnOnce(Say<'_>) -> Result<()>) -> Vec<String> {
    let mut lines = Vec::new();
    work(&mut |verb, text| lines.push(format!("{verb} {text}"))).unwrap();
    lines
}

fn out(root: &Path, purge: bool) -> Vec<String> {
    let args = UninstallArgs::of(root, purge);
    lines(|say| uninstall(&args, say))
}

fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                todo.push(path);
            } else {
                found.push(format!("/{}", path.strip_prefix(root).unwrap().display()));
            }
        }
    }
    found.sort();
    found
}

const ALL: [&str; 5] = [
    "/etc/systemd/system/multi-user.target.wants/vdvs-plugin.service",
    "/etc/systemd/system/vdvs-plugin.service",
    "/etc/vsphere-storage-for-docker.conf",
    "/usr/local/bin/vdvs-plugin",
    "/var/lib/vdvs/installed.json",
];

#[test]
fn an_image_gets_the_service_and_loses_it_again_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let said = lines(|say| install(&args(dir.path()), say));
    assert!(
        said.contains(&"created /usr/local/bin/vdvs-plugin".to_owned()),
        "{said:#?}"
    );
    assert!(
        said.iter()
            .any(|line| line.starts_with("warning mkfs.ext4")),
        "{said:#?}"
    );
    assert_eq!(files(dir.path()), ALL);
    let unit =
        fs::read_to_string(dir.path().join("etc/systemd/system/vdvs-plugin.service")).unwrap();
    assert!(
        unit.contains("\nExecStart=/usr/local/bin/vdvs-plugin run\n"),
        "{unit}"
    );
    assert!(unit.contains("\nBefore=docker.service\n"), "{unit}");
    let mode = |path: &str| {
        fs::metadata(dir.path().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("usr/local/bin/vdvs-plugin"), mode("var/lib/vdvs")),
        (0o755, 0o700)
    );

    let said = lines(|say| install(&args(dir.path()), say));
    assert!(
        !said
            .iter()
            .any(|line| line.starts_with("created") || line.starts_with("updated")),
        "{said:#?}"
    );

    fs::write(dir.path().join("var/lib/vdvs/held"), "x").unwrap();
    let said = out(dir.path(), false);
    assert!(
        said.iter()
            .any(|line| line.starts_with("remains the journal")),
        "{said:#?}"
    );
    assert_eq!(files(dir.path()), ["/var/lib/vdvs/held"]);
    out(dir.path(), true);
    assert_eq!(files(dir.path()), Vec::<String>::new());
}

#[test]
fn settings_that_were_there_before_are_honoured_and_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("etc/vsphere-storage-for-docker.conf");
    fs::create_dir(dir.path().join("etc")).unwrap();
    fs::write(
        &file,
        r#"{"GroupID": "docker", "StateDir": "/var/lib/other"}"#,
    )
    .unwrap();
    let said = lines(|say| install(&args(dir.path()), say));
    assert!(
        said.iter()
            .any(|line| line.starts_with("kept /etc/vsphere")),
        "{said:#?}"
    );
    assert!(dir.path().join("var/lib/other").is_dir());
    out(dir.path(), true);
    assert!(fs::read_to_string(&file).unwrap().contains("docker"));

    fs::write(&file, "{").unwrap();
    let error = install(&args(dir.path()), &mut |_, _| {}).unwrap_err();
    assert!(
        format!("{error:#}").contains("not a JSON object"),
        "{error:#}"
    );
}

#[test]
fn a_unit_the_person_changed_stays() {
    let dir = tempfile::tempdir().unwrap();
    lines(|say| install(&args(dir.path()), say));
    let unit = dir.path().join("etc/systemd/system/vdvs-plugin.service");
    fs::write(&unit, "mine").unwrap();
    let other = InstallArgs {
        bin_dir: "/opt/bin".into(),
        ..args(dir.path())
    };
    let said = lines(|say| install(&other, say));
    assert!(
        said.iter()
            .any(|line| line.contains("vdvs-plugin.service.new")),
        "{said:#?}"
    );
    assert_eq!(fs::read_to_string(&unit).unwrap(), "mine");
    out(dir.path(), false);
    assert!(unit.exists());
}

#[test]
fn the_originals_service_is_not_run_over() {
    let dir = tempfile::tempdir().unwrap();
    let unit = dir
        .path()
        .join("lib/systemd/system/vsphere-storage-for-docker.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    fs::write(unit, "").unwrap();
    let before = files(dir.path());
    let error = install(&args(dir.path()), &mut |_, _| {}).unwrap_err();
    assert!(
        error.to_string().contains("Remove its package first"),
        "{error}"
    );
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_dry_run_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dry = InstallArgs {
        dry_run: true,
        ..args(dir.path())
    };
    let said = lines(|say| install(&dry, say));
    assert!(
        said.contains(&"created /usr/local/bin/vdvs-plugin".to_owned()),
        "{said:#?}"
    );
    assert_eq!(files(dir.path()), Vec::<String>::new());
}

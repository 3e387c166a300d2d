use tempfile::tempdir;

use super::*;

fn args(line: &str) -> Result<Command, ConfigError> {
    read(line.split_whitespace().map(OsString::from))
}

fn config(line: &str) -> Config {
    match args(line) {
        Ok(Command::Run(config)) => *config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lab_host_needs_its_folder_and_keeps_its_state_there() {
    let got = config("--host lab --lab-dir=/lab/hosts/esx01");
    assert_eq!(got.host, HostConfig::Lab("/lab/hosts/esx01".into()));
    assert_eq!(got.state, Path::new("/lab/hosts/esx01/agent"));
    assert_eq!(got.log, "info");
}

#[test]
fn simulated_vms_are_named_one_by_one() {
    let got = config("--host sim --sim-dir /s --sim-vm a --sim-vm b --log debug");
    let sim = SimConfig {
        dir: "/s".into(),
        vms: vec!["a".into(), "b".into()],
    };
    assert_eq!(got.host, HostConfig::Sim(sim));
    let bad = args("--host sim --sim-dir /s --sim-vm ../x");
    assert!(matches!(bad, Err(ConfigError::VmName(_))), "{bad:?}");
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_hint() {
    for (line, part) in [
        ("", "which host"),
        ("--host esx", "choose esxi, lab or sim"),
        ("--host lab", "needs --lab-dir"),
        ("--host", "needs a value"),
        ("--hots lab", "unknown option '--hots'"),
        ("lab", "unknown option 'lab'"),
        ("--host lab --host sim", "twice"),
        ("--host lab --lab-dir /l --status-every 0", "at least 1"),
        ("--host lab --lab-dir /l --audit-rows many", "not 'many'"),
    ] {
        let err = args(line).unwrap_err().to_string();
        assert!(err.contains(part), "{line}: {err}");
    }
    assert!(matches!(args("--host lab --help"), Ok(Command::Help)));
    assert!(matches!(args("--version"), Ok(Command::Version)));
}

#[test]
fn a_flag_beats_the_file_and_an_unknown_key_is_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("vdvsd.toml");
    fs::write(&path, "host = \"lab\"\nlab-dir = \"/l\"\nlog = \"warn\"\n").unwrap();
    let got = config(&format!("--config {} --log debug", path.display()));
    assert_eq!(got.host, HostConfig::Lab("/l".into()));
    assert_eq!(got.log, "debug");
    assert_eq!((got.status_every, got.store), (None, Limits::default()));
    let text = "host = \"lab\"\nlab-dir = \"/l\"\nstatus-every = 9\naudit-rows = 5\n";
    fs::write(&path, text).unwrap();
    let got = config(&format!("--config {} --status-every=2", path.display()));
    assert_eq!(got.status_every, Some(Duration::from_secs(2)));
    let store = Limits {
        audit_rows: 5,
        ..Limits::default()
    };
    assert_eq!(got.store, store);
    fs::write(&path, "hosts = \"lab\"\n").unwrap();
    let err = args(&format!("--config {}", path.display())).unwrap_err();
    assert!(matches!(err, ConfigError::Parse(..)), "{err}");
}

#[test]
fn an_esxi_host_listens_on_vsockets_and_logs_in_by_ticket_unless_told_otherwise() {
    let got = config("--host esxi");
    let vsock = Listen::Vsock {
        port: 1019,
        privileged_only: true,
    };
    assert_eq!(got.listen, Some(vsock));
    let HostConfig::Esxi(esxi) = got.host else {
        panic!("{:?}", got.host)
    };
    assert_eq!(esxi.url, "https://localhost:443/sdk");
    assert_eq!((esxi.user, esxi.password_file), (None, None));
    let line =
        "--host esxi --listen unix:/l --esxi-user u --esxi-password-file /p --state /s --quiet";
    let got = config(line);
    assert_eq!(got.listen, Some(Listen::Folders("/l".into())));
    assert_eq!(got.admin_socket, Path::new("/s/admin.sock"));
    assert!(got.quiet);
    assert_eq!(config("--host lab --lab-dir /l").listen, None);
    for (line, part) in [
        ("--host esxi --esxi-password-file /p", "needs --esxi-user"),
        ("--host esxi --listen unix:l", "unix:/absolute"),
        ("--host esxi --listen tcp:1", "vsock or unix:"),
        ("--host sim --sim-dir /s --listen vsock", "vsock or unix:"),
        ("--host lab --lab-dir /l --listen unix:/l", "vsock or unix:"),
        ("--probe=xml", "unknown option '--probe=xml'"),
        ("--probe --host", "unknown option '--host'"),
    ] {
        let err = args(line).unwrap_err().to_string();
        assert!(err.contains(part), "{line}: {err}");
    }
}

#[test]
fn a_probe_needs_nothing_else() {
    let probe = |line| match args(line) {
        Ok(Command::Probe(probe)) => (probe.json, probe.dir),
        other => panic!("{other:?}"),
    };
    assert_eq!(probe("--probe"), (false, None));
    assert_eq!(
        probe("--probe=json /vmfs/volumes/a"),
        (true, Some("/vmfs/volumes/a".into()))
    );
}

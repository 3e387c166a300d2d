//! The init script under the kind of shell a host has, with stand-ins for the host's own commands.
//!
//! Every test ends with a look at what runs: one agent at most, and nothing where it was stopped.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test: a failure here is the report")]

mod host;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use host::{Done, Host};
use vdvs_testkit::lab::target_dir;

/// What can happen to the package and its service, in every order.
const EVENTS: [&str; 9] = [
    "start",
    "start install",
    "start upgrade",
    "stop",
    "stop upgrade",
    "stop remove",
    "restart",
    "kill",
    "the agent dies",
];

#[test]
fn every_event_after_every_other_leaves_one_agent_or_none() {
    let Some(host) = Host::new() else { return };
    let mut running = false;
    for event in every_pair(&EVENTS) {
        match event {
            "the agent dies" => {
                let before = host.agents();
                host.kill(&before);
                if running {
                    host.until("another agent", |h| h.init("status").code == 0);
                }
            }
            words => {
                let done = host.init(words);
                assert_eq!(done.code, 0, "{words}: {}", done.said);
                running = !(words.starts_with("stop") || words == "kill");
            }
        }
        let wanted = usize::from(running);
        // A shell's copy of itself may outlive it for a moment; a second agent would stay.
        host.until(event, |h| {
            (h.agents().len(), h.watchdogs().len()) == (wanted, wanted)
        });
        let status = host.init("status");
        assert_eq!(status.code, if running { 0 } else { 3 }, "after {event}");
    }
    host.init("stop");
    host.until("nothing runs", |h| h.processes("").is_empty());
}

/// A walk through all events in which each one follows each other one, itself too.
fn every_pair(events: &[&'static str]) -> Vec<&'static str> {
    let mut todo: BTreeMap<_, Vec<_>> = events.iter().map(|e| (*e, events.to_vec())).collect();
    // Hierholzer's: every event has as many ways in as out.
    let mut stack: Vec<_> = events.first().copied().into_iter().collect();
    let mut walk = Vec::new();
    while let Some(at) = stack.last() {
        match todo.get_mut(at).and_then(Vec::pop) {
            Some(next) => stack.push(next),
            None => walk.extend(stack.pop()),
        }
    }
    walk.reverse();
    walk
}

#[test]
fn the_walk_has_every_pair_once() {
    let walk = every_pair(&EVENTS);
    let mut pairs: Vec<_> = walk.iter().zip(walk.iter().skip(1)).collect();
    assert_eq!(pairs.len(), EVENTS.len() * EVENTS.len());
    pairs.sort_unstable();
    pairs.dedup();
    assert_eq!(pairs.len(), EVENTS.len() * EVENTS.len());
}

#[test]
fn the_agent_gets_its_group_its_settings_and_a_folder_that_stays() {
    let Some(host) = Host::new() else { return };
    let done = host.init("start");
    assert_eq!(done.code, 0, "{}", done.said);
    let calls = host.calls().join("\n");
    let group = "host/vim/vimuser/vdvsd";
    for part in [
        "group add --group-name=vdvsd --parent-path=host/vim/vimuser",
        &format!("group setmemconfig -g {group} --min=0 --max=96"),
        &format!("setsid ++memreliable,group={group}"),
        "watchdog -s vdvsd",
    ] {
        assert!(calls.contains(part), "no '{part}' in\n{calls}");
    }
    let started = host.text("host/agent-started");
    let state = "/var/lib/vmware/osdata/vdvs";
    let wanted = format!(
        "/ --host esxi --config /opt/vdvs/etc/vdvsd.toml --state {state} --admin-socket /var/run/vdvsd/admin.sock --quiet\n"
    );
    assert_eq!(started, wanted);
    let log = host.text("var/log/syslog.log");
    assert!(
        log.contains(&format!("vdvs: started, pid {}", host.number())),
        "{log}"
    );
    assert!(log.contains(&format!("{state}/vdvsd.log")), "{log}");
    assert!(host.path("var/lib/vmware/osdata/vdvs").is_dir());
    assert_eq!(host.init("stop").code, 0);
    let calls = host.calls().join("\n");
    assert!(
        calls.contains(&format!("group delete --group-path={group}")),
        "{calls}"
    );
    assert_eq!(
        fs::read_dir(host.path("host/groups/host/vim/vimuser"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn the_folder_is_the_settings_one_or_scratch_or_memory() {
    let Some(host) = Host::new() else { return };
    let folder = |host: &Host| {
        let read = ". /opt/vdvs/bin/settings.sh; state_folder";
        host.run(&["/bin/sh", "-c", read]).said.trim().to_owned()
    };
    assert_eq!(folder(&host), "/var/lib/vmware/osdata/vdvs");
    fs::remove_dir(host.path("var/lib/vmware/osdata")).unwrap();
    assert_eq!(folder(&host), "/var/run/vdvsd/state");
    fs::create_dir(host.path("vmfs/volumes/1")).unwrap();
    symlink("/vmfs/volumes/1", host.path("scratch")).unwrap();
    assert_eq!(folder(&host), "/scratch/vdvs");
    // A scratch in memory is no better than ours.
    fs::remove_file(host.path("scratch")).unwrap();
    fs::create_dir(host.path("tmp/scratch")).unwrap();
    symlink("/tmp/scratch", host.path("scratch")).unwrap();
    assert_eq!(folder(&host), "/var/run/vdvsd/state");
    let settings = "#state = \"/no\"\nlog = \"warn\"\nstate = \"/vmfs/volumes/ds 1/v\" # ours\n";
    fs::write(host.path("opt/vdvs/etc/vdvsd.toml"), settings).unwrap();
    assert_eq!(folder(&host), "/vmfs/volumes/ds 1/v");
}

#[test]
fn a_host_that_makes_no_group_still_has_an_agent() {
    let Some(host) = Host::new() else { return };
    host.set("no-groups");
    let done = host.init("start install");
    assert_eq!(done.code, 0);
    assert!(
        done.said.contains("without a resource group"),
        "{}",
        done.said
    );
    host.until("one agent", |h| h.agents().len() == 1);
    assert_eq!(host.init("stop remove").code, 0);
    host.until("no agent", |h| h.agents().is_empty());
}

#[test]
fn an_agent_that_cannot_use_its_settings_stops_no_installation() {
    let Some(host) = Host::new() else { return };
    host.set("bad-settings");
    let done = host.init("start install");
    assert_eq!(done.code, 0, "{}", done.said);
    assert!(
        done.said.contains("vdvsd.toml is not a configuration"),
        "{}",
        done.said
    );
    host.until("the watchdog gives up", |h| h.watchdogs().is_empty());
    assert_eq!(host.init("start").code, 1);
    assert_eq!(host.init("status").code, 3);
    host.unset("bad-settings");
    assert_eq!(host.init("restart").code, 0);
    host.until("one agent", |h| h.agents().len() == 1);
    // Nothing to run it with.
    assert_eq!(host.init("stop").code, 0);
    host.set("no-watchdog");
    assert_eq!(host.init("start upgrade").code, 0);
    let done = host.init("start");
    assert_eq!(done.code, 1);
    assert!(done.said.contains("nothing runs"), "{}", done.said);
}

#[test]
fn an_agent_that_does_not_end_is_killed_in_bounded_time() {
    let Some(host) = Host::new() else { return };
    host.set("stubborn");
    host.init("start");
    let done = host.init("stop upgrade");
    assert_eq!(done.code, 0, "{}", done.said);
    assert!(
        done.said.contains("did not end within 20 s and is killed"),
        "{}",
        done.said
    );
    host.until("nothing runs", |h| h.processes("").is_empty());
}

#[test]
fn removal_says_what_is_attached_and_what_remains() {
    let Some(host) = Host::new() else { return };
    host.init("start install");
    host.calls();
    let done = host.init("stop remove");
    assert_eq!(done.code, 0);
    let log = host.text("var/log/syslog.log");
    for part in [
        "papers@ds1,web-1",
        "media@ds2,web 2",
        "in the folder dockvols",
        "also stays: /var/lib/vmware/osdata/vdvs",
    ] {
        assert!(
            done.said.contains(part) && log.contains(part),
            "no '{part}' in\n{}",
            done.said
        );
    }
    // Asked while the agent could answer, and not without end.
    let calls = host.calls();
    assert_eq!(
        calls[0],
        "vdvs --timeout 10 --output csv volume ls --filter state=attached"
    );
    assert!(host.path("var/lib/vmware/osdata/vdvs").is_dir());
    host.uninstall();
    host.until("nothing runs", |h| h.processes("").is_empty());
}

#[test]
fn removal_goes_on_when_nobody_can_say_what_is_attached() {
    let Some(host) = Host::new() else { return };
    let done = host.init("stop remove");
    assert_eq!(done.code, 0);
    assert!(
        done.said.contains("the agent does not run"),
        "{}",
        done.said
    );
    host.init("start");
    host.set("agent-silent");
    // Some releases say only this.
    let done = host.init("remove");
    assert_eq!(done.code, 0);
    assert!(
        done.said
            .contains("the agent said: the agent does not answer"),
        "{}",
        done.said
    );
    host.until("no agent", |h| h.agents().is_empty());
}

#[test]
fn words_nobody_knows_change_nothing() {
    let Some(host) = Host::new() else { return };
    for words in ["", "install", "upgrade", "reload", "-h"] {
        assert_eq!(host.init(words).code, 0, "{words}");
        host.until("no agent", |h| h.agents().is_empty());
    }
    assert_eq!(host.init("start sideways").code, 0);
    host.until("one agent", |h| h.agents().len() == 1);
    // As hostd starts it: by its path and first line.
    let done = host.run(&["/etc/init.d/vdvs", "status"]);
    let said = format!("vdvs: running, pid {}\n", host.number());
    assert_eq!(done, Done { code: 0, said });
}

#[test]
fn the_number_of_a_process_that_is_gone_is_nobodys() {
    let Some(host) = Host::new() else { return };
    host.init("start");
    let (agent, watchdog) = (host.agents(), host.watchdogs());
    host.kill(&watchdog);
    host.kill(&agent);
    assert_eq!(host.init("status").code, 3);
    for text in ["", "x", "-1", "1 2", "99999999"] {
        fs::write(host.path("var/run/vdvsd/pid"), text).unwrap();
        assert_eq!(host.init("status").code, 3, "{text}");
        assert_eq!(host.init("stop").code, 0, "{text}");
    }
    assert_eq!(host.init("start").code, 0);
}

#[test]
fn the_originals_command_is_ours_by_its_other_name() {
    let Some(host) = Host::new() else { return };
    let done = host.run(&[
        "/opt/vdvs/bin/vmdkops_admin.py",
        "volume",
        "ls",
        "-c",
        "a b",
    ]);
    assert_eq!(done.code, 0);
    assert_eq!(host.calls(), ["vdvs vmdkops_admin.py volume ls -c a b"]);
}

#[test]
fn the_agent_that_ships_runs_and_ends_under_the_script_without_hostd() {
    let program = target_dir().unwrap().join("dist/host/vdvsd");
    let Ok(agent) = fs::read(&program) else {
        eprintln!(
            "skipped: {} is not there; run cargo xtask vib",
            program.display()
        );
        return;
    };
    let Some(host) = Host::with_agent(&agent) else {
        return;
    };
    // Doors are folders: this machine is not to hear vSockets.
    let settings = "listen = \"unix:/host/doors\"\nlog = \"debug\"\n";
    fs::write(host.path("opt/vdvs/etc/vdvsd.toml"), settings).unwrap();
    fs::create_dir(host.path("host/doors")).unwrap();
    // As the installer calls it, in real seconds; busybox's setsid knows no groups, so there is none.
    let installer = |words: &str| {
        let mut args = vec!["/etc/init.d/vdvs"];
        args.extend(words.split(' '));
        host.run(&args)
    };
    let done = installer("start install");
    assert_eq!(done.code, 0, "{}", done.said);
    assert!(done.said.contains("started, pid"), "{}", done.said);
    let log = "var/lib/vmware/osdata/vdvs/vdvsd.log";
    host.until("it says what it waits for", |h| {
        h.text(log).contains("trying again")
    });
    assert_eq!(installer("status").code, 0);
    assert_eq!(host.text("var/run/vdvsd/last-words"), "");
    let number = host.number();
    let done = installer("stop upgrade");
    assert_eq!(done.code, 0);
    let orderly = done.said.contains("stopped") && !done.said.contains("killed");
    assert!(orderly, "{}", done.said);
    assert_eq!(installer("start upgrade").code, 0);
    assert_ne!(host.number(), number);
    assert_eq!(installer("stop remove").code, 0);
    host.until("nothing runs", |h| h.processes("").is_empty());
}

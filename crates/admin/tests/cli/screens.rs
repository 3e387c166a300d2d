//! What every command shows, on a small terminal and on a wide one: snapshots of both, one file per command.

use insta::assert_snapshot;

use crate::rig::{Ran, World, no_agent, vdvs};

/// What a terminal shows, with the exit code below.
fn screen(ran: &Ran) -> String {
    let mut shown = ran.out.clone();
    if !ran.err.is_empty() {
        shown += &format!("--- standard error\n{}", ran.err);
    }
    format!("{shown}--- exit code {}\n", ran.code)
}

fn both_widths(world: &World, line: &str) -> String {
    let at = |width| screen(&world.vdvs(&format!("{line} --width {width}")));
    let (narrow, wide) = (at(80), at(200));
    let socket = world.socket();
    let text = if narrow == wide {
        format!("$ vdvs {line}\n{narrow}")
    } else {
        format!("$ vdvs {line}\n=== 80\n{narrow}=== 200\n{wide}")
    };
    text.replace(&*socket.to_string_lossy(), "SOCKET")
}

fn fits(text: &str, width: usize) {
    let narrow = text.split("=== 200").next().unwrap();
    let table = narrow.lines().filter(|l| !l.starts_with(['!', '$', '-']));
    for line in table {
        assert!(line.chars().count() <= width, "{line}");
    }
}

#[test]
fn lists() {
    let (world, empty) = (World::start(), World::empty());
    for noun in [
        "volume ls",
        "vmgroup ls",
        "policy ls",
        "config history",
        "vm ls",
        "host ls",
        "datastore ls",
        "audit ls",
        "work ls",
    ] {
        let name = noun.replace(' ', "_");
        let shown = both_widths(&world, noun);
        fits(&shown, 80);
        assert_snapshot!(name.clone(), shown);
        assert_snapshot!(format!("{name}_empty"), both_widths(&empty, noun));
    }
}

#[test]
fn the_state_of_things() {
    let (world, empty) = (World::start(), World::empty());
    for line in ["status", "config status"] {
        let name = line.replace(' ', "_");
        assert_snapshot!(name.clone(), both_widths(&world, line));
        assert_snapshot!(format!("{name}_empty"), both_widths(&empty, line));
    }
}

#[test]
fn one_thing() {
    let world = World::start();
    for line in [
        "volume inspect wiki_uploads",
        "volume inspect ledger",
        "volume inspect old",
        "volume why wiki_uploads",
        "vmgroup show dev",
        "vmgroup show _DEFAULT",
        "vmgroup vm ls dev",
        "vmgroup access ls dev",
        "work show w-endless --no-wait",
    ] {
        let name = line.replace(' ', "_").replace('-', "");
        assert_snapshot!(name, both_widths(&world, line));
    }
}

#[test]
fn findings_and_their_repair() {
    let (world, empty) = (World::start(), World::empty());
    for (name, line) in [
        ("doctor", "doctor"),
        ("doctor_one", "doctor esx02"),
        ("doctor_risk", "doctor --filter risk=data"),
        ("doctor_fix", "doctor --fix powered-off-owner"),
        (
            "doctor_fix_one",
            "doctor --fix=powered-off-owner ledger@vsanDatastore",
        ),
        ("doctor_dry_run", "doctor --fix powered-off-owner --dry-run"),
        ("doctor_gone", "doctor --fix stale-claim"),
        ("doctor_nothing", "doctor --fix orphan"),
        ("doctor_unknown", "doctor --fix unknown"),
        ("doctor_dry_alone", "doctor --dry-run"),
    ] {
        assert_snapshot!(name, both_widths(&world, line));
    }
    assert_snapshot!("doctor_empty", both_widths(&empty, "doctor"));
}

#[test]
fn chosen_columns_filters_and_order() {
    let world = World::start();
    for (name, line) in [
        ("volumes_wide", "volume ls --wide"),
        (
            "volumes_columns",
            "volume ls -c created,volume,attached-to,capacity",
        ),
        (
            "volumes_filtered",
            "volume ls --filter state=attached --filter vm=swarm0?",
        ),
        (
            "volumes_of_groups",
            "volume ls --vmgroup d* --sort -capacity,volume -c volume,vmgroup,capacity",
        ),
        ("volumes_none_left", "volume ls --vmgroup nobody"),
        (
            "volumes_orphans",
            "volume ls --filter orphan=true -c volume,vmgroup,id",
        ),
        ("groups_of_a_vm", "vmgroup ls --filter vm-list=swarm01"),
    ] {
        assert_snapshot!(name, both_widths(&world, line));
    }
}

#[test]
fn what_is_refused() {
    let world = World::start();
    for (name, line) in [
        ("not_found", "volume inspect none"),
        ("ambiguous", "volume inspect twice"),
        ("ambiguous_rm", "volume rm twice --yes"),
        ("ambiguous_why", "volume why twice"),
        ("no_group", "vmgroup show nobody"),
        ("no_members", "vmgroup vm ls _DEFAULT"),
        ("no_orphan", "volume adopt postgres_vol --to-group=dev"),
        ("no_column", "volume ls --filter colour=red"),
        ("no_filter", "vm ls --filter swarm01"),
        ("no_time", "audit ls --since yesterday"),
        ("no_options", "volume set postgres_vol"),
        ("no_value", "volume set postgres_vol access"),
        ("no_place", "vmgroup access add dev"),
        (
            "word_too_many",
            "vmgroup access add --name=dev --datastore=ds2 ds3",
        ),
        ("nobody_to_ask_rm", "volume rm postgres_vol"),
        ("nobody_to_ask_detach", "volume detach postgres_vol --force"),
        ("nobody_to_ask_group", "vmgroup rm dev --remove-volumes"),
        ("nobody_to_ask_config", "config rm --local"),
        ("outcome_unknown", "volume detach lost"),
        ("missing_argument", "volume inspect"),
        ("unknown_verb", "volume remove x"),
        ("no_work", "work show w-1"),
    ] {
        assert_snapshot!(format!("refused_{name}"), both_widths(&world, line));
    }
    assert!(world.asked().is_empty());
    let (dir, socket) = no_agent();
    let shown = screen(&vdvs(&socket, "volume ls"));
    let shown = shown.replace(&*dir.path().to_string_lossy(), "DIR");
    assert_snapshot!("refused_no_agent", shown);
}

#[test]
fn damage_and_its_repair() {
    let (world, empty) = (World::start(), World::empty());
    for (name, line) in [
        ("fsck", "fsck"),
        (
            "fsck_repaired",
            "fsck --repair --yes --nobody-has wiki@vsanDatastore",
        ),
        ("fsck_filtered", "fsck --filter state=left -o csv"),
        ("fsck_nobody_to_ask", "fsck --repair"),
        ("fsck_long", "fsck slow -o json"),
    ] {
        assert_snapshot!(name, both_widths(&world, line));
    }
    assert_snapshot!("fsck_empty", both_widths(&empty, "fsck"));
}

//! What differs between two configurations, in words.

use vdvs_domain::access::{AccessConfig, Group, Member, Members, Privilege};
use vdvs_domain::capacity::human;

/// Names written out in one line.
const MAX_NAMES: usize = 8;

/// What differs, line by line; empty: nothing.
pub(super) fn differences(before: &AccessConfig, after: &AccessConfig) -> Vec<String> {
    let mut lines = Vec::new();
    for group in &before.groups {
        if !after.groups.iter().any(|g| g.id == group.id) {
            let text = match &group.members {
                Members::Others => "; VMs of no other vmgroup lose access".to_owned(),
                Members::Vms(vms) => format!(" ({})", vms_text(vms)),
            };
            lines.push(format!("vmgroup {} is removed{text}", group.name));
        }
    }
    for group in &after.groups {
        match before.groups.iter().find(|g| g.id == group.id) {
            None => lines.push(format!("vmgroup {} is added: {}", group.name, whole(group))),
            Some(old) => of_group(old, group, &mut lines),
        }
    }
    for policy in &before.policies {
        if !after.policies.iter().any(|p| p.name == policy.name) {
            lines.push(format!("policy {} is removed", policy.name));
        }
    }
    for policy in &after.policies {
        match before.policies.iter().find(|p| p.name == policy.name) {
            None => lines.push(format!("policy {} is added", policy.name)),
            Some(old) if old.content != policy.content => {
                lines.push(format!("policy {} gets other content", policy.name));
            }
            Some(_) => {}
        }
    }
    lines
}

fn whole(group: &Group) -> String {
    let members = match &group.members {
        Members::Others => "every VM of no other vmgroup".to_owned(),
        Members::Vms(vms) => vms_text(vms),
    };
    let privileges: Vec<String> = group.privileges.iter().map(privilege).collect();
    let privileges = match privileges.is_empty() {
        true => "no access".to_owned(),
        false => privileges.join("; "),
    };
    format!(
        "default datastore {}, {members}, {privileges}",
        group.default_datastore
    )
}

fn vms_text(vms: &[Member]) -> String {
    let names: Vec<&str> = vms.iter().take(MAX_NAMES).map(|m| &*m.name).collect();
    let more = match vms.len().saturating_sub(MAX_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match vms.len() {
        0 => "no VMs".to_owned(),
        1 => format!("1 VM: {}", names.join(", ")),
        n => format!("{n} VMs: {}{more}", names.join(", ")),
    }
}

fn privilege(privilege: &Privilege) -> String {
    let may = match privilege.allow_create {
        true => "create",
        false => "mount only",
    };
    let each = privilege.max_volume.map(|c| format!(", each at most {c}"));
    let all = privilege
        .total_bytes
        .map(|b| format!(", in all at most {}", human(b)));
    format!(
        "{may} on {}{}{}",
        privilege.datastore,
        each.unwrap_or_default(),
        all.unwrap_or_default()
    )
}

fn of_group(old: &Group, new: &Group, lines: &mut Vec<String>) {
    let name = &new.name;
    let mut say = |what: String| lines.push(format!("vmgroup {name}: {what}"));
    if old.name != new.name {
        say(format!("was named {}", old.name));
    }
    if old.description != new.description {
        say(format!("description becomes \"{}\"", new.description));
    }
    if old.default_datastore != new.default_datastore {
        let (from, to) = (&old.default_datastore, &new.default_datastore);
        say(format!("default datastore {from} becomes {to}"));
    }
    if old.default_size != new.default_size {
        let text = new.default_size.map(|s| s.to_string());
        let text = text.unwrap_or_else(|| "the product's".to_owned());
        say(format!("default size becomes {text}"));
    }
    let gone = missing(old.vms(), new.vms());
    if !gone.is_empty() {
        say(format!("loses {}", vms_text(&gone)));
    }
    let come = missing(new.vms(), old.vms());
    if !come.is_empty() {
        say(format!("gets {}", vms_text(&come)));
    }
    for was in &old.privileges {
        match new.privilege(&was.datastore) {
            None => say(format!("loses: {}", privilege(was))),
            Some(is) if is != was => {
                say(format!("{} becomes: {}", privilege(was), privilege(is)));
            }
            Some(_) => {}
        }
    }
    for is in &new.privileges {
        if old.privilege(&is.datastore).is_none() {
            say(format!("gets: {}", privilege(is)));
        }
    }
}

/// Those of `these` that are not among `others`.
fn missing(these: &[Member], others: &[Member]) -> Vec<Member> {
    let there = |m: &&Member| !others.iter().any(|o| o.uuid == m.uuid);
    these.iter().filter(there).cloned().collect()
}

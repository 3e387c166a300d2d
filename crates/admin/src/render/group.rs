//! vmgroups.

use vdvs_domain::capacity::human;

use super::{NONE, Text, columns, marked, or_none, pairs, table};
use crate::grid::limit;
use crate::view::{Group, GroupList, Member, Privilege, Tabular, Usage};

const NOT_CONFIGURED: &str = "no datastore is governed yet: this is what the first volume makes; or make a configuration now with: vdvs config init";

impl Text for GroupList {
    fn text(&self, width: Option<u16>) -> String {
        let mut out = if self.groups.is_empty() {
            "no vmgroups; make one with: vdvs vmgroup create\n".to_owned()
        } else {
            let shown = [
                ("uuid", "Uuid"),
                ("name", "Name"),
                ("description", "Description"),
                ("default-datastore", "Default_datastore"),
                ("vm-list", "VM_list"),
            ];
            columns(&self.grid(), &shown, width)
        };
        if self.not_configured {
            out += &marked(NOT_CONFIGURED);
        }
        out
    }
}

impl Text for Vec<Member> {
    fn text(&self, width: Option<u16>) -> String {
        if self.is_empty() {
            return "no VMs: add them with: vdvs vmgroup vm add\n".to_owned();
        }
        members(self, width)
    }
}

fn members(members: &[Member], width: Option<u16>) -> String {
    let row = |m: &Member| {
        let place = match (&m.host, m.found) {
            (Some(host), true) => host.clone(),
            (None, true) => NONE.to_owned(),
            (Some(host), false) => format!("gone; last on {host}"),
            (None, false) => "gone, or its host is silent".to_owned(),
        };
        vec![
            m.uuid.clone(),
            m.name.clone().unwrap_or_else(|| "N/A".to_owned()),
            place,
        ]
    };
    let header = ["Uuid", "Name", "Host"];
    table(&header, &[], members.iter().map(row).collect(), width)
}

impl Text for Vec<Privilege> {
    fn text(&self, width: Option<u16>) -> String {
        if self.is_empty() {
            return "no privileges: the group's VMs may use no datastore; grant one with: vdvs vmgroup access add\n"
                .to_owned();
        }
        let shown = [
            ("datastore", "Datastore"),
            ("allow-create", "Allow_create"),
            ("max-volume-size", "Max_volume_size"),
            ("total-size", "Total_size"),
        ];
        columns(&self.grid(), &shown, width)
    }
}

impl Text for Group {
    fn text(&self, width: Option<u16>) -> String {
        let size = self
            .default_size_bytes
            .map_or_else(|| "the product's".to_owned(), human);
        let mut rows = vec![
            ("vmgroup", self.name.clone()),
            ("Uuid", self.id.clone()),
            ("Description", or_none(self.description.as_deref())),
            (
                "Default",
                format!("datastore {}, size {size}", self.default_datastore),
            ),
        ];
        if let Some(home) = &self.home {
            rows.push(("Kept on", home.clone()));
        }
        let mut out = pairs(&rows);
        out += "\nAccess\n";
        out += &self.privileges.text(width);
        out += "\nUsage\n";
        out += &usage(&self.usage, width);
        out += "\nVMs\n";
        out += &if self.everybody_else {
            "all VMs which were not added to other vmgroups\n".to_owned()
        } else {
            self.members.text(width)
        };
        out
    }
}

fn usage(usage: &[Usage], width: Option<u16>) -> String {
    if usage.is_empty() {
        return "no volumes\n".to_owned();
    }
    let row = |u: &Usage| {
        let unread = u.problem.is_some();
        let known = |text: String| if unread { NONE.to_owned() } else { text };
        let part = u.total_bytes.filter(|total| *total > 0).map(|total| {
            let percent = u128::from(u.used_bytes) * 100 / u128::from(total);
            format!("{percent} %")
        });
        let free = u.total_bytes.map(|t| limit(t.saturating_sub(u.used_bytes)));
        vec![
            format!("{}{}", u.datastore, if unread { " !" } else { "" }),
            known(u.volumes.to_string()),
            known(limit(u.used_bytes)),
            u.total_bytes.map_or_else(|| "Unset".to_owned(), limit),
            known(or_none(part.as_deref())),
            known(or_none(free.as_deref())),
        ]
    };
    let header = ["Datastore", "Volumes", "Used", "Total_size", "Part", "Left"];
    let rows = usage.iter().map(row).collect();
    let mut out = table(&header, &[1, 2, 3, 4, 5], rows, width);
    for u in usage {
        if let Some(problem) = &u.problem {
            out += &marked(&format!("{}: {problem}", u.datastore));
        }
    }
    out
}

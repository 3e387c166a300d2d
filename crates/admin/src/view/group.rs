//! vmgroups.
#![expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]

use serde::Serialize;
use vdvs_api::v1;

use super::{Tabular, limited, present};
use crate::grid::{Cell, Column, Grid, number, text};

/// `vdvs vmgroup ls`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupList {
    pub groups: Vec<Group>,
    /// No datastore is governed yet: this is what the first use would make.
    pub not_configured: bool,
}

/// `vdvs vmgroup show`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub default_datastore: String,
    pub default_size_bytes: Option<u64>,
    /// Every VM that no other group names belongs to it.
    pub everybody_else: bool,
    pub members: Vec<Member>,
    pub privileges: Vec<Privilege>,
    pub usage: Vec<Usage>,
    pub home: Option<String>,
}

/// `vdvs vmgroup vm ls`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    pub uuid: String,
    pub name: Option<String>,
    pub host: Option<String>,
    pub found: bool,
}

/// `vdvs vmgroup access ls`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Privilege {
    pub datastore: String,
    pub allow_create: bool,
    pub max_volume_bytes: Option<u64>,
    pub total_bytes: Option<u64>,
}

/// What a group's volumes take on a datastore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub datastore: String,
    pub volumes: u32,
    pub used_bytes: u64,
    pub total_bytes: Option<u64>,
    pub problem: Option<String>,
}

impl From<v1::ListGroupsReply> for GroupList {
    fn from(reply: v1::ListGroupsReply) -> Self {
        let mut groups: Vec<_> = reply.groups.into_iter().map(Group::from).collect();
        groups.sort_by_cached_key(|g| (g.home.clone(), g.name.clone()));
        Self {
            groups,
            not_configured: reply.not_configured,
        }
    }
}

impl From<v1::Group> for Group {
    fn from(g: v1::Group) -> Self {
        let usage = g.usage.into_iter().map(|u| Usage {
            datastore: u.datastore,
            volumes: u.volumes,
            used_bytes: u.used_bytes,
            total_bytes: limited(u.total_bytes),
            problem: present(u.problem),
        });
        let mut members: Vec<_> = g.members.into_iter().map(Member::from).collect();
        members.sort_by_cached_key(|m| (m.name.clone(), m.uuid.clone()));
        let mut privileges: Vec<_> = g.privileges.into_iter().map(Privilege::from).collect();
        privileges.sort_by_cached_key(|p| p.datastore.clone());
        Self {
            id: g.id,
            name: g.name,
            description: present(g.description),
            default_datastore: g.default_datastore,
            default_size_bytes: limited(g.default_size_bytes),
            everybody_else: g.everybody_else,
            members,
            privileges,
            usage: usage.collect(),
            home: present(g.home),
        }
    }
}

impl From<v1::GroupMember> for Member {
    fn from(m: v1::GroupMember) -> Self {
        Self {
            uuid: m.uuid,
            name: present(m.name),
            host: present(m.host),
            found: m.found,
        }
    }
}

impl From<v1::GroupPrivilege> for Privilege {
    fn from(p: v1::GroupPrivilege) -> Self {
        Self {
            datastore: p.datastore,
            allow_create: p.allow_create,
            max_volume_bytes: limited(p.max_volume_bytes),
            total_bytes: limited(p.total_bytes),
        }
    }
}

impl Group {
    /// The members' names as the original joined them.
    #[must_use]
    pub fn vm_list(&self) -> Vec<String> {
        let name = |m: &Member| m.name.clone().unwrap_or_else(|| "N/A".to_owned());
        self.members.iter().map(name).collect()
    }
}

/// The original's five columns first.
const GROUPS: &[Column] = &[
    text("uuid", "Uuid"),
    text("name", "Name"),
    text("description", "Description"),
    text("default-datastore", "Default_datastore"),
    text("vm-list", "VM_list"),
    number("default-size", "Default_size"),
    number("volumes", "Volumes"),
    number("used", "Used"),
    text("home", "Home"),
];

impl Tabular for [Group] {
    fn grid(&self) -> Grid {
        let row = |g: &Group| {
            vec![
                Cell::text(&g.id),
                Cell::text(&g.name),
                Cell::maybe(g.description.as_deref()),
                Cell::text(&g.default_datastore),
                Cell::List(g.vm_list()),
                g.default_size_bytes.map_or(Cell::Nothing, Cell::Size),
                Cell::Count(g.usage.iter().map(|u| u64::from(u.volumes)).sum()),
                Cell::Size(g.usage.iter().map(|u| u.used_bytes).sum()),
                Cell::maybe(g.home.as_deref()),
            ]
        };
        Grid::new(GROUPS, self.iter().map(row))
    }
}

impl Tabular for GroupList {
    fn grid(&self) -> Grid {
        self.groups.grid()
    }
}

impl Tabular for Group {
    fn grid(&self) -> Grid {
        [self.clone()].grid()
    }
}

impl Tabular for Vec<Member> {
    fn grid(&self) -> Grid {
        const MEMBERS: &[Column] = &[
            text("uuid", "Uuid"),
            text("name", "Name"),
            text("host", "Host"),
            text("found", "Found"),
        ];
        let row = |m: &Member| {
            vec![
                Cell::text(&m.uuid),
                Cell::maybe(m.name.as_deref()),
                Cell::maybe(m.host.as_deref()),
                Cell::Flag(m.found),
            ]
        };
        Grid::new(MEMBERS, self.iter().map(row))
    }
}

impl Tabular for Vec<Privilege> {
    fn grid(&self) -> Grid {
        const PRIVILEGES: &[Column] = &[
            text("datastore", "Datastore"),
            text("allow-create", "Allow_create"),
            number("max-volume-size", "Max_volume_size"),
            number("total-size", "Total_size"),
        ];
        let row = |p: &Privilege| {
            vec![
                Cell::text(&p.datastore),
                Cell::Flag(p.allow_create),
                Cell::Limit(p.max_volume_bytes),
                Cell::Limit(p.total_bytes),
            ]
        };
        Grid::new(PRIVILEGES, self.iter().map(row))
    }
}

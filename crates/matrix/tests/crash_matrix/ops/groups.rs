//! What an administrator does with vmgroups.

use vdvs_domain::Error;
use vdvs_domain::access::{ChangeMembers, ChangePrivilege, CreateGroup, Leaving, UpdateGroup};
use vdvs_engine::api::{AdminVolume, GroupChange, RemoveGroup, Teller};

use super::{Doing, NOTHING_LEFT, Operation, PLAIN};
use crate::arena::{Arena, Side, root};

type Said = Result<String, Error>;

/// A vmgroup change is no change of any volume.
const GROUP: Operation = Operation {
    done: NOTHING_LEFT,
    touches: &[],
    prepare: |a| Box::pin(with_dev(a)),
    ..PLAIN
};

pub(crate) async fn change(a: &Arena, change: GroupChange) -> Said {
    let (user, tell, engine) = (root(), Teller::default(), a.engine(Side::Near));
    engine.admin_change_group(&user, &change, &tell).await?;
    Ok("changed".to_owned())
}

pub(crate) fn group(name: &str, vms: &[&str], volumes: Leaving) -> GroupChange {
    GroupChange::Create(CreateGroup {
        name: name.to_owned(),
        default_datastore: "ds".to_owned(),
        vms: vms.iter().map(|vm| (*vm).to_owned()).collect(),
        volumes,
        ..CreateGroup::default()
    })
}

pub(crate) fn members(vm: &str, volumes: Leaving) -> ChangeMembers {
    ChangeMembers {
        group: "dev".to_owned(),
        vms: vec![vm.to_owned()],
        volumes,
    }
}

pub(crate) async fn with_dev(a: &Arena) {
    change(a, group("dev", &["vm3"], Leaving::Ask))
        .await
        .unwrap();
}

fn privilege(datastore: &str, total: &str) -> ChangePrivilege {
    ChangePrivilege {
        group: "dev".to_owned(),
        datastore: datastore.to_owned(),
        allow_create: Some("True".to_owned()),
        max_size: Some("2GB".to_owned()),
        total_size: Some(total.to_owned()),
    }
}

/// What both agents say of a vmgroup: its members, and its privileges.
pub(crate) async fn described(a: &Arena, name: &str) -> Option<(Vec<String>, Vec<String>)> {
    let mut said = Vec::new();
    for side in [Side::Near, Side::Far] {
        let listed = a.engine(side).admin_groups(None).await.unwrap();
        let found = listed.groups.iter().find(|g| g.group.name.as_str() == name);
        said.push(found.map(|g| {
            let members = g.members.iter().map(|m| m.name.clone()).collect();
            let rows = g.group.privileges.iter().map(|p| format!("{p:?}"));
            (members, rows.collect())
        }));
    }
    let far = said.pop();
    let near = said.pop();
    assert_eq!(near, far, "both hosts say the same of {name}");
    near.flatten()
}

fn has<'a>(a: &'a Arena, name: &'static str, vms: &'static [&'static str]) -> Doing<'a, ()> {
    Box::pin(async move {
        let (members, _) = described(a, name).await.expect("the vmgroup exists");
        assert_eq!(members, vms);
    })
}

fn limited<'a>(a: &'a Arena, total: &'static str) -> Doing<'a, ()> {
    Box::pin(async move {
        let (_, rows) = described(a, "dev").await.expect("the vmgroup exists");
        assert!(rows.iter().any(|r| r.contains(total)), "{rows:?}");
    })
}

pub(crate) const ALL: &[Operation] = &[
    Operation {
        name: "vmgroup create",
        prepare: |_| Box::pin(async {}),
        act: |a| Box::pin(change(a, group("dev", &["vm3"], Leaving::Ask))),
        holds: |a| has(a, "dev", &["vm3"]),
        ..GROUP
    },
    Operation {
        name: "vmgroup update",
        act: |a| {
            Box::pin(async move {
                let update = UpdateGroup {
                    name: "dev".to_owned(),
                    new_name: Some("team".to_owned()),
                    description: Some("renamed".to_owned()),
                    default_datastore: Some("_VM_DS".to_owned()),
                    ..UpdateGroup::default()
                };
                change(a, GroupChange::Update(update)).await
            })
        },
        holds: |a| {
            Box::pin(async move {
                has(a, "team", &["vm3"]).await;
                assert!(described(a, "dev").await.is_none());
            })
        },
        ..GROUP
    },
    Operation {
        name: "vmgroup rm",
        prepare: |a| {
            Box::pin(async move {
                change(a, group("dev", &[], Leaving::Ask)).await.unwrap();
            })
        },
        act: |a| {
            let remove = RemoveGroup {
                name: "dev".to_owned(),
                ..RemoveGroup::default()
            };
            Box::pin(change(a, GroupChange::Remove(remove)))
        },
        holds: |a| Box::pin(async move { assert!(described(a, "dev").await.is_none()) }),
        ..GROUP
    },
    Operation {
        name: "vmgroup rm --remove-volumes",
        prepare: |a| {
            Box::pin(async move {
                with_dev(a).await;
                a.create(3, "db", &[]).await;
                a.create(3, "db2", &[]).await;
            })
        },
        act: |a| {
            let remove = RemoveGroup {
                name: "dev".to_owned(),
                remove_volumes: true,
                force: true,
            };
            Box::pin(change(a, GroupChange::Remove(remove)))
        },
        touches: &["db", "db2"],
        holds: |a| {
            Box::pin(async move {
                assert!(described(a, "dev").await.is_none());
                let left = a.engine(Side::Near).admin_volumes().await.unwrap().volumes;
                let named = |v: &&AdminVolume| v.view.name.as_str().starts_with("db") && !v.orphan;
                assert_eq!(left.iter().filter(named).count(), 0, "{left:?}");
            })
        },
        ..GROUP
    },
    Operation {
        name: "vmgroup vm add",
        act: |a| {
            Box::pin(change(
                a,
                GroupChange::AddMembers(members("vm1", Leaving::Leave), Vec::new()),
            ))
        },
        holds: |a| has(a, "dev", &["vm3", "vm1"]),
        ..GROUP
    },
    Operation {
        name: "vmgroup vm rm",
        act: |a| {
            Box::pin(change(
                a,
                GroupChange::RemoveMembers(members("vm3", Leaving::Leave), Vec::new()),
            ))
        },
        holds: |a| has(a, "dev", &[]),
        ..GROUP
    },
    Operation {
        name: "vmgroup vm replace",
        act: |a| {
            Box::pin(change(
                a,
                GroupChange::ReplaceMembers(members("vm1", Leaving::Leave), Vec::new()),
            ))
        },
        holds: |a| has(a, "dev", &["vm1"]),
        ..GROUP
    },
    Operation {
        name: "vmgroup access add",
        act: |a| {
            Box::pin(change(
                a,
                GroupChange::AddPrivilege(privilege("ds2", "5GB")),
            ))
        },
        holds: |a| limited(a, "5368709120"),
        ..GROUP
    },
    Operation {
        name: "vmgroup access set",
        act: |a| Box::pin(change(a, GroupChange::SetPrivilege(privilege("ds", "6GB")))),
        holds: |a| limited(a, "6442450944"),
        ..GROUP
    },
    Operation {
        name: "vmgroup access rm",
        prepare: |a| {
            Box::pin(async move {
                with_dev(a).await;
                let added = change(a, GroupChange::AddPrivilege(privilege("ds2", "5GB")));
                added.await.unwrap();
            })
        },
        act: |a| {
            Box::pin(change(
                a,
                GroupChange::RemovePrivilege(privilege("ds2", "5GB")),
            ))
        },
        holds: |a| {
            Box::pin(async move {
                let (_, rows) = described(a, "dev").await.expect("the vmgroup exists");
                assert!(!rows.iter().any(|r| r.contains("ds2")), "{rows:?}");
            })
        },
        ..GROUP
    },
];

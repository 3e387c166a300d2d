//! A vmgroup's volumes are out of reach for another vmgroup's VMs, by whatever name they ask.

use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Builder;
use tonic::transport::Channel;
use vdvs_api::v1::change_group_request::Change;
use vdvs_api::v1::volume_service_client::VolumeServiceClient;
use vdvs_api::{RemoteError, model, v1};

use crate::process::{Vdvsd, attach, create, head};

type Guest = VolumeServiceClient<Channel>;

/// What the victim has: names as a person would choose them.
const NAMES: [&str; 4] = ["secret", "pg data", "Größe", "v-1"];

/// Two VMs in two vmgroups on one datastore, and the volumes of one of them.
struct Scene {
    agent: Vdvsd,
    /// Of vmgroup `red`; it has no volumes.
    thief: Guest,
    /// Of vmgroup `blue`.
    victim: Guest,
    /// The victim's volumes, and the one it has attached.
    volumes: BTreeMap<String, model::Volume>,
    attached: model::Attached,
    /// Id of the victim's vmgroup.
    group: String,
}

async fn change(agent: &Vdvsd, change: Change) {
    let request = v1::ChangeGroupRequest {
        head: head(),
        change: Some(change),
    };
    agent.admin().change_group(request).await.unwrap();
}

async fn volumes_of(guest: &mut Guest) -> BTreeMap<String, model::Volume> {
    let listed = guest.list_volumes(v1::ListVolumesRequest {}).await.unwrap();
    let volumes = listed.into_inner().volumes().unwrap().into_iter();
    let volumes = volumes.map(|v| model::Volume::try_from(v).unwrap());
    volumes.map(|v| (v.full_name().to_string(), v)).collect()
}

impl Scene {
    async fn new() -> Self {
        let agent = Vdvsd::start(&["thief", "victim", "third"]);
        let (thief, mut victim) = (agent.guest("thief"), agent.guest("victim"));
        // The first volume makes the configuration.
        let first = agent.guest("third").create_volume(create("first")).await;
        first.unwrap();
        for (name, vm) in [("red", "thief"), ("blue", "victim")] {
            let group = v1::CreateGroup {
                name: name.to_owned(),
                default_datastore: "_VM_DS".to_owned(),
                vms: vec![vm.to_owned()],
                ..v1::CreateGroup::default()
            };
            change(&agent, Change::Create(group)).await;
            let privilege = v1::ChangePrivilege {
                how: v1::change_privilege::How::Add.into(),
                group: name.to_owned(),
                datastore: "_ALL_DS".to_owned(),
                allow_create: Some("True".to_owned()),
                ..v1::ChangePrivilege::default()
            };
            change(&agent, Change::Privilege(privilege)).await;
        }
        for name in NAMES {
            victim.create_volume(create(name)).await.unwrap();
        }
        let attached = victim.attach_volume(attach("secret", 0)).await.unwrap();
        let groups = v1::ListGroupsRequest {
            name: "blue".to_owned(),
        };
        let groups = agent.admin().list_groups(groups).await.unwrap();
        Self {
            thief,
            volumes: volumes_of(&mut victim).await,
            victim,
            attached: model::Attached::try_from(attached.into_inner()).unwrap(),
            group: groups.into_inner().groups[0].id.clone(),
            agent,
        }
    }

    /// Names that mean, or nearly mean, what the victim has.
    fn hostile_names(&self) -> BoxedStrategy<String> {
        let mut bases = Vec::new();
        for (full, volume) in &self.volumes {
            let (name, id) = (volume.name.to_string(), volume.id.to_string());
            let id8: String = id.replace('-', "").chars().skip(24).collect();
            bases.extend([
                full.clone(),
                format!("{name}.{id8}"),
                format!("{name}.{id8}.vmdk"),
                format!("{name}.vdvs"),
                id.get(..8).unwrap_or_default().to_owned(),
                id8,
                id,
                name,
            ]);
        }
        let group = self.group.clone();
        let places = vec![
            "@vsanDatastore".to_owned(),
            "@VSANDATASTORE".to_owned(),
            "@".to_owned(),
            "@_VM_DS".to_owned(),
            "@_ALL_DS".to_owned(),
            "@vsanDatastore/dockvols".to_owned(),
            "@../vsanDatastore".to_owned(),
        ];
        let before = vec![
            "blue/".to_owned(),
            format!("{group}/"),
            format!("../{group}/"),
            format!("..\\{group}\\"),
            format!("[vsanDatastore] dockvols/{group}/"),
            format!("/vmfs/volumes/vsanDatastore/dockvols/{group}/"),
            format!("%2e%2e%2f{group}%2f"),
            "./".to_owned(),
            " ".to_owned(),
            "\u{0}".to_owned(),
            "\u{202e}".to_owned(),
        ];
        let base = select(bases);
        let mutated = (base.clone(), 0u8..8, 0usize..12).prop_map(|(base, how, at)| {
            let at = at % base.chars().count().max(1);
            let changed = |f: &dyn Fn(char) -> String| -> String {
                let each = base.chars().enumerate();
                each.map(|(n, c)| if n == at { f(c) } else { c.to_string() })
                    .collect()
            };
            match how {
                0 => base.to_uppercase(),
                1 => base.to_lowercase(),
                2 => changed(&|_| "*".to_owned()),
                3 => changed(&|_| "?".to_owned()),
                4 => changed(&|c| format!("{c}\u{301}")),
                5 => changed(&|c| format!("[{c}]")),
                6 => format!("{base}\n"),
                _ => format!("{base} "),
            }
        });
        prop_oneof![
            3 => base.clone(),
            3 => mutated,
            3 => (select(before.clone()), base.clone()).prop_map(|(b, n)| b + &n),
            3 => (base.clone(), select(places.clone())).prop_map(|(n, p)| n + &p),
            2 => (select(before), base.clone(), select(places)).prop_map(|(b, n, p)| b + &n + &p),
            1 => (base, ".{0,40}").prop_map(|(n, junk)| n + &junk),
            1 => ".{0,220}",
        ]
        .boxed()
    }
}

fn refused<T: Debug>(what: &str, name: &str, answer: Result<T, tonic::Status>) {
    match answer {
        Ok(answer) => panic!("{what} {name:?} went through: {answer:?}"),
        Err(status) => {
            let error = RemoteError::from(status);
            assert!(!error.transport, "{what} {name:?}: {error:?}");
            assert_ne!(
                error.kind.to_string(),
                "INTERNAL",
                "{what} {name:?}: {error:?}"
            );
        }
    }
}

/// Everything a VM can do with a volume by its name.
async fn try_all(thief: &mut Guest, name: &str) {
    let get = v1::GetVolumeRequest {
        name: name.to_owned(),
    };
    refused("get", name, thief.get_volume(get).await);
    refused("attach", name, thief.attach_volume(attach(name, 0)).await);
    let delete = v1::DeleteVolumeRequest {
        head: head(),
        name: name.to_owned(),
        volume_id: String::new(),
    };
    refused("delete", name, thief.delete_volume(delete).await);
    let mut clone = create("loot");
    clone.options = [("clone-from".to_owned(), name.to_owned())].into();
    refused("clone", name, thief.create_volume(clone).await);
}

#[test]
fn no_name_leads_to_another_vmgroups_volumes() {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let mut scene = runtime.block_on(Scene::new());
    let config = Config {
        cases: 600,
        failure_persistence: None,
        ..Config::default()
    };
    let names = scene.hostile_names();
    let thief = scene.thief.clone();
    TestRunner::new(config)
        .run(&names, |name: String| {
            runtime.block_on(try_all(&mut thief.clone(), &name));
            Ok(())
        })
        .unwrap();
    runtime.block_on(async {
        assert!(volumes_of(&mut scene.thief).await.is_empty());
        assert_eq!(volumes_of(&mut scene.victim).await, scene.volumes);
    });
    scene.agent.assert_quiet();
}

#[tokio::test]
async fn no_id_or_epoch_gives_another_vmgroups_volume_away() {
    let mut scene = Scene::new().await;
    let (volume_id, epoch) = (
        scene.attached.volume.id.to_string(),
        scene.attached.epoch.number(),
    );
    for epoch in [epoch, epoch - 1] {
        let detach = v1::DetachVolumeRequest {
            head: head(),
            volume_id: volume_id.clone(),
            epoch,
        };
        let detached = scene.thief.detach_volume(detach).await.unwrap();
        assert!(!detached.into_inner().changed, "it is not the thief's");
        let format = v1::BeginFormatRequest {
            head: head(),
            volume_id: volume_id.clone(),
            epoch,
        };
        refused("format", &volume_id, scene.thief.begin_format(format).await);
    }
    assert_eq!(volumes_of(&mut scene.victim).await, scene.volumes);
    scene.agent.assert_quiet();
}

#[tokio::test]
async fn a_name_of_another_vmgroup_is_free_and_leads_to_ones_own_volume() {
    let mut scene = Scene::new().await;
    for name in NAMES {
        scene.thief.create_volume(create(name)).await.unwrap();
    }
    let mine = volumes_of(&mut scene.thief).await;
    assert_eq!(mine.len(), NAMES.len());
    for (name, volume) in &mine {
        assert_ne!(volume.id, scene.volumes[name].id);
    }
    for name in NAMES {
        let delete = v1::DeleteVolumeRequest {
            head: head(),
            name: name.to_owned(),
            volume_id: String::new(),
        };
        scene.thief.delete_volume(delete).await.unwrap();
    }
    assert_eq!(volumes_of(&mut scene.victim).await, scene.volumes);
    scene.agent.assert_quiet();
}

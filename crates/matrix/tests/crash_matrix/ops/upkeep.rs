//! What agents do without being asked, and volumes of the archived system.

use std::time::Duration;

use serde_json::json;
use tokio::time::advance;
use uuid::Uuid;
use vdvs_domain::{Capacity, DiskFormat, Error, ErrorKind, GroupId};
use vdvs_engine::ports::{Datastores, DiskPath, DiskSpec, DsPath, Power};

use super::{Doing, Operation, PLAIN};
use crate::agree::{self, framed};
use crate::arena::{Arena, CONTENT, REQUEST, Side, call, ds, volume};

type Said = Result<String, Error>;

const UPKEEP: Operation = Operation { ..PLAIN };

fn path(file: &str) -> String {
    format!("dockvols/{}/{file}", GroupId::DEFAULT)
}

/// A volume as the original left it.
async fn plant(a: &Arena) {
    let disk = DiskPath {
        datastore: ds("ds"),
        path: DsPath::new(&path("db.vmdk")).unwrap(),
    };
    let spec = DiskSpec {
        capacity: Capacity::parse("300mb").unwrap(),
        format: DiskFormat::Thin,
        uuid: Uuid::from_u128(7),
    };
    let quiet = Default::default();
    let session = a.session(Side::Near);
    let made = session.create_disk(&disk.datastore, &disk.path, &spec, &quiet);
    made.await.unwrap();
    a.world.write_disk(&disk, CONTENT);
    let descriptor = "# Disk DescriptorFile\n\
        ddb.uuid = \"60 00 C2 9e 5b 0a 63 0d-0f 9b 8b 1d 2b 60 c4 5e\"\n\
        ddb.sidecars = \"docker-volume-vsphere,db-4b88db79778570b6.vmfd\"\n";
    a.world
        .put_file(&ds("ds"), disk.path.as_str(), descriptor.as_bytes());
    let text = r#"{"status":"detached","volOpts":{"diskformat":"thin","fstype":"xfs"},"created-by":"worker1","created":"Tue Jun 20 08:32:19 2017"}"#;
    let metadata = path("db-4b88db79778570b6.vmfd");
    a.world.put_file(&ds("ds"), &metadata, text.as_bytes());
}

fn attach<'a>(a: &'a Arena) -> Doing<'a, Said> {
    Box::pin(async move {
        let got = a.try_attach(1, REQUEST, "db", Duration::ZERO).await?;
        Ok(format!("epoch {} of {}", got.epoch, got.view.id))
    })
}

/// The reconciler works for a while.
async fn sweeps(a: &Arena) -> Said {
    let engine = a.engine(Side::Near);
    for _ in 0..3 {
        engine.sweep().await;
        advance(Duration::from_secs(70)).await;
    }
    engine.sweep().await;
    Ok("swept".to_owned())
}

/// A ledger that misses a volume and counts one that does not exist.
async fn spoil_ledger(a: &Arena) {
    a.create(1, "db", &[]).await;
    let stem = format!("dockvols/.vdvs/ledger.{}", GroupId::DEFAULT);
    let seq = agree::newest_slot(a, "ds", &stem).expect("there is a ledger");
    let mut ledger = agree::read(a, "ds", &format!("{stem}.{seq}")).unwrap();
    let id = agree::record(a, "db").unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let entries = ledger["entries"].as_object_mut().unwrap();
    entries.remove(&id).expect("it was counted");
    let nobody = Uuid::from_u128(0x019b_0000_0000_7000_8000_0000_dead_beef);
    entries.insert(nobody.to_string(), json!(1 << 30));
    let next = format!("{stem}.{}", seq + 1);
    a.world
        .put_file(&ds("ds"), &next, &framed("ledger", &ledger));
}

pub(crate) const ALL: &[Operation] = &[
    Operation {
        name: "release of a VM that was powered off",
        actor: None,
        running: true,
        prepare: |a| {
            Box::pin(async move {
                a.create(1, "db", &[]).await;
                a.attach(1, "db").await;
            })
        },
        act: |a| {
            Box::pin(async move {
                a.world.power(a.vm(1), Power::Off);
                let free = || agree::owner_of(a, "db").is_none();
                agree::until(a, "it is released", free).await;
                assert!(a.world.devices(a.vm(1)).is_empty(), "the disk goes first");
                Ok("released".to_owned())
            })
        },
        holds: |a| Box::pin(async move { assert!(a.world.devices(a.vm(1)).is_empty()) }),
        ..UPKEEP
    },
    Operation {
        name: "what a host tells the others",
        struck: &[Side::Near, Side::Far],
        actor: None,
        running: true,
        touches: &[],
        act: |a| {
            Box::pin(async move {
                let power = match a.world.power_of(a.vm(3)) {
                    Some(Power::On) => Power::Off,
                    _ => Power::On,
                };
                for vm in [3, 5] {
                    a.world.power(a.vm(vm), power);
                    a.engine_of(vm).news();
                }
                let told = || told(a, Side::Near, 3, power) && told(a, Side::Far, 5, power);
                agree::until(a, "both hosts tell", told).await;
                Ok("told".to_owned())
            })
        },
        ..UPKEEP
    },
    Operation {
        name: "repair of a ledger",
        prepare: |a| Box::pin(spoil_ledger(a)),
        act: |a| Box::pin(sweeps(a)),
        touches: &[],
        ..UPKEEP
    },
    Operation {
        name: "a name claimed by nobody",
        prepare: |a| {
            Box::pin(async move {
                let claim = json!({
                    "format": 1,
                    "id": Uuid::from_u128(0x019b_0000_0000_7000_8000_0000_dead_beef).to_string(),
                    "name": "db",
                    "request": Uuid::from_u128(3).to_string(),
                    "host": Uuid::from_u128(4).to_string(),
                    "at": 1_767_225_600_000_u64,
                });
                a.world
                    .put_file(&ds("ds"), &path("db.vdvs"), &framed("claim", &claim));
            })
        },
        act: |a| {
            Box::pin(async move {
                sweeps(a).await?;
                let made = a.try_create(1, REQUEST, "db", &[]).await?;
                Ok(made.into_inner().name.to_string())
            })
        },
        holds: |a| Box::pin(async move { drop(a.get(1, "db").await.unwrap()) }),
        ..UPKEEP
    },
    Operation {
        name: "attach of a volume of the original",
        prepare: |a| Box::pin(plant(a)),
        act: |a| attach(a),
        holds: |a| {
            Box::pin(async move {
                assert_eq!(agree::owner_of(a, "db").as_deref(), Some("vm1"));
            })
        },
        ..UPKEEP
    },
    Operation {
        name: "delete of a volume of the original",
        prepare: |a| Box::pin(plant(a)),
        act: |a| {
            Box::pin(async move {
                let (caller, once) = (a.caller(1), call(REQUEST));
                let engine = a.engine_of(1);
                let address = volume("db");
                engine.delete(&caller, &once, &address, None).await?;
                Ok("deleted".to_owned())
            })
        },
        done: &[ErrorKind::NotFound],
        holds: |a| Box::pin(async move { drop(a.get(1, "db").await.unwrap_err()) }),
        ..UPKEEP
    },
];

/// Whether a host's newest file says of its VM that its power is this.
fn told(a: &Arena, side: Side, vm: usize, power: Power) -> bool {
    let stem = format!("dockvols/.vdvs/host.{}", a.host(side));
    let slot = agree::newest_slot(a, "ds", &stem);
    let file = slot.and_then(|slot| agree::read(a, "ds", &format!("{stem}.{slot}")));
    let vms = file.as_ref().and_then(|file| file["vms"].as_array());
    let name = format!("vm{vm}");
    let this = vms.and_then(|vms| vms.iter().find(|vm| vm["name"] == name.as_str()));
    let says = match power {
        Power::On => "on",
        _ => "off",
    };
    this.is_some_and(|vm| {
        vm["power"]
            .as_str()
            .is_some_and(|p| p.eq_ignore_ascii_case(says))
    })
}

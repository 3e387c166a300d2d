//! Calls, sessions, restarts and watching, with a witness for what is really there.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::time::Instant;
use vdvs_testkit::vcsim::{Mode, Peers, Vcsim};
use vdvs_vim::{
    AdapterType, Client, Config, ConfigSpec, ControllerKind, Credentials, DeviceChange, DiskMode,
    DiskType, Effect, Endpoint, Error, FaultKind, FileBackedDisk, FilePath, MoRef, NotSent,
    PowerState, Secret, Task, Trust, VmSummary, Watch, datastore_path,
};

const SECOND: Duration = Duration::from_secs(1);
const SMALL: FileBackedDisk = FileBackedDisk {
    disk_type: DiskType::Thin,
    adapter: AdapterType::LsiLogic,
    capacity_kb: 10 * 1024,
};

struct Rig {
    sim: Vcsim,
    peers: Peers,
    dir: TempDir,
}

/// Far above what anything takes here.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

impl Rig {
    fn new(mode: Mode) -> Option<Self> {
        let peers = match Peers::find() {
            Ok(peers) => peers,
            Err(why) => {
                eprintln!("skipped: {why}");
                return None;
            }
        };
        let dir = tempfile::tempdir().unwrap();
        let sim = Vcsim::start(&peers, mode, &dir.path().join("sim"), &[]).unwrap();
        Some(Self { sim, peers, dir })
    }

    fn client(&self) -> Client {
        self.trusting(&self.sim.certificate())
    }

    fn trusting(&self, certificate: &Path) -> Client {
        let (user, password) = self.sim.login();
        let password = Secret::new(password);
        let endpoint = Endpoint::parse(&self.sim.url()).unwrap();
        let trust = Trust::Pinned(certificate.to_owned());
        let user = Credentials::Password { user, password };
        Client::new(Config::new(endpoint, trust, vec![user]).unwrap())
    }

    /// The VM of this number on the first host.
    async fn vm(&self, client: &Client, number: usize) -> VmSummary {
        let name = self.sim.mode().vm(0, number);
        let vms = client.list_vms(soon()).await.unwrap();
        vms.into_iter().find(|vm| vm.name == name).expect(&name)
    }
}

/// Paths on the first datastore.
async fn paths(client: &Client) -> impl Fn(&str) -> FilePath {
    let datastores = client.list_datastores(soon()).await.unwrap();
    let name = datastores[0].name.clone();
    let host = client.service_content(soon()).await.unwrap().is_host();
    let datacenters = client.list_datacenters(soon()).await.unwrap();
    let datacenter = datacenters[0].0.clone();
    move |path| {
        let path = datastore_path(&name, path);
        if host {
            FilePath::new(path)
        } else {
            FilePath::within(&datacenter, path)
        }
    }
}

async fn done(client: &Client, task: Result<Task, Error>) -> Result<(), Error> {
    client.finish(&task?, |_| (), soon()).await.map(drop)
}

async fn reconfigure(client: &Client, vm: &MoRef, change: DeviceChange) -> Result<(), Error> {
    let spec = ConfigSpec::device(change);
    done(client, client.reconfig_vm(vm, &spec, soon()).await).await
}

fn kind(result: Result<(), Error>) -> FaultKind {
    match result {
        Err(Error::Refused { fault, .. }) => fault.kind,
        other => panic!("it was not refused: {other:?}"),
    }
}

async fn a_disk_from_create_to_delete(mode: Mode) {
    let Some(rig) = Rig::new(mode) else { return };
    let mut witness = rig.sim.witness().unwrap();
    let client = rig.client();
    let at = paths(&client).await;
    let vm = rig.vm(&client, 0).await;
    let (folder, disk, copy) = (at("vols"), at("vols/a & b.vmdk"), at("vols/copy.vmdk"));

    client.make_directory(&folder, true, soon()).await.unwrap();
    done(
        &client,
        client.create_virtual_disk(&disk, &SMALL, soon()).await,
    )
    .await
    .unwrap();
    let again = done(
        &client,
        client.create_virtual_disk(&disk, &SMALL, soon()).await,
    )
    .await;
    assert!(matches!(kind(again), FaultKind::FileAlreadyExists { .. }));
    let uuid = "60 00 C2 9a bc de f0 12-34 56 78 9a bc de f0 12";
    client
        .set_virtual_disk_uuid(&disk, uuid, soon())
        .await
        .unwrap();
    let read = client.query_virtual_disk_uuid(&disk, soon()).await.unwrap();
    assert_eq!(vdvs_vim::plain_uuid(&read), vdvs_vim::plain_uuid(uuid));

    let bus = DeviceChange::AddParaVirtual { key: -101, bus: 2 };
    let before = client.hardware(&vm.object, soon()).await.unwrap().unwrap();
    reconfigure(&client, &vm.object, bus).await.unwrap();
    let hardware = client.hardware(&vm.object, soon()).await.unwrap().unwrap();
    let is_new = |key| before.controllers().all(|c| c.key != key);
    let controller = hardware.controllers().find(|c| is_new(c.key)).unwrap();
    assert_eq!(controller.kind, ControllerKind::ParaVirtual);
    let add = |unit| DeviceChange::AddDisk {
        key: -201,
        file: disk.path.clone(),
        controller_key: controller.key,
        unit,
        mode: DiskMode::IndependentPersistent,
        iops_limit: Some(500),
    };
    reconfigure(&client, &vm.object, add(3)).await.unwrap();
    assert!(witness.has_disk(&vm.name, &disk.path).unwrap());
    let twice = reconfigure(&client, &vm.object, add(3)).await;
    assert!(matches!(
        kind(twice),
        FaultKind::InvalidDevice { .. } | FaultKind::FileLocked { .. }
    ));

    let hardware = client.hardware(&vm.object, soon()).await.unwrap().unwrap();
    let is_ours = |d: &&vdvs_vim::Disk| d.backing.file.as_ref() == Some(&disk.path);
    let ours = hardware.disks().find(is_ours).unwrap().clone();
    assert_eq!((ours.unit, ours.iops_limit), (Some(3), Some(500)));
    assert_eq!(ours.backing.mode.as_deref(), Some("independent_persistent"));
    let of_disk = hardware
        .controllers()
        .find(|c| Some(c.key) == ours.controller_key);
    assert_eq!(hardware.units_taken(of_disk.unwrap()), [3, 7]);
    reconfigure(&client, &vm.object, DeviceChange::RemoveDisk(ours))
        .await
        .unwrap();
    assert!(!witness.has_disk(&vm.name, &disk.path).unwrap());

    // A vCenter copies as it thinks fit.
    let thin = (mode == Mode::Esx).then_some(DiskType::Thin);
    done(
        &client,
        client.copy_virtual_disk(&disk, &copy, thin, soon()).await,
    )
    .await
    .unwrap();
    for disk in [&disk, &copy] {
        done(&client, client.delete_virtual_disk(disk, soon()).await)
            .await
            .unwrap();
        let again = done(&client, client.delete_virtual_disk(disk, soon()).await).await;
        assert!(matches!(kind(again), FaultKind::FileNotFound { .. }));
    }
    done(&client, client.delete_datastore_file(&folder, soon()).await)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_disk_lives_from_create_to_delete_on_a_host_by_itself() {
    a_disk_from_create_to_delete(Mode::Esx).await;
}

#[tokio::test]
async fn a_disk_lives_from_create_to_delete_through_a_vcenter() {
    a_disk_from_create_to_delete(Mode::Vcenter).await;
}

#[tokio::test]
async fn vms_are_found_by_what_identifies_them() {
    let Some(rig) = Rig::new(Mode::Esx) else {
        return;
    };
    let client = rig.client();
    let vm = rig.vm(&client, 1).await;
    let uuid = vm.instance_uuid.clone().unwrap();
    let found = client.find_vm_by_uuid(&uuid, true, soon()).await.unwrap();
    assert_eq!(found.as_ref(), Some(&vm.object));
    let nobody = "00000000-0000-4000-8000-000000000000";
    assert_eq!(
        client.find_vm_by_uuid(nobody, true, soon()).await.unwrap(),
        None
    );
    let datacenter = client.list_datacenters(soon()).await.unwrap()[0].0.clone();
    let file = vm.config_file.clone().unwrap();
    let found = client
        .find_by_datastore_path(&datacenter, &file, soon())
        .await
        .unwrap();
    assert_eq!(found, Some(vm.object));

    let host = client.list_hosts(soon()).await.unwrap()[0].object.clone();
    let executer = client
        .retrieve_managed_method_executer(&host, soon())
        .await
        .unwrap();
    let processes = client.vm_process_list(&executer, soon()).await.unwrap();
    let ours = processes
        .iter()
        .find(|p| p.display_name == vm.name)
        .unwrap();
    assert!(
        ours.vmx_cartel_id.is_some() && ours.config_file.ends_with(".vmx"),
        "{ours:?}"
    );
}

#[tokio::test]
async fn only_who_has_the_pinned_certificate_is_spoken_to() {
    let Some(rig) = Rig::new(Mode::Esx) else {
        return;
    };
    let other = Vcsim::start(&rig.peers, Mode::Esx, &rig.dir.path().join("other"), &[]).unwrap();
    let empty = rig.dir.path().join("empty.crt");
    fs::write(&empty, "no certificate").unwrap();
    for wrong in [
        other.certificate(),
        empty,
        rig.dir.path().join("absent.crt"),
    ] {
        let refused = rig.trusting(&wrong).login(soon()).await;
        let Err(Error::NotSent { why, .. }) = refused else {
            panic!("{}: {refused:?}", wrong.display());
        };
        assert!(matches!(why, NotSent::Tls { .. }), "{why}");
    }
    rig.client().login(soon()).await.unwrap();
}

#[tokio::test]
async fn sessions_that_the_host_forgot_are_replaced() {
    let Some(mut rig) = Rig::new(Mode::Esx) else {
        return;
    };
    let client = rig.client();
    let before = client.list_vms(soon()).await.unwrap();
    rig.sim.order("forget-sessions").unwrap();
    assert_eq!(client.list_vms(soon()).await.unwrap(), before);
    assert_eq!(client.generation(), 2);
}

#[tokio::test]
async fn a_change_during_which_the_host_dies_is_unknown_and_looking_tells() {
    let Some(mut rig) = Rig::new(Mode::Esx) else {
        return;
    };
    let client = rig.client();
    let at = paths(&client).await;
    for moment in ["before", "after"] {
        let disk = at(&format!("{moment}.vmdk"));
        rig.sim
            .order(&format!("{moment} CreateVirtualDisk_Task die"))
            .unwrap();
        let cut_off = client.create_virtual_disk(&disk, &SMALL, soon()).await;
        assert_eq!(cut_off.unwrap_err().effect(), Effect::Unknown);
        rig.sim.wait_dead().unwrap();
        rig.sim.restart().unwrap();
        // A question finds back by itself, also after the restart. After the answer the simulator's own task races with
        // its death, as hostd's would.
        match client.query_virtual_disk_uuid(&disk, soon()).await {
            Ok(_) => assert_eq!(moment, "after"),
            Err(why) => assert!(matches!(kind(Err(why)), FaultKind::FileNotFound { .. })),
        }
        assert_eq!(rig.sim.order("count CreateVirtualDisk_Task").unwrap(), "0");
    }
}

#[tokio::test]
async fn a_watch_goes_on_after_the_host_restarted_and_says_that_it_began_anew() {
    let Some(mut rig) = Rig::new(Mode::Esx) else {
        return;
    };
    let client = rig.client();
    let vm = rig.vm(&client, 0).await;
    let mut witness = rig.sim.witness().unwrap();
    let mut watch = Watch::new(&client, "VirtualMachine", &["runtime.powerState"]);
    let all = watch.next(SECOND).await.unwrap().unwrap();
    assert!(all.restarted && all.objects.len() == 3, "{all:?}");
    assert_eq!(watch.next(SECOND).await.unwrap(), None);

    witness.power(&vm.name, "off").unwrap();
    let off = watch.next(10 * SECOND).await.unwrap().unwrap();
    let change = off.objects.iter().find(|o| o.object == vm.object).unwrap();
    let power = change
        .changes
        .iter()
        .find_map(|c| c.value.as_ref())
        .unwrap();
    assert_eq!(PowerState::read(power.text()), PowerState::Off);

    rig.sim.kill().unwrap();
    assert!(watch.next(SECOND).await.is_err());
    rig.sim.restart().unwrap();
    let deadline = soon();
    let all = loop {
        match watch.next(SECOND).await {
            Ok(Some(all)) => break all,
            Ok(None) | Err(_) => assert!(Instant::now() < deadline, "it never comes back"),
        }
    };
    assert!(all.restarted && all.objects.len() == 3, "{all:?}");
    watch.close(soon()).await.unwrap();
}

#[tokio::test]
async fn many_calls_run_beside_each_other() {
    let Some(mut rig) = Rig::new(Mode::Esx) else {
        return;
    };
    let client = rig.client();
    let at = paths(&client).await;
    rig.sim.order("slow QueryVirtualDiskUuid 1000").unwrap();
    let disk = at("one.vmdk");
    done(
        &client,
        client.create_virtual_disk(&disk, &SMALL, soon()).await,
    )
    .await
    .unwrap();
    let begun = Instant::now();
    let asked = (0..24).map(|_| client.query_virtual_disk_uuid(&disk, soon()));
    for answer in join_all(asked).await {
        answer.unwrap();
    }
    // One after the other they would take twenty-four seconds.
    assert!(
        begun.elapsed() < Duration::from_secs(12),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(client.generation(), 1);
}

//! Every request, as it goes out.

use std::fmt::Write as _;

use insta::assert_snapshot;
use vdvs_vim::fake::{Fake, Reply, Seen};
use vdvs_vim::{
    AdapterType, Backing, Client, ConfigSpec, Controller, ControllerKind, DeviceChange, Disk,
    DiskMode, DiskType, FileBackedDisk, FilePath, MoRef,
};

use crate::rig::{client, disk, properties, soon, vm};

const VERSIONS: &str = "<namespaces version=\"1.0\"><namespace><name>urn:vim25</name><version>8.0.2.0</version>\
    <priorVersions><version>7.0.3.0</version><version>6.5</version></priorVersions></namespace></namespaces>";

/// A host that answers anything with something, for whoever only wants to see the requests.
async fn host() -> (Fake, Client) {
    let fake = Fake::start().await;
    fake.list_versions(VERSIONS);
    let client = client(&fake);
    client.login(soon()).await.expect("it logs in");
    (fake, client)
}

/// The requests since logging in, one element a line.
fn shown(fake: &Fake) -> String {
    let mut text = String::new();
    for Seen {
        call, action, body, ..
    } in fake.seen()
    {
        if matches!(call.as_str(), "RetrieveServiceContent" | "Login") {
            continue;
        }
        let body = body.replace("><", ">\n<");
        writeln!(text, "{action}\n{body}\n").expect("a String takes all");
    }
    text
}

fn flat() -> Disk {
    Disk {
        key: 2001,
        controller_key: Some(1001),
        unit: Some(3),
        capacity_bytes: 1 << 30,
        backing: Backing {
            kind: "VirtualDiskFlatVer2BackingInfo".to_owned(),
            file: Some(disk().path),
            mode: Some("independent_persistent".to_owned()),
            ..Backing::default()
        },
        iops_limit: Some(-1),
    }
}

#[tokio::test]
async fn of_logging_in() {
    let fake = Fake::start().await;
    client(&fake).login(soon()).await.expect("it logs in");
    let bodies: Vec<_> = fake.seen().into_iter().map(|s| s.body).collect();
    assert_snapshot!(bodies.join("\n"));
}

#[tokio::test]
async fn of_virtual_disks() {
    let (fake, client) = host().await;
    let spec = FileBackedDisk {
        disk_type: DiskType::EagerZeroedThick,
        adapter: AdapterType::LsiLogic,
        capacity_kb: 1 << 20,
    };
    let datacenter = MoRef::new("Datacenter", "dc-1");
    let copy = FilePath::within(&datacenter, "[ds 2] b.vmdk");
    // What is answered does not matter here.
    client
        .create_virtual_disk(&disk(), &spec, soon())
        .await
        .ok();
    client
        .copy_virtual_disk(&disk(), &copy, Some(DiskType::Thin), soon())
        .await
        .ok();
    client
        .copy_virtual_disk(&disk(), &copy, None, soon())
        .await
        .ok();
    client
        .extend_virtual_disk(&disk(), 2 << 20, Some(false), soon())
        .await
        .ok();
    client.delete_virtual_disk(&copy, soon()).await.ok();
    client.query_virtual_disk_uuid(&disk(), soon()).await.ok();
    client
        .set_virtual_disk_uuid(&disk(), "60 00 C2 9a", soon())
        .await
        .ok();
    assert_snapshot!(shown(&fake));
}

#[tokio::test]
async fn of_files_and_folders() {
    let (fake, client) = host().await;
    let datastore = MoRef::new("Datastore", "ds-1");
    client
        .make_directory(&FilePath::new("[ds 1] a/b"), true, soon())
        .await
        .ok();
    client
        .delete_datastore_file(&FilePath::new("[ds 1] a"), soon())
        .await
        .ok();
    client
        .query_file_lock_info("[ds 1] a/v-flat.vmdk", None, soon())
        .await
        .ok();
    client
        .create_directory(
            &datastore,
            "dockvols",
            Some("((\"a\" i1))"),
            Some(4096),
            soon(),
        )
        .await
        .ok();
    client
        .create_directory(&datastore, "dockvols", None, None, soon())
        .await
        .ok();
    client
        .delete_directory("/vmfs/volumes/vsan:1/2", None, soon())
        .await
        .ok();
    client
        .convert_namespace_path_to_uuid_path("ds:///x/dockvols", None, soon())
        .await
        .ok();
    let browser = MoRef::new("HostDatastoreBrowser", "b-1");
    client
        .search_datastore(&browser, "[ds 1] a", &["*.vmdk"], true, soon())
        .await
        .ok();
    client.refresh_datastore(&datastore, soon()).await.ok();
    assert_snapshot!(shown(&fake));
}

#[tokio::test]
async fn of_reconfiguring_a_vm() {
    let (fake, client) = host().await;
    let controller = Controller {
        key: 1001,
        kind: ControllerKind::ParaVirtual,
        bus: Some(1),
        own_unit: Some(7),
        devices: Vec::new(),
        pci_slot: None,
    };
    let changes = [
        DeviceChange::AddParaVirtual { key: -1, bus: 1 },
        DeviceChange::AddDisk {
            key: -2,
            file: disk().path,
            controller_key: 1001,
            unit: 3,
            mode: DiskMode::IndependentPersistent,
            iops_limit: Some(500),
        },
        DeviceChange::AddDisk {
            key: -2,
            file: disk().path,
            controller_key: 1001,
            unit: 3,
            mode: DiskMode::IndependentNonpersistent,
            iops_limit: None,
        },
        DeviceChange::RemoveDisk(flat()),
        DeviceChange::RemoveController(controller),
        DeviceChange::GrowDisk {
            disk: flat(),
            capacity_bytes: 2 << 30,
        },
        DeviceChange::LimitDisk {
            disk: flat(),
            iops_limit: 100,
        },
    ];
    for change in changes {
        let spec = ConfigSpec::device(change);
        client.reconfig_vm(&vm(), &spec, soon()).await.ok();
    }
    let spec = ConfigSpec {
        change_version: Some("2026-01-01T00:00:00Z".to_owned()),
        extra_config: vec![("disk.EnableUUID".to_owned(), "TRUE".to_owned())],
        ..ConfigSpec::default()
    };
    client.reconfig_vm(&vm(), &spec, soon()).await.ok();
    assert_snapshot!(shown(&fake));
    assert!(
        !shown(&fake).contains("fileOperation"),
        "no file is made or destroyed here"
    );
}

#[tokio::test]
async fn of_looking_around() {
    let (fake, client) = host().await;
    let page = properties(&vm(), &[]).replace("</objects>", "</objects><token>t&amp;1</token>");
    fake.will("RetrievePropertiesEx", Reply::answer(page));
    fake.will(
        "ContinueRetrievePropertiesEx",
        Reply::answer(properties(&vm(), &[])),
    );
    let vms = client.list_vms(soon()).await.expect("two pages");
    assert_eq!(vms.len(), 2);
    client.hardware(&vm(), soon()).await.ok();
    client.find_vm_by_uuid("u", true, soon()).await.ok();
    client.find_all_vms_by_uuid("u", false, soon()).await.ok();
    let datacenter = MoRef::new("Datacenter", "ha-datacenter");
    client
        .find_by_datastore_path(&datacenter, "[ds 1] vm/vm.vmx", soon())
        .await
        .ok();
    client.list_hosts(soon()).await.ok();
    client.list_datastores(soon()).await.ok();
    client.list_datacenters(soon()).await.ok();
    client
        .create_container_view(&["VirtualMachine"], soon())
        .await
        .ok();
    assert_snapshot!(shown(&fake));
}

#[tokio::test]
async fn of_the_list_of_vm_processes() {
    let (fake, client) = host().await;
    let executer = "<returnval type=\"ReflectManagedMethodExecuter\">e-1</returnval>";
    fake.always("RetrieveManagedMethodExecuter", Reply::answer(executer));
    let list = "&lt;obj xsi:type=\"ArrayOfDataObject\"&gt;&lt;DataObject&gt;&lt;ConfigFile&gt;/vmfs/volumes/a/b.vmx\
                &lt;/ConfigFile&gt;&lt;DisplayName&gt;a &amp;amp; b&lt;/DisplayName&gt;&lt;VMXCartelID&gt;2101&lt;/VMXCartelID&gt;\
                &lt;WorldID&gt;2100&lt;/WorldID&gt;&lt;/DataObject&gt;&lt;/obj&gt;";
    let list = format!("<returnval><response>{list}</response></returnval>");
    fake.always("ExecuteSoap", Reply::answer(list));
    let host = MoRef::new("HostSystem", "ha-host");
    let executer = client
        .retrieve_managed_method_executer(&host, soon())
        .await
        .expect("it has one");
    let processes = client
        .vm_process_list(&executer, soon())
        .await
        .expect("a list");
    let [process] = &processes[..] else {
        panic!("{processes:?}");
    };
    assert_eq!(process.display_name, "a & b");
    assert_eq!(process.vmx_cartel_id, Some(2101));
    assert_eq!(process.config_file, "/vmfs/volumes/a/b.vmx");
    assert_snapshot!(shown(&fake));

    let refused = "<returnval><fault><faultMsg>No such method</faultMsg></fault></returnval>";
    fake.will("ExecuteSoap", Reply::answer(refused));
    let refused = client.vm_process_list(&executer, soon()).await;
    assert!(
        refused.is_err_and(|why| why.fault().is_some()),
        "a fault is no empty list"
    );
    // No answer within the answer is no empty list either.
    fake.will("ExecuteSoap", Reply::answer(""));
    assert!(client.vm_process_list(&executer, soon()).await.is_err());
}

"""An independent client of the API that the suites ask what is really there.

Reads one JSON object a line, answers with one a line: {"do": "vms"}, {"do": "disks", "vm": NAME}, ... It knows nothing of
our programs and asks for single properties only: whole task and VM objects have values here that the strict decoder
refuses.
"""

import json
import os
import ssl
import sys
import time

from pyVim.connect import SmartConnect
from pyVmomi import vim, vmodl

host, port, volumes = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def connect():
    context = ssl._create_unverified_context()
    return SmartConnect(host=host, port=port, user="user", pwd="pass", sslContext=context)


def all_of(si, kind):
    content = si.RetrieveContent()
    view = content.viewManager.CreateContainerView(content.rootFolder, [kind], True)
    try:
        return list(view.view)
    finally:
        view.DestroyView()


def find(si, name):
    for vm in all_of(si, vim.VirtualMachine):
        if vm.name == name:
            return vm
    raise KeyError(name)


def wait(si, task):
    """Waits for a task."""
    return wait_with(si.RetrieveContent().propertyCollector, task)


def wait_with(collector, task):
    """Looks at a task until it ended. Whole `task.info` names an entity here that the strict decoder refuses."""
    names = ["info.state", "info.error", "info.result"]
    spec = vmodl.query.PropertyCollector.FilterSpec(
        propSet=[vmodl.query.PropertyCollector.PropertySpec(type=vim.Task, pathSet=names)],
        objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=task)],
    )
    while True:
        answer = collector.RetrievePropertiesEx([spec], vmodl.query.PropertyCollector.RetrieveOptions())
        told = {p.name: p.val for p in answer.objects[0].propSet}
        if told["info.state"] == "error":
            raise told["info.error"]
        if told["info.state"] == "success":
            return told.get("info.result")


def datacenter(si):
    for child in si.RetrieveContent().rootFolder.childEntity:
        if isinstance(child, vim.Datacenter):
            return child


def vms(si, _):
    return [
        {
            "name": vm.name,
            "instance_uuid": vm.config.instanceUuid,
            "config_path": vm.config.files.vmPathName,
            "power": vm.runtime.powerState,
            "host": vm.runtime.host.name,
        }
        for vm in all_of(si, vim.VirtualMachine)
    ]


def disks(si, ask):
    found = []
    devices = {d.key: d for d in find(si, ask["vm"]).config.hardware.device}
    for d in devices.values():
        if isinstance(d, vim.vm.device.VirtualDisk):
            controller = devices[d.controllerKey]
            limit = d.storageIOAllocation.limit if d.storageIOAllocation else None
            found.append(
                {
                    "file": d.backing.fileName,
                    "mode": d.backing.diskMode,
                    "unit": d.unitNumber,
                    "bus": controller.busNumber,
                    "controller": type(controller).__name__.split(".")[-1],
                    "capacity_kb": d.capacityInKB,
                    "iops": limit,
                }
            )
    return found


def controllers(si, ask):
    devices = find(si, ask["vm"]).config.hardware.device
    return [d.busNumber for d in devices if isinstance(d, vim.vm.device.ParaVirtualSCSIController)]


def extra(si, ask):
    return {o.key: o.value for o in find(si, ask["vm"]).config.extraConfig}


def power(si, ask):
    vm = find(si, ask["vm"])
    act = {"on": vm.PowerOn, "off": vm.PowerOff, "suspend": vm.Suspend}[ask["to"]]
    wait(si, act())
    return vm.runtime.powerState


def rename_backing(si, ask):
    """What a storage migration does to a disk that is attached: another path, the same UUID."""
    vm = find(si, ask["vm"])
    for d in vm.config.hardware.device:
        if isinstance(d, vim.vm.device.VirtualDisk) and d.backing.fileName == ask["from"]:
            manager = si.RetrieveContent().virtualDiskManager
            dc = datacenter(si)
            wait(si, manager.MoveVirtualDisk_Task(ask["from"], dc, ask["to"], dc, False))
            change = vim.vm.device.VirtualDeviceSpec(operation="edit", device=d)
            d.backing.fileName = ask["to"]
            wait(si, vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
            return True
    return False


def attach(si, ask):
    """Attaches a disk behind the agent's back."""
    vm = find(si, ask["vm"])
    devices = vm.config.hardware.device
    controller = [d for d in devices if isinstance(d, vim.vm.device.ParaVirtualSCSIController)][0]
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
        fileName=ask["file"], diskMode="independent_persistent"
    )
    disk = vim.vm.device.VirtualDisk(
        key=-1, backing=backing, controllerKey=controller.key, unitNumber=ask["unit"]
    )
    change = vim.vm.device.VirtualDeviceSpec(operation="add", device=disk)
    wait(si, vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
    return True


def detach(si, ask):
    vm = find(si, ask["vm"])
    for d in vm.config.hardware.device:
        if isinstance(d, vim.vm.device.VirtualDisk) and d.backing.fileName == ask["file"]:
            change = vim.vm.device.VirtualDeviceSpec(operation="remove", device=d)
            wait(si, vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
            return True
    return False


def disk_uuid(si, ask):
    manager = si.RetrieveContent().virtualDiskManager
    try:
        return manager.QueryVirtualDiskUuid(ask["file"], datacenter(si))
    except vim.fault.FileNotFound:
        return None


def exists(_, ask):
    """Whether the files of a disk are there: descriptor, extent."""
    datastore, path = ask["file"][1:].split("] ", 1)
    file = os.path.join(volumes, datastore, path)
    return [os.path.exists(file), os.path.exists(file.replace(".vmdk", "-flat.vmdk"))]


def bench_round(si, ask):
    """For the benchmark: create, attach, detach, delete of one disk as a program on this library makes them: the devices are
    read before each change, and each task is waited for. What a program looks up once, its session, managers and the VM, is
    looked up before the clock runs. Answers the seconds of each step."""
    key = ask["vm"]
    if key not in FOUND:
        os.makedirs(os.path.join(volumes, "LocalDS_0", "bench"), exist_ok=True)
        FOUND[key] = find(si, key), datacenter(si), si.RetrieveContent().virtualDiskManager, si.RetrieveContent().propertyCollector
    vm, dc, manager, collector = FOUND[key]
    file = f"[LocalDS_0] bench/{ask['vm']}-{ask['number']}.vmdk"
    spec = vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
        diskType="thin", adapterType="lsiLogic", capacityKb=ask["kb"]
    )
    marks = [time.perf_counter()]

    def done(task):
        wait_with(collector, task)
        marks.append(time.perf_counter())

    done(manager.CreateVirtualDisk_Task(file, dc, spec))
    devices = vm.config.hardware.device
    controller = [d for d in devices if isinstance(d, vim.vm.device.ParaVirtualSCSIController)][0]
    taken = {d.unitNumber for d in devices if d.controllerKey == controller.key}
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName=file, diskMode="independent_persistent")
    unit = next(n for n in range(16) if n != 7 and n not in taken)
    disk = vim.vm.device.VirtualDisk(key=-1, backing=backing, controllerKey=controller.key, unitNumber=unit)
    change = vim.vm.device.VirtualDeviceSpec(operation="add", device=disk)
    done(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
    disks = [d for d in vm.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)]
    [disk] = [d for d in disks if d.backing.fileName == file]
    change = vim.vm.device.VirtualDeviceSpec(operation="remove", device=disk)
    done(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
    done(manager.DeleteVirtualDisk_Task(file, dc))
    return [after - before for before, after in zip(marks, marks[1:])]


FOUND = {}

COMMANDS = {
    f.__name__: f
    for f in (
        vms, disks, controllers, extra, power, rename_backing, attach, detach, disk_uuid, exists, bench_round,
    )
}  # fmt: skip


def main():
    si = None
    for line in sys.stdin:
        ask = json.loads(line)
        for attempt in range(2):
            try:
                if si is None:
                    si = connect()
                answer = {"is": COMMANDS[ask["do"]](si, ask)}
                break
            except (OSError, vmodl.fault.ManagedObjectNotFound, vim.fault.NotAuthenticated) as e:
                si, answer = None, {"failed": repr(e)[:500]}
            except Exception as e:  # noqa: BLE001: the suite decides
                answer = {"failed": (getattr(e, "msg", "") or repr(e))[:500], "type": type(e).__name__}
                break
        print(json.dumps(answer), flush=True)


main()

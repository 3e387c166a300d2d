package main

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// The running VM that has a disk open, none: nobody. A suspended VM has closed its disks.
func holder(o *options, file string) *simulator.VirtualMachine {
	for _, vm := range machines() {
		if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
			continue
		}
		for _, device := range vm.Config.Hardware.Device {
			if name := backing(device); name != "" && spelled(o, name) == spelled(o, file) {
				return vm
			}
		}
	}
	return nil
}

func backing(device types.BaseVirtualDevice) string {
	if disk, ok := device.(*types.VirtualDisk); ok {
		if b, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
			return b.FileName
		}
	}
	return ""
}

func locked(file string) types.BaseMethodFault {
	fault := &types.FileLocked{}
	fault.File = file
	return fault
}

func deviceFault(message string) types.BaseMethodFault {
	fault := &types.GenericVmConfigFault{Reason: message}
	fault.FaultMessage = []types.LocalizableMessage{{Key: "msg.fileio.lock", Message: "Failed to lock the file"}}
	return fault
}

// Why a reconfigure is refused before the simulator hears of it, none: it is not.
func (l *layer) refusesReconfigure(req *types.ReconfigVM_Task) types.BaseMethodFault {
	vm, ok := simulator.Map.Get(req.This).(*simulator.VirtualMachine)
	if !ok {
		return nil
	}
	for _, change := range req.Spec.DeviceChange {
		spec := change.GetVirtualDeviceConfigSpec()
		if spec.Operation != types.VirtualDeviceConfigSpecOperationAdd {
			continue
		}
		if unit := spec.Device.GetVirtualDevice().UnitNumber; unit != nil && *unit == 7 && backing(spec.Device) != "" {
			return &types.InvalidDeviceSpec{DeviceIndex: 0}
		}
		if file := backing(spec.Device); file != "" {
			running := vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
			if other := holder(l.o, file); other != nil && other.Self != req.This && running {
				return deviceFault("Failed to lock the file")
			}
		}
	}
	return nil
}

func (l *layer) refusedReconfigure(req *types.ReconfigVM_Task, fault types.BaseMethodFault) interface{} {
	vm := simulator.Map.Get(req.This).(*simulator.VirtualMachine)
	task := simulator.CreateTask(vm, "reconfigVm", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, fault
	})
	return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task.Run()}}
}

func (l *layer) refusedDelete(req *types.DeleteVirtualDisk_Task) interface{} {
	task := simulator.CreateTask(simulator.Map.VirtualDiskManager(), "deleteVirtualDisk",
		func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return nil, locked(req.Name) })
	return &methods.DeleteVirtualDisk_TaskBody{Res: &types.DeleteVirtualDisk_TaskResponse{Returnval: task.Run()}}
}

func (l *layer) refusedCopy(req *types.CopyVirtualDisk_Task) interface{} {
	task := simulator.CreateTask(simulator.Map.VirtualDiskManager(), "copyVirtualDisk",
		func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return nil, locked(req.SourceName) })
	return &methods.CopyVirtualDisk_TaskBody{Res: &types.CopyVirtualDisk_TaskResponse{Returnval: task.Run()}}
}

// QueryFileLockInfo, which this simulator's API is too old for.
func (l *layer) lockInfo(body []byte) string {
	var asked struct {
		Path string `xml:"Body>QueryFileLockInfo>path"`
	}
	if err := xml.Unmarshal(body, &asked); err != nil {
		return ""
	}
	disk := strings.Replace(asked.Path, "-flat.vmdk", ".vmdk", 1)
	held := ""
	if vm := holder(l.o, disk); vm != nil {
		held = fmt.Sprintf("<lockInfo><filePath>%s</filePath><host>localhost</host><mac>00:50:56:00:00:01</mac><id>1</id>"+
			"<worldName>vmx-vcpu-0:%s</worldName><ownerId>1</ownerId><lockMode>Exclusive</lockMode>"+
			"<acquired>2024-01-01T00:00:00Z</acquired><heartbeat>2024-01-01T00:00:00Z</heartbeat><refCount>1</refCount>"+
			"</lockInfo>", escape(asked.Path), escape(vm.Name))
	}
	return fmt.Sprintf("<QueryFileLockInfoResponse xmlns=\"urn:vim25\"><returnval>%s</returnval>"+
		"</QueryFileLockInfoResponse>", held)
}

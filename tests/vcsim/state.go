package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// A disk or a SCSI controller of a VM, as it is kept.
type savedDevice struct {
	Key        int32
	Controller int32  `json:",omitempty"`
	Bus        int32  `json:",omitempty"`
	Slot       int32  `json:",omitempty"`
	Unit       int32  `json:",omitempty"`
	File       string `json:",omitempty"`
	Mode       string `json:",omitempty"`
	Uuid       string `json:",omitempty"`
	KB         int64  `json:",omitempty"`
	IOPS       int64  `json:",omitempty"`
}

type savedVM struct {
	Instance string
	Power    types.VirtualMachinePowerState
	Version  string
	Extra    map[string]string
	Devices  []savedDevice
}

// What outlives the process. It hears of every change of a VM and has it written before the call is answered.
type world struct {
	o     *options
	file  string
	mutex sync.Mutex
	kept  map[string]savedVM
}

func loadWorld(o *options) *world {
	w := &world{o: o, file: filepath.Join(o.state, "vms.json"), kept: map[string]savedVM{}}
	text, err := os.ReadFile(w.file)
	switch {
	case os.IsNotExist(err):
	case err != nil:
		log.Fatal(err)
	default:
		must(json.Unmarshal(text, &w.kept))
	}
	for _, vm := range machines() {
		if kept, ok := w.kept[vm.Name]; ok {
			restore(vm, kept)
		} else {
			w.finish(vm.Config)
		}
		w.kept[vm.Name] = save(&vm.VirtualMachine)
	}
	for _, host := range simulator.Map.All("HostSystem") {
		host := host.(*simulator.HostSystem)
		id := uuid.NewSHA1(uuid.NameSpaceOID, []byte(o.state+host.Name)).String()
		host.Summary.Hardware.Uuid = id
		if host.Hardware != nil {
			hardware := *host.Hardware
			hardware.SystemInfo.Uuid = id
			host.Hardware = &hardware
		}
	}
	w.write()
	return w
}

func machines() []*simulator.VirtualMachine {
	var found []*simulator.VirtualMachine
	for _, e := range simulator.Map.All("VirtualMachine") {
		found = append(found, e.(*simulator.VirtualMachine))
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Name < found[j].Name })
	return found
}

// A datastore's folder has a name that is the same after a restart, and its files stay in it.
func moveDatastores(o *options) {
	for _, e := range simulator.Map.All("Datastore") {
		ds := e.(*simulator.Datastore)
		var number int
		_, err := fmt.Sscanf(ds.Name, "LocalDS_%d", &number)
		must(err)
		info := ds.Info.GetDatastoreInfo()
		folder := filepath.Join(o.state, "volumes", ds.Name)
		must(os.MkdirAll(folder, 0o755))
		made, err := os.ReadDir(info.Url)
		must(err)
		for _, entry := range made {
			to := filepath.Join(folder, entry.Name())
			if _, err := os.Stat(to); os.IsNotExist(err) {
				must(os.Rename(filepath.Join(info.Url, entry.Name()), to))
			}
		}
		// The simulator keeps some names of files as they were.
		must(os.RemoveAll(info.Url))
		must(os.Symlink(folder, info.Url))
		info.Url = folder
		if local, ok := ds.Info.(*types.LocalDatastoreInfo); ok {
			local.Path = folder
		}
		ds.Summary.Url = folder
		if number < len(o.kinds) {
			ds.Summary.Type = o.kinds[number]
		}
		if byIdentity(ds.Summary.Type) {
			ds.Capability.TopLevelDirectoryCreateSupported = types.NewBool(false)
		}
		ds.Summary.Capacity, ds.Summary.FreeSpace = 1<<40, 1<<39
		info.FreeSpace = ds.Summary.FreeSpace
	}
}

// What a host adds to devices by itself: a controller's PCI slot, a disk's UUID.
func (w *world) finish(config *types.VirtualMachineConfigInfo) {
	for _, device := range config.Hardware.Device {
		switch d := device.(type) {
		case *types.ParaVirtualSCSIController:
			if d.SlotInfo == nil {
				d.SlotInfo = &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: slot(d.BusNumber)}
			}
		case *types.VirtualDisk:
			if b, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && b.Uuid == "" && !w.o.plain {
				b.FileName = spelled(w.o, b.FileName)
				file := path(w.o, b.FileName)
				b.Uuid = diskUuid(file)
				if d.CapacityInKB == 0 {
					d.CapacityInKB = capacity(file) / 1024
				}
			}
		}
	}
}

// As ESXi places them: the first at 160, the others behind bridges.
func slot(bus int32) int32 {
	return []int32{160, 192, 224, 256}[bus&3]
}

func save(vm *mo.VirtualMachine) savedVM {
	kept := savedVM{
		Instance: vm.Config.InstanceUuid,
		Power:    vm.Runtime.PowerState,
		Version:  vm.Config.Version,
		Extra:    map[string]string{},
	}
	for _, option := range vm.Config.ExtraConfig {
		value := option.GetOptionValue()
		kept.Extra[value.Key] = fmt.Sprint(value.Value)
	}
	for _, device := range vm.Config.Hardware.Device {
		switch d := device.(type) {
		case *types.ParaVirtualSCSIController:
			saved := savedDevice{Key: d.Key, Bus: d.BusNumber}
			if slot, ok := d.SlotInfo.(*types.VirtualDevicePciBusSlotInfo); ok {
				saved.Slot = slot.PciSlotNumber
			}
			kept.Devices = append(kept.Devices, saved)
		case *types.VirtualDisk:
			saved := savedDevice{Key: d.Key, Controller: d.ControllerKey, KB: d.CapacityInKB}
			if d.UnitNumber != nil {
				saved.Unit = *d.UnitNumber
			}
			if b, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
				saved.File, saved.Mode, saved.Uuid = b.FileName, b.DiskMode, b.Uuid
			}
			if d.StorageIOAllocation != nil && d.StorageIOAllocation.Limit != nil {
				saved.IOPS = *d.StorageIOAllocation.Limit
			}
			kept.Devices = append(kept.Devices, saved)
		}
	}
	return kept
}

func restore(vm *simulator.VirtualMachine, kept savedVM) {
	vm.Config.InstanceUuid, vm.Summary.Config.InstanceUuid = kept.Instance, kept.Instance
	vm.Runtime.PowerState, vm.Summary.Runtime.PowerState = kept.Power, kept.Power
	vm.Config.Version = kept.Version
	vm.Config.ExtraConfig = nil
	for key, value := range kept.Extra {
		option := &types.OptionValue{Key: key, Value: value}
		vm.Config.ExtraConfig = append(vm.Config.ExtraConfig, option)
	}
	var devices []types.BaseVirtualDevice
	for _, device := range vm.Config.Hardware.Device {
		switch device.(type) {
		case *types.ParaVirtualSCSIController, *types.VirtualDisk:
		default:
			devices = append(devices, device)
		}
	}
	for _, saved := range kept.Devices {
		if saved.File == "" {
			c := &types.ParaVirtualSCSIController{}
			c.Key, c.BusNumber = saved.Key, saved.Bus
			c.SharedBus = types.VirtualSCSISharingNoSharing
			c.DeviceInfo = &types.Description{Label: fmt.Sprintf("SCSI controller %d", saved.Bus)}
			c.SlotInfo = &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: saved.Slot}
			devices = append(devices, c)
			continue
		}
		unit := saved.Unit
		d := &types.VirtualDisk{CapacityInKB: saved.KB}
		d.Key, d.ControllerKey, d.UnitNumber = saved.Key, saved.Controller, &unit
		d.DeviceInfo = &types.Description{Label: fmt.Sprintf("Hard disk %d", saved.Key)}
		b := &types.VirtualDiskFlatVer2BackingInfo{DiskMode: saved.Mode, Uuid: saved.Uuid}
		b.FileName = saved.File
		d.Backing = b
		if saved.IOPS != 0 {
			limit := saved.IOPS
			d.StorageIOAllocation = &types.StorageIOAllocationInfo{Limit: &limit}
		}
		devices = append(devices, d)
	}
	vm.Config.Hardware.Device = devices
}

func (w *world) write() {
	text, err := json.MarshalIndent(w.kept, "", " ")
	must(err)
	must(os.WriteFile(w.file+".new", text, 0o644))
	must(os.Rename(w.file+".new", w.file))
}

// The simulator's interface for who wants to hear of changes.

func (w *world) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "World", Value: "world"}
}

func (w *world) PutObject(mo.Reference) {}

func (w *world) RemoveObject(types.ManagedObjectReference) {}

func (w *world) UpdateObject(object mo.Reference, changes []types.PropertyChange) {
	vm, ok := object.(*mo.VirtualMachine)
	if !ok || vm.Config == nil {
		return
	}
	matters := false
	for _, change := range changes {
		for _, start := range []string{"config", "runtime.powerState"} {
			matters = matters || strings.HasPrefix(change.Name, start)
		}
	}
	if !matters {
		return
	}
	w.finish(vm.Config)
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.kept[vm.Name] = save(vm)
	w.write()
}

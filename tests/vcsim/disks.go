package main

import (
	"fmt"
	"io/ioutil"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// The file behind `[datastore] path`.
func path(o *options, name string) string {
	var p object.DatastorePath
	p.FromString(name)
	return filepath.Join(o.state, "volumes", p.Datastore, p.Path)
}

func flat(file string) string {
	return strings.Replace(file, ".vmdk", "-flat.vmdk", 1)
}

func describe(file string, bytes int64, id string, thin bool) error {
	if err := os.Truncate(flat(file), bytes); err != nil {
		return err
	}
	kind := ""
	if thin {
		kind = "ddb.thinProvisioned = \"1\"\n"
	}
	text := fmt.Sprintf("# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=fffffffe\nparentCID=ffffffff\n"+
		"createType=\"vmfs\"\n\n# Extent description\nRW %d VMFS \"%s\"\n\n# The Disk Data Base\n#DDB\n\n"+
		"ddb.adapterType = \"lsilogic\"\n%sddb.uuid = \"%s\"\nddb.virtualHWVersion = \"14\"\n",
		bytes/512, filepath.Base(flat(file)), kind, id)
	return ioutil.WriteFile(file, []byte(text), 0o600)
}

// The value of a line `key = "value"` of a descriptor, or the second word of a line that starts with RW.
func described(file, key string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := cutPrefix(line, key+" = \""); ok {
			return strings.TrimSuffix(rest, "\"")
		}
		if rest, ok := cutPrefix(line, "RW "); ok && key == "RW" {
			return strings.Fields(rest)[0]
		}
	}
	return ""
}

func cutPrefix(text, prefix string) (string, bool) {
	return strings.TrimPrefix(text, prefix), strings.HasPrefix(text, prefix)
}

func capacity(file string) int64 {
	sectors, _ := strconv.ParseInt(described(file, "RW"), 10, 64)
	return sectors * 512
}

// The UUID as the API shows it: `6000C29a-bcde-...`.
func diskUuid(file string) string {
	digits := strings.NewReplacer(" ", "", "-", "").Replace(described(file, "ddb.uuid"))
	if len(digits) != 32 {
		return ""
	}
	return strings.ToUpper(digits[:8]) + strings.ToLower(
		"-"+digits[8:12]+"-"+digits[12:16]+"-"+digits[16:20]+"-"+digits[20:])
}

// As a descriptor has it: `60 00 C2 9a ...-...`.
func spaced(digits string) string {
	digits = strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(digits))
	var parts []string
	for at := 0; at+2 <= len(digits); at += 2 {
		parts = append(parts, digits[at:at+2])
	}
	if len(parts) != 16 {
		return ""
	}
	return strings.Join(parts[:8], " ") + "-" + strings.Join(parts[8:], " ")
}

func fresh() string {
	return spaced("6000c29" + strings.ReplaceAll(uuid.New().String(), "-", "")[:25])
}

// What a new file holds, after the simulator made it.
func (l *layer) afterCreate(req *types.CreateVirtualDisk_Task) {
	file := path(l.o, req.Name)
	spec, ok := req.Spec.(*types.FileBackedVirtualDiskSpec)
	if info, err := os.Stat(file); err != nil || info.Size() != 0 || !ok {
		return
	}
	must(describe(file, spec.CapacityKb*1024, fresh(), spec.DiskType == "thin"))
}

// The simulator copied both files; the copy's descriptor still speaks of the source.
func (l *layer) afterCopy(req *types.CopyVirtualDisk_Task) {
	file := path(l.o, req.DestName)
	bytes := capacity(path(l.o, req.SourceName))
	id := strings.ReplaceAll(described(file, "ddb.uuid"), "\"", "")
	if bytes == 0 || id != described(path(l.o, req.SourceName), "ddb.uuid") {
		return
	}
	must(describe(file, bytes, fresh(), described(file, "ddb.thinProvisioned") == "1"))
}

func (l *layer) extend(req *types.ExtendVirtualDisk_Task) interface{} {
	task := simulator.CreateTask(simulator.Map.VirtualDiskManager(), "extendVirtualDisk",
		func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
			file := path(l.o, req.Name)
			if _, err := os.Stat(file); err != nil {
				return nil, &types.FileNotFound{FileFault: types.FileFault{File: req.Name}}
			}
			if req.NewCapacityKb*1024 < capacity(file) {
				return nil, &types.InvalidArgument{InvalidProperty: "newCapacityKb"}
			}
			id, thin := described(file, "ddb.uuid"), described(file, "ddb.thinProvisioned") == "1"
			must(describe(file, req.NewCapacityKb*1024, id, thin))
			return nil, nil
		})
	return &methods.ExtendVirtualDisk_TaskBody{
		Res: &types.ExtendVirtualDisk_TaskResponse{Returnval: task.Run()},
	}
}

func (l *layer) queryUuid(req *types.QueryVirtualDiskUuid) interface{} {
	body := &methods.QueryVirtualDiskUuidBody{}
	file := path(l.o, req.Name)
	if _, err := os.Stat(file); err != nil {
		fault := &types.FileNotFound{FileFault: types.FileFault{File: req.Name}}
		body.Fault_ = simulator.Fault("File was not found", fault)
		return body
	}
	body.Res = &types.QueryVirtualDiskUuidResponse{Returnval: described(file, "ddb.uuid")}
	return body
}

func (l *layer) setUuid(req *types.SetVirtualDiskUuid) interface{} {
	body := &methods.SetVirtualDiskUuidBody{}
	file, id := path(l.o, req.Name), spaced(req.Uuid)
	switch _, err := os.Stat(file); {
	case err != nil:
		fault := &types.FileNotFound{FileFault: types.FileFault{File: req.Name}}
		body.Fault_ = simulator.Fault("File was not found", fault)
	case id == "":
		body.Fault_ = simulator.Fault("bad UUID", &types.InvalidArgument{InvalidProperty: "uuid"})
	default:
		must(describe(file, capacity(file), id, described(file, "ddb.thinProvisioned") == "1"))
		body.Res = &types.SetVirtualDiskUuidResponse{}
	}
	return body
}

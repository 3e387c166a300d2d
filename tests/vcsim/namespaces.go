package main

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// CreateDirectory at the top of a vSAN or VVol datastore: a folder named by an identity, and a link for people.
func (l *layer) namespace(body []byte) string {
	var asked struct {
		Datastore string `xml:"Body>CreateDirectory>datastore"`
		Name      string `xml:"Body>CreateDirectory>displayName"`
	}
	if err := xml.Unmarshal(body, &asked); err != nil {
		return ""
	}
	reference := types.ManagedObjectReference{Type: "Datastore", Value: asked.Datastore}
	ds, ok := simulator.Map.Get(reference).(*simulator.Datastore)
	if !ok || !byIdentity(ds.Summary.Type) {
		return ""
	}
	id := uuid.New().String()
	link := filepath.Join(ds.Summary.Url, asked.Name)
	must(os.Mkdir(filepath.Join(ds.Summary.Url, id), 0o755))
	if err := os.Symlink(id, link); err != nil {
		must(os.Remove(filepath.Join(ds.Summary.Url, id)))
		return ""
	}
	return fmt.Sprintf("<CreateDirectoryResponse xmlns=\"urn:vim25\"><returnval>%s</returnval>"+
		"</CreateDirectoryResponse>", escape(filepath.Join(ds.Summary.Url, id)))
}

func byIdentity(kind string) bool {
	return kind == "vsan" || kind == "VVOL"
}

// A disk's name as such a datastore's host spells it: by the folder's identity.
func spelled(o *options, name string) string {
	var p object.DatastorePath
	p.FromString(name)
	top, rest, found := strings.Cut(p.Path, "/")
	target, err := os.Readlink(filepath.Join(o.state, "volumes", p.Datastore, top))
	if !found || err != nil {
		return name
	}
	p.Path = target + "/" + rest
	return p.String()
}

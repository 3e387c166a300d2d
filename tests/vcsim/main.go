// vcsim as the suites use it: the simulator of Debian's govmomi package, behind a thin layer of our own.
//
// The simulator forgets everything when it ends, keeps no disk's size and has no locks. The layer adds what a restart of
// hostd, a disk and an ESXi host need, each in a file of its own:
//
//	state.go    the VMs' devices, power and settings outlive a kill -9, as a host's configuration outlives its hostd
//	disks.go    descriptors with a size and a UUID; extending; UUIDs can be set and asked for
//	locks.go    a disk that a running VM has open is neither attached elsewhere nor deleted; who holds it can be asked
//	namespaces.go folders at the top of vSAN and VVol datastores
//	identity.go local tickets; the list of VM processes with their cartel ids
//	faults.go   the process dies, hangs up or loses its sessions on demand, told through standard input
//
// What is ours is not evidence of ESXi's behaviour; docs/esxi.md lists it. With -plain there is none of it but state.go.
package main

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/simulator"
)

type options struct {
	esx   bool
	plain bool
	state string
	vms   int
	kinds []string
}

func main() {
	o := options{}
	esx := flag.Bool("esx", false, "a host, not a vCenter")
	plain := flag.Bool("plain", false, "the simulator as it is, apart from its state")
	listen := flag.String("l", "127.0.0.1:0", "address")
	state := flag.String("state", "", "folder for the datastores and what outlives the process")
	vms := flag.Int("vms", 3, "VMs on each host")
	kinds := flag.String("datastores", "VMFS,VMFS", "kinds of the datastores LocalDS_0, LocalDS_1, ...")
	flag.Parse()
	o.esx, o.plain, o.state, o.vms = *esx, *plain, *state, *vms
	o.kinds = strings.Split(*kinds, ",")
	if o.state == "" {
		log.Fatal("-state is missing")
	}

	model := simulator.VPX()
	if o.esx {
		model = simulator.ESX()
	} else {
		model.Host, model.Cluster = 2, 0
	}
	model.Machine, model.Datastore = o.vms, len(o.kinds)
	temp := filepath.Join(o.state, "temp")
	must(os.RemoveAll(temp))
	must(os.MkdirAll(temp, 0o755))
	must(os.Setenv("TMPDIR", temp))
	must(model.Create())
	moveDatastores(&o)
	world := loadWorld(&o)
	simulator.Map.AddHandler(world)

	listener, err := net.Listen("tcp", *listen)
	must(err)
	model.Service.Listen = &url.URL{Scheme: "https", Host: listener.Addr().String(), User: simulator.DefaultLogin}
	model.Service.RegisterSDK(simulator.Map)
	simulator.Map.SessionManager().ServiceHostName = listener.Addr().String()
	layer := newLayer(&o, model.Service, world)
	certificate := certificate(o.state)
	simulator.Map.SessionManager().TLSCert = func() string { return "" }
	server := &http.Server{
		Handler:   layer,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
		ErrorLog:  log.New(os.Stderr, "", 0),
	}
	fmt.Printf("URL https://%s/sdk\n", listener.Addr())
	go func() {
		if err := server.ServeTLS(listener, "", ""); err != nil {
			log.Fatal(err)
		}
	}()

	// One command a line, answered by one line. The end of the input ends the process.
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		fmt.Println(layer.command(strings.Fields(input.Text())))
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

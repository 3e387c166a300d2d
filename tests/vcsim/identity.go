package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

const user, password = "user", "pass"

// The host's certificate, the same after a restart.
func certificate(state string) tls.Certificate {
	certFile, keyFile := filepath.Join(state, "rui.crt"), filepath.Join(state, "rui.key")
	if pair, err := tls.LoadX509KeyPair(certFile, keyFile); err == nil {
		return pair
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost.localdomain"},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	must(err)
	keyDer, err := x509.MarshalECPrivateKey(key)
	must(err)
	write := func(file, kind string, bytes []byte) {
		must(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600))
	}
	write(certFile, "CERTIFICATE", der)
	write(keyFile, "EC PRIVATE KEY", keyDer)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	must(err)
	return pair
}

func escape(text string) string {
	var out strings.Builder
	must(xml.EscapeText(&out, []byte(text)))
	return out.String()
}

// A local ticket: a file with a password that counts once.
func (l *layer) ticket(body []byte) string {
	var asked struct {
		User string `xml:"Body>AcquireLocalTicket>userName"`
	}
	if err := xml.Unmarshal(body, &asked); err != nil {
		return ""
	}
	secret := uuid.New().String()
	file := filepath.Join(l.o.state, "ticket-"+secret[:8])
	must(os.WriteFile(file, []byte(secret), 0o600))
	l.mutex.Lock()
	l.tickets[asked.User+"\n"+secret] = true
	l.mutex.Unlock()
	return fmt.Sprintf("<AcquireLocalTicketResponse xmlns=\"urn:vim25\"><returnval><userName>%s</userName>"+
		"<passwordFilePath>%s</passwordFilePath></returnval></AcquireLocalTicketResponse>", escape(asked.User), escape(file))
}

func (l *layer) mayLogin(req *types.Login) bool {
	if req.UserName == user && req.Password == password {
		return true
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	key := req.UserName + "\n" + req.Password
	known := l.tickets[key]
	delete(l.tickets, key)
	return known
}

// The world of a VM's process. The cartel is the next number, as in the simulator's later versions.
func worldOf(number int) int {
	return 2100000 + 10*number
}

// `vim.EsxCLI.vm.process.list` of a host: its running VMs.
func (l *layer) processes(host string) string {
	var list strings.Builder
	list.WriteString("<obj xmlns=\"urn:vim25\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" " +
		"versionId=\"5.0\" xsi:type=\"ArrayOfVimEsxCLIvmprocesslistVirtualMachine\">")
	for number, vm := range machines() {
		if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn || vm.Runtime.Host.Value != host {
			continue
		}
		config := path(l.o, vm.Config.Files.VmPathName)
		fmt.Fprintf(&list, "<VirtualMachine xsi:type=\"VimEsxCLIvmprocesslistVirtualMachine\"><ConfigFile>%s</ConfigFile>"+
			"<DisplayName>%s</DisplayName><ProcessID>0</ProcessID><UUID>%s</UUID><VMXCartelID>%d</VMXCartelID>"+
			"<WorldID>%d</WorldID></VirtualMachine>",
			escape(config), escape(vm.Name), vm.Config.Uuid, worldOf(number)+1, worldOf(number))
	}
	list.WriteString("</obj>")
	return list.String()
}

func (l *layer) executer(body []byte) string {
	var asked struct {
		Host string `xml:"Body>RetrieveManagedMethodExecuter>_this"`
	}
	if err := xml.Unmarshal(body, &asked); err != nil {
		return ""
	}
	reference := types.ManagedObjectReference{Type: "HostSystem", Value: asked.Host}
	if simulator.Map.Get(reference) == nil {
		return ""
	}
	return fmt.Sprintf("<RetrieveManagedMethodExecuterResponse xmlns=\"urn:vim25\">"+
		"<returnval type=\"ManagedMethodExecuter\">ManagedMethodExecuter-%s</returnval>"+
		"</RetrieveManagedMethodExecuterResponse>", escape(asked.Host))
}

func (l *layer) execute(body []byte) string {
	var asked struct {
		This   string `xml:"Body>ExecuteSoap>_this"`
		Method string `xml:"Body>ExecuteSoap>method"`
	}
	if err := xml.Unmarshal(body, &asked); err != nil {
		return ""
	}
	answer := "<fault><faultMsg>The object or item referred to could not be found.</faultMsg></fault>"
	if asked.Method == "vim.EsxCLI.vm.process.list" {
		host := strings.TrimPrefix(asked.This, "ManagedMethodExecuter-")
		answer = "<response>" + escape(l.processes(host)) + "</response>"
	}
	return "<ExecuteSoapResponse xmlns=\"urn:vim25\"><returnval>" + answer + "</returnval></ExecuteSoapResponse>"
}

package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	vimxml "github.com/vmware/govmomi/vim25/xml"
)

// Stands before the simulator: hears every call, answers some by itself.
type layer struct {
	o       *options
	service *simulator.Service
	world   *world
	mutex   sync.Mutex
	orders  orders
	tickets map[string]bool
	// One change of a VM or disk at a time, so that a look at locks and the change are one step.
	changes sync.Mutex
}

func newLayer(o *options, service *simulator.Service, world *world) *layer {
	return &layer{
		o: o, service: service, world: world, tickets: map[string]bool{},
		orders: orders{
			before: map[string]string{}, after: map[string]string{}, slow: map[string]int{},
			forgotten: map[string]bool{}, seen: map[string]bool{}, calls: map[string]int{},
		},
	}
}

const cookieName = "vmware_soap_session"

func (l *layer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/sdk/vimServiceVersions.xml":
		l.service.ServiceVersions(w, r)
		return
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	r.URL.Path = "/sdk"
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	name := method(body)
	l.mutex.Lock()
	l.orders.calls[name]++
	refuse := l.orders.refuse
	if cookie, err := r.Cookie(cookieName); err == nil {
		l.orders.seen[cookie.Value] = true
		if l.orders.forgotten[cookie.Value] {
			r.Header.Del("Cookie")
		}
	}
	l.mutex.Unlock()
	if refuse {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	l.pause(name)
	switch l.due(l.orders.before, name) {
	case "die":
		die()
	case "hang-up":
		hangUp(w)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	l.serve(answer, r, name, body)
	switch l.due(l.orders.after, name) {
	case "die":
		die()
	case "hang-up":
		hangUp(w)
		return
	}
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func hangUp(w http.ResponseWriter) {
	if connection, _, err := w.(http.Hijacker).Hijack(); err == nil {
		_ = connection.Close()
	}
}

// The name of the call: the first element of the body.
func method(body []byte) string {
	decoder := xml.NewDecoder(bytes.NewReader(body))
	inside := false
	for {
		token, err := decoder.Token()
		if err != nil {
			return ""
		}
		start, ok := token.(xml.StartElement)
		switch {
		case ok && inside:
			return start.Name.Local
		case ok && start.Name.Local == "Body":
			inside = true
		}
	}
}

func (l *layer) serve(w *httptest.ResponseRecorder, r *http.Request, name string, body []byte) {
	if l.o.plain {
		l.service.ServeSDK(w, r)
		return
	}
	var text string
	switch name {
	case "AcquireLocalTicket":
		text = l.ticket(body)
	case "RetrieveManagedMethodExecuter":
		text = l.executer(body)
	case "ExecuteSoap":
		text = l.execute(body)
	case "QueryFileLockInfo":
		text = l.lockInfo(body)
	case "CreateDirectory":
		text = l.namespace(body)
	case "CreateVirtualDisk_Task", "CopyVirtualDisk_Task", "DeleteVirtualDisk_Task", "ExtendVirtualDisk_Task",
		"QueryVirtualDiskUuid", "SetVirtualDiskUuid", "ReconfigVM_Task", "Login":
		l.changes.Lock()
		defer l.changes.Unlock()
		if answer := l.around(w, r, body); answer != nil {
			respond(w, answer)
		}
		return
	default:
		l.service.ServeSDK(w, r)
		return
	}
	if text == "" {
		fault := simulator.Fault("cannot be understood", &types.InvalidRequest{})
		respond(w, &struct {
			Fault_ *soap.Fault `xml:"Fault"`
		}{fault})
		return
	}
	_, _ = w.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" +
		"<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" " +
		"xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body>" + text +
		"</soapenv:Body></soapenv:Envelope>")
}

// A call that the simulator serves and the layer adds to. What it returns is the answer; none: it was served.
func (l *layer) around(w *httptest.ResponseRecorder, r *http.Request, body []byte) interface{} {
	call, err := simulator.UnmarshalBody(types.TypeFunc(), body)
	if err != nil {
		l.service.ServeSDK(w, r)
		return nil
	}
	signedIn := func() bool {
		_, err := r.Cookie(cookieName)
		return err == nil
	}
	switch req := call.Body.(type) {
	case *types.Login:
		if !l.mayLogin(req) {
			req.Password = ""
			fault := simulator.Fault("Login failure", &types.InvalidLogin{})
			return &struct {
				Fault_ *soap.Fault `xml:"Fault"`
			}{fault}
		}
	case *types.ReconfigVM_Task:
		if fault := l.refusesReconfigure(req); fault != nil && signedIn() {
			return l.refusedReconfigure(req, fault)
		}
	case *types.DeleteVirtualDisk_Task:
		if holder(l.o, req.Name) != nil && signedIn() {
			return l.refusedDelete(req)
		}
	case *types.CopyVirtualDisk_Task:
		if holder(l.o, req.SourceName) != nil && signedIn() {
			return l.refusedCopy(req)
		}
	case *types.ExtendVirtualDisk_Task:
		if signedIn() {
			return l.extend(req)
		}
	case *types.QueryVirtualDiskUuid:
		if signedIn() {
			return l.queryUuid(req)
		}
	case *types.SetVirtualDiskUuid:
		if signedIn() {
			return l.setUuid(req)
		}
	}
	l.service.ServeSDK(w, r)
	switch req := call.Body.(type) {
	case *types.CreateVirtualDisk_Task:
		l.afterCreate(req)
	case *types.CopyVirtualDisk_Task:
		l.afterCopy(req)
	}
	return nil
}

func respond(w *httptest.ResponseRecorder, body interface{}) {
	if f, ok := body.(soap.HasFault); ok && f.Fault() != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
	_, _ = w.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
	envelope := struct {
		XMLName vimxml.Name `xml:"http://schemas.xmlsoap.org/soap/envelope/ Envelope"`
		Body    interface{} `xml:"http://schemas.xmlsoap.org/soap/envelope/ Body"`
	}{Body: body}
	must(vimxml.NewEncoder(w).Encode(envelope))
}

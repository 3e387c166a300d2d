package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What was ordered through standard input.
type orders struct {
	// A method's name, and what happens at its next call.
	before, after map[string]string
	// Milliseconds each call of a method takes longer.
	slow map[string]int
	// Sessions with these cookies are gone.
	forgotten map[string]bool
	seen      map[string]bool
	// Every call, by method.
	calls map[string]int
	// Datastores that do not answer any more.
	refuse bool
}

func (l *layer) command(words []string) string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	o := &l.orders
	switch {
	case len(words) == 3 && words[0] == "before":
		// before METHOD die|hang
		o.before[words[1]] = words[2]
	case len(words) == 3 && words[0] == "after":
		o.after[words[1]] = words[2]
	case len(words) == 3 && words[0] == "slow":
		milliseconds, err := strconv.Atoi(words[2])
		if err != nil {
			return "error " + err.Error()
		}
		o.slow[words[1]] = milliseconds
	case len(words) == 1 && words[0] == "forget-sessions":
		for cookie := range o.seen {
			o.forgotten[cookie] = true
		}
	case len(words) == 2 && words[0] == "count":
		return fmt.Sprint("ok ", o.calls[words[1]])
	case len(words) == 2 && words[0] == "unavailable":
		o.refuse = words[1] == "on"
	case len(words) == 3 && words[0] == "version":
		for _, vm := range machines() {
			if vm.Name == words[1] {
				vm.Config.Version = words[2]
				return "ok"
			}
		}
		return "error no such VM"
	case len(words) == 3 && words[0] == "instance-uuid":
		for _, vm := range machines() {
			if vm.Name == words[1] {
				vm.Config.InstanceUuid, vm.Summary.Config.InstanceUuid = words[2], words[2]
				return "ok"
			}
		}
		return "error no such VM"
	case len(words) == 2 && words[0] == "cartel":
		for number, vm := range machines() {
			if vm.Name == words[1] {
				return fmt.Sprint("ok ", worldOf(number)+1)
			}
		}
		return "error no such VM"
	default:
		return "error unknown command " + strings.Join(words, " ")
	}
	return "ok"
}

// What was ordered for this moment of a call; counts once.
func (l *layer) due(orders map[string]string, method string) string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	what := orders[method]
	delete(orders, method)
	return what
}

func (l *layer) pause(method string) {
	l.mutex.Lock()
	milliseconds := l.orders.slow[method]
	l.mutex.Unlock()
	time.Sleep(time.Duration(milliseconds) * time.Millisecond)
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

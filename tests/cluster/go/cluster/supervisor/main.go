// Command supervisor is the first process of a cluster's process namespace: it starts programs and sends them signals
// on request, and reaps whatever lost its parent. When it ends, the kernel ends everything else in the namespace.
//
// Requests are lines of JSON on a Unix socket (its path is the only argument), answered by one line each:
//
//	{"do": "start", "name": "etcd", "argv": ["/path/to/program", "--flag"], "log": "/path/of/its.log"}
//	{"do": "signal", "name": "etcd", "signal": 9}
//	{"do": "list"}
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

type request struct {
	Do     string         `json:"do"`
	Name   string         `json:"name"`
	Argv   []string       `json:"argv"`
	Log    string         `json:"log"`
	Signal syscall.Signal `json:"signal"`
}

type reply struct {
	Error   string         `json:"error,omitempty"`
	Running map[string]int `json:"running"`
}

// programs are the running ones by name; the lock is held while one starts, so that its end is never seen first.
type programs struct {
	mu      sync.Mutex
	running map[string]int
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: supervisor SOCKET")
		os.Exit(2)
	}
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "supervisor:", err)
		os.Exit(1)
	}
	p := &programs{running: map[string]int{}}
	go p.serve(listener)
	p.reap()
}

// reap waits for every child that ends, started here or orphaned.
func (p *programs) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err != nil { // no child yet
			time.Sleep(20 * time.Millisecond)
			continue
		}
		p.mu.Lock()
		for name, running := range p.running {
			if running == pid {
				delete(p.running, name)
				fmt.Fprintf(os.Stderr, "%s ended: exit code %d, signal %d\n", name, status.ExitStatus(), status.Signal())
			}
		}
		p.mu.Unlock()
	}
}

func (p *programs) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			os.Exit(1)
		}
		go func() {
			defer conn.Close()
			decoder, encoder := json.NewDecoder(conn), json.NewEncoder(conn)
			for {
				var q request
				if decoder.Decode(&q) != nil {
					return
				}
				_ = encoder.Encode(p.answer(q))
			}
		}()
	}
}

func (p *programs) answer(q request) reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	switch q.Do {
	case "start":
		err = p.start(q)
	case "signal":
		if pid, ok := p.running[q.Name]; ok {
			err = syscall.Kill(pid, q.Signal)
		} else {
			err = fmt.Errorf("%s is not running", q.Name)
		}
	case "list":
	default:
		err = fmt.Errorf("unknown request %q", q.Do)
	}
	r := reply{Running: map[string]int{}}
	for name, pid := range p.running {
		r.Running[name] = pid
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func (p *programs) start(q request) error {
	if _, ok := p.running[q.Name]; ok {
		return fmt.Errorf("%s is running already", q.Name)
	}
	output, err := os.OpenFile(q.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer output.Close()
	input, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer input.Close()
	process, err := os.StartProcess(q.Argv[0], q.Argv, &os.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []*os.File{input, output, output}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	p.running[q.Name] = process.Pid
	return process.Release()
}

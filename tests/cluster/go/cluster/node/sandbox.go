package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"cluster/contain"
)

// sandbox is a pod's network namespace: a veth whose other end is routed by the host, so that all
// traffic between pods passes the host's address translation.
type sandbox struct {
	ns   *os.File // nil: the host's namespace
	ip   string
	link string
}

func newSandbox(ip, gateway, link string, sysctls []corev1.Sysctl) (*sandbox, error) {
	s := &sandbox{ip: ip, link: link}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		var err error
		if s.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		for _, sysctl := range sysctls {
			path := filepath.Join("/proc/sys", strings.ReplaceAll(sysctl.Name, ".", "/"))
			if err := os.WriteFile(path, []byte(sysctl.Value), 0o644); err != nil {
				return fmt.Errorf("sysctl: %w", err)
			}
		}
		return ipBatch(
			"link set lo up",
			fmt.Sprintf("link add eth0 type veth peer name %s netns %d", link, os.Getpid()),
			fmt.Sprintf("addr add %s/32 dev eth0", ip),
			"link set eth0 up",
			fmt.Sprintf("route add %s dev eth0 scope link", gateway),
			fmt.Sprintf("route add default via %s", gateway),
		)
	})
	if err == nil {
		err = ipBatch(
			fmt.Sprintf("link set %s up", link),
			fmt.Sprintf("route add %s/32 dev %s src %s", ip, link, gateway),
		)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close removes the veth; the namespace goes when its last process and the file are gone.
func (s *sandbox) close() {
	if s.ns != nil {
		_ = ipBatch("link del " + s.link)
		s.ns.Close()
	}
}

// enter moves the calling thread into the namespace; only for threads made by onThread.
func (s *sandbox) enter() error {
	if s.ns == nil {
		return nil
	}
	return unix.Setns(int(s.ns.Fd()), unix.CLONE_NEWNET)
}

// onThread runs f on a thread of its own, which ends afterwards with whatever namespaces f gave it.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		result <- f()
	}()
	return <-result
}

func ipBatch(commands ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// start runs a container in the sandbox and returns its process and a function that waits for its end. The starting
// thread stays until then, because the kernel ties the parent-death signal to it.
func (s *sandbox) start(cmd *exec.Cmd, spec *contain.Spec) (func() error, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer writer.Close()
	started, ended := make(chan error, 1), make(chan error, 1)
	go onThread(func() error {
		err := s.enter()
		if err == nil {
			cmd.ExtraFiles = []*os.File{reader}
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID,
				Setsid:     true, Pdeathsig: syscall.SIGKILL,
			}
			err = cmd.Start()
		}
		reader.Close()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
		return nil
	})
	if err := <-started; err != nil {
		return nil, err
	}
	if _, err := writer.Write(text); err != nil {
		return nil, fmt.Errorf("container did not start: %w", err)
	}
	return func() error { return <-ended }, nil
}

// exec runs cmd inside the namespaces of a running container, as its user.
func (s *sandbox) exec(cmd *exec.Cmd, pid int, spec *contain.Spec) error {
	return onThread(func() error {
		if err := s.enter(); err != nil {
			return err
		}
		for name, kind := range map[string]int{"uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC, "pid": unix.CLONE_NEWPID} {
			ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
			if err != nil {
				return err
			}
			err = unix.Setns(int(ns.Fd()), kind)
			ns.Close()
			if err != nil {
				return fmt.Errorf("enter %s: %w", name, err)
			}
		}
		// No parent-death signal: Go's check of it takes a parent outside of the process namespace for a dead one.
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: fmt.Sprintf("/proc/%d/root", pid), Setpgid: true}
		if (spec.UID != 0 || spec.GID != 0) && !contain.OneUser() {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(spec.UID), Gid: uint32(spec.GID), Groups: groupIDs(spec.Groups)}
		}
		return cmd.Run()
	})
}

func groupIDs(groups []int) []uint32 {
	result := make([]uint32, 0, len(groups))
	for _, group := range groups {
		result = append(result, uint32(group))
	}
	return result
}

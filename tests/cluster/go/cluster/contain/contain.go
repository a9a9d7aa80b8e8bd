// Package contain makes the surroundings of one container's program: its file system, its user, its capabilities. It runs
// as the first process of new mount, process, host name and IPC namespaces, within the pod's network namespace.
package contain

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// SpecDescriptor is the file descriptor from which the program reads its Spec, as JSON.
const SpecDescriptor = 3

// Mount is one bind mount.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// Spec says what a container sees and who it is.
type Spec struct {
	Dir      string            // holds the writable layer; must not be on the machine's root file system
	Files    map[string]string // text files to write, for example etc/hosts
	HostName string
	Mounts   []Mount  // volumes
	Programs []string // paths of the machine that must be reachable for every user and stay visible under volumes
	ReadOnly bool     // the root file system

	UID, GID     int
	Groups       []int
	Keep         []string // capabilities without CAP_; the rest leaves the bounding set
	Privileged   bool     // keeps them all
	NoPrivileges bool     // no_new_privs

	Argv       []string
	WorkingDir string
}

// Root is the container's root directory, as the agent sees it.
func (s *Spec) Root() string { return filepath.Join(s.Dir, "root") }

// Run does it all and executes the program; it returns only when something fails.
func (s *Spec) Run() error {
	for _, step := range []func() error{s.mountRoot, s.writeFiles, s.mountAll, s.enterRoot, s.restrict} {
		if err := step(); err != nil {
			return err
		}
	}
	program, err := exec.LookPath(s.Argv[0])
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", program, unix.Exec(program, s.Argv, os.Environ()))
}

// mountRoot lays a private writable layer over the machine's own tree.
func (s *Spec) mountRoot() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	upper, work := filepath.Join(s.Dir, "upper"), filepath.Join(s.Dir, "work")
	for _, dir := range []string{s.Root(), upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if OneUser() {
		return s.mirrorRoot()
	}
	options := fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", upper, work)
	if err := unix.Mount("overlay", s.Root(), "overlay", 0, options); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	for _, program := range s.Programs { // homes are closed to others: open the way, in this layer only
		for dir := filepath.Dir(program); dir != "/"; dir = filepath.Dir(dir) {
			path := filepath.Join(s.Root(), dir)
			if info, err := os.Stat(path); err == nil && info.Mode()&0o055 != 0o055 {
				if err := os.Chmod(path, info.Mode()|0o055); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *Spec) writeFiles() error {
	for name, text := range s.Files {
		path := filepath.Join(s.Root(), name)
		_ = os.Remove(path) // may be a link that leads out of the tree
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) mountAll() error {
	mounts := append([]Mount{{Source: "/dev", Target: "/dev"}, {Source: "/sys", Target: "/sys"}}, s.Mounts...)
	for _, program := range s.Programs {
		mounts = append(mounts, Mount{Source: program, Target: program, ReadOnly: true})
	}
	for _, m := range mounts {
		if err := m.bind(s.Root()); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	proc, shared := filepath.Join(s.Root(), "proc"), filepath.Join(s.Root(), "dev/shm")
	if err := unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", shared, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	return nil
}

func (m Mount) bind(root string) error {
	target, err := securejoin.SecureJoin(root, m.Target) // absolute links stay inside the root
	if err != nil {
		return err
	}
	info, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
		var file *os.File
		if file, err = os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o644); err == nil {
			file.Close()
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(m.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if m.ReadOnly {
		return remountReadOnly(target)
	}
	return nil
}

// remountReadOnly keeps the flags that the mount has: a user namespace may not take them off.
func remountReadOnly(target string) error {
	var info unix.Statfs_t
	if err := unix.Statfs(target, &info); err != nil {
		return err
	}
	kept := uintptr(info.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME)
	return unix.Mount("", target, "", kept|unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

func (s *Spec) enterRoot() error {
	if err := unix.Sethostname([]byte(s.HostName)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if err := unix.Chroot(s.Root()); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if s.ReadOnly {
		if err := remountReadOnly("/"); err != nil {
			return fmt.Errorf("read-only root: %w", err)
		}
	}
	return os.Chdir(s.WorkingDir)
}

// restrict gives up what the container shall not have. Capabilities of other users than root go by themselves.
func (s *Spec) restrict() error {
	if !s.Privileged {
		for number, name := range capabilities {
			if !contains(s.Keep, name) {
				if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(number), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
					return fmt.Errorf("drop %s: %w", name, err)
				}
			}
		}
	}
	for _, output := range []int{1, 2} { // so that it may open /dev/stdout
		_ = unix.Fchown(output, s.UID, s.GID)
	}
	if err := s.become(); err != nil {
		return fmt.Errorf("user %d, group %d: %w", s.UID, s.GID, err)
	}
	if s.NoPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) // a change of user has cleared it
}

// become changes the user. In a user namespace that has no other the program stays root of that namespace.
func (s *Spec) become() error {
	if OneUser() || s.UID == 0 && s.GID == 0 && len(s.Groups) == 0 {
		return nil
	}
	if err := unix.Setresgid(s.GID, s.GID, s.GID); err != nil {
		return err
	}
	if err := unix.Setgroups(s.Groups); err != nil {
		return err
	}
	return unix.Setresuid(s.UID, s.UID, s.UID)
}

func contains(list []string, name string) bool {
	for _, entry := range list {
		if strings.TrimPrefix(strings.ToUpper(entry), "CAP_") == name {
			return true
		}
	}
	return false
}

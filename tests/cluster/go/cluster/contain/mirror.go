package contain

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// fresh are directories of which a container without an overlay gets empty ones of its own.
var fresh = map[string]fs.FileMode{
	"/tmp": fs.ModeSticky | 0o777, "/var/tmp": fs.ModeSticky | 0o777, "/run": 0o755, "/proc": 0o555, "/sys": 0o555, "/dev": 0o755,
}

// OneUser tells whether the user namespace has no other user than its root, as for a cluster of an ordinary user.
func OneUser() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	fields := strings.Fields(string(text))
	return err == nil && len(fields) == 3 && fields[2] == "1"
}

// mirrorRoot stands in for the overlay in a user namespace, where the kernel lays none over a tree with mounts that are
// another user's. The root is a file system of the container's own, in which the machine's files and directories are
// bound, for reading. A directory in which something has to be created is not bound itself; its entries are.
func (s *Spec) mirrorRoot() error {
	if err := unix.Mount("tmpfs", s.Root(), "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	own := map[string]bool{"/": true}
	for name := range s.Files {
		own[filepath.Join("/", filepath.Dir(name))] = true
	}
	for _, m := range s.Mounts {
		if err := opens(own, m.Target); err != nil {
			return err
		}
	}
	if err := s.mirror("/", own); err != nil {
		return err
	}
	readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, s.Root(), unix.AT_RECURSIVE, &readOnly); err != nil {
		return fmt.Errorf("read-only mounts: %w", err)
	}
	return unix.MountSetattr(unix.AT_FDCWD, s.Root(), 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
}

// opens marks the directories of the machine in which the way to a target has to be made; none when it is there.
func opens(own map[string]bool, target string) error {
	path, err := securejoin.SecureJoin("/", target)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		own[dir] = true
	}
	return nil
}

// mirror fills a directory of the container with what the machine has there. What cannot be read stays away.
func (s *Spec) mirror(dir string, own map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if _, written := s.Files[strings.TrimPrefix(path, "/")]; written {
			continue
		}
		if err := s.mirrorEntry(path, entry.Type(), own); err != nil {
			return fmt.Errorf("mirror %s: %w", path, err)
		}
	}
	return nil
}

func (s *Spec) mirrorEntry(path string, kind fs.FileMode, own map[string]bool) error {
	target := filepath.Join(s.Root(), path)
	mode, isFresh := fresh[path]
	switch {
	case kind&fs.ModeSymlink != 0:
		leads, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return os.Symlink(leads, target)
	case isFresh:
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
		return os.Chmod(target, mode)
	case kind.IsDir() && own[path]:
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
		return s.mirror(path, own)
	case kind.IsDir():
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
	default:
		if err := os.WriteFile(target, nil, 0o644); err != nil {
			return err
		}
	}
	err := unix.Mount(path, target, "", unix.MS_BIND|unix.MS_REC, "")
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

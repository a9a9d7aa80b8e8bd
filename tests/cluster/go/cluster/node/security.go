package node

import (
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"cluster/contain"
)

// secure writes into spec what the pod's and the container's securityContext say; the container's goes first.
// Seccomp and AppArmor profiles, SELinux and /proc masks are not applied.
func secure(spec *contain.Spec, pod *corev1.PodSecurityContext, c *corev1.SecurityContext, image *program) error {
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	if c == nil {
		c = &corev1.SecurityContext{}
	}
	spec.UID = int(first(int64(image.User), c.RunAsUser, pod.RunAsUser))
	spec.GID = int(first(0, c.RunAsGroup, pod.RunAsGroup))
	for _, group := range pod.SupplementalGroups {
		spec.Groups = append(spec.Groups, int(group))
	}
	if pod.FSGroup != nil {
		spec.Groups = append(spec.Groups, int(*pod.FSGroup))
	}
	if spec.UID == 0 && first(false, c.RunAsNonRoot, pod.RunAsNonRoot) {
		return errors.New("runAsNonRoot is set and the image runs as root")
	}
	spec.ReadOnly = ptr.Deref(c.ReadOnlyRootFilesystem, false)
	spec.Privileged = ptr.Deref(c.Privileged, false)
	spec.NoPrivileges = !ptr.Deref(c.AllowPrivilegeEscalation, true)
	spec.Keep = contain.DefaultCapabilities
	if c.Capabilities != nil {
		spec.Keep = capabilities(c.Capabilities)
	}
	return nil
}

func capabilities(wanted *corev1.Capabilities) []string {
	var keep []string
	if !slices.Contains(wanted.Drop, "ALL") {
		for _, name := range contain.DefaultCapabilities {
			if !slices.Contains(wanted.Drop, corev1.Capability(name)) {
				keep = append(keep, name)
			}
		}
	}
	for _, name := range wanted.Add {
		keep = append(keep, string(name))
	}
	return keep
}

func first[T any](fallback T, values ...*T) T {
	for _, value := range values {
		if value != nil {
			return *value
		}
	}
	return fallback
}

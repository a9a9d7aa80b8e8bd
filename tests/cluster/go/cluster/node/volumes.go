package node

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// files are a volume's contents: relative path to bytes.
type files map[string][]byte

// contents gives the files of a volume, or ok false for a volume that is only a directory.
func (a *agent) contents(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (result files, ok bool, err error) {
	switch {
	case v.Secret != nil:
		result, err = a.secretFiles(ctx, pod.Namespace, v.Secret.SecretName, v.Secret.Items, v.Secret.Optional)
	case v.ConfigMap != nil:
		result, err = a.configMapFiles(ctx, pod.Namespace, v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.DownwardAPI != nil:
		result, err = downwardFiles(pod, v.DownwardAPI.Items)
	case v.Projected != nil:
		result = files{}
		for _, source := range v.Projected.Sources {
			var part files
			switch {
			case source.Secret != nil:
				part, err = a.secretFiles(ctx, pod.Namespace, source.Secret.Name, source.Secret.Items, source.Secret.Optional)
			case source.ConfigMap != nil:
				part, err = a.configMapFiles(ctx, pod.Namespace, source.ConfigMap.Name, source.ConfigMap.Items, source.ConfigMap.Optional)
			case source.DownwardAPI != nil:
				part, err = downwardFiles(pod, source.DownwardAPI.Items)
			case source.ServiceAccountToken != nil:
				part, err = a.tokenFile(ctx, pod, source.ServiceAccountToken)
			default:
				err = fmt.Errorf("volume %s: projected source is not supported", v.Name)
			}
			if err != nil {
				return nil, true, err
			}
			maps.Copy(result, part)
		}
	case v.EmptyDir != nil:
		return nil, false, nil
	default:
		return nil, false, fmt.Errorf("volume %s: kind is not supported", v.Name)
	}
	return result, true, err
}

func (a *agent) secretFiles(ctx context.Context, namespace, name string, items []corev1.KeyToPath, optional *bool) (files, error) {
	secret, err := a.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return files{}, nil
	}
	if err != nil {
		return nil, err
	}
	return pick(secret.Data, items, optional)
}

func (a *agent) configMapFiles(ctx context.Context, namespace, name string, items []corev1.KeyToPath, optional *bool) (files, error) {
	object, err := a.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return files{}, nil
	}
	if err != nil {
		return nil, err
	}
	data := maps.Clone(files(object.BinaryData))
	if data == nil {
		data = files{}
	}
	for key, text := range object.Data {
		data[key] = []byte(text)
	}
	return pick(data, items, optional)
}

func pick(data map[string][]byte, items []corev1.KeyToPath, optional *bool) (files, error) {
	if len(items) == 0 {
		return data, nil
	}
	result := files{}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return nil, fmt.Errorf("no key %q", item.Key)
		}
		result[item.Path] = value
	}
	return result, nil
}

func downwardFiles(pod *corev1.Pod, items []corev1.DownwardAPIVolumeFile) (files, error) {
	result := files{}
	for _, item := range items {
		value := ""
		if item.FieldRef != nil {
			var err error
			if value, err = podField(pod, item.FieldRef.FieldPath); err != nil {
				return nil, err
			}
		} else if item.ResourceFieldRef != nil {
			value = containerResource(pod, item.ResourceFieldRef.ContainerName, item.ResourceFieldRef)
		}
		result[item.Path] = []byte(value)
	}
	return result, nil
}

func (a *agent) tokenFile(ctx context.Context, pod *corev1.Pod, source *corev1.ServiceAccountTokenProjection) (files, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: source.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	if source.Audience != "" {
		request.Spec.Audiences = []string{source.Audience}
	}
	token, err := a.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return files{source.Path: []byte(token.Status.Token)}, nil
}

// writeVolume replaces a volume's files at once, the way programs that watch mounted volumes expect it:
// every name is a link into ..data, and ..data is switched to a new directory.
func writeVolume(dir string, contents files) error {
	version := ".." + time.Now().Format("2006_01_02_15_04_05.000000000")
	data := filepath.Join(dir, "..data")
	old, _ := os.Readlink(data)
	top := map[string]bool{}
	for name, value := range contents {
		path := filepath.Join(dir, version, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, value, 0o644); err != nil {
			return err
		}
		top[strings.Split(name, "/")[0]] = true
	}
	if err := os.MkdirAll(filepath.Join(dir, version), 0o755); err != nil {
		return err
	}
	temporary := filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(version, temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, data); err != nil {
		return err
	}
	present, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range present {
		if name := entry.Name(); !strings.HasPrefix(name, "..") && !top[name] {
			_ = os.Remove(filepath.Join(dir, name))
		}
	}
	for name := range top {
		link := filepath.Join(dir, name)
		if _, err := os.Lstat(link); os.IsNotExist(err) {
			if err := os.Symlink(filepath.Join("..data", name), link); err != nil {
				return err
			}
		}
	}
	if old != "" {
		return os.RemoveAll(filepath.Join(dir, old))
	}
	return nil
}

// podField evaluates a fieldRef.
func podField(pod *corev1.Pod, path string) (string, error) {
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return quoted(pod.Labels), nil
	case "metadata.annotations":
		return quoted(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP", "status.hostIPs":
		return pod.Status.HostIP, nil
	case "status.podIP", "status.podIPs":
		return pod.Status.PodIP, nil
	}
	for prefix, values := range map[string]map[string]string{"metadata.labels['": pod.Labels, "metadata.annotations['": pod.Annotations} {
		if key, ok := strings.CutPrefix(path, prefix); ok {
			return values[strings.TrimSuffix(key, "']")], nil
		}
	}
	return "", fmt.Errorf("field %q is not supported", path)
}

func quoted(values map[string]string) string {
	lines := make([]string, 0, len(values))
	for key, value := range values {
		lines = append(lines, key+"="+strconv.Quote(value))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// containerResource evaluates a resourceFieldRef; an absent limit reads as 2 CPUs or 2 GiB.
func containerResource(pod *corev1.Pod, container string, ref *corev1.ResourceFieldSelector) string {
	kind, name, _ := strings.Cut(ref.Resource, ".")
	value, fallback := int64(0), map[string]int64{"cpu": 2000, "memory": 2 << 30}[name]
	for _, c := range pod.Spec.Containers {
		if c.Name != container {
			continue
		}
		list := c.Resources.Limits
		if kind == "requests" {
			list = c.Resources.Requests
		}
		quantity := list[corev1.ResourceName(name)]
		value = quantity.Value()
		if name == "cpu" {
			value = quantity.MilliValue()
		}
	}
	if value == 0 {
		value = fallback
	}
	divisor := ref.Divisor.Value()
	if name == "cpu" {
		if divisor = ref.Divisor.MilliValue(); divisor == 0 {
			divisor = 1000
		}
	}
	if divisor == 0 {
		divisor = 1
	}
	return strconv.FormatInt((value+divisor-1)/divisor, 10)
}

// environment builds the environment of a container and a function that expands $(NAME) in it.
func (a *agent) environment(ctx context.Context, pod *corev1.Pod, c *corev1.Container, extra map[string]string) ([]string, func(string) string, error) {
	host, port := a.apiService, "443"
	values := map[string]string{
		"HOME": "/", "HOSTNAME": pod.Name,
		"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port, "KUBERNETES_SERVICE_PORT_HTTPS": port,
		"KUBERNETES_PORT": "tcp://" + host + ":" + port,
	}
	maps.Copy(values, extra)
	expand := func(text string) string { return expandReferences(text, values) }
	for _, source := range c.EnvFrom {
		var data files
		var err error
		if source.ConfigMapRef != nil {
			data, err = a.configMapFiles(ctx, pod.Namespace, source.ConfigMapRef.Name, nil, source.ConfigMapRef.Optional)
		} else if source.SecretRef != nil {
			data, err = a.secretFiles(ctx, pod.Namespace, source.SecretRef.Name, nil, source.SecretRef.Optional)
		}
		if err != nil {
			return nil, nil, err
		}
		for key, value := range data {
			values[source.Prefix+key] = string(value)
		}
	}
	for _, entry := range c.Env {
		value := expand(entry.Value)
		if from := entry.ValueFrom; from != nil {
			var data files
			var err error
			switch {
			case from.FieldRef != nil:
				value, err = podField(pod, from.FieldRef.FieldPath)
			case from.ResourceFieldRef != nil:
				name := from.ResourceFieldRef.ContainerName
				if name == "" {
					name = c.Name
				}
				value = containerResource(pod, name, from.ResourceFieldRef)
			case from.SecretKeyRef != nil:
				ref := from.SecretKeyRef
				data, err = a.secretFiles(ctx, pod.Namespace, ref.Name, []corev1.KeyToPath{{Key: ref.Key, Path: "value"}}, ref.Optional)
				value = string(data["value"])
			case from.ConfigMapKeyRef != nil:
				ref := from.ConfigMapKeyRef
				data, err = a.configMapFiles(ctx, pod.Namespace, ref.Name, []corev1.KeyToPath{{Key: ref.Key, Path: "value"}}, ref.Optional)
				value = string(data["value"])
			}
			if err != nil {
				return nil, nil, fmt.Errorf("env %s: %w", entry.Name, err)
			}
		}
		values[entry.Name] = value
	}
	result := make([]string, 0, len(values))
	for key, value := range values {
		result = append(result, key+"="+value)
	}
	sort.Strings(result)
	return result, expand, nil
}

// expandReferences replaces $(NAME) by its value; unknown names stay, $$ stands for a dollar.
func expandReferences(text string, values map[string]string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '$' && i+1 < len(text) {
			if text[i+1] == '$' {
				b.WriteByte('$')
				i++
				continue
			}
			if end := strings.IndexByte(text[i:], ')'); text[i+1] == '(' && end > 0 {
				if value, ok := values[text[i+2:i+end]]; ok {
					b.WriteString(value)
					i += end
					continue
				}
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

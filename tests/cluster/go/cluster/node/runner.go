package node

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"cluster/contain"
)

// podRunner runs one pod from its binding to its end.
type podRunner struct {
	a        *agent
	pod      *corev1.Pod // as it was bound, with its address filled in
	dir      string
	ip       string
	sandbox  *sandbox
	ctx      context.Context
	cancel   context.CancelFunc
	ended    chan struct{} // closed when run returned
	stopped  sync.Once
	now      context.Context // done when the pod must end without grace
	hurry    context.CancelFunc
	stopping atomic.Bool   // no container starts any more
	dirty    chan struct{} // status must be written

	mu          sync.Mutex
	started     time.Time
	initialized bool
	containers  []*container
	volumes     map[string]files
	waiting     string
}

// container is one container's process and state; the runner's mutex guards it.
type container struct {
	spec      *corev1.Container
	init      bool
	env       []string
	logs      *logFile
	pid       int
	startedAt time.Time
	restarts  int32
	ready     bool
	begun     bool // startup probe passed
	exit      *corev1.ContainerStateTerminated
	last      *corev1.ContainerStateTerminated
	trouble   string // why it waits
	image     *program
	contained *contain.Spec
}

func newPodRunner(ctx context.Context, a *agent, pod *corev1.Pod) *podRunner {
	r := &podRunner{
		a: a, pod: pod.DeepCopy(), dir: filepath.Join(a.dir, "pods", string(pod.UID)),
		ended: make(chan struct{}), dirty: make(chan struct{}, 1), volumes: map[string]files{}, started: time.Now(),
	}
	r.ctx, r.cancel = context.WithCancel(ctx)
	r.now, r.hurry = context.WithCancel(context.Background())
	add := func(list []corev1.Container, init bool) {
		for i := range list {
			path := filepath.Join(a.dir, "logs", fmt.Sprintf("%s_%s_%s.log", pod.Namespace, pod.Name, list[i].Name))
			r.containers = append(r.containers, &container{spec: &list[i], init: init, logs: newLogFile(path), trouble: "ContainerCreating"})
		}
	}
	add(r.pod.Spec.InitContainers, true)
	add(r.pod.Spec.Containers, false)
	return r
}

func (r *podRunner) name() string { return r.pod.Namespace + "/" + r.pod.Name }

func (r *podRunner) run() {
	defer close(r.ended)
	go r.writeStatuses()
	r.retry("sandbox", r.makeSandbox)
	r.retry("volumes", r.makeVolumes)
	r.renewTokens()
	var wait sync.WaitGroup
	for _, c := range r.containers {
		sidecar := c.init && c.spec.RestartPolicy != nil && *c.spec.RestartPolicy == corev1.ContainerRestartPolicyAlways
		switch {
		case r.ctx.Err() != nil || r.stopping.Load():
		case c.init && !sidecar:
			r.supervise(c, corev1.RestartPolicyOnFailure)
		case sidecar:
			wait.Go(func() { r.supervise(c, corev1.RestartPolicyAlways) })
			for r.ctx.Err() == nil && !r.get(func() bool { return c.begun }) {
				time.Sleep(20 * time.Millisecond)
			}
		default:
			if !r.initialized {
				r.set(func() { r.initialized = true })
			}
			wait.Go(func() { r.supervise(c, r.pod.Spec.RestartPolicy) })
		}
	}
	wait.Wait()
}

// retry repeats a step until it works or the pod ends.
func (r *podRunner) retry(what string, step func() error) {
	for wait := 50 * time.Millisecond; r.ctx.Err() == nil; wait = min(2*wait, time.Second) {
		err := step()
		if err == nil {
			r.set(func() { r.waiting = "" })
			return
		}
		message := fmt.Sprintf("%s: %v", what, err)
		if r.get(func() bool { return r.waiting != message }) {
			log.Printf("%s: %s", r.name(), message)
		}
		r.set(func() { r.waiting = message })
		select {
		case <-r.ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (r *podRunner) makeSandbox() error {
	ip, box := r.a.address, &sandbox{}
	if !r.pod.Spec.HostNetwork {
		var err error
		if ip, err = r.a.addrs.take(); err != nil {
			return err
		}
		if box, err = newSandbox(ip, r.a.address, "p"+strings.ReplaceAll(string(r.pod.UID), "-", "")[:12], sysctls(r.pod)); err != nil {
			r.a.addrs.free(ip)
			return err
		}
	}
	r.set(func() {
		r.sandbox, r.ip = box, ip
		r.pod.Status.PodIP, r.pod.Status.HostIP = ip, r.a.address
	})
	return nil
}

func (r *podRunner) volumeDir(name string) string { return filepath.Join(r.dir, "volumes", name) }

func (r *podRunner) makeVolumes() error {
	for i := range r.pod.Spec.Volumes {
		v := &r.pod.Spec.Volumes[i]
		if v.HostPath != nil {
			continue
		}
		contents, isFiles, err := r.a.contents(r.ctx, r.pod, v)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(r.volumeDir(v.Name), 0o755); err != nil {
			return err
		}
		if v.EmptyDir != nil { // for every user, whatever the umask
			if err := os.Chmod(r.volumeDir(v.Name), 0o777); err != nil {
				return err
			}
		}
		if isFiles {
			if err := writeVolume(r.volumeDir(v.Name), contents); err != nil {
				return err
			}
			r.set(func() { r.volumes[v.Name] = contents })
		}
	}
	return nil
}

// refreshVolumes brings a changed Secret or ConfigMap into the volumes that show it.
func (r *podRunner) refreshVolumes(kind, name string) {
	for i := range r.pod.Spec.Volumes {
		if v := &r.pod.Spec.Volumes[i]; shows(v, kind, name) {
			r.refreshVolume(v)
		}
	}
}

func shows(v *corev1.Volume, kind, name string) bool {
	sources := []corev1.VolumeProjection{}
	if v.Projected != nil {
		sources = v.Projected.Sources
	}
	switch kind {
	case "Secret":
		return v.Secret != nil && v.Secret.SecretName == name || slices.ContainsFunc(sources, func(s corev1.VolumeProjection) bool {
			return s.Secret != nil && s.Secret.Name == name
		})
	default:
		return v.ConfigMap != nil && v.ConfigMap.Name == name || slices.ContainsFunc(sources, func(s corev1.VolumeProjection) bool {
			return s.ConfigMap != nil && s.ConfigMap.Name == name
		})
	}
}

func (r *podRunner) refreshVolume(v *corev1.Volume) {
	if !r.get(func() bool { return r.volumes[v.Name] != nil }) {
		return
	}
	contents, _, err := r.a.contents(r.ctx, r.pod, v)
	if err != nil || r.get(func() bool { return sameFiles(r.volumes[v.Name], contents) }) {
		return
	}
	if err := writeVolume(r.volumeDir(v.Name), contents); err != nil {
		log.Printf("%s: volume %s: %v", r.name(), v.Name, err)
	}
	r.set(func() { r.volumes[v.Name] = contents })
}

// renewTokens writes new service account tokens when four fifths of the shortest life in a volume are over.
func (r *podRunner) renewTokens() {
	for i := range r.pod.Spec.Volumes {
		v := &r.pod.Spec.Volumes[i]
		life := int64(0)
		if v.Projected != nil {
			for _, source := range v.Projected.Sources {
				if token := source.ServiceAccountToken; token != nil {
					if seconds := ptr.Deref(token.ExpirationSeconds, 3600); life == 0 || seconds < life {
						life = seconds
					}
				}
			}
		}
		if life == 0 {
			continue
		}
		go func() {
			every := time.NewTicker(time.Duration(life) * time.Second * 4 / 5)
			defer every.Stop()
			for {
				select {
				case <-r.ctx.Done():
					return
				case <-every.C:
					r.refreshVolume(v)
				}
			}
		}()
	}
}

func sameFiles(a, b files) bool {
	if len(a) != len(b) {
		return false
	}
	for name, value := range a {
		if other, ok := b[name]; !ok || !bytes.Equal(value, other) {
			return false
		}
	}
	return true
}

// supervise runs a container until its restart policy or the pod's end says stop.
func (r *podRunner) supervise(c *container, policy corev1.RestartPolicy) {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		begin := time.Now()
		code := r.once(c)
		if r.ctx.Err() != nil || r.stopping.Load() || policy == corev1.RestartPolicyNever || policy == corev1.RestartPolicyOnFailure && code == 0 {
			return
		}
		if time.Since(begin) > time.Minute {
			pause = time.Second
		}
		r.set(func() { c.trouble = "CrashLoopBackOff" })
		select {
		case <-r.ctx.Done():
			return
		case <-time.After(pause):
		}
		r.set(func() { c.restarts++ })
	}
}

// once runs a container's process to its end and returns the exit code.
func (r *podRunner) once(c *container) int32 {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	wait, err := r.startProcess(c)
	if err != nil {
		log.Printf("%s: container %s: %v", r.name(), c.spec.Name, err)
		fmt.Fprintf(c.logs, "container: %v\n", err)
		r.finish(c, 128, "StartError")
		return 128
	}
	go r.watchContainer(ctx, c)
	err = wait()
	c.logs.end()
	code := int32(0)
	if exit, ok := err.(*exec.ExitError); ok {
		code = int32(exit.ExitCode())
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			code = 128 + int32(status.Signal())
		}
	}
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	if r.ctx.Err() == nil {
		log.Printf("%s: container %s ended with code %d", r.name(), c.spec.Name, code)
	}
	r.finish(c, code, reason)
	return code
}

func (r *podRunner) startProcess(c *container) (func() error, error) {
	image, err := r.a.images.find(c.spec.Image)
	if err != nil {
		return nil, err
	}
	defaults := maps.Clone(image.Env)
	if defaults == nil {
		defaults = map[string]string{}
	}
	defaults["PATH"] = image.path()
	env, expand, err := r.a.environment(r.ctx, r.pod, c.spec, defaults)
	if err != nil {
		return nil, err
	}
	spec := &contain.Spec{
		Dir: filepath.Join(r.dir, "containers", c.spec.Name), Files: r.systemFiles(), HostName: r.pod.Name,
		Mounts: r.mounts(c, expand), Programs: image.Paths, WorkingDir: c.spec.WorkingDir,
	}
	if spec.WorkingDir == "" {
		spec.WorkingDir = "/"
	}
	if spec.Argv, err = image.argv(c.spec, expand); err != nil {
		return nil, err
	}
	if err := secure(spec, r.pod.Spec.SecurityContext, c.spec.SecurityContext, image); err != nil {
		return nil, err
	}
	cmd := exec.Command(r.a.containerProgram)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, c.logs, c.logs
	cmd.WaitDelay = time.Second
	wait, err := r.sandbox.start(cmd, spec)
	if err != nil {
		return nil, err
	}
	r.set(func() {
		c.env, c.pid, c.startedAt, c.last, c.exit, c.trouble = env, cmd.Process.Pid, time.Now(), c.exit, nil, ""
		c.begun, c.ready = c.spec.StartupProbe == nil, c.spec.StartupProbe == nil && c.spec.ReadinessProbe == nil
		c.image, c.contained = image, spec
	})
	if r.ctx.Err() != nil { // the pod was stopped meanwhile
		r.signal(c, true)
	}
	return wait, nil
}

func (r *podRunner) mounts(c *container, expand func(string) string) []contain.Mount {
	var result []contain.Mount
	for _, m := range c.spec.VolumeMounts {
		source := r.volumeDir(m.Name)
		for _, v := range r.pod.Spec.Volumes {
			if v.Name == m.Name && v.HostPath != nil {
				source = v.HostPath.Path
			}
		}
		source = filepath.Join(source, expand(m.SubPath+m.SubPathExpr))
		result = append(result, contain.Mount{Source: source, Target: m.MountPath, ReadOnly: m.ReadOnly})
	}
	return result
}

func sysctls(pod *corev1.Pod) []corev1.Sysctl {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.Sysctls
}

func (r *podRunner) systemFiles() map[string]string {
	return map[string]string{
		"etc/resolv.conf": fmt.Sprintf("search %s.svc.cluster.local svc.cluster.local cluster.local\nnameserver %s\noptions ndots:5\n", r.pod.Namespace, r.a.address),
		"etc/hosts":       fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%s %s\n", r.ip, r.pod.Name),
	}
}

func (r *podRunner) finish(c *container, code int32, reason string) {
	now := time.Now()
	r.set(func() {
		c.exit = &corev1.ContainerStateTerminated{
			ExitCode: code, Reason: reason, StartedAt: metaTime(c.startedAt), FinishedAt: metaTime(now), ContainerID: c.id(r),
		}
		c.pid, c.ready, c.begun = 0, false, false
	})
}

func (c *container) id(r *podRunner) string {
	return fmt.Sprintf("process://%s/%s/%d", r.pod.UID, c.spec.Name, c.restarts)
}

// watchContainer runs the probes of a running container.
func (r *podRunner) watchContainer(ctx context.Context, c *container) {
	if p := c.spec.StartupProbe; p != nil {
		passed, stop := context.WithCancel(ctx)
		r.watchProbe(passed, c, p, false, func(bool) {
			r.set(func() { c.begun, c.ready = true, c.spec.ReadinessProbe == nil })
			stop()
		})
		stop()
	}
	if p := c.spec.LivenessProbe; p != nil {
		go r.watchProbe(ctx, c, p, true, func(healthy bool) {
			if !healthy {
				log.Printf("%s: container %s failed its liveness probe", r.name(), c.spec.Name)
				r.signal(c, true)
			}
		})
	}
	if p := c.spec.ReadinessProbe; p != nil {
		r.watchProbe(ctx, c, p, false, func(ready bool) { r.set(func() { c.ready = ready }) })
	}
}

// signal sends SIGTERM, or SIGKILL by force; the kernel ends the rest of the container with its first process.
func (r *podRunner) signal(c *container, force bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.pid > 0 {
		signal := syscall.SIGTERM
		if force {
			signal = syscall.SIGKILL
		}
		_ = syscall.Kill(c.pid, signal)
	}
}

// stopProcesses ends the pod's processes and waits for them.
func (r *podRunner) stopProcesses(grace time.Duration) {
	r.stopping.Store(true)
	r.end(grace)
	r.cancel()
	for _, c := range r.containers { // one that started meanwhile
		r.signal(c, true)
	}
	select {
	case <-r.ended:
	case <-time.After(10 * time.Second):
		log.Printf("%s: processes do not end", r.name())
	}
}

// stop ends the pod and removes everything it had, the Pod object too.
func (r *podRunner) stop(grace time.Duration) {
	if grace == 0 {
		r.hurry()
	}
	r.stopped.Do(func() {
		r.stopProcesses(grace)
		if r.sandbox != nil {
			r.sandbox.close()
			if r.ip != r.a.address {
				r.a.addrs.free(r.ip)
			}
		}
		if err := os.RemoveAll(r.dir); err != nil {
			log.Printf("%s: %v", r.name(), err)
		}
		r.a.forget(r.pod)
		r.a.pods.remove(r.pod.UID)
	})
}

func (r *podRunner) get(read func() bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return read()
}

// set changes state under the lock and asks for a status update.
func (r *podRunner) set(change func()) {
	r.mu.Lock()
	change()
	r.mu.Unlock()
	select {
	case r.dirty <- struct{}{}:
	default:
	}
}

package node

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// leastGrace is what a program has between SIGTERM and SIGKILL when its preStop hook used up all the grace.
const leastGrace = 2 * time.Second

// end runs preStop hooks, then sends SIGTERM, then, when the grace is over, SIGKILL: each container for itself.
// It returns when all processes of the pod have ended.
func (r *podRunner) end(grace time.Duration) {
	deadline := time.Now().Add(grace)
	var wait sync.WaitGroup
	for _, c := range r.containers {
		if !r.running(c) {
			continue
		}
		wait.Go(func() {
			if hooks := c.spec.Lifecycle; hooks != nil && hooks.PreStop != nil && grace > 0 {
				r.preStop(c, hooks.PreStop, deadline)
				if least := time.Now().Add(leastGrace); deadline.Before(least) {
					r.terminate(c, least)
					return
				}
			}
			r.terminate(c, deadline)
		})
	}
	wait.Wait()
}

// preStop runs a hook until its end, the container's end or the deadline.
func (r *podRunner) preStop(c *container, hook *corev1.LifecycleHandler, deadline time.Time) {
	ctx, cancel := context.WithDeadline(r.now, deadline)
	defer cancel()
	go func() {
		for ctx.Err() == nil && r.running(c) {
			time.Sleep(20 * time.Millisecond)
		}
		cancel()
	}()
	if err := r.hook(ctx, c, hook); err != nil && r.running(c) {
		log.Printf("%s: container %s: preStop: %v", r.name(), c.spec.Name, err)
		fmt.Fprintf(c.logs, "container: preStop: %v\n", err)
	}
}

func (r *podRunner) hook(ctx context.Context, c *container, hook *corev1.LifecycleHandler) error {
	switch {
	case hook.Exec != nil:
		return r.runInside(c, func(argv []string) *exec.Cmd { return exec.CommandContext(ctx, argv[0], argv[1:]...) }, hook.Exec.Command)
	case hook.HTTPGet != nil:
		response, err := r.httpGet(ctx, c, hook.HTTPGet)
		if err == nil {
			response.Body.Close()
		}
		return err
	case hook.Sleep != nil:
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(hook.Sleep.Seconds) * time.Second):
		}
	}
	return nil
}

func (r *podRunner) terminate(c *container, deadline time.Time) {
	if time.Now().Before(deadline) && r.now.Err() == nil {
		r.signal(c, false)
		for time.Now().Before(deadline) && r.now.Err() == nil {
			if !r.running(c) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	r.signal(c, true)
}

func (r *podRunner) running(c *container) bool { return r.get(func() bool { return c.pid > 0 }) }

// httpGet asks what a probe or hook says; the caller closes the body.
func (r *podRunner) httpGet(ctx context.Context, c *container, action *corev1.HTTPGetAction) (*http.Response, error) {
	scheme := strings.ToLower(string(action.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	url := scheme + "://" + r.target(c, action.Host, action.Port) + "/" + strings.TrimPrefix(action.Path, "/")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	for _, header := range action.HTTPHeaders {
		if strings.EqualFold(header.Name, "Host") {
			request.Host = header.Value
		} else {
			request.Header.Add(header.Name, header.Value)
		}
	}
	return probeClient.Do(request)
}

func (r *podRunner) target(c *container, host string, port intstr.IntOrString) string {
	if host == "" {
		host = r.ip
	}
	return net.JoinHostPort(host, strconv.Itoa(portNumber(c.spec, port)))
}

// runInside runs a command in a running container, with its environment.
func (r *podRunner) runInside(c *container, make func(argv []string) *exec.Cmd, command []string) error {
	r.mu.Lock()
	pid, env, spec, image := c.pid, c.env, c.contained, c.image
	r.mu.Unlock()
	if pid == 0 {
		return fmt.Errorf("container %s is not running", c.spec.Name)
	}
	argv, err := image.inside(command)
	if err != nil {
		return err
	}
	cmd := make(argv)
	cmd.Env, cmd.Dir = env, "/"
	return r.sandbox.exec(cmd, pid, spec)
}

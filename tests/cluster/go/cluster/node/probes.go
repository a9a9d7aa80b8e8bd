package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var probeClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// probe runs one check against a container.
func (r *podRunner) probe(ctx context.Context, c *container, p *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(p.TimeoutSeconds, 1))*time.Second)
	defer cancel()
	switch {
	case p.HTTPGet != nil:
		response, err := r.httpGet(ctx, c, p.HTTPGet)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode < 200 || response.StatusCode >= 400 {
			return fmt.Errorf("status %d", response.StatusCode)
		}
		return nil
	case p.TCPSocket != nil:
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.target(c, p.TCPSocket.Host, p.TCPSocket.Port))
		if err == nil {
			conn.Close()
		}
		return err
	case p.GRPC != nil:
		conn, err := grpc.NewClient(r.target(c, "", intstr.FromInt32(p.GRPC.Port)), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer conn.Close()
		request := &grpc_health_v1.HealthCheckRequest{}
		if p.GRPC.Service != nil {
			request.Service = *p.GRPC.Service
		}
		reply, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, request)
		if err == nil && reply.Status != grpc_health_v1.HealthCheckResponse_SERVING {
			err = fmt.Errorf("health %s", reply.Status)
		}
		return err
	case p.Exec != nil:
		return r.runInside(c, func(argv []string) *exec.Cmd { return exec.CommandContext(ctx, argv[0], argv[1:]...) }, p.Exec.Command)
	}
	return nil
}

func portNumber(c *corev1.Container, port intstr.IntOrString) int {
	if port.Type == intstr.Int {
		return port.IntValue()
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return int(p.ContainerPort)
		}
	}
	return 0
}

// watchProbe repeats a probe and reports each change of its verdict until the context ends. The first
// checks follow each other faster than the period, so that pods become ready without needless delay.
func (r *podRunner) watchProbe(ctx context.Context, c *container, p *corev1.Probe, startsHealthy bool, report func(bool)) {
	period := time.Duration(max(p.PeriodSeconds, 1)) * time.Second
	wait := time.Duration(p.InitialDelaySeconds) * time.Second
	healthy, good, bad := startsHealthy, int32(0), int32(0)
	for quick := 50 * time.Millisecond; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = period
		if err := r.probe(ctx, c, p); err == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
		}
		switch {
		case ctx.Err() != nil:
			return
		case !healthy && good >= max(p.SuccessThreshold, 1):
			healthy = true
			report(true)
		case healthy && bad >= max(p.FailureThreshold, 1):
			healthy = false
			report(false)
		case !healthy && !startsHealthy && quick < period:
			wait = quick
			quick *= 2
		}
	}
}

package node

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os/exec"
	"slices"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// network stands in for kube-proxy and a load balancer: it translates cluster, external and load balancer
// addresses to endpoints with nftables and hands out load balancer addresses.
type network struct {
	a       *agent
	pool    *addressPool
	given   map[types.UID]string // load balancer address of each Service
	changed chan struct{}
	rules   string
}

func newNetwork(a *agent) (*network, error) {
	pool, err := newAddressPool(a.lbCIDR, 16)
	if err != nil {
		return nil, err
	}
	n := &network{a: a, pool: pool, given: map[types.UID]string{}, changed: make(chan struct{}, 1)}
	notify := func(any) {
		select {
		case n.changed <- struct{}{}:
		default:
		}
	}
	onChange(a.caches.Core().V1().Services().Informer(), notify)
	onChange(a.caches.Discovery().V1().EndpointSlices().Informer(), notify)
	return n, nil
}

func (n *network) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
		}
		if err := n.sync(ctx); err != nil {
			log.Printf("network: %v", err)
			time.AfterFunc(time.Second, func() {
				select {
				case n.changed <- struct{}{}:
				default:
				}
			})
		}
		time.Sleep(20 * time.Millisecond) // collects what changes together
	}
}

// sync makes the rules fit all Services, then writes the load balancer addresses that became true.
func (n *network) sync(ctx context.Context) error {
	services, err := n.a.caches.Core().V1().Services().Lister().List(labels.Everything())
	if err != nil {
		return err
	}
	sort.Slice(services, func(i, j int) bool { return services[i].CreationTimestamp.Before(&services[j].CreationTimestamp) })
	n.allocate(services)
	rules, err := n.ruleset(services)
	if err != nil {
		return err
	}
	if rules != n.rules {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, bytes.TrimSpace(out))
		}
		n.rules = rules
	}
	for _, service := range services {
		if err := n.publish(ctx, service); err != nil {
			return err
		}
	}
	return nil
}

// allocate gives each LoadBalancer Service an address: the one it asks for, the one it has, or a fresh one.
// One that cannot be given leaves the Service without address.
func (n *network) allocate(services []*corev1.Service) {
	wanted := map[types.UID]bool{}
	for _, service := range services {
		wanted[service.UID] = service.Spec.Type == corev1.ServiceTypeLoadBalancer
	}
	for uid, ip := range n.given {
		if !wanted[uid] {
			n.pool.free(ip)
			delete(n.given, uid)
		}
	}
	for _, service := range services {
		if !wanted[service.UID] {
			continue
		}
		request := service.Spec.LoadBalancerIP
		have := n.given[service.UID]
		if have != "" && (request == "" || request == have) {
			continue
		}
		if have != "" {
			n.pool.free(have)
			delete(n.given, service.UID)
		}
		if old := service.Status.LoadBalancer.Ingress; request == "" && len(old) > 0 {
			request = old[0].IP // from an earlier run of the agent
		}
		if request != "" {
			if n.pool.claim(request) {
				n.given[service.UID] = request
			}
		} else if ip, err := n.pool.take(); err == nil {
			n.given[service.UID] = ip
		}
	}
}

func (n *network) publish(ctx context.Context, service *corev1.Service) error {
	mode := corev1.LoadBalancerIPModeVIP
	var want []corev1.LoadBalancerIngress
	if ip := n.given[service.UID]; ip != "" {
		want = []corev1.LoadBalancerIngress{{IP: ip, IPMode: &mode}}
	}
	have := service.Status.LoadBalancer.Ingress
	if len(want) == len(have) && (len(want) == 0 || want[0].IP == have[0].IP) {
		return nil
	}
	updated := service.DeepCopy()
	updated.Status.LoadBalancer.Ingress = want
	_, err := n.a.client.CoreV1().Services(service.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	return err
}

// ruleset writes the whole nftables table. Source addresses stay as they are, except where a pod reaches
// itself by a Service address.
func (n *network) ruleset(services []*corev1.Service) (string, error) {
	var entries, chains []string
	targets := map[string]string{} // endpoint chain to its rule
	for _, service := range services {
		endpoints, err := n.endpoints(service)
		if err != nil {
			return "", err
		}
		for _, port := range service.Spec.Ports {
			protocol := strings.ToLower(string(port.Protocol))
			var jumps []string
			for i, endpoint := range endpoints[port.Name+"/"+string(port.Protocol)] {
				chain := "ep_" + protocol + "_" + strings.NewReplacer(".", "_", ":", "_").Replace(endpoint)
				ip, _, _ := strings.Cut(endpoint, ":")
				targets[chain] = fmt.Sprintf("ip saddr %s meta mark set 1\n\t\tmeta l4proto %s dnat to %s", ip, protocol, endpoint)
				jumps = append(jumps, fmt.Sprintf("%d : goto %s", i, chain))
			}
			if len(jumps) == 0 {
				continue // rejected
			}
			name := fmt.Sprintf("svc_%s_%s_%d", strings.ReplaceAll(string(service.UID), "-", ""), protocol, port.Port)
			chains = append(chains, fmt.Sprintf("\tchain %s { numgen random mod %d vmap { %s }\n\t}\n", name, len(jumps), strings.Join(jumps, ", ")))
			for _, ip := range n.frontAddresses(service) {
				entries = append(entries, fmt.Sprintf("%s . %s . %d : goto %s", ip, protocol, port.Port, name))
			}
		}
	}
	slices.Sort(entries)
	entries = slices.CompactFunc(entries, func(a, b string) bool { return a[:strings.Index(a, " : ")] == b[:strings.Index(b, " : ")] })
	var b strings.Builder
	b.WriteString("table ip services { }\ndelete table ip services\ntable ip services {\n")
	for _, chain := range sortedKeys(targets) {
		fmt.Fprintf(&b, "\tchain %s {\n\t\t%s\n\t}\n", chain, targets[chain])
	}
	b.WriteString(strings.Join(chains, ""))
	b.WriteString("\tchain services {\n")
	if len(entries) > 0 {
		fmt.Fprintf(&b, "\t\tip daddr . meta l4proto . th dport vmap { %s }\n", strings.Join(entries, ",\n\t\t\t"))
	}
	b.WriteString("\t}\n")
	fmt.Fprintf(&b, `	chain prerouting { type nat hook prerouting priority dstnat; jump services
	}
	chain output { type nat hook output priority -100; jump services
	}
	chain postrouting { type nat hook postrouting priority srcnat; meta mark 1 masquerade
	}
	chain unserved { ip daddr { %[1]s, %[2]s } meta l4proto tcp reject with tcp reset
		ip daddr { %[1]s, %[2]s } reject
	}
	chain forward_unserved { type filter hook forward priority filter; jump unserved
	}
	chain output_unserved { type filter hook output priority filter; jump unserved
	}
}
`, n.a.serviceCIDR, n.a.lbCIDR)
	return b.String(), nil
}

// frontAddresses are the addresses under which a Service is reached.
func (n *network) frontAddresses(service *corev1.Service) []string {
	var result []string
	if ip := service.Spec.ClusterIP; ip != "" && ip != corev1.ClusterIPNone && !strings.Contains(ip, ":") {
		result = append(result, ip)
	}
	for _, ip := range service.Spec.ExternalIPs {
		if !strings.Contains(ip, ":") {
			result = append(result, ip)
		}
	}
	if ip := n.given[service.UID]; ip != "" {
		result = append(result, ip)
	}
	return result
}

// endpoints gives the ready "ip:port" targets of a Service by "port name/protocol".
func (n *network) endpoints(service *corev1.Service) (map[string][]string, error) {
	list, err := n.a.caches.Discovery().V1().EndpointSlices().Lister().EndpointSlices(service.Namespace).
		List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service.Name}))
	if err != nil {
		return nil, err
	}
	result := map[string][]string{}
	for _, slice := range list {
		if slice.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		for _, port := range slice.Ports {
			if port.Port == nil || port.Protocol == nil || port.Name == nil {
				continue
			}
			key := *port.Name + "/" + string(*port.Protocol)
			for _, endpoint := range slice.Endpoints {
				if isReady(endpoint) {
					result[key] = append(result[key], fmt.Sprintf("%s:%d", endpoint.Addresses[0], *port.Port))
				}
			}
		}
	}
	for key := range result {
		slices.Sort(result[key])
		result[key] = slices.Compact(result[key])
	}
	return result, nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// Package node is the node agent: it runs pods as local processes, each pod in its own network
// namespace, and stands in for scheduler, kubelet, kube-proxy, cluster DNS and load balancer.
package node

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// config is what the flags say.
type config struct {
	kubeconfig, images, dir, name, address   string
	podCIDR, serviceCIDR, lbCIDR, apiService string
	certFile, keyFile, containerProgram      string
	grace                                    time.Duration
}

// agent holds what all parts share.
type agent struct {
	config
	client  kubernetes.Interface
	caches  informers.SharedInformerFactory
	images  imageMap
	addrs   *addressPool
	pods    *podSet
	network *network
}

func init() {
	// Keeps other goroutines off the main thread: threads that enter a pod's namespaces are thrown
	// away afterwards, and the main thread must stay what /proc/PID/ns shows.
	runtime.LockOSThread()
}

// Main runs the node agent until it gets SIGTERM or SIGINT.
func Main() {
	var c config
	flag.StringVar(&c.kubeconfig, "kubeconfig", "", "kubeconfig file with full rights")
	flag.StringVar(&c.images, "images", "images.yaml", "image to program map")
	flag.StringVar(&c.dir, "dir", "", "state directory")
	flag.StringVar(&c.name, "name", "node", "node name")
	flag.StringVar(&c.address, "address", "10.244.0.1", "address of the node, gateway and DNS server of the pods")
	flag.StringVar(&c.podCIDR, "pod-cidr", "10.244.0.0/16", "addresses of pods; the first 256 stay free")
	flag.StringVar(&c.serviceCIDR, "service-cidr", "10.96.0.0/16", "cluster addresses of Services")
	flag.StringVar(&c.lbCIDR, "lb-cidr", "10.250.0.0/24", "load balancer addresses; the first 16 are given only on request")
	flag.StringVar(&c.apiService, "api-service-ip", "10.96.0.1", "cluster address of the API server")
	flag.StringVar(&c.certFile, "tls-cert-file", "", "certificate of the kubelet endpoint")
	flag.StringVar(&c.keyFile, "tls-private-key-file", "", "key of the kubelet endpoint")
	flag.StringVar(&c.containerProgram, "container", "", "the program that makes containers")
	flag.DurationVar(&c.grace, "max-grace", time.Hour, "upper bound of every pod's terminationGracePeriodSeconds")
	flag.Parse()
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	done := make(chan error)
	go func() { done <- run(ctx, c) }()
	if err := <-done; err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, c config) error {
	rest, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return err
	}
	rest.QPS, rest.Burst = 500, 1000
	rest.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return err
	}
	images, err := loadImages(c.images)
	if err != nil {
		return err
	}
	pods, err := newAddressPool(c.podCIDR, 256)
	if err != nil {
		return err
	}
	// Overlay file systems need an upper layer outside the lower one: hence a tmpfs.
	if err := os.MkdirAll(filepath.Join(c.dir, "pods"), 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", filepath.Join(c.dir, "pods"), "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount pod directory: %w", err)
	}
	a := &agent{config: c, client: client, images: images, addrs: pods}
	a.caches = informers.NewSharedInformerFactory(client, 0)
	a.pods = newPodSet(ctx, a)
	if a.network, err = newNetwork(a); err != nil {
		return err
	}
	a.caches.Start(ctx.Done())
	a.caches.WaitForCacheSync(ctx.Done())
	if err := a.register(ctx); err != nil {
		return err
	}
	go a.network.run(ctx)
	for _, serve := range []func(context.Context) error{a.serveKubelet, a.serveDNS} {
		go func() {
			if err := serve(ctx); err != nil && ctx.Err() == nil {
				log.Fatal(err)
			}
		}()
	}
	log.Print("ready")
	<-ctx.Done()
	a.pods.stopAll()
	return nil
}

// register creates or replaces the Node object. No taints, no Lease: the cluster runs no node lifecycle controller.
func (a *agent) register(ctx context.Context) error {
	capacity := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods: resource.MustParse("1000"), corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
	}
	now := metav1.Now()
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status, Reason: "AgentReady", LastHeartbeatTime: now, LastTransitionTime: now}
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: a.name, Labels: map[string]string{
			corev1.LabelHostname: a.name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: runtime.GOARCH,
		}},
		Spec: corev1.NodeSpec{PodCIDR: a.podCIDR, PodCIDRs: []string{a.podCIDR}},
		Status: corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity,
			Conditions: []corev1.NodeCondition{
				condition(corev1.NodeReady, corev1.ConditionTrue), condition(corev1.NodeMemoryPressure, corev1.ConditionFalse),
				condition(corev1.NodeDiskPressure, corev1.ConditionFalse), condition(corev1.NodePIDPressure, corev1.ConditionFalse),
			},
			Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: a.address}, {Type: corev1.NodeHostName, Address: a.name}},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: kubeletPort}},
			NodeInfo: corev1.NodeSystemInfo{
				KubeletVersion: "v1.36.3", OperatingSystem: "linux", Architecture: runtime.GOARCH,
				ContainerRuntimeVersion: "process://1", OSImage: "linux", KernelVersion: "linux",
			},
		},
	}
	_, err := a.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = a.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	}
	return err
}

func onChange(informer cache.SharedIndexInformer, handle func(any)) {
	_, _ = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: handle, UpdateFunc: func(_, object any) { handle(object) },
		DeleteFunc: func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			handle(object)
		},
	})
}

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

func init() { commands["pki"] = pki }

const kubeconfig = `apiVersion: v1
kind: Config
current-context: cluster
clusters: [{name: cluster, cluster: {server: "https://%s", certificate-authority: %q}}]
users: [{name: admin, user: {client-certificate: %q, client-key: %q}}]
contexts: [{name: cluster, context: {cluster: cluster, user: admin}}]
`

// pki DIR KUBECONFIG HOST:PORT IP... writes a CA, a server certificate for the IPs (API server and
// node agent), an admin client certificate, a service-account key and a kubeconfig.
func pki() {
	dir, config, server := os.Args[1], os.Args[2], os.Args[3]
	check(os.MkdirAll(dir, 0o700))
	file := func(name string) string { return filepath.Join(dir, name) }
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "cluster-ca"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	caKey := issue(file("ca"), ca, ca, nil)

	serving := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "cluster"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
	}
	for _, ip := range os.Args[4:] {
		serving.IPAddresses = append(serving.IPAddresses, net.ParseIP(ip))
	}
	issue(file("server"), serving, ca, caKey)
	issue(file("admin"), &x509.Certificate{
		Subject:     pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca, caKey)

	account := newKey(file("service-account.key"))
	public, err := x509.MarshalPKIXPublicKey(account.Public())
	check(err)
	writePEM(file("service-account.pub"), "PUBLIC KEY", public)
	text := fmt.Sprintf(kubeconfig, server, file("ca.crt"), file("admin.crt"), file("admin.key"))
	check(os.WriteFile(config, []byte(text), 0o600))
}

func issue(path string, cert, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	key := newKey(path + ".key")
	if parentKey == nil {
		parentKey = key
	}
	cert.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	if !cert.IsCA {
		cert.KeyUsage = x509.KeyUsageDigitalSignature
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), parentKey)
	check(err)
	writePEM(path+".crt", "CERTIFICATE", der)
	return key
}

func newKey(path string) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	der, err := x509.MarshalECPrivateKey(key)
	check(err)
	writePEM(path, "EC PRIVATE KEY", der)
	return key
}

func writePEM(path, kind string, der []byte) {
	check(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

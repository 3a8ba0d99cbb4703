package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

// documentedUser makes the user whose line the package's documentation has after the words there, and returns its name and password. What it has
// after each of more goes along.
func documentedUser(t *testing.T, s *testserver.RedisServer, after string, more ...string) (name, password string) {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, words := range append([]string{after}, more...) {
		_, line, ok := strings.Cut(string(text), words)
		if !ok {
			t.Fatalf("the documentation does not say %q", words)
		}
		_, line, _ = strings.Cut(line, "//\t")
		line, _, _ = strings.Cut(line, "\n//\n")
		line, _, _ = strings.Cut(line, "\npackage")
		args = append(args, strings.Fields(strings.ReplaceAll(line, "//", " "))...)
	}
	for i := range args {
		args[i] = strings.Replace(args[i], ">PASSWORD", ">secret", 1)
	}
	s.Do(args...)
	return args[2], "secret"
}

// certificate writes a certificate for 127.0.0.1 and its key, and returns the paths and who trusts it.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool = x509.NewCertPool()
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool.AppendCertsFromPEM(certPEM)
	err = errors.Join(os.WriteFile(cert, certPEM, 0o600), os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, pool
}

func TestTheDocumentedUserIsEnoughOverTLSInAnotherDatabase(t *testing.T) {
	t.Parallel()
	cert, key, pool := certificate(t)
	address := testserver.FreeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	server := testserver.Redis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	name, password := documentedUser(t, server, "A user of the server")
	o := Options{Options: redisconn.Options{Addresses: []string{address}, Username: name, Password: password, DB: 3, TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	suite(t, o)

	other := o
	other.Prefix = "elsewhere:"
	if err := open(t, other).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "permissions that are needed") {
		t.Errorf("outside of its prefix: %v", err)
	}
	other = o
	other.Password = "wrong"
	if err := open(t, other).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "refuses the user name or password") {
		t.Errorf("wrong password: %v", err)
	}
	other = o
	other.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if err := open(t, other).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown certificate: %v", err)
	}
}

func TestAClusterWillDo(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t, "--cluster-enabled", "yes")
	server.Do("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	name, password := documentedUser(t, server, "A user of the server", "In a Cluster")
	o := Options{Options: redisconn.Options{Addresses: []string{server.Address}, Cluster: true, Username: name, Password: password}}
	s := open(t, o)
	await(t, "the cluster to be complete", func() bool { return s.Ping(t.Context()) == nil })
	suite(t, o)
}

func TestAUnixSocketWillDo(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t, "--port", "0")
	if err := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Socket}}}).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// await waits until something that is bound to happen has happened.
func await(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !happened(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s for a minute", what)
		}
	}
}

func TestSentinelsLeadToTheNewMaster(t *testing.T) {
	t.Parallel()
	master := testserver.Redis(t)
	replica := testserver.Redis(t, "--replicaof", "127.0.0.1 "+master.Port())
	await(t, "the replica to follow", func() bool { return master.Do("WAIT", "1", "100") == ":1" })
	sentinel := testserver.Sentinel(t, "main", master)
	await(t, "the sentinel to know the replica", func() bool {
		return strings.HasPrefix(sentinel.Do("SENTINEL", "REPLICAS", "main"), "*1")
	})
	name, password := documentedUser(t, sentinel, "A user of the Sentinels")
	s := open(t, Options{
		Options: redisconn.Options{Addresses: []string{sentinel.Address}, SentinelMaster: "main", SentinelUsername: name, SentinelPassword: password, Timeout: time.Second},
	})
	if err := s.Queue().Append(t.Context(), queue.Batch{Body: []byte("before"), Events: 1}); err != nil {
		t.Fatal(err)
	}
	await(t, "the replica to have it", func() bool { return master.Do("WAIT", "1", "100") == ":1" })
	bs, err := s.Queue().Next(t.Context(), 1)
	if err != nil || string(bs[0].Body) != "before" {
		t.Fatal(bs, err)
	}
	rung := make(chan struct{})
	listening, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.Listen(listening, func() {
			select {
			case rung <- struct{}{}:
			case <-listening.Done():
			}
		})
	}()
	<-rung

	master.Kill()
	<-rung // it has subscribed again, or is told at once when it does
	await(t, "the replica to be promoted and found", func() bool {
		return s.Queue().Append(t.Context(), queue.Batch{Body: []byte("after")}) == nil
	})
	if err := s.Queue().Ack(t.Context(), bs[0].ID); err != nil {
		t.Error(err)
	}
	for body := ""; body != "after"; {
		next, err := s.Queue().Next(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		body = string(next[len(next)-1].Body)
	}
	if got := replica.Do("EXISTS", s.key("queue")); got != ":1" {
		t.Errorf("the replica says %s", got)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNonsenseOptionsAreRefused(t *testing.T) {
	t.Parallel()
	one := []string{"127.0.0.1:6379"}
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"no address":               {Options{}, "no address"},
		"no port":                  {Options{Options: redisconn.Options{Addresses: []string{"redis"}}}, "not host:port"},
		"a URL":                    {Options{Options: redisconn.Options{Addresses: []string{"redis://a:1"}}}, "not host:port"},
		"two addresses":            {Options{Options: redisconn.Options{Addresses: []string{"a:1", "b:1"}}}, "say which"},
		"both kinds":               {Options{Options: redisconn.Options{Addresses: one, Cluster: true, SentinelMaster: "m"}}, "choose one"},
		"a socket in a cluster":    {Options{Options: redisconn.Options{Addresses: []string{"/run/redis.sock"}, Cluster: true}}, "no Unix socket"},
		"a database below zero":    {Options{Options: redisconn.Options{Addresses: one, DB: -1}}, "no database -1"},
		"a database in a cluster":  {Options{Options: redisconn.Options{Addresses: one, Cluster: true, DB: 1}}, "database 0 only"},
		"a negative bound":         {Options{Options: redisconn.Options{Addresses: one}, QueueBytes: -1}, "below zero"},
		"a negative time":          {Options{Options: redisconn.Options{Addresses: one, Timeout: -1}}, "below zero"},
		"a prefix with a hash tag": {Options{Options: redisconn.Options{Addresses: one, Prefix: "{a}:"}}, `contains '{'`},
		"a prefix with a pattern":  {Options{Options: redisconn.Options{Addresses: one, Prefix: "a*"}}, `contains '*'`},
		"a prefix with a newline":  {Options{Options: redisconn.Options{Addresses: one, Prefix: "a\n"}}, `contains '\n'`},
		"a prefix in UTF-8":        {Options{Options: redisconn.Options{Addresses: one, Prefix: "é"}}, "contains 'é'"},
		"a long prefix":            {Options{Options: redisconn.Options{Addresses: one, Prefix: strings.Repeat("p", 129)}}, "at most 128"},
	} {
		s, err := Open(t.Context(), c.o)
		if err == nil {
			s.Close()
			t.Errorf("%s: taken", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

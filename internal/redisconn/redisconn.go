// Package redisconn connects to Redis or Valkey: a server, a Cluster, or one that Sentinels watch.
package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Defaults of the Options.
const (
	DefaultPrefix  = "quickthorn:"
	DefaultTimeout = 2 * time.Second
)

// maxPrefix is the length of the longest prefix, in bytes.
const maxPrefix = 128

// Options say which server to use.
type Options struct {
	// Addresses are "host:port", or the path of a Unix socket: of the server, of a few nodes of the Cluster, or of the Sentinels.
	Addresses []string
	Username  string // "" for the server's default user
	Password  string
	DB        int         // number of the database; 0 in a Cluster
	TLS       *tls.Config // nil: no TLS

	SentinelMaster   string // name under which Sentinels know the server; "" when there are none
	SentinelUsername string // for the Sentinels themselves
	SentinelPassword string

	Cluster bool // Addresses are nodes of a Cluster

	// Prefix begins every key and channel, so that several installations can share a server; "" is DefaultPrefix. It
	// cannot hold spaces or any of {}*?[]\.
	Prefix  string
	Timeout time.Duration // of a call, connecting included; 0: DefaultTimeout
	Longest time.Duration // of any call, for those whose contexts give them more; 0: Timeout
}

// Check completes the options and says what is wrong with them.
func (o *Options) Check() error {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Longest == 0 {
		o.Longest = o.Timeout
	}
	switch {
	case len(o.Addresses) == 0:
		return errors.New("no address")
	case o.Cluster && o.SentinelMaster != "":
		return errors.New("a Cluster is not watched by Sentinels: choose one of them")
	case !o.Cluster && o.SentinelMaster == "" && len(o.Addresses) > 1:
		return errors.New("several addresses are those of a Cluster or of Sentinels: say which")
	case o.DB < 0 || o.DB > 1<<20:
		return fmt.Errorf("there is no database %d", o.DB)
	case o.Cluster && o.DB != 0:
		return fmt.Errorf("a Cluster has the database 0 only, not %d", o.DB)
	case o.Timeout < 0:
		return errors.New("a bound below zero")
	case len(o.Prefix) > maxPrefix:
		return fmt.Errorf("a prefix of %d bytes, at most %d", len(o.Prefix), maxPrefix)
	}
	for _, r := range o.Prefix {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`{}*?[]\`, r) {
			return fmt.Errorf("the prefix %q contains %q", o.Prefix, r)
		}
	}
	for _, a := range o.Addresses {
		if strings.HasPrefix(a, "/") {
			if o.Cluster || o.SentinelMaster != "" {
				return fmt.Errorf("the address %q: a Cluster or Sentinel has no Unix socket", a)
			}
			continue
		}
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return fmt.Errorf("the address %q is not host:port", a)
		}
	}
	return nil
}

// silence stops the client library from writing a line to the standard error for every failed dial: what fails is
// returned, and said once by who asked. Its logger is one for the whole process, so that it is set before the first use and only then.
var silence = sync.OnceFunc(func() { goredis.SetLogger(silent{}) })

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// New returns the client for the kind of server. The options are those that Check has completed; it does not connect yet. Nothing is tried again unasked: whether a call that failed may be repeated,
// its caller knows.
func New(o Options) goredis.UniversalClient {
	silence()
	longest := o.Longest
	switch {
	case o.Cluster:
		return goredis.NewClusterClient(&goredis.ClusterOptions{
			Addrs: o.Addresses, Username: o.Username, Password: o.Password, TLSConfig: o.TLS,
			Protocol: 2, MaxRetries: -1, DialerRetries: 1, DialTimeout: o.Timeout, PoolTimeout: o.Timeout,
			ReadTimeout: longest, WriteTimeout: longest, ContextTimeoutEnabled: true, DisableIdentity: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
	case o.SentinelMaster != "":
		return goredis.NewFailoverClient(&goredis.FailoverOptions{
			MasterName: o.SentinelMaster, SentinelAddrs: o.Addresses, SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
			Username: o.Username, Password: o.Password, DB: o.DB, TLSConfig: o.TLS,
			Protocol: 2, MaxRetries: -1, DialerRetries: 1, DialTimeout: o.Timeout, PoolTimeout: o.Timeout,
			ReadTimeout: longest, WriteTimeout: longest, ContextTimeoutEnabled: true, DisableIdentity: true,
		})
	}
	return goredis.NewClient(&goredis.Options{
		Addr: o.Addresses[0], Username: o.Username, Password: o.Password, DB: o.DB, TLSConfig: o.TLS,
		Protocol: 2, MaxRetries: -1, DialerRetries: 1, DialTimeout: o.Timeout, PoolTimeout: o.Timeout,
		ReadTimeout: longest, WriteTimeout: longest, ContextTimeoutEnabled: true, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// Explain adds what an operator can do about the errors of a server.
func Explain(err error) error {
	for _, e := range [...]struct{ code, hint string }{
		{"OOM", "the Redis server has no memory left (maxmemory)"},
		{"MISCONF", "the Redis server cannot write to its disk"},
		{"READONLY", "the Redis server is a replica and takes no writes"},
		{"LOADING", "the Redis server is still reading its data"},
		{"MASTERDOWN", "the Redis server has lost its master"},
		{"NOREPLICAS", "the Redis server has too few replicas"},
		{"CLUSTERDOWN", "the Redis Cluster is incomplete"},
		{"BUSY", "the Redis server is busy with a script"},
		{"NOAUTH", "the Redis server wants a password"},
		{"WRONGPASS", "the Redis server refuses the user name or password"},
		{"NOPERM", "the Redis user may not do this: see the documentation for the permissions that are needed"},
		{"WRONGTYPE", "a key is used by something else: choose another prefix"},
	} {
		if goredis.HasErrorPrefix(err, e.code+" ") {
			return fmt.Errorf("%s: %w", e.hint, err)
		}
	}
	return err
}

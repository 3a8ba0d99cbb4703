package redisconn

import (
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/service"
)

// Configured are the options of a configuration. The error says which setting is wrong.
func Configured(r *config.Redis) (Options, error) {
	addresses := make([]string, len(r.Addresses))
	for i, a := range r.Addresses {
		addresses[i] = strings.TrimPrefix(a, "unix:")
	}
	o := Options{
		Addresses: addresses, Username: r.Username, Password: r.Password, DB: r.DB, SentinelMaster: r.SentinelMaster,
		SentinelUsername: r.SentinelUsername, SentinelPassword: r.SentinelPassword, Cluster: r.Cluster, Prefix: r.Prefix,
	}
	if r.TLS {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		if r.CAFile != "" {
			pool, err := service.Authority(r.CAFile)
			if err != nil {
				return o, fmt.Errorf("state.redis.caFile: %w", err)
			}
			o.TLS.RootCAs = pool
		}
	}
	if err := o.Check(); err != nil {
		return o, fmt.Errorf("state.redis: %w", err)
	}
	return o, nil
}

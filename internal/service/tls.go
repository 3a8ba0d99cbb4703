package service

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/quickthorn/quickthorn/internal/config"
)

// serverTLS is the TLS of a service's own port: callers may show a certificate of the authority instead of a key.
func serverTLS(c *config.Internal) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.CertificateFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("internal.certificateFile: %w", err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if c.CAFile != "" {
		if t.ClientCAs, err = Authority(c.CAFile); err != nil {
			return nil, err
		}
		t.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return t, nil
}

// Authority reads certificates of authorities.
func Authority(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read authorities: %s holds no certificate in PEM", file)
	}
	return pool, nil
}

// InternalClient returns a client that calls other services of ours: it trusts their authority and shows this process's certificate, where there are any.
func InternalClient(c *config.Internal) (*http.Client, error) {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 70 * time.Second,
	}
	if c.CertificateFile != "" || c.CAFile != "" {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if c.CAFile != "" {
			pool, err := Authority(c.CAFile)
			if err != nil {
				return nil, err
			}
			t.TLSClientConfig.RootCAs = pool
		}
		if c.CertificateFile != "" {
			pair, err := tls.LoadX509KeyPair(c.CertificateFile, c.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("internal.certificateFile: %w", err)
			}
			t.TLSClientConfig.Certificates = []tls.Certificate{pair}
		}
	}
	return &http.Client{
		Transport: t,
		// A service of ours never sends elsewhere; whoever does would get the key.
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("a service must not redirect") },
	}, nil
}

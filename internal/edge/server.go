package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Connections bounds and counts the client connections of all public listeners together.
type Connections struct {
	open    atomic.Int64
	refused atomic.Uint64
	max     int64
}

// Connections sets how many client connections there may be at once and returns the counter
// for the servers. Call it once, before serving.
func (e *Edge) Connections(max int) *Connections {
	e.connections.max = int64(max)
	return &e.connections
}

// Limits bound what one connection may cost. Zero durations mean no limit.
type Limits struct {
	HeaderBytes   int           // largest request header
	HeaderTimeout time.Duration // for a request header to arrive
	IdleTimeout   time.Duration // between requests
	WriteIdle     time.Duration // for the client to take the next piece of an answer
	Connections   *Connections
}

// Server serves the edge on one public listener.
type Server struct {
	listener net.Listener
	http     *http.Server
	tls      bool
	// stop ends upgraded connections, which http.Server.Shutdown does not know.
	stop context.CancelFunc
}

// NewServer returns a server on l. wrap, which may be nil, goes between the bounded
// listener and TLS: the PROXY header comes before the ClientHello. A nil certificate serves HTTP/1.1
// and, by prior knowledge, HTTP/2 without TLS; otherwise HTTPS with HTTP/1.1 and HTTP/2.
func NewServer(e *Edge, l net.Listener, wrap func(net.Listener) net.Listener, cert *Certificate, limits Limits, log *slog.Logger) *Server {
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{stop: stop, tls: cert != nil}
	l = &guardedListener{Listener: l, connections: limits.Connections, writeIdle: limits.WriteIdle}
	if wrap != nil {
		l = wrap(l)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	if cert == nil {
		protocols.SetUnencryptedHTTP2(true)
	} else {
		protocols.SetHTTP2(true)
	}
	s.listener = l
	s.http = &http.Server{
		Handler: e, Protocols: &protocols, ReadHeaderTimeout: limits.HeaderTimeout, IdleTimeout: limits.IdleTimeout, MaxHeaderBytes: limits.HeaderBytes,
		// net/http would answer "OPTIONS *" itself; it is the site's to answer.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: 250, SendPingTimeout: limits.IdleTimeout / 2, WriteByteTimeout: limits.WriteIdle},
	}
	if cert != nil {
		s.http.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get}
	}
	return s
}

// Addr is the listener's address.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// TLS reports whether the listener speaks HTTPS.
func (s *Server) TLS() bool { return s.tls }

// Serve serves until Shutdown or Close. It returns nil then.
func (s *Server) Serve() error {
	var err error
	if s.tls {
		err = s.http.ServeTLS(s.listener, "", "")
	} else {
		err = s.http.Serve(s.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("public listener %s: %w", s.Addr(), err)
}

// Shutdown stops accepting and waits for requests under way. When ctx ends, those left are cut off.
// Upgraded connections have no end of their own: they are closed once the requests are done.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	s.stop()
	if err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// Close closes the listener and every connection.
func (s *Server) Close() error {
	s.stop()
	err := s.http.Close()
	// A server that never served does not know its listener.
	if e := s.listener.Close(); !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// Certificate is a certificate and key on disk, read again when the files change.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex // held while files are read: by one handshake a minute at most
	current atomic.Pointer[tls.Certificate]
	read    time.Time // when the files were last looked at
	stamp   [2]time.Time
}

// certificateAge is how long a certificate is used before its files are looked at again.
const certificateAge = time.Minute

// LoadCertificate reads a certificate chain and its key, both PEM.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.load(time.Now()); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Certificate) load(now time.Time) error {
	c.read = now
	var stamp [2]time.Time
	for i, name := range []string{c.certFile, c.keyFile} {
		fi, err := os.Stat(name)
		if err != nil {
			return fmt.Errorf("read certificate: %w", err)
		}
		stamp[i] = fi.ModTime()
	}
	if c.current.Load() != nil && stamp == c.stamp {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read certificate %q with key %q: %w", c.certFile, c.keyFile, err)
	}
	c.stamp = stamp
	c.current.Store(&pair)
	return nil
}

// Reload looks at the files now, as on SIGHUP. On an error the old certificate stays in use.
func (c *Certificate) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.load(time.Now())
}

// get serves a handshake. A renewal that cannot be read leaves the old certificate in use.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	// Only one handshake looks at the files; the others do not wait for it.
	if c.mu.TryLock() {
		if now := time.Now(); now.Sub(c.read) > certificateAge {
			if err := c.load(now); err != nil {
				c.log.Error("the certificate could not be renewed; the old one stays in use", "error", err)
			}
		}
		c.mu.Unlock()
	}
	return c.current.Load(), nil
}

// crowded is the share of client connections from which the rest is kept for readers.
const crowded = 0.9

// Crowded reports whether most of the client connections that there may be are in use.
func (e *Edge) Crowded() bool {
	return float64(e.connections.open.Load()) > crowded*float64(e.connections.max)
}

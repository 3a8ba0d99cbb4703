package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// checkAfter is how long a connection may have been idle before it is tried with an empty question: the server or
	// something on the way may have dropped it.
	checkAfter = time.Second
	checkTime  = 5 * time.Second
	// dropAfter is how long connections are kept that nobody needs.
	dropAfter = 5 * time.Minute
	// byeTime bounds how long a connection's end may take.
	byeTime = 2 * time.Second
)

var errClosed = errors.New("the archive is closed")

// pool is a bounded number of connections. It has no goroutines of its own.
type pool struct {
	config *pgx.ConnConfig
	slots  chan struct{} // one entry for each connection in use

	mu     sync.Mutex
	idle   []idleConn // the longest idle first
	closed bool
}

type idleConn struct {
	*pgx.Conn
	since time.Time // by the process's clock
}

func newPool(config *pgx.ConnConfig, size int) *pool {
	return &pool{config: config, slots: make(chan struct{}, size)}
}

// with calls do with a connection, waiting until one is free.
func (p *pool) with(ctx context.Context, do func(*pgx.Conn) error) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return fmt.Errorf("waiting for a connection to PostgreSQL: %w", context.Cause(ctx))
	}
	c, err := p.take(ctx)
	if err != nil {
		return err
	}
	used := false
	defer func() {
		if used {
			p.give(c)
		} else { // it panicked, or the server is not what it was
			bye(c)
		}
	}()
	err = do(c)
	used = !demoted(err)
	return err
}

// demoted reports whether the server refuses to write: another one has taken its place.
func demoted(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "25006" // read-only transaction
}

// take returns an idle connection that works, or a new one.
func (p *pool) take(ctx context.Context) (*pgx.Conn, error) {
	for {
		c, closed := p.pop()
		switch {
		case closed:
			return nil, errClosed
		case c.Conn == nil:
			return pgx.ConnectConfig(ctx, p.config)
		case time.Since(c.since) < checkAfter || alive(ctx, c.Conn):
			return c.Conn, nil
		}
		bye(c.Conn)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// pop returns the connection that was used last, and ends those that nobody has needed for long.
func (p *pool) pop() (c idleConn, closed bool) {
	var old []idleConn
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c = p.idle[n-1]
		p.idle = p.idle[:n-1]
	}
	for len(p.idle) > 0 && time.Since(p.idle[0].since) > dropAfter {
		old, p.idle = append(old, p.idle[0]), p.idle[1:]
	}
	closed = p.closed
	p.mu.Unlock()
	for _, o := range old {
		bye(o.Conn)
	}
	return c, closed
}

func alive(ctx context.Context, c *pgx.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	return c.Ping(ctx) == nil
}

// give puts a connection back, if it can be used again.
func (p *pool) give(c *pgx.Conn) {
	p.mu.Lock()
	if !p.closed && !c.IsClosed() && !c.PgConn().IsBusy() && c.PgConn().TxStatus() == 'I' {
		p.idle = append(p.idle, idleConn{c, time.Now()})
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	bye(c)
}

// bye ends a connection, which may be broken: nothing follows from an error.
func bye(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), byeTime)
	defer cancel()
	_ = c.Close(ctx)
}

// close ends the idle connections at once and waits until the others have been given back.
func (p *pool) close() error {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		bye(c.Conn)
	}
	give := time.NewTimer(callTime)
	defer give.Stop()
	for i := range cap(p.slots) {
		select {
		case p.slots <- struct{}{}:
			defer func() { <-p.slots }() // who comes later is told that it is closed
		case <-give.C:
			return fmt.Errorf("%d connections are still in use", cap(p.slots)-i)
		}
	}
	return nil
}

// broken reports whether err says that the connection is of no more use for a reason other than the context.
func broken(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var n net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &n) ||
		err.Error() == "conn closed" || err.Error() == "unexpected EOF"
}

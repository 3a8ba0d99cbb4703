// Package postgres keeps the archive of events and cases in PostgreSQL, for more than one machine.
//
// Its tables are in the schema "quickthorn" of the database, which the role must own or be allowed to create. Whoever
// comes first makes them, under a lock; several programs may use one archive. Events lie in a partition for each day
// (UTC), so that what is too old is dropped rather than deleted, and what is far from today in a partition for the rest.
//
// The server may be away when the archive is opened and at any time later: calls then fail with an error that says so, and
// work again when the server does. What Append has acknowledged is committed; with the server's default settings that is on its disk.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quickthorn/quickthorn/internal/privacy"
	"github.com/quickthorn/quickthorn/internal/store"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrAway means that the server cannot be reached or has broken the connection.
	ErrAway = errors.New("the archive's PostgreSQL server is away")
	// ErrFull means that the server's disk is full.
	ErrFull = errors.New("no space left for the archive")
	// ErrForeign means that the schema "quickthorn" has tables, but not ours. They are never touched.
	ErrForeign = errors.New(`the database has a schema "quickthorn" that is not an archive of quickthorn`)
	// ErrNewer means that a newer version of quickthorn has changed the tables in a way that this one cannot use.
	ErrNewer = errors.New("the archive was written by a newer quickthorn")
)

// Schema is the name of the database schema that holds the tables.
const Schema = "quickthorn"

// How long calls may take, beside what their context says.
const (
	connectTime  = 5 * time.Second  // unless the URL says otherwise
	callTime     = time.Minute      // of what is asked or appended
	upkeepTime   = 30 * time.Minute // of pruning and erasing
	lockTime     = 10 * time.Second // waiting for a lock of another program
	migrateTime  = 2 * time.Minute  // waiting for another program that brings the tables up to date
	idleInTxTime = time.Minute
)

// Options are the settings of an archive. URL, Now and Log are required.
type Options struct {
	URL            string // "postgres://user:password@host/database?sslmode=verify-full", or key=value pairs as of libpq
	Password       string // where the URL has none
	MaxConnections int    // at most; 0: 8
	Privacy        privacy.Settings
	Now            func() time.Time
	Log            *slog.Logger // told when the server goes and comes back
}

// Archive is an archive in a database. It is safe for concurrent use.
type Archive struct {
	o       Options
	pool    *pool
	privacy *privacy.Masker
	away    *telemetry.State

	ready atomic.Bool   // the tables are up to date
	gate  chan struct{} // held by who brings them up to date

	mu      sync.Mutex
	days    map[int64]bool // that have a partition
	horizon time.Duration  // events older than that have none; see Prune
}

var _ store.Archive = (*Archive)(nil)

// Open returns the archive at the URL. It does not wait for the server: each call connects if need be, and the first that reaches
// the server brings the tables up to date. The error is about the options.
func Open(_ context.Context, o Options) (*Archive, error) {
	if err := o.Privacy.Validate(); err != nil {
		return nil, fmt.Errorf("opening the archive in PostgreSQL: %w", err)
	}
	config, err := pgx.ParseConfig(o.URL) // its error shows no password
	if err != nil {
		return nil, fmt.Errorf("opening the archive in PostgreSQL: %w", err)
	}
	if config.Password == "" {
		config.Password = o.Password
	}
	if o.MaxConnections < 0 {
		return nil, fmt.Errorf("opening the archive in PostgreSQL: %d connections", o.MaxConnections)
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 8
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTime
	}
	for name, value := range map[string]string{
		"application_name":                    "quickthorn",
		"statement_timeout":                   millis(callTime),
		"lock_timeout":                        millis(lockTime),
		"idle_in_transaction_session_timeout": millis(idleInTxTime),
		"jit":                                 "off", // it costs more than short queries over many partitions take
	} {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
	config.RuntimeParams["search_path"] = Schema
	config.RuntimeParams["client_encoding"] = "UTF8"
	config.RuntimeParams["timezone"] = "UTC"
	return &Archive{
		o: o, pool: newPool(config, o.MaxConnections), privacy: o.Privacy.Masker(),
		away: telemetry.NewState(o.Log, "the archive's PostgreSQL server is away", "the archive's PostgreSQL server is back", o.Now),
		gate: make(chan struct{}, 1), days: map[int64]bool{}, horizon: maxHorizon,
	}, nil
}

func millis(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

// Close ends the connections, after the calls that use them. The archive must not be used afterwards.
func (a *Archive) Close() error {
	if err := a.pool.close(); err != nil {
		return fmt.Errorf("closing the archive in PostgreSQL: %w", err)
	}
	return nil
}

// Ping asks the server for an answer; the error says why there is none.
func (a *Archive) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return a.use(ctx, func(c *pgx.Conn) error { return c.Ping(ctx) })
}

// Size returns the bytes that the archive's tables and indexes take on the server's disk.
func (a *Archive) Size() (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	n, err := a.size(ctx)
	if err != nil {
		return 0, fmt.Errorf("measuring the archive: %w", err)
	}
	return n, nil
}

func (a *Archive) size(ctx context.Context) (n int64, err error) {
	err = a.use(ctx, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, `SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
			JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r'`, Schema).Scan(&n)
	})
	return n, err
}

// use calls do with a connection to a server whose tables are up to date.
func (a *Archive) use(ctx context.Context, do func(*pgx.Conn) error) error {
	err := a.ensure(ctx)
	if err == nil {
		err = a.pool.with(ctx, do)
	}
	err = explain(err)
	if gone(err) {
		// Somebody has removed the tables, or put an older copy of the database in place: look again next time.
		a.forget()
	}
	if errors.Is(err, ErrAway) || err == nil {
		a.away.Report(err)
	}
	return err
}

// write runs do in a transaction. It is run again when the server asks for that.
func (a *Archive) write(ctx context.Context, do func(pgx.Tx) error) (err error) {
	for range 3 {
		err = a.use(ctx, func(c *pgx.Conn) error { return pgx.BeginFunc(ctx, c, do) })
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Code != "40P01" && e.Code != "40001" { // deadlock, serialization failure
			break
		}
	}
	return err
}

// ensure brings the tables up to date once.
func (a *Archive) ensure(ctx context.Context) error {
	if a.ready.Load() {
		return nil
	}
	select {
	case a.gate <- struct{}{}:
		defer func() { <-a.gate }()
	case <-ctx.Done():
		return fmt.Errorf("waiting for the archive's tables: %w", context.Cause(ctx))
	}
	if a.ready.Load() {
		return nil
	}
	if err := a.pool.with(ctx, func(c *pgx.Conn) error { return migrate(ctx, c, migrations) }); err != nil {
		return err
	}
	a.ready.Store(true)
	return nil
}

// forget lets the next call look at the tables again.
func (a *Archive) forget() {
	a.ready.Store(false)
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.days)
}

// gone reports whether a table or the schema that ought to be there is not.
func gone(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "42P01" || e.Code == "3F000")
}

// explain wraps an error in the one of ours that applies.
func explain(err error) error {
	var e *pgconn.PgError
	var c *pgconn.ConnectError
	switch {
	case err == nil, errors.Is(err, ErrAway), errors.Is(err, ErrFull):
		return err
	case errors.As(err, &e):
		switch {
		case e.Code == "53100":
			return fmt.Errorf("%w: %w", ErrFull, err)
		case len(e.Code) == 5 && (e.Code[:2] == "57" && e.Code != "57014" || e.Code[:2] == "08" || e.Code == "53300") || demoted(err):
			return fmt.Errorf("%w: %w", ErrAway, err) // shutting down, starting up, too many connections, a standby
		}
		return err
	case errors.As(err, &c), broken(err):
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return err
}

package postgres

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
	"github.com/quickthorn/quickthorn/internal/testlog"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

func TestTheArchiveOpensWithoutAServerAndUsesItWhenItComes(t *testing.T) {
	s := testserver.Postgres(t)
	url := s.Database(t)
	s.Stop()
	var log testlog.Buffer
	o := options(url)
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	a := open(t, o)
	for range 3 {
		if err := a.Ping(t.Context()); !errors.Is(err, ErrAway) {
			t.Fatalf("ping without a server: %v", err)
		}
	}
	if _, err := a.Append(t.Context(), []*defense.Event{storetest.Event(1)}); !errors.Is(err, ErrAway) {
		t.Errorf("append without a server: %v", err)
	}
	if _, err := a.Events(t.Context(), record.Filter{}); !errors.Is(err, ErrAway) {
		t.Errorf("events without a server: %v", err)
	}
	s.Start()
	if _, err := a.Append(t.Context(), []*defense.Event{storetest.Event(1)}); err != nil {
		t.Fatal(err)
	}
	if err := a.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Count(text, "is away") < 1 || strings.Count(text, "level=ERROR") != 1 || strings.Count(text, "is back") != 1 {
		t.Errorf("not said once each:\n%s", text)
	}
}

func TestWhatWasAcknowledgedSurvivesTheEndOfTheServer(t *testing.T) {
	s := testserver.Postgres(t)
	a := open(t, options(s.Database(t)))
	acknowledged := 0
	send := func() error {
		_, err := a.Append(t.Context(), []*defense.Event{storetest.Event(acknowledged), storetest.Event(acknowledged + 1)})
		if err == nil {
			acknowledged += 2
		}
		return err
	}
	for _, end := range []func(){s.Stop, s.Kill} {
		for range 10 {
			if err := send(); err != nil {
				t.Fatal(err)
			}
		}
		end()
		if err := send(); !errors.Is(err, ErrAway) {
			t.Errorf("append to a server that has ended: %v", err)
		}
		s.Start()
		// The connections of before are dead, which is nothing that the first caller has to bear.
		if err := send(); err != nil {
			t.Errorf("after a restart: %v", err)
		}
	}
	page, err := a.Events(t.Context(), record.Filter{Limit: 1000})
	if err != nil || len(page.Events) != acknowledged {
		t.Errorf("%d events, %v; want %d", len(page.Events), err, acknowledged)
	}
}

func TestAServerThatEndsUnderLoadLosesNothingAcknowledged(t *testing.T) {
	s := testserver.Postgres(t)
	a := open(t, options(s.Database(t)))
	if err := a.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	began := make(chan struct{}, 4)
	const writers, each = 4, 40
	for w := range writers {
		g.Go(func() error {
			for n := range each {
				e := []*defense.Event{storetest.Event(w*each + n)}
				for {
					_, err := a.Append(context.Background(), e) // sent again until it is acknowledged
					if err == nil {
						break
					}
					if !errors.Is(err, ErrAway) {
						return err
					}
					time.Sleep(5 * time.Millisecond)
				}
				if n == each/4 {
					began <- struct{}{}
				}
			}
			return nil
		})
	}
	<-began
	s.Kill()
	s.Start()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	page, err := a.Events(t.Context(), record.Filter{Limit: 1000})
	if err != nil || len(page.Events) != writers*each {
		t.Errorf("%d events, %v; want %d, each once", len(page.Events), err, writers*each)
	}
}

func TestProgramsThatStartAtOnceMakeTheTablesOnce(t *testing.T) {
	url := database(t)
	var g errgroup.Group
	for n := range 6 {
		a := open(t, options(url))
		g.Go(func() error {
			_, err := a.Append(context.Background(), []*defense.Event{storetest.Event(n)})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	page, err := open(t, options(url)).Events(t.Context(), record.Filter{})
	if err != nil || len(page.Events) != 6 {
		t.Errorf("%d events, %v; want 6", len(page.Events), err)
	}
}

func TestWhoWaitsForAnothersMigrationHasADeadline(t *testing.T) {
	url := database(t)
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(t.Context(), "SELECT pg_advisory_lock($1)", int64(lockKey)); err != nil {
		t.Fatal(err)
	}
	a := open(t, options(url))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := a.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while somebody else changes the tables: %v", err)
	}
	if _, err := c.Exec(t.Context(), "SELECT pg_advisory_unlock($1)", int64(lockKey)); err != nil {
		t.Fatal(err)
	}
	if err := a.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTablesThatVanishAreMadeAgain(t *testing.T) {
	a := newArchive(t)
	if _, err := a.Append(t.Context(), []*defense.Event{storetest.Event(1)}); err != nil {
		t.Fatal(err)
	}
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	s.Exec(t, a.o.URL, "DROP SCHEMA quickthorn CASCADE")
	if _, err := a.Append(t.Context(), []*defense.Event{storetest.Event(1)}); err == nil {
		t.Fatal("appended to tables that are not there")
	}
	if n, err := a.Append(t.Context(), []*defense.Event{storetest.Event(1)}); n != 0 || err != nil {
		t.Errorf("%d duplicates, %v", n, err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	a := newArchive(t, func(o *Options) { o.MaxConnections = 2 })
	if err := a.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	hold := func(inner func() error) error {
		return a.pool.with(t.Context(), func(*pgx.Conn) error { return inner() })
	}
	err := hold(func() error {
		return hold(func() error { return a.Ping(ctx) })
	})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for a connection") {
		t.Errorf("with all connections in use: %v", err)
	}
	if err := a.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAConnectionToAServerThatBecameAStandbyIsNotUsedAgain(t *testing.T) {
	a := newArchive(t, func(o *Options) { o.MaxConnections = 1 })
	if err := a.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := a.pool.with(t.Context(), func(c *pgx.Conn) error {
		_, err := c.Exec(t.Context(), "SET default_transaction_read_only = on")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	e := []*defense.Event{storetest.Event(1)}
	if _, err := a.Append(t.Context(), e); !errors.Is(err, ErrAway) {
		t.Errorf("append to a standby: %v", err)
	}
	if _, err := a.Append(t.Context(), e); err != nil {
		t.Errorf("on a new connection: %v", err)
	}
}

func TestOptionsThatCannotWorkAreRefusedWithoutShowingThePassword(t *testing.T) {
	for _, url := range []string{"postgres://user:s3cret@host:port/db", "postgres://user:s3cret@host/db?sslmode=perhaps"} {
		if _, err := Open(t.Context(), options(url)); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", url, err)
		}
	}
	o := options("postgres://user:s3cret@127.0.0.1:1/db")
	if err := open(t, o).Ping(t.Context()); !errors.Is(err, ErrAway) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
	o.Privacy.Addresses = 9
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "privacy") {
		t.Errorf("got %v", err)
	}
}

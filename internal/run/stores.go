package run

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/keyfile"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/store"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
	"github.com/quickthorn/quickthorn/internal/store/postgres"
	"github.com/quickthorn/quickthorn/internal/store/redis"
	"github.com/quickthorn/quickthorn/internal/store/sqlite"
)

// SpoolFile is the name of the file in the data directory that events go to while Redis is away.
const SpoolFile = "spool.db"

// openState opens the state store and the queue in front of it. With Redis, events that it cannot take go to a file.
func openState(ctx context.Context, s *service.Service) (store.State, queue.Queue, error) {
	c := s.Config
	if c.State.Store == "embedded" {
		st, err := embedded.OpenState(ctx, c.Data.Directory, embedded.StateOptions{QueueBytes: int64(c.Intake.QueueBytes), Log: s.Log})
		if err != nil {
			return nil, nil, err
		}
		s.OnClose(st.Close)
		return st, st.Queue(), nil
	}
	st, err := openRedis(c, s.Log)
	if err != nil {
		return nil, nil, err
	}
	s.OnClose(st.Close)
	disk, err := embedded.OpenQueue(ctx, filepath.Join(c.Data.Directory, SpoolFile), embedded.StateOptions{QueueBytes: int64(c.Intake.SpoolBytes), Log: s.Log})
	if err != nil {
		return nil, nil, fmt.Errorf("open the buffer for events: %w", err)
	}
	s.OnClose(disk.Close)
	spool := queue.NewSpool(st.Queue(), disk, queue.SpoolOptions{Log: s.Log, Now: time.Now})
	s.Background("events buffered on disk", service.UntilEnded(spool.Run))
	return st, spool, nil
}

// openRedis prepares the connection to Redis; nothing is connected yet.
func openRedis(c *config.Config, log *slog.Logger) (store.State, error) {
	conn, err := redisconn.Configured(&c.State.Redis)
	if err != nil {
		return nil, err
	}
	st, err := redis.Open(context.Background(), redis.Options{Options: conn, QueueBytes: int64(c.Intake.QueueBytes), Log: log, Now: time.Now})
	if err != nil {
		return nil, fmt.Errorf("state.redis: %w", err)
	}
	return st, nil
}

// Bell hears in Redis of new decisions, where the configuration names Redis; without it edges learn of them by the request that waits.
func Bell(c *config.Config, log *slog.Logger) (decision.Listener, func() error, error) {
	st, err := openRedis(c, log)
	if err != nil {
		return nil, nil, err
	}
	return st, st.Close, nil
}

// openArchive opens the archive: nil when events are off, or when its file cannot be opened and may be missed: losing
// it costs the record, not the site.
func openArchive(ctx context.Context, s *service.Service, mayMiss bool) (store.Archive, error) {
	c := s.Config
	if !c.Events.Enabled {
		return nil, nil
	}
	privacy, err := ArchivePrivacy(c)
	if err != nil {
		return nil, err
	}
	var a store.Archive
	if c.Archive.Store == "postgres" {
		a, err = postgres.Open(ctx, postgres.Options{URL: c.Archive.Postgres.URL, Password: c.Archive.Postgres.Password, MaxConnections: c.Archive.Postgres.MaxConnections, Privacy: privacy, Now: time.Now, Log: s.Log})
		if err != nil {
			return nil, fmt.Errorf("archive.postgres: %w", err)
		}
	} else {
		a, err = sqlite.Open(ctx, filepath.Join(c.Data.Directory, sqlite.FileName), sqlite.Options{Privacy: privacy, Quarantine: true, Now: time.Now, Log: s.Log})
		if err != nil && mayMiss {
			s.Log.Error("events cannot be kept; serving without the archive", "error", err)
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	s.OnClose(a.Close)
	return a, nil
}

// ArchivePrivacy returns how the archive keeps addresses and query strings by this configuration.
// The key of hashed addresses is read from the data directory, and made if there is none.
func ArchivePrivacy(c *config.Config) (sqlite.Privacy, error) {
	addresses, err := sqlite.ParseAddressMode(c.Events.Addresses)
	if err != nil {
		return sqlite.Privacy{}, err
	}
	p := sqlite.Privacy{Addresses: addresses, KeepQuery: c.Events.Query}
	if addresses == sqlite.Hashed {
		p.Key, err = keyfile.Key(filepath.Join(c.Data.Directory, sqlite.PrivacyKeyFile))
	}
	return p, err
}

// newPruner makes what removes old events from the archive.
func newPruner(s *service.Service, a store.Archive) *record.Pruner {
	e := &s.Config.Events
	return record.NewPruner(record.PrunerOptions{MaxAge: e.RetentionAge, MaxBytes: int64(e.RetentionSize), Now: time.Now}, a, s.Log)
}

// pruneCases removes old cases from the archive.
func pruneCases(ctx context.Context, c *config.Config, a store.Archive) error {
	_, err := a.PruneCases(ctx, time.Now().Add(-c.Intake.CaseRetention))
	return err
}

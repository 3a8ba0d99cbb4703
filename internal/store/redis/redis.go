package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/store"
	"github.com/quickthorn/quickthorn/internal/telemetry"
	goredis "github.com/redis/go-redis/v9"
)

// Defaults of the Options.
const (
	DefaultQueueBytes   = 256 << 20
	DefaultQueueBatches = 100_000
)

// slow is by how much longer than others a commit of many decisions may take.
const slow = 10

// Options say which server to use, and how.
type Options struct {
	// How to connect. Of a call that commits many decisions the Timeout is up to ten times as long; Longest follows from it.
	redisconn.Options

	QueueBytes   int64 // bound of the queue's bodies, dead letters included, in bytes; 0: DefaultQueueBytes
	QueueBatches int   // bound of the queue's batches, dead letters included; 0: DefaultQueueBatches

	Now func() time.Time // nil: time.Now; leases go by the system's clock in any case
	Log *slog.Logger     // nil: nothing is logged
}

// check completes the options and says what is wrong with them.
func (o *Options) check() error {
	if o.QueueBytes == 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.QueueBatches == 0 {
		o.QueueBatches = DefaultQueueBatches
	}
	if o.Timeout == 0 {
		o.Timeout = redisconn.DefaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.QueueBytes < 0 || o.QueueBatches < 0 {
		return errors.New("a bound below zero")
	}
	o.Longest = slow * o.Timeout
	return o.Options.Check()
}

// State is a store.State in Redis. It is safe for concurrent use, as are several in different processes.
type State struct {
	client  goredis.UniversalClient
	o       Options
	scripts scripts
	log     log
	queue   *Queue
	deaf    *telemetry.State
	waiting *telemetry.State
	holder  string // what a lease says of this process
}

var _ store.State = (*State)(nil)

// Open returns a State that uses a server. It does not connect yet: while the server is away calls fail, and they succeed once it is
// back. The error says what is wrong with the options. Close the State when done.
func Open(_ context.Context, o Options) (*State, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("opening the Redis store: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unnamed host"
	}
	s := &State{
		client:  redisconn.New(o.Options),
		o:       o,
		scripts: newScripts(),
		deaf:    telemetry.NewState(o.Log, "the news of decisions cannot be heard", "the news of decisions is heard again", o.Now),
		waiting: telemetry.NewState(o.Log, "a lease cannot be asked for", "a lease is asked for again", o.Now),
		holder:  fmt.Sprintf("%s:%d", host, os.Getpid()),
	}
	s.queue = newQueue(s)
	return s, nil
}

// Close closes the connections. What is under way fails.
func (s *State) Close() error {
	if err := s.client.Close(); err != nil {
		return fmt.Errorf("closing the Redis store: %w", err)
	}
	return nil
}

// Ping is nil while the server takes writes: one that only answers is of no use.
func (s *State) Ping(ctx context.Context) error {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	if err := s.client.Set(ctx, s.key("ping"), s.holder, time.Minute).Err(); err != nil {
		return fmt.Errorf("the Redis store: %w", redisconn.Explain(err))
	}
	return nil
}

// key returns the full name of a key or channel. All have the same hash tag.
func (s *State) key(name string) string { return s.o.Prefix + "{state}:" + name }

// limit gives a call the time it may take.
func (s *State) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.o.Timeout)
}

// token returns a text that nobody else has.
func token() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// unsure reports whether what was asked for may have happened although the answer is this error. What the server
// itself refuses has not happened, as all our writes are single commands or scripts that look before they write.
func unsure(err error) bool {
	var said goredis.Error
	var op *net.OpError
	switch {
	case err == nil, errors.As(err, &said), errors.Is(err, goredis.ErrClosed), errors.Is(err, goredis.ErrPoolTimeout), errors.Is(err, goredis.ErrPoolExhausted):
		return false
	case errors.As(err, &op) && op.Op == "dial":
		return false
	}
	return true
}

// Queue returns the queue.
func (s *State) Queue() queue.Queue { return s.queue }

// Settings returns the settings.
func (s *State) Settings() store.Settings { return (*settings)(s) }

// settings are the store.Settings of a State.
type settings State

// Get returns the value of a setting; nil when it was never put.
func (s *settings) Get(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := (*State)(s).limit(ctx)
	defer cancel()
	v, err := s.client.HGet(ctx, (*State)(s).key("settings"), key).Bytes()
	if errors.Is(err, goredis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("getting setting %q: %w", key, redisconn.Explain(err))
	}
	return v, nil
}

// Put makes the value of a setting durable.
func (s *settings) Put(ctx context.Context, key string, value []byte) error {
	if len(value) > store.MaxSetting {
		return fmt.Errorf("putting setting %q: %d bytes, at most %d", key, len(value), store.MaxSetting)
	}
	if key == "" {
		return fmt.Errorf("putting setting %q: no name", key)
	}
	ctx, cancel := (*State)(s).limit(ctx)
	defer cancel()
	if err := s.client.HSet(ctx, (*State)(s).key("settings"), key, value).Err(); err != nil {
		return fmt.Errorf("putting setting %q: %w", key, redisconn.Explain(err))
	}
	return nil
}

package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/wait"
)

// quiet is after how long a silent connection is asked whether it is still one.
const quiet = 5 * time.Second

// longestDeaf bounds the growing pauses between attempts to subscribe again.
const longestDeaf = time.Second

// Ring tells all who listen.
func (s *State) Ring(ctx context.Context) error {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	if err := s.client.Publish(ctx, s.key("bell"), "").Err(); err != nil {
		return fmt.Errorf("telling of new decisions: %w", redisconn.Explain(err))
	}
	return nil
}

// Listen calls fn after rings and each time it has subscribed, until ctx ends, and returns its error.
func (s *State) Listen(ctx context.Context, fn func()) error {
	hearing, cancel := context.WithCancel(ctx)
	rung := make(chan struct{}, 1)
	var ear sync.WaitGroup
	ear.Go(func() { s.hear(hearing, rung) })
	defer ear.Wait()
	defer cancel()
	for {
		select {
		case <-rung:
			fn()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hear keeps a subscription until ctx ends, and passes on what it hears.
func (s *State) hear(ctx context.Context, rung chan<- struct{}) {
	pause := 25 * time.Millisecond
	for {
		heard, err := s.subscribe(ctx, rung)
		if ctx.Err() != nil {
			return
		}
		s.deaf.Report(err)
		if heard {
			pause = 25 * time.Millisecond
		}
		if !wait.For(ctx, pause/2+rand.N(pause)) {
			return
		}
		pause = min(2*pause, longestDeaf)
	}
}

// subscribe listens on one connection until that breaks or ctx ends, and reports whether it had begun.
func (s *State) subscribe(ctx context.Context, rung chan<- struct{}) (heard bool, err error) {
	sub := s.client.Subscribe(ctx)
	// A read does not end with the context, but with its connection.
	stop := context.AfterFunc(ctx, func() { sub.Close() })
	defer sub.Close() // a second time at most
	defer stop()
	limited, cancel := s.limit(ctx)
	err = sub.Subscribe(limited, s.key("bell"))
	cancel()
	if err != nil {
		return false, redisconn.Explain(err)
	}
	wait := s.o.Timeout // for the subscription, and then for the answer to a ping
	asked := true
	for {
		m, err := sub.ReceiveTimeout(ctx, wait)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() && !asked {
			limited, cancel := s.limit(ctx)
			err = sub.Ping(limited)
			cancel()
			if err == nil {
				asked, wait = true, s.o.Timeout
				continue
			}
		}
		if err != nil {
			return heard, redisconn.Explain(err)
		}
		asked, wait = false, quiet
		switch m.(type) {
		case *goredis.Subscription:
			heard = true
			s.deaf.Report(nil)
		case *goredis.Message:
		default:
			continue
		}
		select {
		case rung <- struct{}{}:
		default: // it has not yet begun with an earlier one
		}
	}
}

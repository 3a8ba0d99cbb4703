package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/store"
	"github.com/quickthorn/quickthorn/internal/wait"
)

// MinLease is the shortest lease. A shorter one would be lost by any hesitation.
const MinLease = 100 * time.Millisecond

// Hold waits until the named lease is free, takes it and calls fn, as store.Lease says. While the server is away it waits. A
// lease counts from before the server was asked for it, so that it ends here before it ends there.
func (s *State) Hold(ctx context.Context, name string, ttl time.Duration, waiting func(holder string), fn func(ctx context.Context) error) error {
	if ttl < MinLease {
		return fmt.Errorf("a lease of %v, at least %v", ttl, MinLease)
	}
	if name == "" || len(name) > 64 {
		return fmt.Errorf("a lease whose name has %d bytes: 1 to 64", len(name))
	}
	l := &lease{s: s, key: s.key("lease:" + name), value: token() + " " + s.holder, ttl: ttl}
	if err := l.acquire(ctx, waiting); err != nil {
		return fmt.Errorf("waiting for the lease %q: %w", name, err)
	}
	held, end := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() { l.keep(held, end) })
	// Also when fn panics: somebody may recover, and the lease must not be renewed for ever.
	defer func() {
		end(nil)
		renewing.Wait()
		l.giveBack(ctx)
	}()
	return fn(held)
}

// lease is one holder's side of a lease.
type lease struct {
	s     *State
	key   string
	value string // a token, a space, and who holds it
	ttl   time.Duration
	until time.Time // when it ends if it is not renewed
}

// acquire waits for the lease. The error is ctx's.
func (l *lease) acquire(ctx context.Context, waiting func(holder string)) error {
	pause := min(max(l.ttl/10, 10*time.Millisecond), 250*time.Millisecond)
	maybe := false // an answer was lost: it may be ours
	for {
		if ctx.Err() != nil {
			if maybe {
				l.giveBack(ctx)
			}
			return context.Cause(ctx)
		}
		sent := time.Now()
		limited, cancel := context.WithTimeout(ctx, min(l.s.o.Timeout, l.ttl))
		holder, err := l.s.scripts.acquire.Run(limited, l.s.client, []string{l.key}, l.value, l.ttl.Milliseconds()).Text()
		cancel()
		if ctx.Err() == nil {
			l.s.waiting.Report(err)
		}
		if err == nil && holder == "" {
			l.until = sent.Add(l.ttl)
			return nil
		}
		if err == nil && waiting != nil {
			if _, who, ok := strings.Cut(holder, " "); ok {
				holder = who
			}
			waiting(holder)
			waiting = nil
		}
		maybe = maybe || unsure(err)
		// With some chance in it, so that who waits does not come all at once.
		wait.For(ctx, pause/2+rand.N(pause)) // the loop looks at ctx
	}
}

// keep renews the lease until ctx ends, or ends it when that fails for too long.
func (l *lease) keep(ctx context.Context, end context.CancelCauseFunc) {
	pause := l.ttl / 3
	for {
		if !wait.For(ctx, min(pause, max(time.Until(l.until), 0))) {
			return
		}
		sent := time.Now()
		if !sent.Before(l.until) {
			end(store.ErrLeaseLost)
			return
		}
		limited, cancel := context.WithDeadline(ctx, earlier(l.until, sent.Add(l.s.o.Timeout)))
		ours, err := l.s.scripts.renew.Run(limited, l.s.client, []string{l.key}, l.value, l.ttl.Milliseconds()).Int()
		cancel()
		switch {
		case err == nil && ours == 1:
			l.until, pause = sent.Add(l.ttl), l.ttl/3
		case err == nil:
			end(store.ErrLeaseLost)
			return
		default:
			pause = l.ttl / 20 // there is little time left
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// giveBack lets the next one have the lease. If the server cannot be told, that one waits until it ends by itself.
func (l *lease) giveBack(ctx context.Context) {
	ctx, cancel := l.s.limit(context.WithoutCancel(ctx)) // also when the program ends
	defer cancel()
	if err := l.s.scripts.release.Run(ctx, l.s.client, []string{l.key}, l.value).Err(); err != nil {
		l.s.o.Log.Warn("a lease could not be given back: it ends by itself", "lease", l.key, "after", l.ttl, "error", redisconn.Explain(err))
	}
}

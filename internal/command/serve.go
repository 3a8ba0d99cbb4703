package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/wait"
)

// Program is what runs until its context ends.
type Program interface {
	Run(ctx context.Context) error
}

// reloader reads its policy again on SIGHUP.
type reloader interface{ Reload() error }

// resumer knows errors after which the program can be opened anew.
type resumer interface{ Resumable(err error) bool }

// Serve opens a program and runs it until ctx ends. One that has lost what it owned, as when Redis was away for long, is opened
// anew: another process may own it by now.
func Serve[P Program](ctx context.Context, env *Environment, flags []config.Flag, open func(context.Context, service.Options) (P, error)) error {
	cfg, err := env.Load(flags...)
	if err != nil {
		return err
	}
	o, err := env.Options(cfg)
	if err != nil {
		return err
	}
	log := o.Log
	LimitMemory(env, log)
	for {
		p, err := open(ctx, o)
		if err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return nil // it was told to end before it had begun
			}
			return ExplainOpen(err)
		}
		log.Info("starting", "version", o.Version, "config", cfg.File())
		err = RunUntil(ctx, p, log, nil)
		if r, ok := any(p).(resumer); ctx.Err() != nil || !ok || !r.Resumable(err) {
			return err
		}
		log.Warn("another process may have decided meanwhile: starting anew", "error", err)
		wait.For(ctx, startAgain)
		if ctx.Err() != nil {
			return nil
		}
	}
}

// startAgain is the pause before a program is opened anew.
const startAgain = 500 * time.Millisecond

// ExplainOpen adds to an error of the operating system what would be right.
func ExplainOpen(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: choose another address with --listen, or --set private.listen=… for the private listener", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: an address below port 1024 needs the capability CAP_NET_BIND_SERVICE, a data directory must be the program's own", err)
	}
	return err
}

// RunUntil runs the program until ctx ends. ready, if not nil, is called once it serves.
func RunUntil(ctx context.Context, p Program, log *slog.Logger, ready func(ctx context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reloaded := make(chan struct{})
	go func() {
		defer close(reloaded)
		if r, ok := p.(reloader); ok {
			reloadOnHangup(ctx, r, log)
		}
	}()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	if ready != nil {
		ready(ctx)
	}
	err := <-ended
	cancel()
	<-reloaded
	if err == nil {
		log.Info("stopped")
	}
	return err
}

func reloadOnHangup(ctx context.Context, p reloader, log *slog.Logger) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			// The reloader says what is wrong, but only once for the same mistake; who asks is answered each time.
			if err := p.Reload(); err != nil {
				log.Warn("SIGHUP: the old policy stays in force")
			} else {
				log.Info("SIGHUP: the policy was loaded again")
			}
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/run"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

func runCommand(env *environment) *cobra.Command {
	var upstream, policy string
	var listen []string
	c := &cobra.Command{
		Use:   "run",
		Short: "Protect a site: the edge and everything it needs in one process",
		Long: `Protect a site: the edge and everything it needs in one process.

The edge listens on :8080; health, metrics and the API on 127.0.0.1:8081; decisions, events and
keys are kept in ./quickthorn-data. SIGHUP loads the policy again, SIGTERM lets requests under way
finish and ends. All settings: quickthorn config print --defaults.`,
		Example: `  quickthorn run --upstream http://127.0.0.1:3000
  quickthorn run --config /etc/quickthorn/quickthorn.yaml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var flags []config.Flag
			for _, f := range []config.Flag{
				{Name: "--upstream", Path: "upstream.url", Value: upstream},
				{Name: "--policy", Path: "policy.source", Value: policy},
				{Name: "--listen", Path: "edge.listen", Value: strings.Join(listen, ",")},
			} {
				if f.Value != "" {
					flags = append(flags, f)
				}
			}
			cfg, err := env.load(flags...)
			if err != nil {
				return err
			}
			return env.serve(cmd.Context(), cfg, nil)
		},
	}
	c.Flags().StringVar(&upstream, "upstream", "", "the server to protect, as in http://127.0.0.1:3000, h2c://…, https://… or unix:/path")
	c.Flags().StringArrayVar(&listen, "listen", nil, "public `address` (default :8080); may be repeated")
	c.Flags().StringVar(&policy, "policy", "", "a preset's name or a policy `file` (default readers-first)")
	return c
}

// serve runs the program until ctx ends. ready, if not nil, is called once it listens.
func (env *environment) serve(ctx context.Context, cfg *config.Config, ready func(ctx context.Context, p *run.Program) error) error {
	log, err := telemetry.NewLogger(env.stderr, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return err
	}
	v, revision := buildVersion()
	first := used(cfg) != nil
	p, err := run.Open(ctx, run.Options{Config: cfg, Log: log, Version: v, Revision: revision})
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: choose another address with --listen, or --set private.listen=… for the private listener", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: an address below port 1024 needs the capability CAP_NET_BIND_SERVICE, a data directory must be the program's own", err)
	case err != nil:
		return err
	}
	sayStart(log, cfg, p.Mode(), v, first)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reloaded := make(chan struct{})
	go func() {
		defer close(reloaded)
		reloadOnHangup(ctx, p, log)
	}()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	if ready != nil {
		if err := ready(ctx, p); err != nil {
			log.Error("demo", "error", err)
		}
	}
	err = <-ended
	cancel()
	<-reloaded
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// sayStart logs what runs, what its mode means and where its data is.
func sayStart(log *slog.Logger, cfg *config.Config, m defense.Mode, version string, first bool) {
	data := cfg.Data.Directory
	if abs, err := filepath.Abs(data); err == nil {
		data = abs
	}
	log.Info("starting", "version", version, "config", cfg.File(), "policy", cfg.Policy.Source, "data", data)
	log.Info("mode "+m.String()+": "+modeSentences[m], "mode", m.String())
	if first && m == defense.ModeCertain {
		log.Info("this is the first start: unwanted crawlers that say who they are are refused, nobody is judged by score yet. " +
			"See whom that would stop with 'quickthorn report', then carry it out with 'quickthorn enforce'")
	}
}

func reloadOnHangup(ctx context.Context, p *run.Program, log *slog.Logger) {
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

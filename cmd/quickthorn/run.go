package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/run"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

func runCommand(env *environment) *cobra.Command {
	var upstream, policy string
	var listen []string
	c := &cobra.Command{
		Use:   "run",
		Short: "Protect a site: the edge and everything it needs in one process",
		Example: `  quickthorn run --upstream http://127.0.0.1:3000
  quickthorn run --config /etc/quickthorn/quickthorn.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var sets []string
			if upstream != "" {
				sets = append(sets, "upstream.url="+upstream)
			}
			if policy != "" {
				sets = append(sets, "policy.source="+policy)
			}
			for i, l := range listen {
				if i == 0 {
					sets = append(sets, "edge.listen="+l)
				} else {
					sets[len(sets)-1] += "," + l
				}
			}
			cfg, err := env.load(sets...)
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
	p, err := run.Open(ctx, run.Options{Config: cfg, Log: log, Version: v, Revision: revision})
	if err != nil {
		return err
	}
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
	return err
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
			if err := p.Reload(); err == nil {
				log.Info("policy loaded again")
			}
		}
	}
}

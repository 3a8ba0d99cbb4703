package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/run"
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
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := env.Load(config.Given(
				config.Flag{Name: "--upstream", Path: "upstream.url", Value: upstream},
				config.Flag{Name: "--policy", Path: "policy.source", Value: policy},
				config.Flag{Name: "--listen", Path: "edge.listen", Value: strings.Join(listen, ",")},
			)...)
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
	o, err := env.Options(cfg)
	if err != nil {
		return err
	}
	log := o.Log
	command.LimitMemory(env.Environment, log)
	first := used(cfg) != nil
	p, err := run.Open(ctx, o)
	if err != nil {
		return command.ExplainOpen(err)
	}
	sayStart(log, cfg, p.Mode(), o.Version, first)
	return command.RunUntil(ctx, p, log, func(ctx context.Context) {
		if ready == nil {
			return
		}
		if err := ready(ctx, p); err != nil {
			log.Error("demo", "error", err)
		}
	})
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

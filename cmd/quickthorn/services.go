package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/demo"
	"github.com/quickthorn/quickthorn/internal/listen"
	"github.com/quickthorn/quickthorn/internal/run"
	"github.com/quickthorn/quickthorn/internal/service"
)

func aiServiceCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: "ai-service", Short: "The intake: takes events from edges and other web servers, groups them into cases, decides, alerts", Args: command.NoArgs,
		Long: `The intake: takes events from edges and other web servers, keeps what it has acknowledged, groups it into cases, has escalation-engine
judge them, and owns the decisions that edges follow. Its API is on aiService.listen (:8000), health and metrics on private.listen.
It starts while Redis or PostgreSQL are away and catches up when they are back.`,
		Example: "  quickthorn ai-service --set escalationEngine.url=in-process\n  quickthorn ai-service --set state.store=redis --set archive.store=postgres",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return command.Serve(cmd.Context(), env.Environment, nil, run.OpenAIService)
		},
	}
}

func escalationEngineCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: "escalation-engine", Short: "The judge: says of a case how likely it is unwanted automation, why, and what to do", Args: command.NoArgs,
		Long: `The judge: says of a case how likely it is unwanted automation, why, and what to do about it. It judges in stages and keeps nothing.
Its API is on escalationEngine.listen (:8003), health and metrics on private.listen.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return command.Serve(cmd.Context(), env.Environment, nil, run.OpenEscalationEngine)
		},
	}
}

func adminCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: "admin", Short: "The owner's pages (come with a later version: health and metrics only)", Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return command.Serve(cmd.Context(), env.Environment, nil, run.OpenAdmin)
		},
	}
}

func syncCommand(env *environment) *cobra.Command {
	var once string
	c := &cobra.Command{
		Use: "sync", Short: "Scheduled jobs, where the archive is in PostgreSQL", Args: command.NoArgs,
		Long: `Scheduled jobs, where the archive is in PostgreSQL (an archive in a file is looked after by the process that owns it):

  retention   removes events and cases beyond events.retentionAge, events.retentionSize and intake.caseRetention, every sync.retentionEvery

With --once one job runs now and the command ends with its outcome, for cron and Kubernetes.`,
		Example: "  quickthorn sync --set archive.store=postgres\n  quickthorn sync --once retention",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if once == "" {
				return command.Serve(cmd.Context(), env.Environment, nil, run.OpenSync)
			}
			o, err := env.options()
			if err != nil {
				return err
			}
			return run.RunJob(cmd.Context(), o, once)
		},
	}
	c.Flags().StringVar(&once, "once", "", "run this `job` now, and end")
	return c
}

// statusAway is the exit status for what may be tried again, EX_TEMPFAIL of sysexits.h.
const statusAway = 75

func migrateCommand(env *environment) *cobra.Command {
	limit := time.Minute
	c := &cobra.Command{
		Use: "migrate", Short: "Wait for Redis and PostgreSQL, and bring the archive's tables up to date", Args: command.NoArgs,
		Long: `Wait for the stores that the configuration names (Redis, PostgreSQL), and bring the archive's tables up to date. Services do that by
themselves when they reach the store; this is for what must be done before they start. The exit status is 75 when a store did not answer in
time, which may be tried again, and 1 for what waiting does not mend.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := env.options()
			if err != nil {
				return err
			}
			err = run.Migrate(cmd.Context(), o, limit)
			if errors.Is(err, run.ErrStoreAway) {
				return &command.StatusError{Status: statusAway, Err: err}
			}
			return err
		},
	}
	c.Flags().DurationVar(&limit, "wait", limit, "longest `time` to wait for the stores")
	return c
}

// options are what opens a program, by the configuration in force.
func (env *environment) options() (service.Options, error) {
	cfg, err := env.Load()
	if err != nil {
		return service.Options{}, err
	}
	return env.Options(cfg)
}

func demoSiteCommand(env *environment) *cobra.Command {
	address, files := "127.0.0.1:8080", ""
	c := &cobra.Command{
		Use: "demo-site", Short: "Serve the sample site alone, as a server to protect", Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			handler, err := demo.Handler(files)
			if err != nil {
				return err
			}
			l, err := listen.On(cmd.Context(), address)
			if err != nil {
				return err
			}
			fmt.Fprintf(env.Stderr, "the sample site is at %s\n", l.Addr())
			site := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
			served := make(chan error, 1)
			go func() { served <- site.Serve(l) }()
			select {
			case err := <-served:
				return err
			case <-cmd.Context().Done():
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), 5*time.Second)
			defer cancel()
			err = site.Shutdown(ctx)
			<-served
			return err
		},
	}
	c.Flags().StringVar(&address, "listen", address, "`address`, host:port or unix:/path")
	c.Flags().StringVar(&files, "files", "", "`directory` with site.html, style.css and articles.json, read for each request, instead of those built in")
	return c
}

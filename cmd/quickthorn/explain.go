package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/explain"
	"github.com/quickthorn/quickthorn/internal/knowledge"
	"github.com/quickthorn/quickthorn/internal/mode"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/proxy"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
)

func explainCommand(env *environment) *cobra.Command {
	var q explain.Question
	var source, mode, posture string
	var asJSON, all bool
	c := &cobra.Command{
		Use:   "explain --url URL",
		Short: "Say what would be done with a request, and every reason",
		Long: `Say what would be done with a request, and every reason.

The running install is asked, with the decisions, mode and posture that are in
force there. When none runs, or --policy, --mode or --posture ask for something
else, the request is judged here, with the decisions of the data directory if it is not in use.`,
		Example: `  quickthorn explain --url https://example.org/wiki/Hedge \
    --header 'User-Agent: GPTBot/1.2' --client 203.0.113.7`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if q.URL == "" {
				return command.Usagef("explain: say which request: --url https://example.org/path")
			}
			ctx := cmd.Context()
			cfg, err := env.Load()
			if err != nil {
				return err
			}
			rep, err := env.explain(ctx, cfg, &q, source, mode, posture)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(env.Stdout, rep)
			}
			return rep.WriteText(env.Stdout, all)
		},
	}
	f := c.Flags()
	f.StringVar(&q.URL, "url", "", "address of the request")
	f.StringVar(&q.Method, "method", "GET", "method")
	f.StringArrayVarP(&q.Headers, "header", "H", nil, "header `\"Name: value\"`; may be repeated")
	f.StringVar(&q.Client, "client", "", "client's `address` (default "+explain.DefaultClient+")")
	f.StringVar(&q.Site, "site", "", "site, if there are several")
	f.StringVar(&source, "policy", "", "judge by this preset or policy `file`")
	f.StringVar(&mode, "mode", "", "judge as in this mode: certain, enforce, observe, off")
	f.StringVar(&posture, "posture", "", "judge as in this posture: calm, guarded, siege")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&all, "all", false, "show rules that did not match as well")
	return c
}

func (env *environment) explain(ctx context.Context, cfg *config.Config, q *explain.Question, source, inMode, posture string) (*explain.Report, error) {
	if source == "" && inMode == "" && posture == "" {
		a, err := env.client(ctx, cfg)
		if err != nil {
			return nil, err
		}
		if a != nil {
			var rep explain.Report
			if err := a.call(ctx, http.MethodPost, "/v1/explain", q, &rep); err != nil {
				return nil, err
			}
			return &rep, nil
		}
	}
	profiler, options, err := knowledge.Judges()
	if err != nil {
		return nil, err
	}
	if source == "" {
		source = cfg.Policy.Source
	}
	pol, err := policy.Load(source, options)
	if err != nil {
		return nil, err
	}
	set, m, tension := decision.NewSet(cfg.Edge.Trusted), cfg.Policy.Mode, defense.Calm
	if _, err := os.Stat(filepath.Join(cfg.Data.Directory, embedded.FileName)); err == nil {
		db, log, err := env.offline(ctx, cfg)
		if err != nil {
			fmt.Fprintf(env.Stderr, "quickthorn: judged without decisions: %v\n", err)
		} else {
			defer db.Close()
			set = log.Set()
			if m, err = mode.Stored(ctx, db.Settings(), m); err != nil {
				return nil, err
			}
		}
	}
	if cfg.Posture.Fixed != nil {
		tension = *cfg.Posture.Fixed
	}
	if inMode != "" {
		if m, err = defense.ParseMode(inMode); err != nil {
			return nil, err
		}
	}
	if posture != "" {
		if tension, err = defense.ParsePosture(posture); err != nil {
			return nil, err
		}
	}
	e := engine.New(engine.Options{
		Decisions: set, Policy: func() *policy.Policy { return pol }, Mode: func() defense.Mode { return m }, Posture: func() defense.Posture { return tension },
	})
	var clearer explain.Clearer
	if _, err := os.Stat(proxy.ClearanceKeyFile(cfg)); err == nil { // without one, none is made here
		signer, err := proxy.OpenSigner(cfg)
		if err != nil {
			return nil, err
		}
		gate, _, err := proxy.NewGate(cfg, signer, nil)
		if err != nil {
			return nil, err
		}
		clearer = gate
	}
	return explain.Ask(q, profiler, e, clearer, time.Now())
}

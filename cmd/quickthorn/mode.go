package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/mode"
	"github.com/quickthorn/quickthorn/internal/private"
)

var modeSentences = map[defense.Mode]string{
	defense.ModeCertain: "what is certain is carried out; what is judged by score is only recorded",
	defense.ModeEnforce: "every verdict is carried out",
	defense.ModeObserve: "every verdict is recorded, none is carried out",
	defense.ModeOff:     "every request passes unjudged",
}

func modeCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: "mode [certain|enforce|observe|off]", Short: "Show or switch which verdicts are carried out",
		Long: `Show or switch which verdicts are carried out. A switch takes effect at once and survives restarts.

  certain   ` + modeSentences[defense.ModeCertain] + ` (the first install's mode)
  enforce   ` + modeSentences[defense.ModeEnforce] + `
  observe   ` + modeSentences[defense.ModeObserve] + `
  off       ` + modeSentences[defense.ModeOff], Args: command.NeedArgs(0, 1, "one mode"),
		ValidArgs: []string{"certain", "enforce", "observe", "off"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return env.showMode(cmd.Context())
			}
			m, err := defense.ParseMode(args[0])
			if err != nil {
				return err
			}
			return env.switchMode(cmd.Context(), m)
		},
	}
}

func switchCommand(env *environment, name string) *cobra.Command {
	m, err := defense.ParseMode(name)
	if err != nil {
		panic(err) // names are constants of this program
	}
	return &cobra.Command{
		Use: name, Short: "Switch at once and for good: " + modeSentences[m], Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return env.switchMode(cmd.Context(), m) },
	}
}

func (env *environment) switchMode(ctx context.Context, m defense.Mode) error {
	cfg, a, err := env.connect(ctx)
	if err != nil {
		return err
	}
	when := "now"
	if a != nil {
		var out private.Mode
		if err := a.call(ctx, http.MethodPut, "/v1/mode", private.Mode{Mode: m}, &out); err != nil {
			return err
		}
	} else {
		db, _, err := env.offline(ctx, cfg)
		if err != nil {
			return err
		}
		defer db.Close()
		if err := mode.Store(ctx, db.Settings(), m); err != nil {
			return err
		}
		when = "from the next start (nothing runs now)"
	}
	_, err = fmt.Fprintf(env.Stdout, "mode %s, %s: %s\n", m, when, modeSentences[m])
	return err
}

func (env *environment) showMode(ctx context.Context) error {
	cfg, a, err := env.connect(ctx)
	if err != nil {
		return err
	}
	out := private.Mode{Mode: cfg.Policy.Mode}
	if a != nil {
		if err := a.call(ctx, http.MethodGet, "/v1/mode", nil, &out); err != nil {
			return err
		}
	} else if used(cfg) == nil {
		db, _, err := env.offline(ctx, cfg)
		if err != nil {
			return err
		}
		defer db.Close()
		if out.Mode, err = mode.Stored(ctx, db.Settings(), cfg.Policy.Mode); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(env.Stdout, "mode %s: %s\n", out.Mode, modeSentences[out.Mode])
	return err
}

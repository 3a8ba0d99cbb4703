package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/run"
)

func alertCommand(env *environment) *cobra.Command {
	root := command.Group(&cobra.Command{Use: "alert", Short: "Try out how you are told of what happens"})
	test := &cobra.Command{
		Use: "test [email|slack|webhook|command]", Short: "Send a test alert by every channel that is set up, or by one", Args: command.NeedArgs(0, 1, "one channel"),
		Long: "Send a test alert by every channel that is set up, or by one, and say what became of it. The running install sends it; when nothing runs,\nthis command does, by the same configuration.",
	}
	test.RunE = func(cmd *cobra.Command, args []string) error {
		channel := ""
		if len(args) > 0 {
			channel = args[0]
		}
		cfg, a, err := env.connect(cmd.Context())
		if err != nil {
			return err
		}
		var out run.AlertTest
		if a != nil {
			err = a.call(cmd.Context(), http.MethodPost, "/v1/alerts/test?"+url.Values{"channel": {channel}}.Encode(), nil, &out)
		} else if d, e := run.Alerts(&cfg.Alerts, slog.New(slog.DiscardHandler)); e != nil {
			err = e
		} else {
			out.Results = d.Test(cmd.Context(), channel)
		}
		if err != nil {
			return err
		}
		if len(out.Results) == 0 {
			return fmt.Errorf("no channel is set up: see the section alerts of quickthorn config print --defaults")
		}
		failed := false
		t := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
		for _, r := range out.Results {
			what := "sent"
			if r.Problem != "" {
				what, failed = shown(r.Problem, 500), true
			}
			fmt.Fprintf(t, "%s\t%.1f s\t%s\n", r.Channel, r.Seconds, what)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		if failed {
			return command.ErrReported
		}
		return nil
	}
	root.AddCommand(test)
	return root
}

package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/follow"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

func followCommand(env *environment) *cobra.Command {
	var to, source, key, keyFile, position string
	var start, asJSON bool
	c := &cobra.Command{
		Use: "follow LOG", Short: "Report another web server's access log to the intake as it grows", Args: command.NeedArgs(1, 1, "one access log"),
		Long: `Report another web server's access log to the intake as it grows. For sites that quickthorn does not stand in front of (yet):
campaigns are recognised, nobody is stopped by quickthorn itself.

The intake must know the source: its name, key, the log's format and where the client's address is (intake.sources, see
docs/webhook.md). Rotation is followed; what cannot be reported waits in the log.`,
		Example: "  quickthorn follow /var/log/nginx/access.log --source nginx --key-file /etc/quickthorn/nginx.key --to http://127.0.0.1:8081",
	}
	c.Flags().StringVar(&to, "to", "", "`address` of the intake (default: that of this install's private listener)")
	c.Flags().StringVar(&source, "source", "", "`name` of the source in intake.sources (required)")
	c.Flags().StringVar(&key, "key", "", "the source's `key`; others on this machine can see it: prefer --key-file")
	c.Flags().StringVar(&keyFile, "key-file", "", "`file` with the source's key")
	c.Flags().StringVar(&position, "position", "", "`file` that keeps how far the log was read, so that a restart goes on from there (default: LOG's name with .position in the data directory)")
	c.Flags().BoolVar(&asJSON, "json", false, "the log's lines are events as JSON, as docs/webhook.md has them")
	c.Flags().BoolVar(&start, "from-start", false, "begin with what is in the log already")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if source == "" {
			return command.Usagef("follow: name the source with --source (%s --help)", c.CommandPath())
		}
		cfg, err := env.Load()
		if err != nil {
			return err
		}
		if key == "" {
			if keyFile == "" {
				return command.Usagef("follow: give the source's key with --key-file")
			}
			b, err := os.ReadFile(keyFile)
			if err != nil {
				return fmt.Errorf("read the source's key: %w", err)
			}
			key = strings.TrimSpace(string(b))
		}
		if position == "" {
			if err := os.MkdirAll(cfg.Data.Directory, 0o700); err != nil {
				return fmt.Errorf("make the data directory: %w", err)
			}
			position = cfg.Data.Directory + "/" + strings.ReplaceAll(strings.Trim(args[0], "/"), "/", "_") + ".position"
		}
		client := &http.Client{}
		if to == "" {
			a := newAPIClient(cfg.Private.Listen, "")
			to, client = a.base, a.http
		}
		client.Timeout = time.Minute
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the key is for the intake alone
		log, err := telemetry.NewLogger(env.Stderr, cfg.Log.Level, cfg.Log.Format)
		if err != nil {
			return err
		}
		f, err := follow.New(follow.Options{
			File: args[0], URL: strings.TrimRight(to, "/") + "/v1/webhook/" + url.PathEscape(source), Key: key, Position: position, FromStart: start, JSON: asJSON, Log: log,
			Client: client,
		})
		if err != nil {
			return err
		}
		err = f.Run(cmd.Context())
		s := f.Stats()
		log.Info("stopped following", "lines", s.Sent, "accepted", s.Accepted, "duplicate", s.Duplicate, "rejected", s.Rejected)
		return err
	}
	return c
}

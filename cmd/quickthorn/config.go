package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
)

// client returns a client of the running install, or nil when none answers.
func (env *environment) client(ctx context.Context, c *config.Config) (*apiClient, error) {
	key := c.Private.Key
	if key == "" {
		var err error
		if key, err = private.ReadKey(c.Data.Directory); err != nil {
			if errors.Is(err, fs.ErrNotExist) && env.server == "" {
				return nil, nil // never started with this data directory
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("--server needs the operator's key of that install: set %s or private.key", config.EnvName("private.key"))
			}
			return nil, err
		}
	}
	if env.server != "" {
		a, err := env.serverClient(c, key)
		if err != nil {
			return nil, err
		}
		var m map[string]any
		return a, a.call(ctx, http.MethodGet, "/v1/mode", nil, &m) // who names a server wants no other
	}
	// quickthorn run answers on the private listener, ai-service on its own port.
	for _, listen := range []string{c.Private.Listen, c.AIService.Listen} {
		a := newAPIClient(listen, key)
		if up, err := a.up(ctx); err != nil || up {
			return a, err
		}
	}
	return nil, nil
}

// serverClient returns a client of the install at --server.
func (env *environment) serverClient(c *config.Config, key string) (a *apiClient, err error) {
	a = newAPIClient("", key)
	a.base = strings.TrimRight(env.server, "/")
	if strings.HasPrefix(a.base, "https:") {
		a.http, err = service.InternalClient(&c.Internal)
	}
	return a, err
}

// connect reads the configuration and looks for the running install: the client is nil when none answers.
func (env *environment) connect(ctx context.Context) (*config.Config, *apiClient, error) {
	c, err := env.Load()
	if err != nil {
		return nil, nil, err
	}
	a, err := env.client(ctx, c)
	return c, a, err
}

// used reports, as an error, that nothing has run on the data directory yet. Commands that would work on
// it offline ask first, lest a mistyped name becomes a new directory.
func used(c *config.Config) error {
	switch _, err := os.Stat(filepath.Join(c.Data.Directory, embedded.FileName)); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("nothing has run yet on the data directory %s: name the right one with --config or --data, or start quickthorn first", c.Data.Directory)
	case err != nil:
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// inUse explains the error of a data directory that is in use by a program that did not answer.
func inUse(c *config.Config, err error) error {
	if errors.Is(err, embedded.ErrInUse) {
		return fmt.Errorf("%w; it does not answer on %s, so give --config and --set as it was started with", err, c.Private.Listen)
	}
	return err
}

// offline opens the state of an install that is not running.
func (env *environment) offline(ctx context.Context, c *config.Config) (*embedded.DB, *decision.Log, error) {
	if err := used(c); err != nil {
		return nil, nil, err
	}
	db, err := embedded.Open(ctx, filepath.Join(c.Data.Directory, embedded.FileName))
	if err != nil {
		return nil, nil, inUse(c, err)
	}
	log := decision.NewLog(decision.NewSet(c.Edge.Trusted), db, decision.LogOptions{MaxEntries: c.Decisions.MaxEntries})
	if _, err := log.Load(ctx); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, log, nil
}

func configCommand(env *environment) *cobra.Command {
	root := command.Group(&cobra.Command{Use: "config", Short: "Show the configuration and its documentation"})
	var defaults bool
	show := &cobra.Command{
		Use: "print", Short: "Print the configuration in force, with where each value comes from", Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if defaults {
				return config.WriteDefaults(env.Stdout)
			}
			c, err := env.Load()
			if err != nil {
				return err
			}
			return c.Write(env.Stdout)
		},
	}
	show.Flags().BoolVar(&defaults, "defaults", false, "print the documented file of defaults instead")
	schema := &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of quickthorn.yaml, for editors", Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error { return config.WriteJSONSchema(env.Stdout) },
	}
	root.AddCommand(show, schema)
	return root
}

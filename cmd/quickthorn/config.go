package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
)

// load reads the configuration from flags, environment and file.
func (env *environment) load(flags ...config.Flag) (*config.Config, error) {
	o := config.LoadOptions{File: config.DefaultFile, Environ: env.environ, Flags: flags, Sets: env.sets}
	if env.configFile != "" {
		o.File, o.Required = env.configFile, true
	}
	if env.dataDir != "" {
		o.Flags = append(o.Flags, config.Flag{Name: "--data", Path: "data.directory", Value: env.dataDir})
	}
	return config.Load(o)
}

// client returns a client of the running install, or nil when none answers.
func (env *environment) client(ctx context.Context, c *config.Config) (*apiClient, error) {
	key := c.Private.Key
	if key == "" {
		var err error
		if key, err = private.ReadKey(c.Data.Directory); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil // never started with this data directory
			}
			return nil, err
		}
	}
	a := newAPIClient(c.Private.Listen, key)
	up, err := a.up(ctx)
	if err != nil || !up {
		return nil, err
	}
	return a, nil
}

// connect reads the configuration and looks for the running install: the client is nil when none answers.
func (env *environment) connect(ctx context.Context) (*config.Config, *apiClient, error) {
	c, err := env.load()
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
	root := group(&cobra.Command{Use: "config", Short: "Show the configuration and its documentation"})
	var defaults bool
	show := &cobra.Command{
		Use: "print", Short: "Print the configuration in force, with where each value comes from", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if defaults {
				return config.WriteDefaults(env.stdout)
			}
			c, err := env.load()
			if err != nil {
				return err
			}
			return c.Write(env.stdout)
		},
	}
	show.Flags().BoolVar(&defaults, "defaults", false, "print the documented file of defaults instead")
	schema := &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of quickthorn.yaml, for editors", Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return config.WriteJSONSchema(env.stdout) },
	}
	root.AddCommand(show, schema)
	return root
}

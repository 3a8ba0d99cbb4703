package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
)

// load reads the configuration from flags, environment and file.
func (env *environment) load(flags ...string) (*config.Config, error) {
	o := config.LoadOptions{File: config.DefaultFile, Environ: env.environ}
	if env.configFile != "" {
		o.File, o.Required = env.configFile, true
	}
	o.Sets = append(o.Sets, flags...)
	if env.dataDir != "" {
		o.Sets = append(o.Sets, "data.directory="+env.dataDir)
	}
	o.Sets = append(o.Sets, env.sets...)
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

// running returns a client of the running install and an error when there is none.
func (env *environment) running(ctx context.Context) (*apiClient, error) {
	c, err := env.load()
	if err != nil {
		return nil, err
	}
	a, err := env.client(ctx, c)
	if err == nil && a == nil {
		err = fmt.Errorf("no quickthorn answers on %s with the data directory %s: start it, or name the right ones with --config, --data or --set private.listen=…", c.Private.Listen, c.Data.Directory)
	}
	return a, err
}

// offline opens the state of an install that is not running.
func (env *environment) offline(ctx context.Context, c *config.Config) (*embedded.DB, *decision.Log, error) {
	path := c.Data.Directory
	if _, err := os.Stat(path); err != nil {
		return nil, nil, fmt.Errorf("data directory: %w", err)
	}
	db, err := embedded.Open(ctx, path+"/"+embedded.FileName)
	if err != nil {
		return nil, nil, err
	}
	log := decision.NewLog(decision.NewSet(c.Edge.Trusted), db, decision.LogOptions{})
	if _, err := log.Load(ctx); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, log, nil
}

func configCommand(env *environment) *cobra.Command {
	root := &cobra.Command{Use: "config", Short: "Show the configuration and its documentation", Args: cobra.NoArgs}
	var defaults bool
	show := &cobra.Command{
		Use: "print", Short: "Print the configuration in force, with where each value comes from", Args: cobra.NoArgs,
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
		Use: "schema", Short: "Print the JSON Schema of quickthorn.yaml, for editors", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return config.WriteJSONSchema(env.stdout) },
	}
	root.AddCommand(show, schema)
	return root
}

// Package command is what the command lines of all our programs share: where they take input from, how they end, and how they run a
// service.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// Environment is what a program takes from the operating system. Commands read it from here only.
type Environment struct {
	Args    []string // without the program's name
	Environ []string
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer

	ConfigFile string   // --config
	DataDir    string   // --data
	Sets       []string // --set section.field=value
}

// ErrReported ends the program with status 1 after the command has said everything itself.
var ErrReported = errors.New("reported")

// StatusError ends the program with a status of its own. Err may be nil: everything was said.
type StatusError struct {
	Status int
	Err    error
}

func (e *StatusError) Error() string {
	if e.Err == nil {
		return ErrReported.Error()
	}
	return e.Err.Error()
}

func (e *StatusError) Unwrap() error {
	if e.Err == nil {
		return ErrReported
	}
	return e.Err
}

// Main runs the program whose commands build makes, with the process's own environment, and ends it. SIGINT and SIGTERM
// end the context.
func Main(build func(env *Environment) *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	env := &Environment{Args: os.Args[1:], Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	os.Exit(env.Execute(ctx, build(env)))
}

// Execute runs the command line and returns the exit status: 0 when all went well, 1 when something
// failed or was found wrong, 2 when the command line cannot be understood.
func (env *Environment) Execute(ctx context.Context, root *cobra.Command) int {
	root.Version = versionLine(root.Name())
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.SetArgs(env.Args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	f := root.PersistentFlags()
	f.StringVar(&env.ConfigFile, "config", "", "configuration `file` (default quickthorn.yaml, if there is one)")
	f.StringVar(&env.DataDir, "data", "", "data `directory` (same as --set data.directory=…)")
	f.StringArrayVar(&env.Sets, "set", nil, "set one configuration field, as in `edge.drain=10s`; may be repeated")
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, ErrReported) {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(env.Stderr, "%s: %s\n", root.Name(), strings.TrimRight(line, "\n"))
		}
	}
	var status *StatusError
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return status.Status
	case errors.As(err, &usage):
		return 2
	}
	return 1
}

// Load reads the configuration from flags, environment and file.
func (env *Environment) Load(flags ...config.Flag) (*config.Config, error) {
	flags = append(flags, config.Given(config.Flag{Name: "--data", Path: "data.directory", Value: env.DataDir})...)
	o := config.LoadOptions{File: config.DefaultFile, Environ: env.Environ, Flags: flags, Sets: env.Sets}
	if env.ConfigFile != "" {
		o.File, o.Required = env.ConfigFile, true
	}
	return config.Load(o)
}

// Options are what opens a program, by the configuration.
func (env *Environment) Options(c *config.Config) (service.Options, error) {
	log, err := telemetry.NewLogger(env.Stderr, c.Log.Level, c.Log.Format)
	if err != nil {
		return service.Options{}, err
	}
	v, revision := Version()
	return service.Options{Config: c, Log: log, Version: v, Revision: revision}, nil
}

// Alone makes a program of one service: it runs when no subcommand is named, and has those that a container needs.
func Alone(command func(env *Environment) *cobra.Command) func(env *Environment) *cobra.Command {
	return func(env *Environment) *cobra.Command {
		root := command(env)
		root.AddCommand(HealthcheckCommand(env), VersionCommand(env))
		root.CompletionOptions.DisableDefaultCmd = true
		return root
	}
}

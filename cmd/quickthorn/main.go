// Command quickthorn is a hedge for web sites: it stands in front of a site,
// lets people and welcome crawlers pass, and stops scrapers. See README.md.
package main

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
)

// version is set by the release build (-ldflags "-X main.version=v1.2.3").
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(execute(ctx, &environment{args: os.Args[1:], environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}))
}

// environment is what the program takes from the operating system. Commands read it from here only.
type environment struct {
	args    []string
	environ []string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer

	configFile string   // --config
	dataDir    string   // --data
	sets       []string // --set section.field=value
}

// errReported ends the program with status 1 after the command has said everything itself.
var errReported = errors.New("reported")

// execute runs the command line and returns the exit status: 0 when all went well, 1 when something
// failed or was found wrong, 2 when the command line cannot be understood.
func execute(ctx context.Context, env *environment) int {
	root := &cobra.Command{
		Use:           "quickthorn",
		Version:       versionLine(),
		Short:         "A hedge for web sites: readers pass, scrapers get tangled",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	group(root)
	root.SetFlagErrorFunc(flagError)
	root.SetArgs(env.args)
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	f := root.PersistentFlags()
	f.StringVar(&env.configFile, "config", "", "configuration `file` (default quickthorn.yaml, if there is one)")
	f.StringVar(&env.dataDir, "data", "", "data `directory` (same as --set data.directory=…)")
	f.StringArrayVar(&env.sets, "set", nil, "set one configuration field, as in `edge.drain=10s`; may be repeated")
	root.AddGroup(&cobra.Group{ID: "serve", Title: "Serve:"}, &cobra.Group{ID: "judge", Title: "Understand and try out:"}, &cobra.Group{ID: "act", Title: "Act on a running install:"}, &cobra.Group{ID: "keep", Title: "Keep it:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("serve", runCommand(env), demoCommand(env))
	add("judge", checkCommand(env), explainCommand(env), replayCommand(env), policyCommand(env))
	add("act", modeCommand(env), switchCommand(env, "observe"), switchCommand(env, "enforce"), switchCommand(env, "off"), decisionsCommand(env), eventsCommand(env), reportCommand(env))
	add("keep", configCommand(env), backupCommand(env), restoreCommand(env), versionCommand(env))
	root.SetHelpCommandGroupID("keep")
	root.SetCompletionCommandGroupID("keep")
	root.SetVersionTemplate("{{.Version}}\n")
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Short = "Write a script that lets bash, zsh or fish complete commands and flags"
			group(c)
		}
	}
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return 1
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(env.stderr, "quickthorn: %s\n", strings.TrimRight(line, "\n"))
	}
	if usage := (*usageError)(nil); errors.As(err, &usage) {
		return 2
	}
	return 1
}

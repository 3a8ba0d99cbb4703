// Command quickthorn is a hedge for web sites: it stands in front of a site,
// lets people and welcome crawlers pass, and stops scrapers. See README.md.
package main

import (
	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/llm/cloud"
	"github.com/quickthorn/quickthorn/internal/llm/router"
	"github.com/quickthorn/quickthorn/internal/proxy"
	"github.com/quickthorn/quickthorn/internal/run"
)

func main() { command.Main(commands) }

// environment is what the program takes from the operating system, with what only it has.
type environment struct {
	*command.Environment
	server string // --server
}

// commands makes the whole command line.
func commands(from *command.Environment) *cobra.Command {
	env := &environment{Environment: from}
	root := &cobra.Command{Use: "quickthorn", Short: "A hedge for web sites: readers pass, scrapers get tangled"}
	command.Group(root)
	root.PersistentFlags().StringVar(&env.server, "server", "", "`address` of the running install (default: this machine's), as in http://ai-service:8000; its key is private.key")
	root.AddGroup(&cobra.Group{ID: "serve", Title: "Serve:"}, &cobra.Group{ID: "judge", Title: "Understand and try out:"}, &cobra.Group{ID: "act", Title: "Act on a running install:"}, &cobra.Group{ID: "keep", Title: "Keep it:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("serve", runCommand(env), demoCommand(env), proxy.Command(from, run.Bell), aiServiceCommand(env), escalationEngineCommand(env), tarpitCommand(env), router.Command(from), cloud.Command(from), adminCommand(env), syncCommand(env), followCommand(env), demoSiteCommand(env))
	add("judge", checkCommand(env), explainCommand(env), replayCommand(env), simulateCommand(env), policyCommand(env), adviseCommand(env), modelCommand(env), corpusCommand(env), canaryCommand(env))
	add("act", modeCommand(env), switchCommand(env, "observe"), switchCommand(env, "enforce"), switchCommand(env, "off"), decisionsCommand(env), tokenCommand(env), llmCommand(env), casesCommand(env), eventsCommand(env), reportCommand(env), deadLettersCommand(env), alertCommand(env))
	add("keep", configCommand(env), initCommand(env), migrateCommand(env), command.HealthcheckCommand(from), backupCommand(env), restoreCommand(env), command.VersionCommand(env.Environment))
	root.SetHelpCommandGroupID("keep")
	root.SetCompletionCommandGroupID("keep")
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Short = "Write a script that lets bash, zsh or fish complete commands and flags"
			command.Group(c)
		}
	}
	return root
}

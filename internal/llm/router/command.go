package router

import (
	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
)

// Command runs prompt-router: as a subcommand of quickthorn, and as a program of its own.
func Command(env *command.Environment) *cobra.Command {
	return &cobra.Command{
		Use: "prompt-router", Short: "One address for language models: a local one, or the cloud's by way of cloud-proxy", Args: command.NoArgs,
		Long: `One address for language models: a local one where promptRouter.localUrl names it, or else the cloud's by way of cloud-proxy. Its API,
POST /v1/chat/completions, is on promptRouter.listen (:8009), health and metrics on private.listen. Only escalation-engine and the operator may call it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return command.Serve(cmd.Context(), env, nil, Open)
		},
	}
}

package router

import (
	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
)

// Command runs prompt-router: as a subcommand of quickthorn, and as a program of its own.
func Command(env *command.Environment) *cobra.Command {
	return &cobra.Command{
		Use: "prompt-router", Short: "One address for language models: your own servers, or the cloud's by way of cloud-proxy", Args: command.NoArgs,
		Long: `One address for language models: your own servers, named by promptRouter.localUrl and promptRouter.servers, or the cloud's by way of cloud-proxy, as
promptRouter.routes say. Its API, that of OpenAI below /v1/, is on promptRouter.listen (:8009), health and metrics on private.listen. escalation-engine, the
operator and the programs of gateway.keys may call it. "quickthorn llm route" tells where a call would go, and why.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return command.Serve(cmd.Context(), env, nil, Open)
		},
	}
}

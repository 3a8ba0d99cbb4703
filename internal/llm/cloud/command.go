package cloud

import (
	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
)

// Command runs cloud-proxy: as a subcommand of quickthorn, and as a program of its own.
func Command(env *command.Environment) *cobra.Command {
	return &cobra.Command{
		Use: "cloud-proxy", Short: "The holder of keys: carries calls of language models to their providers", Args: command.NoArgs,
		Long: `The holder of keys: carries calls of language models to their providers. No other service knows the keys of cloudProxy.provider and
cloudProxy.providers. Its API, that of OpenAI below /v1/, is on cloudProxy.listen (:8008), health and metrics on private.listen. prompt-router, the operator and
the programs of gateway.keys may call it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return command.Serve(cmd.Context(), env, nil, Open)
		},
	}
}

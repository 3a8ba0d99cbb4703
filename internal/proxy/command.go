package proxy

import (
	"context"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/spf13/cobra"
)

// Command runs the edge: as a subcommand of quickthorn, and as a program of its own, which has no Redis client: hear is nil then.
func Command(env *command.Environment, hear Hear) *cobra.Command {
	var upstream, policy string
	c := &cobra.Command{
		Use: "proxy", Short: "The edge alone: it follows the decisions of ai-service and sends it what it sees", Args: command.NoArgs,
		Long: `The edge alone: it follows the decisions of ai-service and sends it what it sees. It starts and serves while ai-service is away, with
the decisions that it knew last (kept in the data directory). It needs aiService.url and its key, auth.proxy.key.`,
		Example: "  QUICKTHORN_AUTH_PROXY_KEY_FILE=/run/secrets/proxy proxy --upstream http://127.0.0.1:3000 --set aiService.url=http://ai-service:8000",
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := config.Given(config.Flag{Name: "--upstream", Path: "upstream.url", Value: upstream}, config.Flag{Name: "--policy", Path: "policy.source", Value: policy})
			return command.Serve(cmd.Context(), env, flags, func(ctx context.Context, o service.Options) (*Proxy, error) { return Open(ctx, o, hear) })
		},
	}
	c.Flags().StringVar(&upstream, "upstream", "", "the server to protect, as in http://127.0.0.1:3000")
	c.Flags().StringVar(&policy, "policy", "", "a preset's name or a policy `file` (default readers-first)")
	return c
}

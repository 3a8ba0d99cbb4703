package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/listen"
)

// healthTime bounds a health check. A service that answers later is taken for one that does not.
const healthTime = 5 * time.Second

// HealthcheckCommand asks the service that runs with the same configuration how it is: containers need neither a shell nor curl for it.
func HealthcheckCommand(env *Environment) *cobra.Command {
	var live bool
	c := &cobra.Command{
		Use: "healthcheck", Short: "Ask the service that runs here whether it is ready", Args: NoArgs,
		Long: `Ask the service that runs here, with the same configuration, whether it is ready: exit status 0 if it is, 1 if not, with the reason.
With --live only whether it is alive: something that it needs may be away.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := env.Load()
			if err != nil {
				return err
			}
			path := "/readyz"
			if live {
				path = "/healthz"
			}
			return health(cmd.Context(), cfg.Private.Listen, path)
		},
	}
	c.Flags().BoolVar(&live, "live", false, "only whether it is alive")
	return c
}

func health(ctx context.Context, address, path string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	base, client := listen.Client(address)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("no answer at private.listen %s: %w", address, err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10)) // what was read of it is good enough as a reason
	return fmt.Errorf("not ready (%s): %s", res.Status, strings.TrimSpace(string(body)))
}

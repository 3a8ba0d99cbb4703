// Command proxy is the edge and nothing else: what the internet reaches has no code in it that it does not need.
// It is "quickthorn proxy"
// without a Redis client: ai-service tells it of decisions.
package main

import (
	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/proxy"
	"github.com/spf13/cobra"
)

func main() {
	command.Main(command.Alone(func(env *command.Environment) *cobra.Command { return proxy.Command(env, nil) }))
}

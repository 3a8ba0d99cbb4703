// Command prompt-router is the service that sees the prompts to language models, and nothing else.
// It is the same as "quickthorn prompt-router".
package main

import (
	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/llm/router"
)

func main() { command.Main(command.Alone(router.Command)) }

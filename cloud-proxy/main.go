// Command cloud-proxy is the service that holds the keys of model providers, and nothing else.
// It is the same as "quickthorn cloud-proxy".
package main

import (
	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/llm/cloud"
)

func main() { command.Main(command.Alone(cloud.Command)) }

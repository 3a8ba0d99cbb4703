// Package openapi holds the OpenAPI documents of the services. They are generated from the types that the services
// read and write, with their comments, and from a list of routes; tests hold them to the routes that are
// registered and to the answers that are given.
package openapi

import (
	_ "embed" // the documents
	"net/http"
)

//go:generate go run ./gen

//go:embed ai-service.json
var aiService []byte

//go:embed escalation-engine.json
var escalationEngine []byte

// Document is an OpenAPI 3.0 document in JSON.
type Document []byte

// AIService describes the API of ai-service. quickthorn run serves it too, and proxy the part of the edge.
func AIService() Document { return aiService }

// EscalationEngine describes the API of escalation-engine.
func EscalationEngine() Document { return escalationEngine }

// ServeHTTP serves the document. It holds no secret and asks for no key.
func (d Document) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(d) // an error means that the client is gone
}

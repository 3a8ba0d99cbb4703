// Command gen writes the OpenAPI documents: go generate ./internal/openapi
//
// A document is made of the list of routes in routes.go and of the Go types that the services read and write, with
// their comments. What a comment cannot say in a way that programs understand stands in facts.go.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// service is one document.
type service struct {
	name, description string
	servers           []server
	routes            []route
}

// server is where a service is reached as it comes.
type server struct{ url, description string }

// media is a body: its media type and what is in it, or one of what. Without types it is text or bytes.
type media struct {
	kind    string
	of      []reflect.Type
	example any
}

// param is a parameter of the query, or of the header.
type param struct {
	name, doc string
	header    bool
	required  bool
	of        reflect.Type // nil: see schema
	schema    object       // nil: text
}

// route is one operation.
type route struct {
	method, path string
	tag          string
	summary      string
	served       string // by whom; "": run and ai-service
	callers      string // besides the operator
	open         bool   // asks for no key
	params       []param
	request      []media
	status       int
	answer       []media
	problems     map[int]string
	problem      reflect.Type // in what form; nil: Problem
	plain        bool         // problems are text
}

func main() {
	root, err := filepath.Abs("../..") // go generate runs in the package's directory
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range services(root) {
		b, err := newSchemas(root).render(s)
		if err == nil {
			err = os.WriteFile(s.name+".json", b, 0o644)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
}

// render makes one OpenAPI document.
func (s *schemas) render(from service) ([]byte, error) {
	s.all["Problem"] = object{
		"type": "object", "description": "A problem (RFC 9457).", "required": []string{"type", "title", "status", "detail"},
		"properties": object{
			"type": object{"type": "string"}, "title": object{"type": "string", "description": "The status in words."},
			"status": object{"type": "integer"}, "detail": object{"type": "string", "description": "What is wrong and what would be right, for people."},
		},
	}
	paths, tags := object{}, []any{}
	used := map[string]bool{}
	for i := range from.routes {
		r := &from.routes[i]
		at, _ := paths[r.path].(object)
		if at == nil {
			at = object{}
			paths[r.path] = at
		}
		at[r.method] = s.operation(r)
		if r.open && r.path != "/openapi.json" { // on a listener of its own
			at["servers"] = []any{object{"url": "http://127.0.0.1:8081", "description": "Health and metrics of every service."}}
		}
		if !used[r.tag] {
			used[r.tag] = true
			tags = append(tags, object{"name": r.tag, "description": tagDocs()[r.tag]})
		}
	}
	var servers []any
	for _, at := range from.servers {
		servers = append(servers, object{"url": at.url, "description": at.description})
	}
	document := object{
		"openapi": "3.0.3",
		"info":    object{"title": "quickthorn " + from.name, "version": "1", "description": from.description},
		"servers": servers, "tags": tags, "paths": paths,
		"components": object{"schemas": s.all, "securitySchemes": object{"key": object{
			"type": "http", "scheme": "bearer", "description": "The caller's own key. Where services speak TLS to each other, a client certificate with the caller's name does as well.",
		}}},
		"security": []any{object{"key": []any{}}},
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(document)
	return b.Bytes(), err
}

func (s *schemas) operation(r *route) object {
	served := cmp.Or(r.served, "run and ai-service")
	o := object{"summary": r.summary, "operationId": operationID(r), "tags": []any{r.tag}}
	if r.open {
		o["description"] = "Served by " + served + ", without a key."
		o["security"] = []any{}
	} else {
		callers := "the operator"
		if r.callers != "" {
			callers += ", " + r.callers
		}
		o["description"] = "Served by " + served + ". Callers: " + callers + "."
	}
	if parameters := s.parameters(r); parameters != nil {
		o["parameters"] = parameters
	}
	if r.request != nil {
		o["requestBody"] = object{"required": true, "content": s.content(r.request)}
	}
	o["responses"] = s.responses(r)
	return o
}

// parameters returns them in an order that does not change.
func (s *schemas) parameters(r *route) []any {
	var list []any
	for part := range strings.SplitSeq(r.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			list = append(list, object{"name": strings.TrimSuffix(name, "}"), "in": "path", "required": true, "schema": object{"type": "string"}})
		}
	}
	for _, p := range r.params {
		o := object{"name": p.name, "in": "query", "description": p.doc, "schema": object{"type": "string"}}
		if p.header {
			o["in"] = "header"
		}
		if p.required {
			o["required"] = true
		}
		switch {
		case p.of != nil:
			o["schema"] = s.schema(p.of)
		case p.schema != nil:
			o["schema"] = p.schema
			if p.schema["type"] == "array" { // name=a,b
				o["style"], o["explode"] = "form", false
			}
		}
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b any) int {
		x, y := a.(object), b.(object)
		return cmp.Or(cmp.Compare(x["in"].(string), y["in"].(string)), cmp.Compare(x["name"].(string), y["name"].(string)))
	})
	return list
}

func (s *schemas) responses(r *route) object {
	answer := func(text string, content object) object { return object{"description": text, "content": content} }
	problem := func(text string, of reflect.Type) object {
		schema := object{"$ref": "#/components/schemas/Problem"}
		if of != nil {
			schema = s.schema(of)
		}
		return answer(text, object{"application/problem+json": object{"schema": schema}})
	}
	out := object{strconv.Itoa(r.status): answer("Done.", s.content(r.answer))}
	if !r.open {
		out["401"] = problem("No key, or one that is not known.", nil)
		out["403"] = problem("The key's owner may not do this.", nil)
	}
	for status, text := range r.problems {
		p := problem(text, r.problem)
		switch {
		case r.plain:
			p = answer(text, s.content([]media{{kind: "text/plain"}}))
		case strings.Contains(text, "Retry-After"):
			p["headers"] = object{"Retry-After": object{"description": "seconds", "schema": object{"type": "integer", "minimum": 0}}}
		}
		out[strconv.Itoa(status)] = p
	}
	return out
}

func (s *schemas) content(list []media) object {
	c := object{}
	for _, m := range list {
		schema := object{"type": "string"}
		switch {
		case len(m.of) == 1:
			schema = s.schema(m.of[0])
		case len(m.of) > 1:
			var either []any
			for _, t := range m.of {
				either = append(either, s.schema(t))
			}
			schema = object{"oneOf": either}
		case !strings.HasPrefix(m.kind, "text/"):
			schema["format"] = "binary"
		}
		if m.kind == ndjson && len(m.of) == 1 {
			schema = object{"allOf": []any{schema}, "description": "Each line is one of these."}
		}
		body := object{"schema": schema}
		if m.example != nil {
			body["example"] = m.example
		}
		c[m.kind] = body
	}
	return c
}

func operationID(r *route) string {
	id := r.method
	for part := range strings.FieldsFuncSeq(strings.TrimPrefix(r.path, "/v1"), func(c rune) bool { return strings.ContainsRune("/-{}.", c) }) {
		id += strings.ToUpper(part[:1]) + part[1:]
	}
	return id
}

// exampleEvent is the first event of the contract that producers and consumers test against.
func exampleEvent(root string) any {
	b, err := os.ReadFile(filepath.Join(root, "internal", "defense", "testdata", "event.v1.json"))
	var events []json.RawMessage
	if err == nil {
		err = json.Unmarshal(b, &events)
	}
	if err != nil || len(events) == 0 {
		panic(fmt.Sprintf("the example of an event: %d events, %v", len(events), err))
	}
	return events[0]
}

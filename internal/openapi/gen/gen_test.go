package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestTheDocumentsAreUpToDate(t *testing.T) {
	t.Parallel()
	told := map[string]bool{}
	for _, service := range services("../../..") {
		s := newSchemas("../../..")
		want, err := s.render(service)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("..", service.name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s.json is not what its types and routes say: go generate ./internal/openapi", service.name)
		}
		for key, of := range s.told {
			told[key] = told[key] || of
		}
	}
	for key := range facts() {
		if !told[key] {
			t.Errorf("facts.go says something about %s, which no document has", key)
		}
	}
}

func TestEachOperationHasAnIDOfItsOwn(t *testing.T) {
	t.Parallel()
	for _, service := range services("../../..") {
		seen := map[string]string{}
		for i := range service.routes {
			r := &service.routes[i]
			id := operationID(r)
			if other := seen[id]; other != "" {
				t.Errorf("%s: %s %s and %s are both %s", service.name, r.method, r.path, other, id)
			}
			seen[id] = r.method + " " + r.path
			if tagDocs()[r.tag] == "" {
				t.Errorf("%s %s: nothing is said about tag %q", r.method, r.path, r.tag)
			}
		}
	}
}

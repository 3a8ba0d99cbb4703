// Package script holds what the challenge page runs in a browser: the page's own script
// and its worker, built from the TypeScript in src.
//
// The scripts ask for nothing but same-origin script, worker and fetch, so they work under
// "Content-Security-Policy: default-src 'self'". The rule that must never break is theirs: a browser
// that blocks, lacks or breaks anything is led to the page's fallback, which needs no JavaScript.
package script

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
)

//go:generate go run ./gen

//go:embed dist/*.js dist/*.map
var dist embed.FS

// File is one file to be served.
type File struct {
	// Name is the last part of the file's address. It contains a hash of the content: a
	// response may be cached for ever.
	Name string
	// ContentType is the value of the Content-Type header.
	ContentType string
	// Body is the content, and Gzip the same compressed (RFC 1952). Neither may be changed.
	Body, Gzip []byte
}

// Scripts are the files of one build. They do not change, so any number of goroutines may use them.
type Scripts struct {
	files             []File
	challenge, worker string
}

// Load prepares the built scripts, which takes some milliseconds for compressing them. An
// error means that the program was built from an incomplete dist folder.
func Load() (*Scripts, error) {
	s := &Scripts{}
	for _, script := range []struct {
		stem string
		name *string
	}{{"challenge", &s.challenge}, {"worker", &s.worker}} {
		name, err := s.add(script.stem)
		if err != nil {
			return nil, fmt.Errorf("load script %q: %w", script.stem, err)
		}
		*script.name = name
	}
	return s, nil
}

// Challenge returns the name of the script of the challenge page.
func (s *Scripts) Challenge() string { return s.challenge }

// Worker returns the name of the worker's script, to which the page's data-worker leads.
func (s *Scripts) Worker() string { return s.worker }

// Files returns all files: both scripts and their source maps, which a browser asks for
// only when somebody opens its developer tools.
func (s *Scripts) Files() []File { return append([]File(nil), s.files...) }

// Find returns the file of that name.
func (s *Scripts) Find(name string) (File, bool) {
	for _, f := range s.files { // four of them: a map would not be faster
		if f.Name == name {
			return f, true
		}
	}
	return File{}, false
}

// add takes in a script and its map, and returns the script's name.
func (s *Scripts) add(stem string) (string, error) {
	body, err := dist.ReadFile("dist/" + stem + ".js")
	if err != nil {
		return "", err
	}
	sourceMap, err := dist.ReadFile("dist/" + stem + ".js.map")
	if err != nil {
		return "", err
	}
	// Both are named by the hash of both: a changed comment changes only the map, whose name would otherwise stay.
	h := sha256.New()
	h.Write(body)
	h.Write(sourceMap)
	name := stem + "." + hex.EncodeToString(h.Sum(nil)[:4]) + ".js"
	body = fmt.Appendf(body, "//# sourceMappingURL=%s.map\n", name)

	for _, f := range []File{
		{Name: name, ContentType: "text/javascript; charset=utf-8", Body: body},
		{Name: name + ".map", ContentType: "application/json", Body: sourceMap},
	} {
		if f.Gzip, err = compress(f.Body); err != nil {
			return "", fmt.Errorf("compress: %w", err)
		}
		s.files = append(s.files, f)
	}
	return name, nil
}

func compress(body []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

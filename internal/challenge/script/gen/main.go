// Command gen builds the browser scripts in dist from the sources in src.
//
//	go generate ./internal/challenge/script
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/quickthorn/quickthorn/internal/challenge/script/bundle"
)

func main() {
	dir := flag.String("dir", ".", "folder with src, where dist is written")
	flag.Parse()
	if err := write(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	files, err := bundle.Build(dir, "challenge", "worker")
	if err != nil {
		return err
	}
	dist := filepath.Join(dir, "dist")
	if err := os.MkdirAll(dist, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dist, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

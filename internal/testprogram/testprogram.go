// Package testprogram builds quickthorn for tests and benchmarks that run it as their users do: as a process.
package testprogram

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Build builds the program of the checkout at root into dir and returns its path.
func Build(ctx context.Context, root, dir string) (string, error) {
	binary := filepath.Join(dir, "quickthorn")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/quickthorn")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build quickthorn: %w\n%s", err, out)
	}
	return binary, nil
}

// Main runs the tests of a package with the program built once, at *binary, and ends the process. It is for TestMain.
func Main(m *testing.M, root string, binary *string) {
	os.Exit(run(m, root, binary))
}

func run(m *testing.M, root string, binary *string) int {
	dir, err := os.MkdirTemp("", "quickthorn-test-")
	if err == nil {
		defer os.RemoveAll(dir)
		*binary, err = Build(context.Background(), root, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

//go:build release

// Package release tests how releases are made: the same source gives the same files, each with a list of what is in it.
package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const root = "../.."

// run runs a program in dir.
func run(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// source copies what a release is built from to a folder of another name, with other times.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run(t, root, nil, "sh", "-c", "tar -cf - go.mod go.sum cmd internal proxy cloud-proxy prompt-router deploy/release LICENSE README.md | tar -xmf - -C "+dir)
	return dir
}

const archive = "quickthorn_v0.0.1_linux_amd64.tar.gz"

func build(t *testing.T, from string, env ...string) (file string) {
	t.Helper()
	out := t.TempDir()
	run(t, from, append(env, "REVISION=0123abc", "PLATFORMS=linux/amd64"), "deploy/release/build.sh", "v0.0.1", out)
	sums, err := os.ReadFile(filepath.Join(out, "SHA256SUMS"))
	if err != nil || !strings.Contains(string(sums), archive) {
		t.Fatalf("SHA256SUMS: %q, %v", sums, err)
	}
	return filepath.Join(out, archive)
}

// unpack returns the files of an archive.
func unpack(t *testing.T, name string) map[string][]byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s tells of the machine: %d:%d %s", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheSameSourceGivesTheSameFiles(t *testing.T) {
	one, other := build(t, source(t), "SBOM=no"), build(t, source(t), "SBOM=no", "TZ=Pacific/Auckland", "HOME="+t.TempDir(), "GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"))
	a, b := digest(t, one), digest(t, other)
	if a != b {
		for name, content := range unpack(t, one) {
			if !bytes.Equal(content, unpack(t, other)[name]) {
				t.Errorf("%s differs", name)
			}
		}
		t.Errorf("%s and %s", a, b)
	}
	// Compiled anew, with nothing in the cache.
	dir := source(t)
	fresh := filepath.Join(t.TempDir(), "cloud-proxy")
	run(t, dir, []string{"GOCACHE=" + t.TempDir(), "CGO_ENABLED=0", "GOAMD64=v1", "GOFLAGS=-mod=readonly"}, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X github.com/quickthorn/quickthorn/internal/command.version=v0.0.1 -X github.com/quickthorn/quickthorn/internal/command.revision=0123abc", "-o", fresh, "./cloud-proxy")
	content, err := os.ReadFile(fresh)
	if err != nil {
		t.Fatal(err)
	}
	if released := unpack(t, one)["quickthorn_v0.0.1_linux_amd64/cloud-proxy"]; !bytes.Equal(content, released) {
		t.Errorf("compiled anew, cloud-proxy differs: %d and %d bytes", len(content), len(released))
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func digest(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

func TestEachProgramHasABillOfMaterialsThatIsTrue(t *testing.T) {
	files := unpack(t, build(t, source(t)))
	for _, program := range []string{"quickthorn", "proxy", "cloud-proxy", "prompt-router"} {
		prefix := "quickthorn_v0.0.1_linux_amd64/" + program
		info, err := buildinfo.Read(bytes.NewReader(files[prefix]))
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		var bill struct {
			BOMFormat  string
			Components []struct{ Name, Version string }
		}
		if err := json.Unmarshal(files[prefix+".cdx.json"], &bill); err != nil || bill.BOMFormat != "CycloneDX" {
			t.Fatalf("%s: %v, %q", program, err, bill.BOMFormat)
		}
		var listed, linked []string
		for _, c := range bill.Components {
			if c.Name != "std" {
				listed = append(listed, c.Name+"@"+c.Version)
			}
		}
		for _, m := range info.Deps {
			linked = append(linked, m.Path+"@"+m.Version)
		}
		slices.Sort(listed)
		slices.Sort(linked)
		if !slices.Equal(listed, linked) {
			t.Errorf("%s: the bill lists\n%v\nlinked is\n%v", program, listed, linked)
		}
	}
}

func TestTheReleaseWorkflowIsValid(t *testing.T) {
	run(t, root, nil, "go", "run", "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12", "-shellcheck=", "-pyflakes=", ".github/workflows/release.yml")
}

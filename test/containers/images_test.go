//go:build containers

package containers

import (
	"archive/tar"
	"context"
	"debug/buildinfo"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// checkImages looks at what is in each image: its size, its files, what its history tells, what its program is made of.
func checkImages(t *testing.T, names map[string]string) {
	base := size(t, names["RUNTIME_IMAGE"])
	bare := files(t, names["RUNTIME_IMAGE"], nil)
	common := []string{"data", "etc/quickthorn", "etc/ssl/certs/ca-certificates.crt", "usr/local/share/zoneinfo.zip"}
	for _, tt := range []struct {
		image, program string
		more           []string
		most           int64 // bytes beside the base image
	}{
		{"quickthorn-test/quickthorn:built", "quickthorn", []string{"usr/local/bin/docker-entrypoint.sh"}, 60e6},
		{"quickthorn-test/proxy:built", "proxy", nil, 30e6},
		{"quickthorn-test/cloud-proxy:built", "cloud-proxy", nil, 40e6}, // with the vocabulary that counts tokens
		{"quickthorn-test/prompt-router:built", "prompt-router", nil, 40e6},
	} {
		t.Run(tt.program, func(t *testing.T) {
			added := size(t, tt.image) - base
			t.Logf("%s: base + %.1f MB", tt.image, float64(added)/1e6)
			if added > tt.most {
				t.Errorf("%d bytes beside the base image, at most %d", added, tt.most)
			}
			binary := filepath.Join(t.TempDir(), tt.program)
			path := "usr/local/bin/" + tt.program
			want := append(append([]string{path}, common...), tt.more...)
			for name := range files(t, tt.image, map[string]string{path: binary}) {
				if _, in := bare[name]; !in && !slices.ContainsFunc(want, func(w string) bool { return w == name || strings.HasPrefix(w, name+"/") }) {
					t.Errorf("the image has a file that it does not need: %s", name)
				}
			}
			info, err := buildinfo.ReadFile(binary)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range info.Settings {
				if s.Key == "CGO_ENABLED" && s.Value != "0" || s.Key == "-trimpath" && s.Value != "true" {
					t.Errorf("built with %s=%s", s.Key, s.Value)
				}
			}
			if tt.program != "quickthorn" {
				drivers := []string{"modernc.org/", "github.com/jackc/"}
				if tt.program == "proxy" { // the others keep their callers' budgets, in a file or in Redis
					drivers = append(drivers, "go.etcd.io/bbolt", "github.com/redis/")
				}
				for _, m := range info.Deps {
					for _, driver := range drivers {
						if strings.HasPrefix(m.Path, driver) {
							t.Errorf("%s is linked", m.Path)
						}
					}
				}
			}
			for template, want := range map[string]string{
				"{{.Config.User}}": "10001:10001",
				`{{index .Config.Labels "org.opencontainers.image.licenses"}}`: "Apache-2.0",
				"{{.Config.Healthcheck.Test}}":                                 "[CMD /usr/local/bin/" + tt.program + " healthcheck]",
			} {
				if got := inspect(t, tt.image, template); got != want {
					t.Errorf("%s is %s, want %s", template, got, want)
				}
			}
			// Nothing that a build was told about its module proxy is left in what is pushed.
			history, err := run(time.Minute, nil, "docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}", tt.image)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(history, "GOPROXY") || strings.Contains(history, "GOFLAGS") {
				t.Errorf("the history tells of the module proxy:\n%s", history)
			}
			// The program runs with nothing writable, and time zones and authorities are there.
			out, err := run(time.Minute, nil, "docker", "run", "--rm", "--read-only", "--network", "none", "--entrypoint", "/usr/local/bin/"+tt.program, tt.image, "version")
			if err != nil || !strings.Contains(out, tt.program+" ") {
				t.Errorf("version: %v %s", err, out)
			}
		})
	}
}

func size(t *testing.T, image string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(inspect(t, image, "{{.Size}}"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// files lists what is in an image, and copies files out of it.
func files(t *testing.T, image string, copies map[string]string) map[string]bool {
	t.Helper()
	id, err := run(time.Minute, nil, "docker", "create", "--entrypoint", "/none", image)
	if err != nil {
		t.Fatal(err)
	}
	id = strings.TrimSpace(id)
	defer func() {
		if _, err := run(time.Minute, nil, "docker", "rm", id); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", "export", id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	list := map[string]bool{}
	for r := tar.NewReader(out); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.Trim(h.Name, "/")
		list[name] = true
		if to := copies[name]; to != "" {
			f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o700)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(f, r); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return list
}

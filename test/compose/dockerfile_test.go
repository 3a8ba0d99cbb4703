package compose

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

const root = "../.."

// dockerfiles are the four that share the stages deps and build.
var dockerfiles = []string{"Dockerfile", "proxy/Dockerfile", "cloud-proxy/Dockerfile", "prompt-router/Dockerfile"}

// moduleSettings may name hosts of a company's own; no image's history shall have them.
var moduleSettings = []string{"GOPROXY", "GOFLAGS", "GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "GOSUMDB", "GOINSECURE"}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func stages(t *testing.T, name string) (found []instructions.Stage, global []instructions.ArgCommand) {
	t.Helper()
	parsed, err := dockerfile.Parse(bytes.NewReader(read(t, name)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	found, global, err = instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return found, global
}

func stage(t *testing.T, file, name string) instructions.Stage {
	t.Helper()
	all, _ := stages(t, file)
	i := slices.IndexFunc(all, func(s instructions.Stage) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("%s has no stage %s", file, name)
	}
	return all[i]
}

func source(s instructions.Stage) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.SourceCode)
	for _, c := range s.Commands {
		fmt.Fprintln(&b, c)
	}
	return b.String()
}

// Whichever image is built first fills the layer cache for the others: that needs the same instructions to the letter.
func TestDockerfilesShareTheirFirstStages(t *testing.T) {
	for _, name := range []string{"deps", "build"} {
		want := source(stage(t, dockerfiles[0], name))
		for _, file := range dockerfiles[1:] {
			if got := source(stage(t, file, name)); got != want {
				t.Errorf("%s: stage %s differs from that of %s:\n%s\nwant\n%s", file, name, dockerfiles[0], got, want)
			}
		}
	}
	for _, file := range dockerfiles {
		_, global := stages(t, file)
		got := make([]string, len(global))
		for i := range global {
			got[i] = global[i].String()
		}
		if want := []string{"ARG GO_IMAGE=golang:1.26-bookworm", "ARG RUNTIME_IMAGE=busybox:1.37-musl"}; !slices.Equal(got, want) {
			t.Errorf("%s: before the first stage %q, want %q", file, got, want)
		}
	}
}

func TestDockerfilesNeedNoFrontendFromARegistry(t *testing.T) {
	for _, file := range dockerfiles {
		if syntax, _, _, found := dockerfile.DetectSyntax(read(t, file)); found {
			t.Errorf("%s: # syntax=%s would be pulled, and the classic builder does not know it", file, syntax)
		}
		for i, line := range strings.Split(string(read(t, file)), "\n") {
			if regexp.MustCompile(`--mount=|--chmod|--link|<<[A-Z"'-]`).MatchString(line) {
				t.Errorf("%s:%d: the classic builder does not know this: %s", file, i+1, line)
			}
		}
	}
}

// The build stages run on the machine that builds, the final ones are made for another, perhaps: they must not run anything.
func TestImages(t *testing.T) {
	for _, tc := range []struct {
		file, stage, program string
		copies               []string // what is taken, in this order, besides the files every image has
		args                 []string
	}{
		{"Dockerfile", "runtime", "quickthorn", []string{"/files/docker-entrypoint.sh", "/out/quickthorn"}, []string{"/usr/local/bin/docker-entrypoint.sh"}},
		{"proxy/Dockerfile", "runtime", "proxy", []string{"/out/proxy"}, []string{"/usr/local/bin/proxy"}},
		{"cloud-proxy/Dockerfile", "runtime", "cloud-proxy", []string{"/out/cloud-proxy"}, []string{"/usr/local/bin/cloud-proxy"}},
		{"prompt-router/Dockerfile", "runtime", "prompt-router", []string{"/out/prompt-router"}, []string{"/usr/local/bin/prompt-router"}},
	} {
		t.Run(tc.program, func(t *testing.T) {
			s := stage(t, tc.file, tc.stage)
			if s.BaseName != "${RUNTIME_IMAGE}" || s.Platform != "" {
				t.Errorf("made from %q for the platform %q, want ${RUNTIME_IMAGE} for the one that is built for", s.BaseName, s.Platform)
			}
			var copies []string
			seen := map[string]bool{}
			for _, c := range s.Commands {
				seen[strings.ToLower(c.Name())] = true
				switch c := c.(type) {
				case *instructions.RunCommand:
					t.Errorf("%v would need emulation when built for another processor", c)
				case *instructions.CopyCommand:
					copies = append(copies, c.SourcePaths...)
					if c.From == "" {
						t.Errorf("%v copies from the checkout, with its umask", c)
					}
				case *instructions.UserCommand:
					if c.User != "10001:10001" {
						t.Errorf("user %q, want the number that Kubernetes can check: 10001:10001", c.User)
					}
				case *instructions.EntrypointCommand:
					if c.PrependShell || !slices.Equal(c.CmdLine, tc.args) {
						t.Errorf("entrypoint %v, want %v without a shell", c.CmdLine, tc.args)
					}
				case *instructions.HealthCheckCommand:
					if want := []string{"CMD", "/usr/local/bin/" + tc.program, "healthcheck"}; !slices.Equal(c.Health.Test, want) {
						t.Errorf("health check %v, want %v", c.Health.Test, want)
					}
				case *instructions.LabelCommand:
					for _, l := range c.Labels {
						seen[strings.Trim(l.Key, `"`)] = true
					}
				}
			}
			if want := append([]string{"/files/ca-certificates.crt", "/files/zoneinfo.zip", "/files/data"}, tc.copies...); !slices.Equal(copies, want) {
				t.Errorf("holds %v, want %v and nothing else", copies, want)
			}
			for _, name := range []string{
				"user", "entrypoint", "healthcheck", "expose", "stopsignal", "org.opencontainers.image.title", "org.opencontainers.image.description",
				"org.opencontainers.image.version", "org.opencontainers.image.revision", "org.opencontainers.image.licenses",
			} {
				if !seen[name] {
					t.Errorf("has no %s", name)
				}
			}
		})
	}
}

// An image's history holds the arguments of its own stage and of the stages it is made FROM.
func TestModuleSettingsStayOutOfEveryImage(t *testing.T) {
	for _, file := range dockerfiles {
		all, _ := stages(t, file)
		base := map[string]instructions.Stage{}
		for _, s := range all {
			base[s.Name] = s
		}
		for _, target := range []string{"runtime", "dev", "test"} {
			for s, ok := base[target]; ok; s, ok = base[s.BaseName] {
				for _, c := range s.Commands {
					for _, name := range moduleSettings {
						if strings.Contains(fmt.Sprint(c), name) {
							t.Errorf("%s: the history of %s would have %s, by stage %s: %v", file, target, name, s.Name, c)
						}
					}
				}
			}
		}
	}
	deps := source(stage(t, "Dockerfile", "deps"))
	for _, name := range moduleSettings {
		if !regexp.MustCompile(`(?m)^ARG .*\b` + name + `\b`).MatchString(deps) {
			t.Errorf("stage deps does not take %s", name)
		}
	}
}

func TestDefaultImageIsTheRuntime(t *testing.T) {
	for _, file := range dockerfiles {
		all, _ := stages(t, file)
		if last := all[len(all)-1]; last.Name != "runtime" && (last.BaseName != "runtime" || len(last.Commands) > 0) {
			t.Errorf("%s: a build without --target makes %q from %q, want runtime", file, last.Name, last.BaseName)
		}
	}
}

// What is compiled before the source is there must be what the source imports, or the layer costs time instead of saving it.
func TestPrecompiledModulesAreUsed(t *testing.T) {
	imported := map[string]bool{}
	for _, dir := range []string{"cmd", "internal"} {
		walk(t, dir, func(name string) {
			if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return
			}
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range f.Imports {
				imported[strings.Trim(i.Path.Value, `"`)] = true
			}
		})
	}
	packages := regexp.MustCompile(`\s([a-z]\S*\.[a-z]\S*/\S+)`).FindAllStringSubmatch(regexp.MustCompile(`(?s)go build.*`).FindString(source(stage(t, "Dockerfile", "deps"))), -1)
	if len(packages) == 0 {
		t.Fatal("stage deps compiles nothing")
	}
	for _, p := range packages {
		if !imported[p[1]] {
			t.Errorf("stage deps compiles %s, which nothing imports", p[1])
		}
	}
}

func walk(t *testing.T, dir string, each func(name string)) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err == nil && d.IsDir() && (name == ".git" || name == ".build") {
			return filepath.SkipDir
		}
		if err == nil && !d.IsDir() {
			each(filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBuildContext(t *testing.T) {
	patterns, err := ignorefile.ReadAll(bytes.NewReader(read(t, ".dockerignore")))
	if err != nil {
		t.Fatal(err)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	ignored := func(name string) bool {
		yes, err := matcher.MatchesOrParentMatches(name)
		if err != nil {
			t.Fatal(err)
		}
		return yes
	}

	t.Run("has what the program embeds and the tests read", func(t *testing.T) {
		need := []string{"go.mod", "go.sum", "docker-entrypoint.sh", ".env.example", "README.md", "docs/configuration.md", "deploy/dev/build.sh", "deploy/dev/reload.sh"}
		for _, dir := range []string{"cmd", "internal", "proxy", "cloud-proxy", "prompt-router"} {
			walk(t, dir, func(name string) {
				if filepath.Base(name) != "Dockerfile" {
					need = append(need, name)
				}
			})
		}
		for _, name := range need {
			if ignored(name) {
				t.Errorf("%s is left out", name)
			}
		}
	})
	t.Run("has no secret and nothing of this machine", func(t *testing.T) {
		for _, name := range []string{
			".env", ".env.production", ".git/config", "config/quickthorn.yaml", "secrets/redis_password", "quickthorn-data/api.key",
			"internal/x/clearance.key", "backup.tar", ".build/x", "quickthorn",
		} {
			if !ignored(name) {
				t.Errorf("%s is sent to the builder", name)
			}
		}
	})
	t.Run("keeps the program's layers when a container file changes", func(t *testing.T) {
		for _, name := range append([]string{"docker-compose.yaml", "docker-compose.dev.yaml"}, dockerfiles...) {
			if !ignored(name) {
				t.Errorf("%s is sent to the builder", name)
			}
		}
	})
}

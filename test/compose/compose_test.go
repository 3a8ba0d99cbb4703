package compose

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/goccy/go-yaml"
)

var (
	base = []string{"docker-compose.yaml"}
	dev  = []string{"docker-compose.yaml", "docker-compose.dev.yaml"}
	// files are those whose secrets come from files.
	files = []string{"docker-compose.yaml", "docker-compose.secrets.yaml"}
)

// goServices are ours, with the subcommand that each runs; the three with a program of their own have none.
var goServices = map[string]string{
	"proxy": "", "ai_service": "ai-service", "escalation_engine": "escalation-engine", "tarpit": "tarpit", "prompt_router": "", "cloud_proxy": "",
	"admin": "admin", "sync": "sync", "demo_site": "demo-site", "simulate": "simulate",
}

// environment gives each secret of .env.example a value that is found again, and optional ones as well.
func environment(t *testing.T) map[string]string {
	t.Helper()
	env := map[string]string{}
	for _, name := range secrets(t) {
		env[name] = "value-of-" + name
	}
	for _, name := range []string{
		"QUICKTHORN_CLOUD_PROXY_PROVIDER_KEY", "QUICKTHORN_ALERTS_EMAIL_PASSWORD", "QUICKTHORN_ALERTS_SLACK_URL", "QUICKTHORN_ALERTS_WEBHOOK_SECRET",
		"QUICKTHORN_AUTH_PROXY_KEY_PREVIOUS", "QUICKTHORN_AUTH_AI_SERVICE_KEY_PREVIOUS", "QUICKTHORN_AUTH_ESCALATION_ENGINE_KEY_PREVIOUS", "QUICKTHORN_AUTH_PROMPT_ROUTER_KEY_PREVIOUS",
	} {
		env[name] = "value-of-" + name
	}
	return env
}

// secrets are the variables of .env.example that are made by init.
func secrets(t *testing.T) (names []string) {
	t.Helper()
	comment := ""
	for line := range strings.Lines(string(read(t, ".env.example"))) {
		line = strings.TrimSpace(line)
		switch name, value, isVariable := strings.Cut(line, "="); {
		case strings.HasPrefix(line, "#"):
			comment = line
		case isVariable && value == "" && strings.HasSuffix(comment, "(generated)"):
			names = append(names, name)
		case isVariable:
			t.Errorf(".env.example sets %s: a default belongs into docker-compose.yaml, so that an upgrade can change it", line)
		}
	}
	if len(names) < 8 {
		t.Fatalf("found only the secrets %v", names)
	}
	return names
}

func load(t *testing.T, env map[string]string, names ...string) (*types.Project, error) {
	t.Helper()
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = filepath.Join(root, name)
	}
	var list []string
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	o, err := cli.NewProjectOptions(paths, cli.WithName("quickthorn"), cli.WithEnv(list), cli.WithProfiles([]string{"*"}))
	if err != nil {
		t.Fatal(err)
	}
	return o.LoadProject(context.Background())
}

func project(t *testing.T, names ...string) *types.Project {
	t.Helper()
	p, err := load(t, environment(t), names...)
	if err != nil {
		t.Fatalf("%v: %v", names, err)
	}
	return p
}

func TestEveryServiceIsThere(t *testing.T) {
	p := project(t, base...)
	profile := map[string]string{"simulate": "simulate", "ollama": "local-llm", "prometheus": "monitoring", "grafana": "monitoring"}
	want := []string{"redis", "postgres", "mailhog", "ollama", "prometheus", "grafana"}
	for name := range goServices {
		want = append(want, name)
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(p.Services)); !slices.Equal(got, want) {
		t.Errorf("services %v, want %v", got, want)
	}
	for name, s := range p.Services {
		if got := strings.Join(s.Profiles, ","); got != profile[name] {
			t.Errorf("%s: profile %q, want %q", name, got, profile[name])
		}
	}
}

// Every Go service shares one build but the three with an image of their own; the command picks what it does.
func TestGoServicesShareOneBuild(t *testing.T) {
	own := map[string]string{"proxy": "proxy/Dockerfile", "cloud_proxy": "cloud-proxy/Dockerfile", "prompt_router": "prompt-router/Dockerfile"}
	p := project(t, base...)
	images := map[string]string{}
	for name, command := range goServices {
		s := p.Services[name]
		file := own[name]
		if file == "" {
			file = "Dockerfile"
		}
		if filepath.ToSlash(s.Build.Dockerfile) != file || !maps.EqualFunc(s.Build.Args, p.Services["proxy"].Build.Args, func(a, b *string) bool { return deref(a) == deref(b) }) {
			t.Errorf("%s: built by %s with %v, want %s with the arguments of the others", name, s.Build.Dockerfile, s.Build.Args, file)
		}
		if known := images[file]; known != "" && known != s.Image {
			t.Errorf("%s: image %s, want %s", name, s.Image, known)
		}
		images[file] = s.Image
		if command != "" && (len(s.Command) == 0 || s.Command[0] != command) {
			t.Errorf("%s: command %v, want %s", name, s.Command, command)
		}
		if command == "" && len(s.Command) != 0 {
			t.Errorf("%s: command %v, but its image has one program without subcommands", name, s.Command)
		}
	}
	if len(images) != 4 {
		t.Errorf("images %v, want one for each Dockerfile", images)
	}
}

func TestBlankSecretsAreNamed(t *testing.T) {
	for _, name := range secrets(t) {
		t.Run(name, func(t *testing.T) {
			env := environment(t)
			env[name] = ""
			_, err := load(t, env, base...)
			if err == nil {
				t.Fatal("starts without it")
			}
			for _, want := range []string{name, "quickthorn init"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

// Who knows which secret. What is not here must be nowhere.
func TestSecretsReachOnlyWhoNeedsThem(t *testing.T) {
	want := map[string][]string{
		"QUICKTHORN_PRIVATE_KEY":                         {"ai_service", "escalation_engine", "tarpit"},
		"QUICKTHORN_AUTH_PROXY_KEY":                      {"ai_service", "proxy", "tarpit"},
		"QUICKTHORN_AUTH_PROXY_KEY_PREVIOUS":             {"ai_service", "tarpit"},
		"QUICKTHORN_AUTH_AI_SERVICE_KEY":                 {"ai_service", "escalation_engine"},
		"QUICKTHORN_AUTH_AI_SERVICE_KEY_PREVIOUS":        {"escalation_engine"},
		"QUICKTHORN_AUTH_ESCALATION_ENGINE_KEY":          {"escalation_engine", "prompt_router"},
		"QUICKTHORN_AUTH_ESCALATION_ENGINE_KEY_PREVIOUS": {"prompt_router"},
		"QUICKTHORN_AUTH_PROMPT_ROUTER_KEY":              {"cloud_proxy", "prompt_router"},
		"QUICKTHORN_AUTH_PROMPT_ROUTER_KEY_PREVIOUS":     {"cloud_proxy"},
		"QUICKTHORN_CLOUD_PROXY_PROVIDER_KEY":            {"cloud_proxy"},
		"QUICKTHORN_ALERTS_EMAIL_PASSWORD":               {"ai_service"},
		"QUICKTHORN_ALERTS_SLACK_URL":                    {"ai_service"},
		"QUICKTHORN_ALERTS_WEBHOOK_SECRET":               {"ai_service"},
		"QUICKTHORN_TARPIT_SEED":                         {"proxy", "tarpit"},
		"REDIS_PASSWORD":                                 {"ai_service", "cloud_proxy", "prompt_router", "redis"},
		"POSTGRES_PASSWORD":                              {"ai_service", "postgres", "sync"},
		"GRAFANA_PASSWORD":                               {"grafana"},
	}
	for _, set := range [][]string{base, dev} {
		p := project(t, set...)
		got := map[string][]string{}
		for name, s := range p.Services {
			text, err := s.MarshalYAML()
			if err != nil {
				t.Fatal(err)
			}
			b, err := yaml.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			for secret, value := range environment(t) {
				if regexp.MustCompile(value + `\b`).Match(b) {
					got[secret] = append(got[secret], name)
				}
			}
		}
		for secret := range environment(t) {
			slices.Sort(got[secret])
			if !slices.Equal(got[secret], want[secret]) {
				t.Errorf("%v: %s is known to %v, want %v", set, secret, got[secret], want[secret])
			}
		}
	}
}

// egress is deploy/egress.yaml.
type egress struct {
	Services map[string]struct {
		Calls  map[string]int `yaml:"calls"`
		Egress []string       `yaml:"egress"`
	} `yaml:"services"`
	Published map[string]int `yaml:"published"`
}

func readEgress(t *testing.T) (e egress) {
	t.Helper()
	if err := yaml.UnmarshalWithOptions(read(t, "deploy/egress.yaml"), &e, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return e
}

// underscored is the name in Compose of a service of deploy/egress.yaml.
func underscored(name string) string { return strings.ReplaceAll(name, "-", "_") }

func TestNetworksFollowTheTable(t *testing.T) {
	p, table := project(t, base...), readEgress(t)
	if !p.Networks["internal"].Internal || p.Networks["edge"].Internal || p.Networks["egress"].Internal {
		t.Error("internal must have no way out, edge and egress need one")
	}
	if p.Networks["egress"].DriverOpts["com.docker.network.bridge.enable_icc"] != "false" {
		t.Error("services can reach each other over the network egress")
	}
	on := func(name, network string) bool { _, yes := p.Services[name].Networks[network]; return yes }
	for service, row := range table.Services {
		name := underscored(service)
		if _, ok := p.Services[name]; !ok {
			t.Errorf("%s is no service", name)
			continue
		}
		want := []string{"internal"}
		switch {
		case slices.Contains(row.Egress, "upstreams"):
			want = append(want, "edge") // where the protected site is, and the clients
		case len(row.Egress) > 0:
			want = append(want, "egress")
		}
		got := slices.Sorted(maps.Keys(p.Services[name].Networks))
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s is on the networks %v, want %v: it reaches %v", name, got, want, row.Egress)
		}
		for called := range row.Calls {
			if !on(name, "internal") || !on(underscored(called), "internal") {
				t.Errorf("%s cannot call %s", name, called)
			}
		}
		// Default addresses are those of Kubernetes, with hyphens.
		if service != name && !slices.Contains(p.Services[name].Networks["internal"].Aliases, service) {
			t.Errorf("%s has no alias %s", name, service)
		}
	}
	for name, s := range p.Services {
		if _, inTable := table.Services[strings.ReplaceAll(name, "_", "-")]; inTable {
			continue
		}
		want := "internal" // stores and the like have no way out
		if name == "demo_site" || name == "simulate" {
			want = "edge" // they play the site and its clients, and need not reach the services
		}
		if got := slices.Sorted(maps.Keys(s.Networks)); !slices.Equal(got, []string{want}) {
			t.Errorf("%s is on the networks %v, want %s", name, got, want)
		}
	}
}

func TestPublishedPortsFollowTheTable(t *testing.T) {
	table := readEgress(t)
	for name, s := range project(t, base...).Services {
		want := ""
		if port := table.Published[name]; port != 0 {
			want = fmt.Sprintf("%d", port)
		}
		got := ""
		for _, p := range s.Ports {
			got += fmt.Sprint(p.Target)
			if name != "proxy" && p.HostIP != "127.0.0.1" {
				t.Errorf("%s is published on the address %q, want 127.0.0.1", name, p.HostIP)
			}
		}
		if got != want {
			t.Errorf("%s publishes %q, want %q", name, got, want)
		}
	}
	for name, s := range project(t, dev...).Services {
		for _, p := range s.Ports {
			if name != "proxy" && p.HostIP != "127.0.0.1" {
				t.Errorf("in development %s is published on the address %q, want 127.0.0.1", name, p.HostIP)
			}
		}
	}
}

func TestEveryContainerIsConfined(t *testing.T) {
	for _, set := range [][]string{base, dev} {
		p := project(t, set...)
		for name, s := range p.Services {
			problem := func(format string, args ...any) {
				t.Helper()
				t.Errorf("%v: %s: %s", set, name, fmt.Sprintf(format, args...))
			}
			if !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 {
				problem("capabilities: drops %v, adds %v", s.CapDrop, s.CapAdd)
			}
			if !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
				problem("security_opt %v", s.SecurityOpt)
			}
			if s.Privileged || s.NetworkMode != "" || s.Pid != "" || s.Ipc != "" {
				problem("shares something with the machine")
			}
			if s.Logging == nil || s.Logging.Driver != "json-file" || s.Logging.Options["max-size"] == "" || s.Logging.Options["max-file"] == "" {
				problem("its log grows without bound")
			}
			for _, v := range s.Volumes {
				if v.Type == "bind" && !v.ReadOnly {
					problem("may write to %s", v.Source)
				}
			}
			if restart := map[bool]string{false: "unless-stopped", true: "no"}[name == "simulate"]; s.Restart != restart {
				problem("restart %q, want %q", s.Restart, restart)
			}
			if h := s.HealthCheck; h != nil && !h.Disable && (len(h.Test) == 0 || h.Interval == nil || h.Timeout == nil || h.Retries == nil || h.StartPeriod == nil) {
				problem("incomplete health check %+v", h)
			}
			if !s.ReadOnly || !slices.ContainsFunc(s.Tmpfs, func(m string) bool { return m == "/tmp" }) {
				problem("read_only %v, tmpfs %v", s.ReadOnly, s.Tmpfs)
			}
			if name == "builder" {
				continue // a compiler takes what it gets
			}
			if s.MemLimit == 0 || s.PidsLimit == 0 {
				problem("no limit: memory %d, processes %d", s.MemLimit, s.PidsLimit)
			}
			if s.CPUS <= 0 || s.CPUS > 1 {
				problem("cpus %v: more than 1 does not start on a machine with one processor", s.CPUS)
			}
			if ours := goServices[name] != "" || s.Build != nil; !ours && s.User == "" && name != "ollama" {
				problem("no user")
			} else if ours && s.User != "" {
				problem("user %s, want that of the image", s.User)
			}
			if s.HealthCheck == nil && s.Build == nil {
				problem("no health check")
			}
		}
	}
}

// The edge has to outlive what is behind it, and to let requests finish.
func TestProxyStandsAlone(t *testing.T) {
	s := project(t, base...).Services["proxy"]
	if len(s.DependsOn) != 1 || s.DependsOn["demo_site"].Condition != types.ServiceConditionStarted {
		t.Errorf("waits for %v, want only that demo_site has been started", s.DependsOn)
	}
	drain, err := time.ParseDuration(setting(t, "QUICKTHORN_EDGE_DRAIN").def)
	if err != nil {
		t.Fatal(err)
	}
	if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) <= drain {
		t.Errorf("is killed %v after it is told to stop, while requests may take %v to finish", s.StopGracePeriod, drain)
	}
}

func TestServicesWaitForTheirStores(t *testing.T) {
	p := project(t, base...)
	for name, s := range p.Services {
		for variable, store := range map[string]string{"QUICKTHORN_STATE_STORE": "redis", "QUICKTHORN_ARCHIVE_STORE": "postgres"} {
			if s.Environment[variable] == nil {
				continue
			}
			if s.DependsOn[store].Condition != types.ServiceConditionHealthy {
				t.Errorf("%s uses %s and does not wait until it is healthy", name, store)
			}
		}
	}
}

type row struct{ def string }

// setting finds an environment variable in the table that the program's schema generates.
func setting(t *testing.T, name string) row {
	t.Helper()
	r, ok := settings(t)[name]
	if !ok {
		t.Errorf("docs/configuration.md has no %s", name)
	}
	return r
}

func settings(t *testing.T) map[string]row {
	t.Helper()
	found := map[string]row{}
	for line := range strings.Lines(string(read(t, "docs/configuration.md"))) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			continue
		}
		for _, m := range regexp.MustCompile("`(QUICKTHORN_[A-Z0-9_]+)`").FindAllStringSubmatch(cells[1], -1) {
			found[m[1]] = row{def: strings.Trim(cells[3], " `")}
		}
	}
	return found
}

// A variable that is no setting would keep the service from starting.
func TestEverySettingExists(t *testing.T) {
	for _, set := range [][]string{base, dev, files} {
		for name, s := range project(t, set...).Services {
			for variable := range s.Environment {
				if strings.HasPrefix(variable, "QUICKTHORN_") {
					if _, ok := settings(t)[variable]; !ok {
						t.Errorf("%v: %s sets %s, which is no setting", set, name, variable)
					}
				}
			}
		}
	}
}

func TestEnvExampleExplainsEveryVariable(t *testing.T) {
	used := map[string]string{} // with its default
	for _, name := range []string{"docker-compose.yaml", "docker-compose.dev.yaml"} {
		for line := range strings.Lines(string(read(t, name))) {
			if strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			for _, m := range regexp.MustCompile(`\$?\$\{([A-Z0-9_]+)(:?[-?]([^}]*))?\}`).FindAllStringSubmatch(line, -1) {
				if strings.HasPrefix(m[0], "$$") {
					continue
				}
				def := ""
				if strings.HasPrefix(m[2], ":-") {
					def = m[3]
				}
				// In development the preset is read from its file.
				if before, known := used[m[1]]; known && before != def && !strings.HasPrefix(def, "/app/src/") {
					t.Errorf("%s has two defaults: %q and %q", m[1], before, def)
				} else if !known {
					used[m[1]] = def
				}
			}
		}
	}
	explained := map[string]string{}
	comment := false
	for line := range strings.Lines(string(read(t, ".env.example"))) {
		line = strings.TrimSpace(line)
		m := regexp.MustCompile(`^#?([A-Z][A-Z0-9_]+)=(.*)$`).FindStringSubmatch(line)
		switch {
		case m != nil:
			if _, twice := explained[m[1]]; twice {
				t.Errorf(".env.example names %s twice", m[1])
			}
			explained[m[1]] = m[2]
			if !comment {
				t.Errorf(".env.example: no comment above %s", m[1])
			}
		default: // of several variables below one comment each is explained by it
			comment = strings.HasPrefix(line, "# ") && !strings.HasPrefix(line, "# ---") || comment && line != ""
		}
	}
	known := settings(t)
	for name, def := range used {
		got, ok := explained[name]
		if !ok {
			t.Errorf(".env.example does not explain %s", name)
			continue
		}
		if def == "" && known[name].def != "" {
			def = known[name].def // blank means the program's own
		}
		if got != def {
			t.Errorf(".env.example shows %s=%s, the default is %q", name, got, def)
		}
	}
	for name := range explained {
		if _, ok := used[name]; !ok && !strings.HasPrefix(name, "COMPOSE_") {
			t.Errorf(".env.example explains %s, which nothing uses", name)
		}
	}
}

func TestDevelopmentMountsTheSource(t *testing.T) {
	p := project(t, dev...)
	for name := range goServices {
		s := p.Services[name]
		source, program := false, false
		for _, v := range s.Volumes {
			source = source || v.Target == "/app/src" && v.Type == "bind" && v.ReadOnly
			program = program || v.Target == "/app/bin" && v.Type == "volume" && v.ReadOnly
		}
		if !source || !program {
			t.Errorf("%s: the source at /app/src: %v, the program at /app/bin: %v", name, source, program)
		}
		if !slices.Equal(s.Entrypoint, []string{"/bin/sh", "/app/src/deploy/dev/reload.sh"}) || len(s.Command) == 0 {
			t.Errorf("%s runs %v %v, want a subcommand under reload.sh", name, s.Entrypoint, s.Command)
		}
		if s.Image != p.Services["builder"].Image || s.Build.Target != "dev" || s.Build.Dockerfile != "Dockerfile" {
			t.Errorf("%s runs in %s, target %s of %s, want builder's", name, s.Image, s.Build.Target, s.Build.Dockerfile)
		}
	}
}

// With secrets as files no secret is in any container's environment.
func TestSecretsAsFiles(t *testing.T) {
	p := project(t, files...)
	for name, s := range p.Services {
		for variable, value := range s.Environment {
			for _, secret := range secrets(t) {
				if value != nil && *value == "value-of-"+secret {
					t.Errorf("%s has %s in its environment, as %s", name, secret, variable)
				}
			}
			if file, found := strings.CutPrefix(deref(value), "/run/secrets/"); found {
				if !slices.ContainsFunc(s.Secrets, func(c types.ServiceSecretConfig) bool { return c.Source == file }) {
					t.Errorf("%s reads %s, and is not given it", name, *value)
				}
			}
		}
	}
	for _, secret := range secrets(t) {
		name := strings.ToLower(strings.TrimPrefix(secret, "QUICKTHORN_"))
		if _, ok := p.Secrets[name]; !ok {
			t.Errorf("no secret %s for %s", name, secret)
		}
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// docker-compose 1.29 is what Debian ships.
func TestOldCompose(t *testing.T) {
	program, err := exec.LookPath("docker-compose")
	if err != nil {
		if os.Getenv("STRICT_TESTS") != "" {
			t.Fatal(err)
		}
		t.Skip("docker-compose is not installed")
	}
	env := filepath.Join(t.TempDir(), "env")
	var lines strings.Builder
	for name, value := range environment(t) {
		fmt.Fprintf(&lines, "%s=%s\n", name, value)
	}
	if err := os.WriteFile(env, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, set := range [][]string{base, dev, files} {
		args := []string{"--env-file", env, "--project-directory", root, "--project-name", "quickthorn"}
		for _, name := range set {
			args = append(args, "--file", filepath.Join(root, name))
		}
		out, err := exec.Command(program, append(args, "config", "--quiet")...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v\n%s", set, err, out)
		}
	}
}

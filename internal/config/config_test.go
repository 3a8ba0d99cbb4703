package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/defense"
)

var update = flag.Bool("update", false, "rewrite golden files and docs/configuration.md")

// files serves named texts instead of the disk.
func files(pairs ...string) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return []byte(pairs[i+1]), nil
			}
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
}

func TestDefaultsAreThoseOfTheFirstInstall(t *testing.T) {
	c := config.Default()
	if got, want := c.Edge.Listen, []string{":8080"}; !cmp.Equal(got, want) {
		t.Errorf("edge.listen = %q, want %q", got, want)
	}
	if c.Edge.Limits.HeaderBytes != 64<<10 || c.Edge.Limits.HeaderTimeout != 10*time.Second || c.Edge.Limits.BodyBytes != 0 {
		t.Errorf("limits = %+v", c.Edge.Limits)
	}
	if c.Policy.Source != "readers-first" || c.Policy.Mode != defense.ModeCertain || !c.Policy.Watch {
		t.Errorf("policy = %+v", c.Policy)
	}
	if c.Private.Listen != "127.0.0.1:8081" || c.Private.Key != "" || c.Private.Pprof {
		t.Errorf("private = %+v", c.Private)
	}
	if c.Posture.Fixed != nil || c.Events.RetentionAge != 30*24*time.Hour || c.Events.SampleAllow != 0.01 {
		t.Errorf("posture = %+v, events = %+v", c.Posture, c.Events)
	}
	if err := c.RequireUpstream(); err == nil || !strings.Contains(err.Error(), "QUICKTHORN_UPSTREAM_URL") {
		t.Errorf("without an upstream: %v", err)
	}
}

func TestFileSetsEveryKindOfValue(t *testing.T) {
	c, err := config.Load(config.LoadOptions{File: "testdata/good.yaml", Required: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.RequireUpstream(); err != nil {
		t.Error(err)
	}
	guarded, yes := defense.Guarded, true
	want := config.Default()
	want.Edge.Listen = []string{":80", "unix:/run/quickthorn/edge.sock"}
	want.Edge.Trusted = []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")}
	want.Edge.TLS = config.TLS{Listen: ":443", CertificateFile: "/etc/quickthorn/fullchain.pem", KeyFile: "/etc/quickthorn/privkey.pem"}
	want.Edge.Contact = "webmaster@example.org, any time"
	want.Upstream.PreserveHost = false
	want.Sites = []config.Site{
		{Name: "forge", Hosts: []string{"git.example.org"}, Upstream: "h2c://127.0.0.1:3000", PreserveHost: &yes},
		{Name: "pages", Hosts: []string{"*.pages.example.org", "pages.example.org"}, Upstream: "unix:/run/pages.sock"},
	}
	want.Policy.Source, want.Policy.Mode = "./policy.yaml", defense.ModeEnforce
	want.Posture.Fixed = &guarded
	want.Events.RetentionAge, want.Events.RetentionSize = 36*time.Hour, 512<<20
	same(t, c, want)
	if !c.Preserve(&c.Sites[0]) || c.Preserve(&c.Sites[1]) {
		t.Error("preserveHost of a site must win over upstream.preserveHost, and else follow it")
	}
}

func same(t *testing.T, got, want *config.Config) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(config.Config{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

func TestStrongerPlaceWins(t *testing.T) {
	const file = "upstream:\n  connectTimeout: 1s\n  idleTimeout: 2s\n  maxIdle: 3\nedge:\n  listen: [':1', ':2']\n"
	c, err := config.Load(config.LoadOptions{
		File: "q.yaml",
		Environ: []string{
			"PATH=/bin", "QUICKTHORN_UPSTREAM_IDLE_TIMEOUT=4s", "QUICKTHORN_UPSTREAM_MAX_IDLE=5",
			"QUICKTHORN_EDGE_LISTEN=:3, unix:/x", "QUICKTHORN_EDGE_NAME=",
		},
		Sets:     []string{"upstream.maxIdle=6", "upstream.maxIdle=7", "edge.blockedContact=a=b, c"},
		ReadFile: files("q.yaml", file),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, value, origin string }{
		{"upstream.responseTimeout", "1m", "default"},
		{"upstream.connectTimeout", "1s", "q.yaml:2"},
		{"upstream.idleTimeout", "4s", "QUICKTHORN_UPSTREAM_IDLE_TIMEOUT"},
		{"upstream.maxIdle", "7", "--set upstream.maxIdle"},
		{"edge.listen", ":3, unix:/x", "QUICKTHORN_EDGE_LISTEN"},
		{"edge.blockedContact", "a=b, c", "--set edge.blockedContact"},
		{"edge.name", "", "default"},
	} {
		found := false
		for _, v := range c.Values() {
			if v.Path != tt.path {
				continue
			}
			found = true
			if v.Text != tt.value || v.Origin.String() != tt.origin {
				t.Errorf("%s = %q from %s, want %q from %s", v.Path, v.Text, v.Origin, tt.value, tt.origin)
			}
		}
		if !found {
			t.Errorf("Values lacks %s", tt.path)
		}
	}
}

func TestEveryProblemNamesItsPlaceAndWhatWouldBeRight(t *testing.T) {
	_, err := config.Load(config.LoadOptions{
		File: "testdata/wrong.yaml",
		Environ: []string{
			"QUICKTHORN_EDGE_LIMITS_HEADER_TIMEOUT=5",
			"QUICKTHORN_EDGE_LIMIT_HEADER_TIMEOUT=5s",
			"QUICKTHORN_FOO=\x1b[31mred",
			"QUICKTHORN_SERVICE_HOST=10.0.0.1",
			"QUICKTHORN_SITES_0_NAME=x",
			"QUICKTHORN_EDGE_BLOCKED_CONTACT=\x1b]0;title\x07",
			"QUICKTHORN_PRIVATE_KEY_FILE=testdata/nowhere",
		},
		Sets: []string{"upstream.url", "upstream.urll=http://a", "drain=3s", "sites=x", "log.level=\xff", "private.key=tooshort", "tarpit.max=-1", "tarpit.max="},
	})
	var problems config.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("got %T %v, want Problems", err, err)
	}
	golden(t, "testdata/wrong.golden", []byte(err.Error()+"\n"))
	for _, secret := range []string{"short-key", "tooshort"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the message shows the secret %q", secret)
		}
	}
	if i := strings.IndexFunc(strings.ReplaceAll(err.Error(), "\n", ""), func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		t.Errorf("the message holds a control character: %q", err)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s differs (go test ./internal/config -update rewrites it):\n%s", name, d)
	}
}

func TestBrokenFilesAreExplained(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"tab", "edge:\n\tname: x\n", "q.yaml:2: not valid YAML: "},
		{"same key twice", "edge:\n  name: a\n  name: b\n", `q.yaml:3: not valid YAML: mapping key "name" already defined`},
		{"unclosed", "edge: {name: a\n", "q.yaml:1: not valid YAML: "},
		{"two documents", "edge:\n  name: a\n---\nedge:\n  name: b\n", "a second YAML document"},
		{"no mapping", "- edge\n", "must consist of sections"},
		{"merge key", "edge: &e\n  name: a\nupstream:\n  <<: *e\n", "anchor or alias"},
		{"deep", strings.Repeat("[", 100000), "more than 64 brackets"},
		{"deep dashes", strings.Repeat("- ", 100000), "more than 64 brackets"},
		{"deep lines", strings.Repeat("[\n", 100000), "more than 64 brackets"},
		{"huge", strings.Repeat("#", config.MaxFile+1), "q.yaml is larger than 256KiB"},
		{"many mistakes", manyKeys(1000), "\nand 950 more"},
		{"list where one is taken", "edge:\n  name: [a, b]\n", "q.yaml:2: edge.name: takes one text, not a list"},
		{"section where a list is taken", "edge:\n  listen:\n    a: b\n", "edge.listen: must be a single value, not a section; a text with a colon in it must be in quotes"},
		{"sites as a section", "sites:\n  name: a\n", `sites: must be a list of entries that begin with "- "`},
		{"empty site", "sites:\n  -\n", "sites[0].name: is missing"},
		{"everybody trusted", "edge:\n  trustedProxies: [0.0.0.0/0]\n", "q.yaml:2: edge.trustedProxies[0]: trusts everybody"},
		{"PROXY protocol from nobody", "edge:\n  proxyProtocol: required\n", "q.yaml:2: edge.proxyProtocol: needs edge.trustedProxies"},
		{"certificate without HTTPS", "edge:\n  tls:\n    certificateFile: a.pem\n", "q.yaml:3: edge.tls.certificateFile: has no effect"},
		{"nothing to listen on", "edge:\n  listen: []\n", "q.yaml:2: edge.listen: nothing to listen on"},
		{"password in a URL", "upstream:\n  url: http://me:hunter2@host\n", "a user name or password in the URL is not supported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Load(config.LoadOptions{File: "q.yaml", ReadFile: files("q.yaml", tt.src)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("shows the password")
			}
		})
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "unknown%d: x\n", i)
	}
	return b.String()
}

func TestFilesThatSetNothingAreFine(t *testing.T) {
	for _, src := range []string{"", "# nothing\n", "---\n", "edge:\n", "edge:\n  limits:\n    # headerTimeout: 5s\nsites:\n", "\ufeffedge:\n  drain: 30s\n"} {
		c, err := config.Load(config.LoadOptions{File: "q.yaml", ReadFile: files("q.yaml", src)})
		if err != nil {
			t.Errorf("%q: %v", src, err)
			continue
		}
		same(t, c, config.Default())
	}
}

func TestWhichFileIsRead(t *testing.T) {
	read := files("flag.yaml", "edge: {name: flag}", "env.yaml", "edge: {name: env}", config.DefaultFile, "edge: {name: default}")
	env := []string{"QUICKTHORN_CONFIG=env.yaml"}
	for _, tt := range []struct {
		name string
		o    config.LoadOptions
		want string // the name, or part of the error
	}{
		{"default", config.LoadOptions{File: config.DefaultFile}, "default"},
		{"variable before default", config.LoadOptions{File: config.DefaultFile, Environ: env}, "env"},
		{"flag before variable", config.LoadOptions{File: "flag.yaml", Required: true, Environ: env}, "flag"},
		{"missing default", config.LoadOptions{File: "none.yaml"}, ""},
		{"missing flag", config.LoadOptions{File: "none.yaml", Required: true}, "read configuration: open none.yaml: file does not exist"},
		{"missing variable", config.LoadOptions{File: config.DefaultFile, Environ: []string{"QUICKTHORN_CONFIG=none.yaml"}}, "read configuration: open none.yaml: file does not exist"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.ReadFile = read
			c, err := config.Load(tt.o)
			got := fmt.Sprint(err)
			if err == nil {
				got = c.Edge.Name
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSecretsComeFromFilesAndAreNeverPrinted(t *testing.T) {
	const secret = "correct horse battery staple"
	for _, tt := range []struct {
		name string
		o    config.LoadOptions
	}{
		{"variable", config.LoadOptions{Environ: []string{"QUICKTHORN_PRIVATE_KEY=" + secret}}},
		{"variable naming a file", config.LoadOptions{Environ: []string{"QUICKTHORN_PRIVATE_KEY_FILE=/run/secrets/key"}}},
		{"key naming a file", config.LoadOptions{File: "q.yaml"}},
		{"flag naming a file", config.LoadOptions{Sets: []string{"private.keyFile=/run/secrets/key"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.ReadFile = files("/run/secrets/key", secret+"\n", "q.yaml", "private:\n  keyFile: /run/secrets/key\n")
			c, err := config.Load(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if c.Private.Key != secret {
				t.Errorf("key = %q", c.Private.Key)
			}
			var b bytes.Buffer
			if err := c.Write(&b); err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(&b, c.Values())
			if strings.Contains(b.String(), secret) {
				t.Error("printed with its secret")
			}
		})
	}
	_, err := config.Load(config.LoadOptions{
		Environ:  []string{"QUICKTHORN_PRIVATE_KEY=" + secret, "QUICKTHORN_PRIVATE_KEY_FILE=/run/secrets/key"},
		ReadFile: files("/run/secrets/key", secret),
	})
	if err == nil || !strings.Contains(err.Error(), "QUICKTHORN_PRIVATE_KEY_FILE: private.key: QUICKTHORN_PRIVATE_KEY is set as well") {
		t.Errorf("both forms: %v", err)
	}
}

func TestDocumentedFileHasTheDefaults(t *testing.T) {
	var b bytes.Buffer
	if err := config.WriteDefaults(&b); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.LoadOptions{File: "q.yaml", ReadFile: files("q.yaml", b.String())})
	if err != nil {
		t.Fatalf("%v\n%s", err, &b)
	}
	same(t, c, config.Default())
	for _, v := range config.Default().Values() {
		name := v.Path[strings.LastIndexByte(v.Path, '.')+1:]
		if !strings.Contains(b.String(), "  "+name+":") {
			t.Errorf("the documented file lacks %s", v.Path)
		}
	}

	// The example of sites is commented out; it must be right as well.
	_, example, ok := strings.Cut(b.String(), "sites: []\n")
	if !ok {
		t.Fatal("no sites in the documented file")
	}
	example, _, _ = strings.Cut(example, "\n\n")
	example = "sites:\n" + regexp.MustCompile(`(?m)^# ?`).ReplaceAllString(example, "")
	if c, err = config.Load(config.LoadOptions{File: "q.yaml", ReadFile: files("q.yaml", example)}); err != nil || len(c.Sites) != 1 {
		t.Errorf("%v\n%s", err, example)
	}
}

func TestWrittenConfigurationReadsBackTheSame(t *testing.T) {
	c, err := config.Load(config.LoadOptions{File: "testdata/good.yaml", Sets: []string{`edge.name=it's "7"`, "data.directory=1e3"}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	again, err := config.Load(config.LoadOptions{File: "q.yaml", ReadFile: files("q.yaml", b.String())})
	if err != nil {
		t.Fatalf("%v\n%s", err, &b)
	}
	same(t, again, c)
}

func TestVariableNamesAreDistinct(t *testing.T) {
	paths := map[string]string{}
	for _, v := range config.Default().Values() {
		for _, name := range []string{config.EnvName(v.Path), config.EnvName(v.Path) + "_FILE"} {
			if other, taken := paths[name]; taken && other != v.Path {
				t.Errorf("%s is %s and %s", name, other, v.Path)
			}
			paths[name] = v.Path
		}
	}
	if got, want := config.EnvName("edge.limits.headerTimeout"), "QUICKTHORN_EDGE_LIMITS_HEADER_TIMEOUT"; got != want {
		t.Errorf("EnvName = %s, want %s", got, want)
	}
}

func TestSchemaDescribesEverySetting(t *testing.T) {
	var b bytes.Buffer
	if err := config.WriteJSONSchema(&b); err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(b.Bytes(), &root); err != nil {
		t.Fatal(err)
	}
	for _, v := range config.Default().Values() {
		at := root
		for part := range strings.SplitSeq(v.Path, ".") {
			if at["additionalProperties"] != false {
				t.Errorf("%s: unknown keys are not refused on the way", v.Path)
			}
			at, _ = at["properties"].(map[string]any)[part].(map[string]any)
			if at == nil {
				t.Fatalf("the schema lacks %s", v.Path)
			}
		}
		if at["description"] == "" {
			t.Errorf("%s has no description", v.Path)
		}
	}
}

// TestDocumentationIsCurrent checks the generated tables of docs/configuration.md.
func TestDocumentationIsCurrent(t *testing.T) {
	const begin, end = "<!-- begin: generated by go test ./internal/config -update -->\n", "<!-- end: generated -->\n"
	name := filepath.Join("..", "..", "docs", "configuration.md")
	doc, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(doc), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no markers for the generated part", name)
	}
	var b bytes.Buffer
	if err := config.WriteReference(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, name, []byte(head+begin+"\n"+b.String()+end+tail))
}

func TestDurationsAndSizes(t *testing.T) {
	for _, tt := range []struct {
		text, back string // back: canonical form, or part of the error after "!"
	}{
		{"30s", "30s"}, {"90s", "1m30s"}, {"3600s", "1h"}, {"24h", "1d"}, {"30d", "30d"}, {"1d12h", "1d12h"}, {"1.5h", "1h30m"},
		{"250ms", "250ms"}, {"0", "0s"}, {"0s", "0s"}, {"10m", "10m"}, {"1h0m30s", "1h0m30s"},
		{"", "!not a duration"}, {"3", "!needs a unit such as 3s"}, {"-3", "!negative"}, {"-3s", "!negative"}, {"1d-3h", "!negative"}, {"1.5d", "!not a duration"}, {"d", "!not a duration"},
		{"200000d", "!too long"}, {"106751d23h59m", "!too long"}, {"9999999999999d", "!not a duration"}, {"NaN", "!needs a unit"}, {"3 s", "!not a duration"},
	} {
		d, err := config.ParseDuration(tt.text)
		check(t, tt.text, config.FormatDuration(d), tt.back, err)
	}
	for _, tt := range []struct{ text, back string }{
		{"0", "0"}, {"64KiB", "64KiB"}, {"1024KiB", "1MiB"}, {"1 GiB", "1GiB"}, {"1000B", "1000B"}, {"4GB", "3906250KiB"}, {"1kB", "1000B"}, {"8191PiB", "!not a size"},
		{"", "!not a size"}, {"64", "!needs a unit such as 64KiB"}, {"-1KiB", "!not a size"}, {"1.5GiB", "!not a size"}, {"9999999TiB", "!too large"}, {"KiB", "!not a size"}, {"64K", "!not a size"},
	} {
		s, err := config.ParseSize(tt.text)
		check(t, tt.text, s.String(), tt.back, err)
	}
}

func check(t *testing.T, text, got, want string, err error) {
	t.Helper()
	if message, bad := strings.CutPrefix(want, "!"); bad {
		if err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%q: got %q, %v; want an error with %q", text, got, err, message)
		}
		return
	}
	if err != nil || got != want {
		t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
	}
}

func TestAddressesAndNames(t *testing.T) {
	for _, tt := range []struct{ set, problem string }{
		{"edge.listen=:8080", ""}, {"edge.listen=127.0.0.1:80", ""}, {"edge.listen=[::1]:80", ""}, {"edge.listen=localhost:http", "is not a number"},
		{"edge.listen=::1:80", "in brackets"}, {"edge.listen=[::1:80", "in brackets"}, {"edge.listen=[x]:80", "not an IPv6 address"}, {"edge.listen=:70000", "is not a number"},
		{"edge.listen=http://:80", "without scheme"}, {"edge.listen=unix:run/x", "absolute path"}, {"edge.listen=host", "needs a port"},
		{"upstream.url=http://127.0.0.1:3000", ""}, {"upstream.url=http://127.0.0.1:3000/", ""}, {"upstream.url=https://[2001:db8::1]", ""}, {"upstream.url=unix:/run/app.sock", ""},
		{"upstream.url=http://:3000", "has no host"}, {"upstream.url=http://h:0", "port"}, {"upstream.url=http://h?x", "without path and query"}, {"upstream.url=http://h:x", "is not a URL"},
		{"upstream.url=h2c://app:9000", ""}, {"upstream.url=gopher://app", "one of http, https, h2c"}, {"upstream.url=unix:app.sock", "absolute path"},
		{"edge.trustedProxies=10.0.0.0/8,::1", ""}, {"edge.trustedProxies=fe80::1%eth0", "is not an address"},
		{"edge.clientHeaders=x-real-ip", ""}, {"edge.clientHeaders=CF-Connecting-IP", "is not one of"},
		{"posture.fixed=", ""}, {"posture.fixed=SIEGE", ""}, {"posture.fixed=panic", "is not one of calm, guarded, siege"},
	} {
		_, err := config.Load(config.LoadOptions{Sets: []string{tt.set}})
		if tt.problem == "" && err != nil {
			t.Errorf("%s: %v", tt.set, err)
		}
		if tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)) {
			t.Errorf("%s: got %v, want …%s…", tt.set, err, tt.problem)
		}
	}
	for host, ok := range map[string]bool{
		"example.org": true, "*.example.org": true, "localhost": true, "192.0.2.1": true, "::1": true, "xn--bcher-kva.example": true, "a_b.example": true,
		"bücher.example": false, "*.": false, "*": false, "a.*.org": false, "example.org:80": false, "a..b": false, "*.192.0.2.1": false, "a b": false, "2001:DB8::1": false,
	} {
		src := fmt.Sprintf("sites: [{name: a, hosts: [%q], upstream: 'http://x'}]", host)
		if _, err := config.Load(config.LoadOptions{File: "q", ReadFile: files("q", src)}); (err == nil) != ok {
			t.Errorf("host %q: %v", host, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, name := range []string{"testdata/good.yaml", "testdata/wrong.yaml"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "QUICKTHORN_EDGE_LISTEN=:8080", "edge.listen=:80")
	}
	f.Add([]byte("a: &a [*a, <<: *a]\n? x\n: !!binary |\n"), "QUICKTHORN_X", "=")
	f.Fuzz(func(t *testing.T, src []byte, env, set string) {
		c, err := config.Load(config.LoadOptions{
			File: "q.yaml", Environ: []string{env}, Sets: []string{set},
			ReadFile: files("q.yaml", string(src)),
		})
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a message")
			}
			return
		}
		var b bytes.Buffer
		if err := c.Write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := config.Load(config.LoadOptions{File: "q.yaml", ReadFile: files("q.yaml", b.String())})
		if err != nil {
			t.Fatalf("what was written does not read back: %v\n%s", err, &b)
		}
		again.Private.Key = c.Private.Key
		same(t, again, c)
	})
}

func TestFlagsOfTheirOwnAreNamedInProblems(t *testing.T) {
	c, err := config.Load(config.LoadOptions{
		File: "testdata/good.yaml", Required: true,
		Environ: []string{"QUICKTHORN_UPSTREAM_URL=http://environment:1"},
		Flags:   []config.Flag{{Name: "--upstream", Path: "upstream.url", Value: "http://flag:1"}, {Name: "--data", Path: "data.directory", Value: "flag"}},
		Sets:    []string{"data.directory=set"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Upstream.URL != "http://flag:1" || c.Origin("upstream.url").String() != "--upstream" {
		t.Errorf("upstream %q from %s, want the flag's", c.Upstream.URL, c.Origin("upstream.url"))
	}
	if c.Data.Directory != "set" {
		t.Errorf("directory %q, want that of --set, which is the strongest", c.Data.Directory)
	}
	if c.File() != "testdata/good.yaml" || config.Default().File() != "" {
		t.Errorf("files %q and %q", c.File(), config.Default().File())
	}
	_, err = config.Load(config.LoadOptions{Flags: []config.Flag{{Name: "--upstream", Path: "upstream.url", Value: "127.0.0.1:3000"}}})
	if want := `--upstream: "127.0.0.1:3000" needs a scheme, as in "http://127.0.0.1:3000"`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

package monitoring

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
)

// decode reads a YAML file strictly.
func decode(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func TestEveryServiceIsScrapedUnderItsComposeName(t *testing.T) {
	var table struct {
		Services  map[string]any `yaml:"services"`
		Published map[string]int `yaml:"published"`
	}
	decode(t, root+"/deploy/egress.yaml", &table)
	want := map[string]string{}
	for name := range table.Services {
		want[strings.ReplaceAll(name, "-", "_")] = name + ":8081"
	}

	c, err := config.LoadFile(root+"/deploy/prometheus/prometheus.yml", false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range c.ScrapeConfigs {
		for _, d := range s.ServiceDiscoveryConfigs {
			static, ok := d.(discovery.StaticConfig)
			if !ok {
				t.Fatalf("job %s: discovery by %T", s.JobName, d)
			}
			for _, g := range static {
				for _, target := range g.Targets {
					got[s.JobName] += string(target["__address__"])
				}
			}
		}
		if s.MetricsPath != "/metrics" || s.Scheme != "http" {
			t.Errorf("job %s: asks for %s://…%s", s.JobName, s.Scheme, s.MetricsPath)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("the jobs are\n%v\nthe services of deploy/egress.yaml ask for\n%v", got, want)
	}

	down := alertRules(t)["QuickthornServiceDown"]
	for job := range got {
		if n := len(firing(t, down, fmt.Sprintf(`up{job=%q, instance="i"} 0x10`, job), 5*time.Minute)); n != 1 {
			t.Errorf("job %s is down and %d alerts say so", job, n)
		}
	}

	var files []string
	for _, pattern := range c.RuleFiles {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) != 1 || filepath.Base(files[0]) != filepath.Base(rulesFile) {
		t.Errorf("rule_files finds %v, want %s", files, rulesFile)
	}
}

func TestProvisionedDatasourceIsTheOneOfTheDashboards(t *testing.T) {
	var file struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool `yaml:"isDefault"`
			JSONData                     struct {
				HTTPMethod     string `yaml:"httpMethod"`
				TimeInterval   string `yaml:"timeInterval"`
				ManageAlerts   bool   `yaml:"manageAlerts"`
				PrometheusType string `yaml:"prometheusType"`
			} `yaml:"jsonData"`
		} `yaml:"datasources"`
	}
	decode(t, root+"/deploy/grafana/provisioning/datasources/prometheus.yaml", &file)
	if file.APIVersion != 1 || len(file.Datasources) != 1 {
		t.Fatalf("version %d with %d datasources", file.APIVersion, len(file.Datasources))
	}
	d := file.Datasources[0]
	if d.UID != datasource || d.Type != "prometheus" || d.Access != "proxy" || d.URL != "http://prometheus:9090" {
		t.Errorf("the datasource is %+v", d)
	}
	c, err := config.LoadFile(root+"/deploy/prometheus/prometheus.yml", false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if interval := c.GlobalConfig.ScrapeInterval.String(); d.JSONData.TimeInterval != interval {
		t.Errorf("Grafana takes the interval for %s, Prometheus's is %s", d.JSONData.TimeInterval, interval)
	}
}

func TestProvisionedFolderIsWhereComposeMountsTheDashboards(t *testing.T) {
	var file struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type, Folder    string
			AllowUIUpdates        bool `yaml:"allowUiUpdates"`
			DisableDeletion       bool `yaml:"disableDeletion"`
			UpdateIntervalSeconds int  `yaml:"updateIntervalSeconds"`
			Options               struct {
				Path string `yaml:"path"`
			} `yaml:"options"`
		} `yaml:"providers"`
	}
	decode(t, root+"/deploy/grafana/provisioning/dashboards/quickthorn.yaml", &file)
	if file.APIVersion != 1 || len(file.Providers) != 1 || file.Providers[0].Type != "file" {
		t.Fatalf("version %d with %+v", file.APIVersion, file.Providers)
	}

	var compose struct {
		Services map[string]struct {
			Volumes []string `yaml:"volumes"`
		} `yaml:"services"`
	}
	b, err := os.ReadFile(root + "/docker-compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// A service that takes over an anchor may change what is in it.
	if err := yaml.UnmarshalWithOptions(b, &compose, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatal(err)
	}
	mounts := func(service string) map[string]string {
		m := map[string]string{}
		for _, v := range compose.Services[service].Volumes {
			if parts := strings.Split(v, ":"); len(parts) > 1 {
				m[strings.TrimSuffix(parts[0], "/")] = strings.TrimSuffix(parts[1], "/")
			}
		}
		return m
	}
	grafana, prometheus := mounts("grafana"), mounts("prometheus")
	for _, want := range []struct {
		mounts map[string]string
		at     string
		from   []string // any of these, with where it lies below the folder
	}{
		{grafana, file.Providers[0].Options.Path, []string{"./deploy/grafana/dashboards"}},
		{grafana, "/etc/grafana/provisioning", []string{"./deploy/grafana/provisioning"}},
		{prometheus, "/etc/prometheus/prometheus.yml", []string{"./deploy/prometheus/prometheus.yml", "./deploy/prometheus"}},
		{prometheus, "/etc/prometheus/rules", []string{"./deploy/prometheus/rules", "./deploy/prometheus"}},
	} {
		if !slices.ContainsFunc(want.from, func(from string) bool {
			at, ok := want.mounts[from]
			return ok && (at == want.at || strings.HasPrefix(want.at, at+"/"))
		}) {
			t.Errorf("docker-compose.yaml mounts nothing of %v such that it is at %s: %v", want.from, want.at, fmt.Sprint(want.mounts))
		}
	}
}

package replay

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestReportsOfRealLogs(t *testing.T) {
	const elastic = "elastic-apache_logs.log.gz"
	tests := []struct {
		golden  string
		files   []string // patterns under logs
		policy  string
		compare string
		posture defense.Posture
	}{
		{"elastic-readers-first.txt", []string{elastic}, "readers-first", "", defense.Calm},
		{"elastic-siege.txt", []string{elastic}, "siege", "", defense.Siege},
		{"elastic-readers-first-and-block-ai-training.txt", []string{elastic}, "readers-first", "block-ai-training", defense.Calm},
		{"elastic-readers-first-and-siege.txt", []string{elastic}, "readers-first", "siege", defense.Siege},
		{"crowdsec-readers-first.txt", []string{"crowdsec/*.log"}, "readers-first", "", defense.Calm},
		{"crowdsec-siege.txt", []string{"crowdsec/*.log"}, "siege", "", defense.Siege},
		{"nikto-readers-first.txt", []string{"crowdsec/traefik_base-http-scenario.log"}, "readers-first", "", defense.Calm},
		{"flood-readers-first.txt", []string{"crowdsec/http-dos-bypass-cache.log"}, "readers-first", "", defense.Calm},
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			var files []string
			for _, pattern := range tt.files {
				found, err := filepath.Glob(filepath.Join(logs, pattern))
				if err != nil || len(found) == 0 {
					t.Fatalf("no log is named %s (%v)", pattern, err)
				}
				files = append(files, found...)
			}
			o := options(t)
			o.Policy, o.Posture = preset(t, tt.policy), tt.posture
			if tt.compare != "" {
				o.Compare = preset(t, tt.compare)
			}
			r, err := Run(context.Background(), files, 15, o)
			if err != nil {
				t.Fatal(err)
			}
			for i := range r.Inputs {
				r.Inputs[i].Name = filepath.Base(r.Inputs[i].Name)
			}
			for i := range r.Harm {
				for j := range r.Harm[i].Examples {
					e := &r.Harm[i].Examples[j]
					e.File = filepath.Base(e.File)
				}
			}
			var text bytes.Buffer
			if err := r.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			golden(t, tt.golden, text.Bytes())
		})
	}
}

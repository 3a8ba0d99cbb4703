package monitoring

import (
	"log/slog"
	"maps"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

const rulesFile = root + "/deploy/prometheus/rules/quickthorn.yml"

// promQL takes what a Prometheus without experimental features takes.
var promQL = parser.NewParser(parser.Options{})

// alertRules returns all rules by name.
func alertRules(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(rulesFile, false, model.LegacyValidation, promQL, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil {
		t.FailNow()
	}
	all := map[string]rulefmt.Rule{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if _, twice := all[r.Alert]; twice {
				t.Errorf("%s is there twice", r.Alert)
			}
			all[r.Alert] = r
		}
	}
	return all
}

func TestRulesSayHowBadItIsAndWhatToDo(t *testing.T) {
	for name, r := range alertRules(t) {
		if !strings.HasPrefix(name, "Quickthorn") {
			t.Errorf("%q: the name does not begin with Quickthorn", name)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", name, s)
		}
		if r.Annotations["summary"] == "" || len(r.Annotations["description"]) < 80 {
			t.Errorf("%s: needs a summary, and a description that says what to do", name)
		}
	}
}

func TestPageListsEveryRuleWithItsSeverity(t *testing.T) {
	page, err := os.ReadFile(root + "/docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(Quickthorn\\w+)` \\| (\\w+) \\| \\S").FindAllSubmatch(page, -1) {
		listed[string(m[1])] = string(m[2])
	}
	want := map[string]string{}
	for name, r := range alertRules(t) {
		want[name] = r.Labels["severity"]
	}
	if !maps.Equal(listed, want) {
		t.Errorf("docs/monitoring.md lists\n%v\nthe rules are\n%v", listed, want)
	}
}

func TestRulesAskForMetricsThatServicesShow(t *testing.T) {
	for name, r := range alertRules(t) {
		for _, problem := range unknown(t, r.Expr) {
			t.Errorf("%s: %s", name, problem)
		}
	}
}

// The beginnings of series, each with the labels of its target.
const (
	edge   = `{job="proxy", instance="proxy:8081"} `
	intake = `{job="ai_service", instance="ai-service:8081"} `
)

// with is a series of the edge with one more label.
func with(metric, label, values string) string {
	return metric + `{job="proxy", instance="proxy:8081", ` + label + `} ` + values + "\n"
}

// One sample a minute.
func TestRulesFireWhenTheyOughtToAndNotOtherwise(t *testing.T) {
	const at = `{job="proxy", instance="proxy:8081", `
	checks := func(issued, passed, failed string) string {
		return "quickthorn_challenges_issued_total" + edge + issued + "\n" + with("quickthorn_challenges_answered_total", `outcome="passed"`, passed) +
			with("quickthorn_challenges_answered_total", `outcome="no-cookie"`, failed) + with("quickthorn_challenges_answered_total", `outcome="expired"`, "0x120") +
			with("quickthorn_challenges_answered_total", `outcome="malformed"`, "0+9x120")
	}
	upstream := func(answers, timeouts, gone string) string {
		return "quickthorn_upstream_answer_seconds_count" + edge + answers + "\n" + with("quickthorn_upstream_failures_total", `reason="timeout"`, timeouts) +
			with("quickthorn_upstream_failures_total", `reason="connect"`, "0x120") + with("quickthorn_upstream_failures_total", `reason="client-gone"`, gone)
	}
	memory := func(sys, released, limit string) string {
		return "go_memstats_sys_bytes" + edge + sys + "\ngo_memstats_heap_released_bytes" + edge + released + "\ngo_gc_gomemlimit_bytes" + edge + limit + "\nquickthorn_build_info" + edge + "1x120\n"
	}
	jobs := func(started, last string) string {
		l := `{job="sync", instance="sync:8081"`
		return "process_start_time_seconds" + l + "} " + started + "\nquickthorn_sync_last_success_timestamp_seconds" + l + `, task="retention"} ` + last + "\n"
	}
	const days = 24 * time.Hour
	tests := []struct {
		alert, when string
		series      string
		after       time.Duration
		fires       int // how many alerts
	}{
		{"QuickthornNobodyPasses", "many are asked and nobody passes", checks("0+5x120", "0x120", "0x120"), 90 * time.Minute, 1},
		{"QuickthornNobodyPasses", "one in a hundred passes", checks("0+5x120", "0x30 1x90", "0x120"), 80 * time.Minute, 0},
		{"QuickthornNobodyPasses", "hardly anybody is asked", checks("0+1x120", "0x120", "0x120"), 90 * time.Minute, 0},

		{"QuickthornReadersFailCheck", "a third of those who answer has no cookie", checks("0+9x120", "0+2x120", "0+1x120"), 60 * time.Minute, 1},
		{"QuickthornReadersFailCheck", "one of ten has none", checks("0+9x120", "0+9x120", "0+1x120"), 60 * time.Minute, 0},
		{"QuickthornReadersFailCheck", "all of a few have none", checks("0+9x120", "0x120", "0x50 3x70"), 60 * time.Minute, 0},

		{"QuickthornReadersGiveUp", "on a calm day a third passes", checks("0+3x120", "0+1x120", "0x120") + "quickthorn_posture" + edge + "0x120", 90 * time.Minute, 1},
		{"QuickthornReadersGiveUp", "on a calm day nobody does", checks("0+3x120", "0x120", "0x120") + "quickthorn_posture" + edge + "0x120", 90 * time.Minute, 1},
		{"QuickthornReadersGiveUp", "on a calm day most pass", checks("0+3x120", "0+2x120", "0x120") + "quickthorn_posture" + edge + "0x120", 90 * time.Minute, 0},
		{"QuickthornReadersGiveUp", "scrapers give up while the site is under siege", checks("0+3x120", "0x120", "0x120") + "quickthorn_posture" + edge + "2x120", 90 * time.Minute, 0},
		{"QuickthornReadersGiveUp", "a handful gives up", checks("0x100 9x20", "0x120", "0x120") + "quickthorn_posture" + edge + "0x120", 110 * time.Minute, 0},

		{"QuickthornUpstreamFailing", "a tenth times out", upstream("0+90x120", "0+10x120", "0x120"), 20 * time.Minute, 1},
		{"QuickthornUpstreamFailing", "nothing is answered at all", upstream("0x120", "0+10x120", "0x120"), 20 * time.Minute, 1},
		{"QuickthornUpstreamFailing", "one of a hundred times out", upstream("0+99x120", "0+1x120", "0x120"), 20 * time.Minute, 0},
		{"QuickthornUpstreamFailing", "clients go away", upstream("0+90x120", "0x120", "0+50x120"), 20 * time.Minute, 0},
		{"QuickthornUpstreamFailing", "the one request of a quiet hour fails", upstream("0x120", "0x14 1x100", "0x120"), 20 * time.Minute, 0},

		{"QuickthornSiege", "for an hour", "quickthorn_posture" + edge + "2x120", time.Hour, 1},
		{"QuickthornSiege", "for ten minutes", "quickthorn_posture" + edge + "0x50 2x70", time.Hour, 0},
		{"QuickthornSiege", "guarded for an hour", "quickthorn_posture" + edge + "1x120", time.Hour, 0},

		{"QuickthornConnectionsRefused", "again and again", "quickthorn_connections_refused_total" + edge + "0+3x120", 20 * time.Minute, 1},
		{"QuickthornConnectionsRefused", "an hour ago", "quickthorn_connections_refused_total" + edge + "0+3x10 30x110", time.Hour, 0},

		{"QuickthornPanics", "once", "quickthorn_panics_total" + edge + "0x10 1x110", 15 * time.Minute, 1},
		{"QuickthornPanics", "never", "quickthorn_panics_total" + edge + "0x120", time.Hour, 0},

		{"QuickthornServiceDown", "as Compose names it", `up{job="ai_service", instance="ai-service:8081"} 1x5 0x100`, 15 * time.Minute, 1},
		{"QuickthornServiceDown", "as Kubernetes may name it", `up{job="ai-service", instance="10.0.0.1:8081"} 0x100`, 15 * time.Minute, 1},
		{"QuickthornServiceDown", "one process for all", `up{job="quickthorn", instance="localhost:8081"} 0x100`, 15 * time.Minute, 1},
		{"QuickthornServiceDown", "somebody else's", `up{job="node", instance="node:9100"} 0x100`, 15 * time.Minute, 0},
		{"QuickthornServiceDown", "a missed scrape", `up{job="proxy", instance="proxy:8081"} 1x9 0x1 1x100`, 11 * time.Minute, 0},

		{"QuickthornPolicyStale", "wrong", "quickthorn_policy_stale" + edge + "1x100", 10 * time.Minute, 1},
		{"QuickthornPolicyStale", "in force", "quickthorn_policy_stale" + edge + "0x100", 10 * time.Minute, 0},

		{"QuickthornOff", "for two hours", "quickthorn_mode" + edge + "3x120", 110 * time.Minute, 1},
		{"QuickthornOff", "for a moment", "quickthorn_mode" + edge + "0x100 3x20", 110 * time.Minute, 0},
		{"QuickthornOff", "observing is not off", "quickthorn_mode" + edge + "2x120", 110 * time.Minute, 0},

		{"QuickthornMemoryNearLimit", "95 of 100 in use", memory("100x120", "5x120", "100x120"), 30 * time.Minute, 1},
		{"QuickthornMemoryNearLimit", "half was given back", memory("100x120", "50x120", "100x120"), 30 * time.Minute, 0},
		{"QuickthornMemoryNearLimit", "no limit is set", memory("100000000x120", "0x120", "9223372036854775807x120"), 30 * time.Minute, 0},

		{"QuickthornFilesNearLimit", "nearly all open", "process_open_fds" + edge + "900x120\nprocess_max_fds" + edge + "1000x120\nquickthorn_build_info" + edge + "1x120", 10 * time.Minute, 1},
		{"QuickthornFilesNearLimit", "some open", "process_open_fds" + edge + "90x120\nprocess_max_fds" + edge + "1000x120\nquickthorn_build_info" + edge + "1x120", 10 * time.Minute, 0},
		{"QuickthornFilesNearLimit", "of somebody else's process", "process_open_fds" + edge + "900x120\nprocess_max_fds" + edge + "1000x120", 10 * time.Minute, 0},

		{"QuickthornEdgeDropsEvents", "at two edges", "quickthorn_events_dropped_total" + edge + "0+5x120\nquickthorn_events_dropped_total" + `{job="proxy", instance="proxy-2:8081"} ` + "0+1x120", 20 * time.Minute, 2},
		{"QuickthornEdgeDropsEvents", "before, not now", "quickthorn_events_dropped_total" + edge + "700x120", 20 * time.Minute, 0},

		{"QuickthornEventsRejected", "events", "quickthorn_events_rejected_total" + edge + "0+5x120\nquickthorn_counters_rejected_total" + edge + "0x120", 20 * time.Minute, 1},
		{"QuickthornEventsRejected", "counters", "quickthorn_events_rejected_total" + edge + "0x120\nquickthorn_counters_rejected_total" + edge + "0+5x120", 20 * time.Minute, 1},
		{"QuickthornEventsRejected", "neither", "quickthorn_events_rejected_total" + edge + "0x120\nquickthorn_counters_rejected_total" + edge + "0x120", 20 * time.Minute, 0},

		{"QuickthornArchiveAway", "away", "quickthorn_archive_up" + intake + "0x120", 10 * time.Minute, 1},
		{"QuickthornArchiveAway", "back after three minutes", "quickthorn_archive_up" + intake + "0x3 1x120", 10 * time.Minute, 0},

		{"QuickthornQueueFilling", "100 MB wait", "quickthorn_queue_bytes" + intake + "100000000x120", 20 * time.Minute, 1},
		{"QuickthornQueueFilling", "1 MB waits", "quickthorn_queue_bytes" + intake + "1000000x120", 20 * time.Minute, 0},

		{"QuickthornIntakeBehind", "half an hour", "quickthorn_intake_lag_seconds" + intake + "1800x120", 20 * time.Minute, 1},
		{"QuickthornIntakeBehind", "a second", "quickthorn_intake_lag_seconds" + intake + "1x120", 20 * time.Minute, 0},

		{"QuickthornDeadLetters", "three", "quickthorn_queue_dead_letters" + intake + "3x120", 20 * time.Minute, 1},
		{"QuickthornDeadLetters", "none", "quickthorn_queue_dead_letters" + intake + "0x120", 20 * time.Minute, 0},

		{"QuickthornNobodyDecides", "both stand by", "quickthorn_leading" + intake + "0x120\nquickthorn_leading" + `{job="ai_service", instance="ai-service-2:8081"} 0x120`, 20 * time.Minute, 1},
		{"QuickthornNobodyDecides", "one stands by", "quickthorn_leading" + intake + "0x120\nquickthorn_leading" + `{job="ai_service", instance="ai-service-2:8081"} 1x120`, 20 * time.Minute, 0},
		{"QuickthornNobodyDecides", "in one of two installs", `quickthorn_leading{job="ai_service", namespace="a", instance="a:8081"} 1x120` + "\n" + `quickthorn_leading{job="ai_service", namespace="b", instance="b:8081"} 0x120`, 20 * time.Minute, 1},

		{"QuickthornDecisionsStale", "ten minutes behind", "quickthorn_decisions_lag_seconds" + edge + "0+60x120", 20 * time.Minute, 1},
		{"QuickthornDecisionsStale", "a minute behind", "quickthorn_decisions_lag_seconds" + edge + "60x120", 20 * time.Minute, 0},

		{"QuickthornJudgeFailing", "one stage of two", "quickthorn_escalation_stage_failures_total" + at + `stage="model"} 0x120` + "\nquickthorn_escalation_stage_failures_total" + at + `stage="reputation"} 0+1x120`, 40 * time.Minute, 1},
		{"QuickthornJudgeFailing", "once", "quickthorn_escalation_stage_failures_total" + at + `stage="model"} 0x15 1x100`, 40 * time.Minute, 0},

		{"QuickthornAlertsUndelivered", "the channel fails", "quickthorn_alert_channel_up" + at + `channel="email"} 0x120` + "\nquickthorn_alert_channel_up" + at + `channel="slack"} 1x120`, 30 * time.Minute, 1},
		{"QuickthornAlertsUndelivered", "a message was given up", with("quickthorn_alert_messages_total", `channel="email", outcome="failed"`, "0x10 1x110") + "quickthorn_alert_channel_up" + at + `channel="email"} 1x120`, 30 * time.Minute, 1},
		{"QuickthornAlertsUndelivered", "all is sent", with("quickthorn_alert_messages_total", `channel="email", outcome="sent"`, "0+1x120") + "quickthorn_alert_channel_up" + at + `channel="email"} 1x120`, 30 * time.Minute, 0},

		{"QuickthornJobFailing", "each minute", with("quickthorn_sync_runs_total", `task="retention", result="failed"`, "0+1x120"), time.Hour, 1},
		{"QuickthornJobFailing", "once", with("quickthorn_sync_runs_total", `task="retention", result="failed"`, "0x20 1x100"), time.Hour, 0},

		{"QuickthornRetentionStale", "three days ago", jobs("0x5000", "60x5000"), 3 * days, 1},
		{"QuickthornRetentionStale", "never since the start three days ago", jobs("1x5000", "0x5000"), 3 * days, 1},
		{"QuickthornRetentionStale", "each hour", jobs("0x5000", "0+60x5000"), 3 * days, 0},
		{"QuickthornRetentionStale", "not yet, started yesterday", jobs("172800x5000", "0x5000"), 3 * days, 0},
	}

	all := alertRules(t)
	fired, silent := map[string]bool{}, map[string]bool{}
	for _, test := range tests {
		t.Run(test.alert+"/"+test.when, func(t *testing.T) {
			r, ok := all[test.alert]
			if !ok {
				t.Fatal("there is no such rule")
			}
			alerts := firing(t, r, test.series, test.after)
			if len(alerts) != test.fires {
				t.Fatalf("%d alerts fire, want %d: %v", len(alerts), test.fires, alerts)
			}
			for _, a := range alerts {
				for _, m := range labelUsed.FindAllStringSubmatch(r.Annotations["summary"]+r.Annotations["description"], -1) {
					if a.Labels.Get(m[1]) == "" {
						t.Errorf("the annotations speak of label %s, which %s has not", m[1], a.Labels)
					}
				}
				a.Annotations.Range(func(l labels.Label) {
					if strings.Contains(l.Value, "error expanding template") || strings.Contains(l.Value, "{{") {
						t.Errorf("%s: %s", l.Name, l.Value)
					}
				})
			}
		})
		fired[test.alert] = fired[test.alert] || test.fires > 0
		silent[test.alert] = silent[test.alert] || test.fires == 0
	}
	for name := range all {
		if !fired[name] || !silent[name] {
			t.Errorf("%s: needs a case in which it fires, and one in which it does not", name)
		}
	}
}

var labelUsed = regexp.MustCompile(`\$labels\.(\w+)`)

// firing evaluates a rule once a minute over the series, and returns what fires after that time.
func firing(t *testing.T, r rulefmt.Rule, series string, after time.Duration) []*rules.Alert {
	t.Helper()
	var load strings.Builder
	load.WriteString("load 1m\n")
	for line := range strings.Lines(series) {
		load.WriteString("  " + strings.TrimSpace(line) + "\n")
	}
	storage := promqltest.LoadedStorage(t, load.String())
	defer storage.Close()
	query := rules.EngineQueryFunc(promqltest.NewTestEngine(t, false, 0, 10_000_000), storage)
	expr, err := promQL.ParseExpr(r.Expr)
	if err != nil {
		t.Fatal(err)
	}
	rule := rules.NewAlertingRule(r.Alert, expr, time.Duration(r.For), time.Duration(r.KeepFiringFor), labels.FromMap(r.Labels), labels.FromMap(r.Annotations),
		labels.EmptyLabels(), "", true, slog.New(slog.DiscardHandler))
	for at := time.Duration(0); at <= after; at += time.Minute {
		if _, err := rule.Eval(t.Context(), 0, time.Unix(0, 0).Add(at), query, &url.URL{}, 0); err != nil {
			t.Fatalf("after %s: %v", at, err)
		}
	}
	var found []*rules.Alert
	for _, a := range rule.ActiveAlerts() {
		if a.State == rules.StateFiring {
			found = append(found, a)
		}
	}
	return found
}

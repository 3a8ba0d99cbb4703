package rows_test

import (
	"testing"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/store/rows"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
)

var event = storetest.Event

func TestWhoLooksLikeAReader(t *testing.T) {
	stopped := func(f func(*defense.Event)) *defense.Event { return event(1, f) }
	tests := []struct {
		name string
		e    *defense.Event
		want string
	}{
		{"browser that would be challenged", event(1), "browser"},
		{"browser that passed", stopped(func(e *defense.Event) { e.Verdict.Action, e.Verdict.Intended = 0, 0 }), ""},
		{"application", stopped(func(e *defense.Event) { e.Request.Family = defense.AgentApp }), "app"},
		{"declared crawler", stopped(func(e *defense.Event) {
			e.Request.Family, e.Identity.Crawler = defense.AgentCrawler, "gptbot"
		}), ""},
		{"crawler that wears a browser's name", stopped(func(e *defense.Event) { e.Identity.Crawler = "bytespider" }), ""},
		{"tool", stopped(func(e *defense.Event) { e.Request.Family = defense.AgentTool }), ""},
		{"feed fetched by who knows what", stopped(func(e *defense.Event) {
			e.Request.Family, e.Request.Kind = defense.AgentUnknown, defense.KindFeed
		}), "feed"},
		{"git clone", stopped(func(e *defense.Event) { e.Request.Family, e.Request.Kind = defense.AgentGit, defense.KindGit }), "git"},
		{"link preview judged by score", stopped(func(e *defense.Event) {
			e.Request.Kind, e.Identity.Crawler = defense.KindPreview, "facebookexternalhit"
		}), "preview"},
		{"verified search engine judged by score", stopped(func(e *defense.Event) {
			e.Identity.Crawler, e.Identity.Status = "googlebot", defense.IdentityVerified
		}), "crawler"},
		{"verified crawler that the owner refuses", stopped(func(e *defense.Event) {
			e.Identity.Crawler, e.Identity.Status, e.Verdict.Basis = "gptbot", defense.IdentityVerified, defense.BasisCertain
		}), ""},
		{"impostor", stopped(func(e *defense.Event) { e.Identity.Status = defense.IdentityImpostor }), ""},
	}
	for _, tt := range tests {
		if got := rows.Harm(tt.e); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

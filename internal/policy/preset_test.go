package policy

import (
	"slices"
	"testing"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestPresetsCompileWithoutWarnings(t *testing.T) {
	for _, info := range Presets() {
		pol := mustLoad(t, info.Name)
		if w := pol.Warnings(); len(w) > 0 {
			t.Errorf("%s: %v", info.Name, w)
		}
		if pol.Name() != info.Name || pol.Description() != info.Description || len(pol.Files()) != 0 {
			t.Errorf("%s calls itself %q: %q, files %v", info.Name, pol.Name(), pol.Description(), pol.Files())
		}
		for _, r := range pol.Rules() {
			if r.Reason == "" || r.File == "" || r.Line == 0 {
				t.Errorf("%s: %+v", info.Name, r)
			}
		}
		for _, s := range pol.order {
			for _, r := range s.rules {
				if r.cond.total == nil {
					t.Errorf("%s: rule %q is interpreted on the hot path", info.Name, r.name)
				}
			}
		}
	}
}

func agent(family defense.AgentFamily, text string) *defense.Profile {
	p := chrome()
	p.Agent = defense.Agent{Text: defense.Observed(text, text != ""), Family: family}
	return p
}

func kindPath(p *defense.Profile, k defense.Kind, path string) *defense.Profile {
	p.Kind, p.Path, p.Target, p.Query = k, path, path, ""
	return p
}

func TestPresets(t *testing.T) {
	signal := func(w int) []defense.Signal { return []defense.Signal{{Name: "test", Weight: w, Sentence: "x"}} }
	verified := func(p *defense.Profile, s defense.IdentityStatus) *defense.Profile { p.Identity.Status = s; return p }
	cleared := func(p *defense.Profile) *defense.Profile { p.Clearance.Valid = true; return p }
	const calm, guarded, siege = defense.Calm, defense.Guarded, defense.Siege
	const allow, throttle, challenge, deny = defense.Allow, defense.Throttle, defense.Challenge, defense.Deny

	presets := []string{"readers-first", "block-ai-training", "siege"}
	var policies []*Policy
	for _, name := range presets {
		policies = append(policies, mustLoad(t, name))
	}
	type row struct {
		name    string
		p       func() *defense.Profile
		posture defense.Posture
		signals []defense.Signal
		// the action under readers-first, block-ai-training and siege
		want [3]defense.Action
	}
	for _, tt := range []row{
		{"a reader", chrome, calm, nil, [3]defense.Action{allow, allow, challenge}},
		{"a reader with the worst score of a real browser", chrome, siege, signal(19), [3]defense.Action{allow, allow, challenge}},
		{"a reader with clearance", func() *defense.Profile { return cleared(chrome()) }, calm, signal(19), [3]defense.Action{allow, allow, allow}},
		{"a style sheet", func() *defense.Profile { return kindPath(chrome(), defense.KindAsset, "/style.css") }, siege, nil, [3]defense.Action{allow, allow, allow}},
		{"a forged browser on a quiet day", chrome, calm, signal(60), [3]defense.Action{allow, allow, challenge}},
		{"a forged browser under load", chrome, guarded, signal(60), [3]defense.Action{challenge, challenge, challenge}},
		{"a plainly forged browser", chrome, calm, signal(85), [3]defense.Action{challenge, challenge, challenge}},
		{"a plainly forged browser with clearance under attack", func() *defense.Profile { return cleared(chrome()) }, siege, signal(95), [3]defense.Action{deny, deny, deny}},
		{"a feed reader", func() *defense.Profile {
			return kindPath(agent(defense.AgentFeed, "Mozilla/5.0 (compatible; Miniflux/2.2.6)"), defense.KindFeed, "/feed/")
		}, siege, signal(50), [3]defense.Action{allow, allow, allow}},
		{"git clone", func() *defense.Profile {
			return kindPath(agent(defense.AgentGit, "git/2.45.0"), defense.KindGit, "/o/r.git/info/refs")
		}, siege, nil, [3]defense.Action{allow, allow, allow}},
		{"an API client", func() *defense.Profile {
			return kindPath(agent(defense.AgentTool, "python-requests/2.32"), defense.KindAPI, "/api/v1/repos")
		}, guarded, signal(15), [3]defense.Action{allow, allow, allow}},
		{"curl on a page", func() *defense.Profile { return agent(defense.AgentTool, "curl/8.9.1") }, guarded, signal(15), [3]defense.Action{allow, allow, throttle}},
		{"no agent on a page under load", func() *defense.Profile { return agent(defense.AgentNone, "") }, guarded, signal(50), [3]defense.Action{challenge, challenge, throttle}},
		{"robots.txt for a training crawler", func() *defense.Profile {
			return kindPath(crawler("gptbot", "GPTBot", defense.PurposeAITraining), defense.KindRobots, "/robots.txt")
		}, siege, nil, [3]defense.Action{allow, allow, allow}},
		{"a training crawler", func() *defense.Profile { return crawler("gptbot", "GPTBot", defense.PurposeAITraining) }, calm, nil, [3]defense.Action{deny, deny, deny}},
		{"a training crawler on a feed", func() *defense.Profile {
			return kindPath(crawler("gptbot", "GPTBot", defense.PurposeAITraining), defense.KindFeed, "/feed")
		}, calm, nil, [3]defense.Action{deny, deny, deny}},
		{"a scraper", func() *defense.Profile { return crawler("x", "X", defense.PurposeScraper) }, calm, nil, [3]defense.Action{deny, deny, deny}},
		{"a scanner", func() *defense.Profile { return crawler("x", "X", defense.PurposeSecurity) }, calm, nil, [3]defense.Action{deny, deny, deny}},
		{"an AI search crawler", func() *defense.Profile { return crawler("x", "X", defense.PurposeAISearch) }, calm, nil, [3]defense.Action{allow, deny, allow}},
		{"a fetch for a person", func() *defense.Profile { return crawler("x", "X", defense.PurposeUserAI) }, guarded, signal(60), [3]defense.Action{allow, allow, allow}},
		{"a search engine", func() *defense.Profile { return crawler("googlebot", "Googlebot", defense.PurposeSearch) }, siege, signal(60), [3]defense.Action{allow, allow, allow}},
		{"an impostor", func() *defense.Profile {
			return verified(crawler("googlebot", "Googlebot", defense.PurposeSearch), defense.IdentityImpostor)
		}, calm, nil, [3]defense.Action{deny, deny, deny}},
		{"an archive", func() *defense.Profile { return crawler("ia", "archive.org_bot", defense.PurposeArchiver) }, siege, nil, [3]defense.Action{allow, allow, allow}},
		{"a link preview", func() *defense.Profile {
			return kindPath(crawler("fb", "facebookexternalhit", defense.PurposePreview), defense.KindPreview, "/")
		}, siege, nil, [3]defense.Action{allow, allow, allow}},
		{"a marketing crawler", func() *defense.Profile { return crawler("ahrefsbot", "AhrefsBot", defense.PurposeSEO) }, calm, nil, [3]defense.Action{allow, allow, allow}},
		{"a data collection tool", func() *defense.Profile { return agent(defense.AgentUnknown, "img2dataset/1.45") }, calm, nil, [3]defense.Action{allow, deny, throttle}},
		{"an unknown bot on a costly page", func() *defense.Profile {
			return kindPath(agent(defense.AgentUnknown, "NiceBot/1.0 (+https://example.com/bot)"), defense.KindNavigation, "/o/r/blame/main/x.go")
		}, calm, signal(20), [3]defense.Action{allow, challenge, throttle}},
		{"Cubot, a telephone, on a costly page", func() *defense.Profile {
			p := kindPath(chrome(), defense.KindNavigation, "/o/r/blame/main/x.go")
			p.Agent.Text.Value = "Mozilla/5.0 (Linux; Android 9; CUBOT_X18) AppleWebKit/537.36 Chrome/141.0.0.0 Mobile Safari/537.36"
			return p
		}, guarded, nil, [3]defense.Action{allow, allow, challenge}},
		{"a probe", func() *defense.Profile {
			return kindPath(agent(defense.AgentTool, "curl/8.9.1"), defense.KindOther, "/.env")
		}, guarded, signal(15), [3]defense.Action{challenge, challenge, throttle}},
		{"a probe on a quiet day", func() *defense.Profile { return kindPath(chrome(), defense.KindNavigation, "/wp-login.php") }, calm, nil, [3]defense.Action{allow, allow, challenge}},
	} {
		for i, preset := range presets {
			out := judge(policies[i], tt.p(), tt.posture, tt.signals...)
			if out.Action != tt.want[i] {
				t.Errorf("%s under %s in %s posture: %s by %q (score %d), want %s", tt.name, preset, tt.posture, out.Action, out.Rule, out.Score, tt.want[i])
			}
		}
	}
}

func TestNoPresetStopsAnAsset(t *testing.T) {
	for _, preset := range presetNames() {
		for _, b := range mustLoad(t, preset).Section("").Budgets() {
			if b.Covers(kindPath(chrome(), defense.KindAsset, "/style.css")) {
				t.Errorf("%s: budget %q counts style sheets", preset, b.Name)
			}
		}
	}
}

// A certain verdict is carried out from the first day, so it may rest only on
// what the client says of itself or on proof.
func TestPresetsAreCertainOnlyOfDeclarationsAndProof(t *testing.T) {
	certain := []string{"impostor", "ai-training", "scrapers", "vulnerability-scanners", "ai-search", "data-collection-tools"}
	for _, preset := range presetNames() {
		for _, r := range mustLoad(t, preset).Section("").rules {
			if r.action.Stops() && r.basis == defense.BasisCertain && !slices.Contains(certain, r.name) {
				t.Errorf("%s: rule %q stops requests and is certain", preset, r.name)
			}
		}
	}
}

func TestUnknownPresets(t *testing.T) {
	for _, name := range []string{"", "../presets/siege", "siege.yaml", "nope"} {
		if _, err := PresetSource(name); err == nil {
			t.Errorf("%q is a preset", name)
		}
	}
}

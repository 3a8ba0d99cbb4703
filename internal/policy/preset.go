package policy

import (
	"embed"
	"fmt"
	"slices"
)

// presetFiles are the policies that come with quickthorn.
//
//go:embed presets/*.yaml
var presetFiles embed.FS

// PresetInfo describes a preset.
type PresetInfo struct {
	Name        string `json:"name"`
	Description string `json:"description"` // one sentence
}

// Presets lists the presets, the default first.
func Presets() []PresetInfo {
	return []PresetInfo{
		{"readers-first", "Refuses declared AI training crawlers, scrapers and scanners; challenges what looks forged when the site is under load."},
		{"block-ai-training", "readers-first, and also refuses AI search crawlers and data collection tools."},
		{"siege", "For a site under attack: every page needs a solved challenge; feeds, git, APIs and welcome crawlers still pass."},
	}
}

func presetNames() []string {
	var out []string
	for _, p := range Presets() {
		out = append(out, p.Name)
	}
	return out
}

// presetFile is a preset's name in messages and explanations.
func presetFile(name string) string { return "preset:" + name }

// PresetSource returns a preset's YAML, comments included.
func PresetSource(name string) ([]byte, error) {
	if !slices.Contains(presetNames(), name) {
		return nil, fmt.Errorf("policy: there is no preset %q%s", clip(name), hint(name, presetNames()))
	}
	return presetFiles.ReadFile("presets/" + name + ".yaml")
}
